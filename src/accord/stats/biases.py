"""Habits that tell of the labeler and not of the answers: position, length, ties, FAIL, pace.

The unit is one ranking. What a ranking says of a habit is a share in [0, 1] (of its pairs, of its places),
a labeler's figure is the mean of these shares, and its interval is Wilson's with the rankings as trials. A
share varies less than the coin that Wilson's interval is made for, so the interval is a little too wide,
never too narrow. Differences from the other labelers take Newcombe's interval.

Shapes: R rankings, K labelers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from accord.judgements import Ranking
from accord.stats.intervals import Interval, wilson
from accord.stats.rankings import levels, pair_outcomes
from accord.types import Completion, Prompt

Array = NDArray[np.float64]

MIN_RANKINGS = 30
"""Rankings below which no habit is marked."""
FAMILY_ERROR = 0.05
"""Chance that any one of all habits of all labelers is marked though nobody has one (Bonferroni)."""
HURRIED = 0.08
"""Seconds a word, 750 words a minute. Adults read 175 to 300 a minute (Brysbaert 2019, "How many words do
we read per minute?"), so whoever stays under this has not read the texts."""
HABITS = 4


@dataclass(frozen=True, slots=True)
class Habit:
    """A share of one labeler's next to what is usual."""

    share: Interval
    usual: float | None
    """The other labelers' share; for position, what chance gives. ``None`` where there are no others."""
    difference: Interval | None
    """``share`` less ``usual``, with its interval."""
    marked: bool
    """Whether the difference is clear of zero for :data:`FAMILY_ERROR` and :data:`MIN_RANKINGS`."""


@dataclass(frozen=True, slots=True)
class Habits:
    """One labeler's. ``None`` where no ranking bears on a figure."""

    labeler: str
    rankings: int
    first: Habit | None
    """How often the completion shown first came out on top, shared where tied."""
    longer: Habit | None
    """How often the longer of two came out above, of the pairs that were put in order."""
    ties: Habit | None
    """Share of judged pairs called a tie."""
    fails: Habit | None
    """Share of placed completions marked FAIL."""
    task_seconds: Interval | None
    """Median time on a task."""
    word_seconds: Interval | None
    """Median time for a word of what was shown."""
    hurried: bool
    """Whether even the upper bound of ``word_seconds`` is under :data:`HURRIED`."""

    def marks(self) -> list[str]:
        """The habits that stand out, each in a few words."""
        found = []
        if self.first and self.first.marked:
            found.append(f"{_side(self.first, 'prefers', 'avoids')} what is shown first")
        if self.longer and self.longer.marked:
            found.append(_side(self.longer, "prefers longer answers", "prefers shorter answers"))
        if self.ties and self.ties.marked:
            found.append(_side(self.ties, "calls many ties", "calls few ties"))
        if self.fails and self.fails.marked:
            found.append(_side(self.fails, "marks many as FAIL", "marks few as FAIL"))
        if self.hurried:
            found.append("too fast to have read the texts")
        return found


def _side(habit: Habit, above: str, below: str) -> str:
    assert habit.difference is not None
    return above if habit.difference.value > 0 else below


def habits(
    prompts: Mapping[str, Prompt],
    completions: Mapping[str, Sequence[Completion]],
    rankings: Sequence[Ranking],
) -> dict[str, Habits]:
    """Every labeler's habits, by name. Texts that ``prompts`` and ``completions`` lack count as empty."""
    names = sorted({r.labeler for r in rankings})
    number = {name: k for k, name in enumerate(names)}
    labeler_R = np.array([number[r.labeler] for r in rankings], np.int64)
    lengths = {p: {c.id: len(c.text) for c in group} for p, group in completions.items()}
    words = {p: {c.id: len(c.text.split()) for c in group} for p, group in completions.items()}
    read = {p: len(prompt.text.split()) for p, prompt in prompts.items()}
    first_R = np.array([_first(r) for r in rankings])
    chance_R = np.array([1 / len(r.shown) if r.shown else np.nan for r in rankings])
    longer_R = np.array([_longer(r, lengths.get(r.prompt_id, {})) for r in rankings])
    tied_R = np.array([_tied(r) for r in rankings])
    failed_R = np.array([_failed(r) for r in rankings])
    seconds_R = np.array([np.nan if r.seconds is None else r.seconds for r in rankings])
    words_R = np.array([_words(r, read, words) for r in rankings])
    found = {}
    for k, name in enumerate(names):
        mine_R = labeler_R == k
        timed_R = mine_R & (seconds_R > 0)
        worded_R = timed_R & (words_R > 0)
        word_seconds = median_interval(seconds_R[worded_R] / words_R[worded_R])
        enough = word_seconds is not None and word_seconds.n >= MIN_RANKINGS
        level = 1 - FAMILY_ERROR / (HABITS * len(names))
        found[name] = Habits(
            name,
            int(mine_R.sum()),
            _by_chance(first_R[mine_R], chance_R[mine_R], level),
            _by_others(longer_R[mine_R], longer_R[~mine_R], level, neutral=0.5),
            _by_others(tied_R[mine_R], tied_R[~mine_R], level),
            _by_others(failed_R[mine_R], failed_R[~mine_R], level),
            median_interval(seconds_R[timed_R]),
            word_seconds,
            word_seconds is not None and enough and word_seconds.high < HURRIED,
        )
    return found


def mean_share(shares_R: ArrayLike, level: float = 0.95) -> Interval | None:
    """The mean of shares in [0, 1] with Wilson's interval, one trial a share; ``None`` where all are NaN."""
    known_R = np.asarray(shares_R, np.float64)
    known_R = known_R[~np.isnan(known_R)]
    if not len(known_R):
        return None
    # exactly rounded: the order of rankings changes nothing, and no sum passes the number of its terms
    return wilson(fsum(known_R), len(known_R), level)


def difference(one: Interval, other: Interval) -> Interval:
    """``one`` less ``other`` for two shares with Wilson's intervals of the same level.

    Newcombe's hybrid score interval (Newcombe 1998, "Interval estimation for the difference between
    independent proportions", method 10). ``n`` is that of ``one``.
    """
    value = one.value - other.value
    below = np.hypot(one.value - one.low, other.high - other.value)
    above = np.hypot(one.high - one.value, other.value - other.low)
    return Interval(value, float(value - below), float(value + above), one.n)


def median_interval(values_R: ArrayLike, level: float = 0.95) -> Interval | None:
    """The median with the interval of order statistics, which supposes nothing of the distribution.

    Between the k-th smallest and the k-th largest, k as large as keeps P(Binomial(n, 1/2) < k) within half
    of 1 - level. ``None`` for fewer values than have such a k (six at 95 %).
    """
    sorted_R = np.sort(np.asarray(values_R, np.float64))
    n = len(sorted_R)
    if n == 0:
        return None
    k = int(stats.binom.ppf((1 - level) / 2, n, 0.5))  # the quantile: P(Binomial < k) is below it
    if k == 0:
        return None
    return Interval(float(np.median(sorted_R)), float(sorted_R[k - 1]), float(sorted_R[n - k]), n)


def _by_chance(share_R: Array, chance_R: Array, level: float) -> Habit | None:
    chance_R = chance_R[~np.isnan(share_R)]
    share, strict = mean_share(share_R), mean_share(share_R, level)
    if share is None or strict is None:
        return None
    chance = float(chance_R.mean())
    shifted = Interval(share.value - chance, share.low - chance, share.high - chance, share.n)
    clear = not strict.low <= chance <= strict.high
    return Habit(share, chance, shifted, clear and share.n >= MIN_RANKINGS)


def _by_others(mine_R: Array, others_R: Array, level: float, neutral: float | None = None) -> Habit | None:
    """``neutral`` is a share without any habit: whoever only lies nearer to it than the others is not
    marked, for carelessness looks the same."""
    share, strict = mean_share(mine_R), mean_share(mine_R, level)
    usual, strict_usual = mean_share(others_R), mean_share(others_R, level)
    if share is None or strict is None:
        return None
    if usual is None or strict_usual is None:
        return Habit(share, None, None, False)
    gap = difference(strict, strict_usual)
    clear = gap.low > 0 or gap.high < 0
    if neutral is not None and clear:
        clear = strict.low > neutral if gap.low > 0 else strict.high < neutral
    enough = share.n >= MIN_RANKINGS and usual.n >= MIN_RANKINGS
    return Habit(share, usual.value, difference(share, usual), clear and enough)


def _first(ranking: Ranking) -> float:
    best = ranking.tiers[0] if ranking.tiers else ()
    if len(ranking.shown) < 2 or not best:
        return np.nan
    return 1 / len(best) if ranking.shown[0] in best else 0.0


def _longer(ranking: Ranking, length: Mapping[str, int]) -> float:
    placed = {c: level for c, level in levels(ranking).items() if c in length}
    names = list(placed)
    wins = [
        (length[a] > length[b]) == (placed[a] < placed[b])
        for n, a in enumerate(names)
        for b in names[n + 1 :]
        if placed[a] != placed[b] and length[a] != length[b]
    ]
    return float(np.mean(wins)) if wins else np.nan


def _tied(ranking: Ranking) -> float:
    order = {c: n for n, c in enumerate(levels(ranking))}
    outcomes = [outcome for _, _, outcome in pair_outcomes(ranking, order)]
    return outcomes.count(0.5) / len(outcomes) if outcomes else np.nan


def _failed(ranking: Ranking) -> float:
    placed = len(levels(ranking))
    return len(ranking.fails) / placed if placed else np.nan


def _words(ranking: Ranking, read: Mapping[str, int], words: Mapping[str, Mapping[str, int]]) -> int:
    shown = ranking.shown or tuple(levels(ranking))
    group = words.get(ranking.prompt_id, {})
    return read.get(ranking.prompt_id, 0) + sum(group.get(c, 0) for c in shown)
