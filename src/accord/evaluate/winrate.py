"""Win rates against a baseline from a judge's preferences, plain and with the answers' length taken out.

AlpacaEval's rows give its published win rates and standard errors (``plain``). Its length-controlled form
(Dubois et al. 2024, arXiv:2404.04475) is a logistic regression over all models and prompts at once;
``length_controlled`` keeps the idea for one pair of models:

    P(model wins) = sigma(a + b tanh(d / sd(d))),   d = length of the model's answer - the baseline's

and the controlled rate is sigma(a): the rate at equal length. What differs from theirs: no term for how hard
a prompt is (its coefficients come from all the models of their leaderboard), a weak Gaussian prior for their
cross-validated one, draws count as half. The two rank models alike but do not give the same numbers.

Shapes: N preferences.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from accord.errors import DataError
from accord.stats import logistic
from accord.stats.intervals import Array, Interval, finite

PRIOR_SD = 3.0
"""Of both coefficients: so wide that it matters only where every judgement says the same."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """A share of wins, ties half, in 0..1."""

    value: float
    standard_error: float
    wins: int
    losses: int
    ties: int

    @property
    def n(self) -> int:
        """Judgements behind it."""
        return self.wins + self.losses + self.ties


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """The win rate at equal length, and how much length moves it."""

    rate: Interval
    slope: float
    """b above: log-odds of winning for an answer longer by much; above 0 the judge likes length."""
    slope_low: float
    slope_high: float


def plain(shares: ArrayLike) -> WinRate:
    """Win rate of shares (N): 1 won, 0 lost, 1/2 a tie; its standard error as AlpacaEval takes it.

    The standard error is that of a mean, ``sd / sqrt(N)`` with N - 1 in the variance. For an interval use
    ``stats.paired.win_gain``, which knows of repeated prompts and of rates near 0 and 1.
    """
    shares_N = _shares(shares)
    error = shares_N.std(ddof=1) / np.sqrt(len(shares_N)) if len(shares_N) > 1 else float("nan")
    counts = [int((shares_N > 0.5).sum()), int((shares_N < 0.5).sum()), int((shares_N == 0.5).sum())]
    return WinRate(float(shares_N.mean()), float(error), *counts)


def alpaca_shares(preferences: Sequence[float | None]) -> Array:
    """AlpacaEval's preferences as shares of wins: 2 the model wins, 1 the baseline, 0 and 1.5 a draw.

    Rows without a preference are left out, as there. Raises :class:`DataError` for any other number.
    """
    known = [float(p) for p in preferences if p is not None and not np.isnan(p)]
    odd = [p for p in known if not (p == 0 or 1 <= p <= 2)]
    if odd:
        raise DataError(f"a preference of {odd[0]}; AlpacaEval's are 1 to 2, or 0 for a draw")
    return np.array([0.5 if p == 0 else p - 1 for p in known])


def length_controlled(
    shares: ArrayLike,
    lengths: ArrayLike,
    baseline_lengths: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> LengthControlled:
    """The win rate at equal length from shares of wins and both answers' lengths (N each, any unit).

    Intervals are from the sandwich covariance over clusters (prompts; each row one unless given), on the log
    odds. Raises :class:`DataError` where shapes differ.
    """
    shares_N = _shares(shares)
    gap_N = finite(lengths) - finite(baseline_lengths)
    if len(gap_N) != len(shares_N):
        raise DataError(f"{len(shares_N)} shares of wins and {len(gap_N)} lengths; pass one of each a prompt")
    spread = float(gap_N.std())
    x_NK = np.stack([np.ones_like(gap_N), np.tanh(gap_N / spread) if spread else gap_N], axis=1)
    given = logistic.votes(x_NK, shares_N)
    precision_KK = np.eye(2) / PRIOR_SD**2
    found = logistic.fit(given, np.zeros(2), precision_KK)
    score_NK = x_NK * (shares_N - special.expit(x_NK @ found.mean_K))[:, None]
    names = range(len(shares_N)) if clusters is None else clusters
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    score_CK = np.zeros((len(number), 2))
    np.add.at(score_CK, [number[name] for name in names], score_NK)
    cov_KK = found.cov_KK @ (score_CK.T @ score_CK) @ found.cov_KK
    z = float(stats.norm.ppf((1 + level) / 2))
    a, b = (float(x) for x in found.mean_K)
    half_a, half_b = (float(z * np.sqrt(cov_KK[k, k])) for k in range(2))
    rate = Interval(
        float(special.expit(a)),
        float(special.expit(a - half_a)),
        float(special.expit(a + half_a)),
        len(number),
    )
    return LengthControlled(rate, b, b - half_b, b + half_b)


def _shares(shares: ArrayLike) -> Array:
    shares_N = finite(shares)
    if ((shares_N < 0) | (shares_N > 1)).any():
        raise DataError("a share of wins lies outside of 0..1: 1 is won, 0 lost, 1/2 a tie")
    return shares_N
