"""A model as judge, measured before it is believed, and against a reference answer. What judges, and how it
is asked, is ``accord.judging``."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from accord.config import Config
from accord.errors import DataError
from accord.judging import Asked, Chooser, Judged, LikelihoodConfig, both_orders, flip_share, unusable_share
from accord.stats.intervals import Array, Interval, bootstrap_sums
from accord.types import Completion, Prompt, Score


class AgainstReference:
    """A scorer: the probability that an answer beats the reference in ``prompt.meta[key]``, in both orders.

    Its mean is a win rate against a fixed baseline, as AlpacaEval's. Part ``flipped`` is 1 where the orders
    do not agree, one that was unusable included; ``unusable`` is the share of the two orders of which nothing
    could be used. A pair unusable in both counts as a tie. Raises :class:`DataError` for a prompt without a
    reference.
    """

    def __init__(self, chooser: Chooser, key: str = "reference") -> None:
        self.chooser = chooser
        self.key = key

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """One score a completion, in order."""
        return self.score_groups([(prompt, completions)])[0]

    def score_groups(self, groups: Sequence[tuple[Prompt, Sequence[Completion]]]) -> list[list[Score]]:
        """The same for many groups in one call of the judge."""
        pairs = [Asked(p, c.text, self.reference(p)) for p, completions in groups for c in completions]
        judged = iter(both_orders(self.chooser, pairs))
        return [[self._score(next(judged)) for _ in completions] for _, completions in groups]

    def reference(self, prompt: Prompt) -> str:
        """The answer to be compared with; DataError without one."""
        text = prompt.meta.get(self.key)
        if not isinstance(text, str):
            raise DataError(f"prompt {prompt.id!r} has no answer in meta[{self.key!r}] to be compared with")
        return text

    def _score(self, judged: Judged) -> Score:
        unusable = [one.p_first is None for one in (judged.as_listed, judged.turned)]
        parts = {"flipped": float(judged.flipped is not False), "unusable": sum(unusable) / 2}
        return Score(0.5 if judged.p is None else judged.p, parts, judged.as_listed.said)


class Known(Config):
    """Which keys of a prompt's meta hold two answers of which people, or a world, said which is better.

    The model under test judges them itself, in both orders.
    """

    better: str = "better"
    """The better answer..."""
    worse: str = "worse"
    """...and the other."""
    criterion: str = LikelihoodConfig().criterion
    """What better means, as the judge is asked."""

    def of(self, prompt: Prompt) -> Asked:
        """The question, the better answer listed first; DataError without two different answers."""
        better, worse = (prompt.meta.get(key) for key in (self.better, self.worse))
        if not isinstance(better, str) or not isinstance(worse, str) or better == worse:
            raise DataError(
                f"prompt {prompt.id!r} has {better!r} and {worse!r} in its meta {self.better!r} and "
                f"{self.worse!r}; a judge is measured on two different answers"
            )
        return Asked(prompt, better, worse, self.criterion)


def agreement(judged: Judged) -> Score:
    """Of a pair whose first answer is known to be the better: 1 where the orders together say so, one half
    where they leave it open or say nothing usable.

    Parts: ``one_order`` (the same of single choices), ``flipped`` (the orders name different answers, one
    that was unusable included), ``first`` (how often it took what was shown first), ``unusable``, and
    ``confidence``, the probability of the answer it prefers.
    """
    listed, turned = (0.5 if one.p_first is None else _hard(one.p_first)
                      for one in (judged.as_listed, judged.turned))  # fmt: skip
    p = 0.5 if judged.p is None else judged.p
    parts = {
        "one_order": (listed + 1 - turned) / 2,
        "flipped": float(judged.flipped is not False),
        "first": (listed + turned) / 2,
        "unusable": sum(one.p_first is None for one in (judged.as_listed, judged.turned)) / 2,
        "confidence": max(p, 1 - p),
    }
    return Score(_hard(p), parts, judged.as_listed.said)


# -- how good it is ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """What a judge is worth, held against people or gold; intervals resample prompts."""

    accuracy: Interval
    """How often it is right where it does not go by position."""
    position_bias: Interval
    """How often it goes by position: above 0 takes the first, below 0 the second."""
    one_order: Interval
    """Share of single choices that are right: what one order alone gives."""
    both: Interval
    """Share right in both orders together, half where they leave it open."""
    flips: float
    """Share of pairs in which the two orders name different answers."""
    unusable: float
    """Share of single choices of which nothing could be used."""
    pairs: int


def judge_report(
    judged: Sequence[Judged],
    first_better: Sequence[bool],
    clusters: Sequence[Hashable],
    rng: np.random.Generator,
    draws: int = 2000,
) -> JudgeReport:
    """Measure a judge on pairs of which it is known which answer is better.

    With f the share of choices that take the answer shown first, where that is the better and where it is the
    worse, the model is a judge that goes by position with chance b and else is right with chance a:
    b = f(better) + f(worse) - 1, a = 1/2 + (f(better) - f(worse)) / (2 (1 - abs(b))), the size of b less what
    chance adds to its square. ``benchmarks/judge_quality.py`` counts how often the intervals hold both.

    Raises:
        DataError: lengths differ, or no pair was usable in both orders.
    """
    if not len(judged) == len(first_better) == len(clusters):
        raise DataError(f"{len(judged)} judged pairs, {len(first_better)} truths, {len(clusters)} clusters")
    names = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    sums_CF = np.zeros((len(names), 5))
    for pair, better, cluster in zip(judged, first_better, clusters, strict=True):
        said = pair.as_listed.p_first, pair.turned.p_first
        if pair.p is None or said[0] is None or said[1] is None:
            continue
        listed, turned = _hard(said[0]), _hard(said[1])
        took_better, took_worse = (listed, turned) if better else (turned, listed)
        right = _hard(pair.p) if better else 1 - _hard(pair.p)
        sums_CF[names[cluster]] += (1, took_better, took_worse, took_better + 1 - took_worse, right)
    kept_CF = sums_CF[sums_CF[:, 0] > 0]
    if not len(kept_CF):
        raise DataError(f"of {len(judged)} pairs none was usable in both orders; it cannot be measured")
    noise = _noise(kept_CF)
    # a resample's bias has the sample's chance in it and its own
    figures = (lambda sums_BF: _accuracy(sums_BF, 2 * noise), _bias, _one_order, _both)
    accuracy, bias, one, both = bootstrap_sums(kept_CF, figures, rng, draws)
    accuracy = replace(accuracy, value=float(_accuracy(kept_CF.sum(axis=0)[None], noise)[0]))
    pairs = int(kept_CF[:, 0].sum())
    return JudgeReport(accuracy, bias, one, both, flip_share(judged), unusable_share(judged), pairs)


def _hard(p: float) -> float:
    return 1.0 if p > 0.5 + 1e-9 else 0.0 if p < 0.5 - 1e-9 else 0.5


def _shares(sums_BF: Array) -> tuple[Array, Array]:
    return sums_BF[:, 1] / sums_BF[:, 0], sums_BF[:, 2] / sums_BF[:, 0]


def _bias(sums_BF: Array) -> Array:
    better_B, worse_B = _shares(sums_BF)
    return better_B + worse_B - 1


def _noise(sums_CF: Array) -> float:
    """Variance of the bias by chance alone."""
    n, total = len(sums_CF), sums_CF[:, 0].sum()
    took_C = sums_CF[:, 1] + sums_CF[:, 2]
    off_C = took_C - sums_CF[:, 0] * took_C.sum() / total
    return float((off_C**2).sum() / total**2 * n / max(1, n - 1))


def _accuracy(sums_BF: Array, noise: float) -> Array:
    better_B, worse_B = _shares(sums_BF)
    # chance alone makes the size of a bias positive, and the judge would seem better than it is
    left_B = 1 - np.sqrt(np.maximum(0.0, _bias(sums_BF) ** 2 - noise))
    return 0.5 + np.divide(better_B - worse_B, 2 * left_B, out=np.full(len(left_B), np.nan), where=left_B > 0)


def _one_order(sums_BF: Array) -> Array:
    return sums_BF[:, 3] / (2 * sums_BF[:, 0])


def _both(sums_BF: Array) -> Array:
    return sums_BF[:, 4] / sums_BF[:, 0]
