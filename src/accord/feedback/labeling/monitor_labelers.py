"""The table of labelers: what each one's votes are worth, by the consensus, by gold, by habits. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from accord.feedback.consensus import AgreeConfig, Consensus
from accord.feedback.labeling.items import ordered_pairs
from accord.judgements import Ranking
from accord.stats.agreement import ADJUDICATED
from accord.stats.biases import Habits, habits, mean_share
from accord.stats.consistency import repeats
from accord.stats.intervals import Interval
from accord.stats.labelers import LabelerRow, Standing, standing
from accord.stats.rankings import levels, pair_outcomes
from accord.types import Completion, Prompt

MEASURED = ("gold", "quiz")
"""Arms whose answer was known when the labeler was asked."""


@dataclass(frozen=True, slots=True)
class LabelerLine:
    """One labeler's line. ``None`` where nothing supports a figure."""

    row: LabelerRow
    """Reliability, position bias and agreement with the others, from the consensus."""
    standing: Standing
    gold: Interval | None
    """Share of the pairs that gold orders put in that order, mean over items, Wilson's interval with items as
    trials."""
    repeats: Interval | None
    """Share of pairs judged the same when asked again, mean over repeats, Wilson's interval likewise."""
    habits: Habits | None
    """``None`` for one who only adjudicated."""

    @property
    def labeler(self) -> str:
        return self.row.labeler


def labeler_table(
    consensus: Consensus,
    rankings: Sequence[Ranking],
    prompts: Mapping[str, Prompt],
    completions: Mapping[str, Sequence[Completion]],
    gold: Mapping[str, Mapping[str, object]],
    config: AgreeConfig,
) -> list[LabelerLine]:
    """A line a labeler, who needs a look first: inverted, coins, then by the upper bound of reliability.

    ``gold`` is prompt id -> row of the gold table. Adjudications say nothing of habits: who makes them
    has seen the others' answers.
    """
    own = [r for r in rankings if r.arm != ADJUDICATED]
    habit = habits(prompts, completions, own)
    twice: dict[str, list[tuple[Ranking, Ranking]]] = {}
    for pair in repeats(own):
        twice.setdefault(pair[0].labeler, []).append(pair)
    right: dict[str, list[float]] = {}
    for ranking in own:
        if ranking.arm in MEASURED and ranking.prompt_id in gold:
            pairs = ordered_pairs(gold[ranking.prompt_id], ranking.shown)
            if pairs:
                right.setdefault(ranking.labeler, []).append(_share_in_order(ranking, pairs))
    lines = [
        LabelerLine(
            row,
            standing(row, consensus.typical, config.min_overlap),
            mean_share(right.get(row.labeler, [])),
            mean_share([_same(*pair) for pair in twice.get(row.labeler, [])]),
            habit.get(row.labeler),
        )
        for row in consensus.labelers
    ]
    return sorted(lines, key=_need)


def _share_in_order(ranking: Ranking, pairs: Collection[tuple[str, str]]) -> float:
    """Of (better, worse) pairs; a tie or a completion left out is not in order."""
    placed = levels(ranking)
    right = [a in placed and b in placed and placed[a] < placed[b] for a, b in pairs]
    return sum(right) / len(right)


def _same(first: Ranking, again: Ranking) -> float:
    """The share of common pairs, FAIL-FAIL aside, that both judge alike; NaN where there is none."""
    order = {c: n for n, c in enumerate(sorted({*levels(first), *levels(again)}))}
    one, two = ({(a, b): o for a, b, o in pair_outcomes(each, order)} for each in (first, again))
    common = one.keys() & two.keys()
    return sum(one[pair] == two[pair] for pair in common) / len(common) if common else float("nan")


def _need(line: LabelerLine) -> tuple[int, float, str]:
    order = {Standing.INVERTED: 0, Standing.COIN: 1}
    reliability = line.row.reliability
    bound = reliability.high if reliability and reliability.high == reliability.high else float("inf")
    return order.get(line.standing, 2), bound, line.labeler
