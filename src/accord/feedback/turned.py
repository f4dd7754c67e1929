"""What the labelers' reliabilities changed: the pairs whose consensus order is not the plain majority's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from accord.judgements import Ranking
from accord.stats.baselines import majority
from accord.stats.rankings import levels


@dataclass(frozen=True, slots=True)
class Turned:
    """A pair on which the consensus goes against the majority of votes, each counting alike."""

    prompt_id: str
    winner: str
    """By the consensus."""
    loser: str
    share: float
    """Of the votes for ``loser``, a tie counting half to each; above one half."""
    labelers: tuple[str, ...]
    """Those of poor standing who preferred ``loser``: their votes hardly counted, or the other way round.
    Nobody where only the weights of sound labelers, or the prompt's other pairs, turned it."""


def turned_pairs(
    rankings: Sequence[Ranking], p_first: Mapping[tuple[str, str, str], float], poor: Collection[str]
) -> list[Turned]:
    """Pairs the consensus turned, by prompt; ``p_first`` is (prompt, first, second) -> P(first preferred)."""
    found = []
    judges = _levels_of(rankings, poor)
    for prompt_id, pairs in sorted(majority(rankings).items()):
        for (a, b), share in pairs.items():
            p = p_first[prompt_id, a, b]
            if (share - 0.5) * (p - 0.5) >= 0:
                continue
            winner, loser, lost = (a, b, 1 - share) if p > 0.5 else (b, a, share)
            names = {
                name
                for name, placed in judges.get(prompt_id, ())
                if winner in placed and loser in placed and placed[loser] < placed[winner]
            }
            found.append(Turned(prompt_id, winner, loser, lost, tuple(sorted(names))))
    return found


def turned_by(turned: Iterable[Turned]) -> dict[str, int]:
    """How many pairs were turned against each labeler of poor standing, the most first."""
    return dict(Counter(name for pair in turned for name in pair.labelers).most_common())


def _levels_of(
    rankings: Iterable[Ranking], labelers: Collection[str]
) -> dict[str, list[tuple[str, Mapping[str, int]]]]:
    """Prompt -> (labeler, levels) of each ranking by these labelers."""
    found: dict[str, list[tuple[str, Mapping[str, int]]]] = {}
    for ranking in rankings:
        if ranking.labeler in labelers:
            found.setdefault(ranking.prompt_id, []).append((ranking.labeler, levels(ranking)))
    return found
