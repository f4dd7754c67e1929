"""Two sides on the same units: what changed, how sure that is, and how many such claims to believe at once.

A unit is a cluster of rows: all rows of a prompt, or of prompts that are one question put in several ways.
Rows of a cluster rise and fall together, so clusters are resampled, flipped and counted.

Shapes: R rows, C clusters, B draws.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from accord.errors import DataError
from accord.stats.intervals import CELLS, DRAWS, Array, bootstrap, finite

FLIPS = 4999
"""Sign flips drawn where there are too many to try all."""
ALL_FLIPS = 12
"""Clusters up to which every pattern of signs is tried."""


@dataclass(frozen=True, slots=True)
class Gain:
    """A difference (or a win rate) with its interval and test."""

    value: float
    low: float
    """Both ends are NaN for a single cluster, of which nobody can tell how it varies."""
    high: float
    p: float
    """Two-sided, of no difference (of a win rate of one half)."""
    n: int
    """Clusters behind it."""
    sd: float
    """Standard deviation of a cluster's difference, so that ``sd / sqrt(n)`` is the standard error."""


def paired_gain(
    before: ArrayLike,
    after: ArrayLike,
    rng: np.random.Generator,
    clusters: Sequence[Hashable] | None = None,
    draws: int = DRAWS,
    level: float = 0.95,
) -> Gain:
    """Mean of ``after - before`` over rows (R): bootstrap interval over clusters, p by :func:`sign_flip`.

    The percentiles are widened to what Student's t asks for (the expanded percentile interval of Hesterberg
    2015, arXiv:1411.5279), for plain percentiles are too narrow on few clusters. Without ``clusters`` each
    row is one.
    """
    before_R, after_R = finite(before), finite(after)
    if before_R.shape != after_R.shape:
        raise DataError(f"{len(before_R)} values before and {len(after_R)} after; pair them row by row")
    total_C, size_C = _sums(after_R - before_R, clusters)
    n, value = len(total_C), float(total_C.sum() / size_C.sum())
    p = sign_flip(total_C, rng)
    if n < 2:
        return Gain(value, float("nan"), float("nan"), p, n, float("nan"))
    found = bootstrap(n, lambda c: (c @ total_C) / (c @ size_C), rng, draws, expanded(level, n))
    return Gain(value, found.low, found.high, p, n, _spread(total_C, size_C))


def win_gain(
    shares: ArrayLike,
    rng: np.random.Generator,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Gain:
    """Win rate, from each row's share of wins (R), ties half; p is of a rate of one half.

    The interval adds a won and a lost cluster before it takes the variance (Bonett and Price 2012, for the
    difference of paired proportions, which 2 w - 1 is), so that ten wins of ten are not taken for certainty.
    """
    shares_R = finite(shares)
    if ((shares_R < 0) | (shares_R > 1)).any():
        raise DataError(
            f"a share of wins of {shares_R[(shares_R < 0) | (shares_R > 1)][0]}; shares lie in 0..1"
        )
    total_C, size_C = _sums(shares_R, clusters)
    n, value = len(total_C), float(total_C.sum() / size_C.sum())
    each = size_C.sum() / n
    wins_C, of_C = np.r_[total_C, each, 0.0], np.r_[size_C, each, each]
    centre = wins_C.sum() / of_C.sum()
    half = float(stats.t.ppf((1 + level) / 2, n + 1)) * _spread(wins_C, of_C) / np.sqrt(n + 2)
    p = sign_flip(total_C - size_C / 2, rng)
    spread = _spread(total_C, size_C) if n > 1 else float("nan")
    return Gain(value, max(0.0, float(centre - half)), min(1.0, float(centre + half)), p, n, spread)


def sign_flip(sums: ArrayLike, rng: np.random.Generator, flips: int = FLIPS) -> float:
    """Two-sided p of clusters' summed differences (C) under the null that each could as well be its negative.

    Exact whatever the distribution: every pattern of signs where that is few, the binomial sign test where
    all that is not zero is of one size, else ``flips`` drawn patterns, the observed one counted among them.
    """
    sums_C = finite(sums)
    moved_C = sums_C[sums_C != 0]
    if not len(moved_C):
        return 1.0
    sizes_C = np.abs(moved_C)
    if np.allclose(sizes_C, sizes_C[0], rtol=1e-9, atol=0):
        return float(stats.binomtest(int((moved_C > 0).sum()), len(moved_C), 0.5).pvalue)
    limit = abs(moved_C.sum()) * (1 - 1e-12)
    if len(moved_C) <= ALL_FLIPS:
        return float((np.abs(_patterns(len(moved_C)) @ moved_C) >= limit).mean())
    chunk = max(1, CELLS // len(moved_C))
    as_far = 0
    for done in range(0, flips, chunk):
        size = (min(chunk, flips - done), len(moved_C))
        signs_BC = 1.0 - 2.0 * rng.integers(0, 2, size=size, dtype=np.int8)
        as_far += int((np.abs(signs_BC @ moved_C) >= limit).sum())
    return (as_far + 1) / (flips + 1)


@cache
def _patterns(n: int) -> Array:
    """Every pattern of ``n`` signs, (2^n, n)."""
    return np.array(list(product((1.0, -1.0), repeat=n)))


def holm(p: ArrayLike) -> Array:
    """Holm's adjusted p-values (Holm 1979), in the order given.

    Those at or under alpha may be claimed together: the chance that any of them is false is alpha at most,
    however the tests depend on one another.
    """
    p_K = np.asarray(p, np.float64)
    if p_K.ndim != 1 or ((p_K < 0) | (p_K > 1) | np.isnan(p_K)).any():
        raise DataError(f"p-values {p_K}; pass a list of numbers in 0..1")
    order = np.argsort(p_K, kind="stable")
    stepped_K = np.minimum(1.0, np.maximum.accumulate(p_K[order] * np.arange(len(p_K), 0, -1)))
    adjusted_K = np.empty_like(p_K)
    adjusted_K[order] = stepped_K
    return adjusted_K


def expanded(level: float, n: int) -> float:
    """The level whose percentiles of ``n`` resampled units are as wide as Student's t at ``level``."""
    t = float(stats.t.ppf((1 + level) / 2, n - 1))
    return float(2 * stats.norm.cdf(t * np.sqrt(n / (n - 1))) - 1)


def _sums(values_R: Array, clusters: Sequence[Hashable] | None) -> tuple[Array, Array]:
    """Each cluster's sum and its number of rows."""
    if clusters is None:
        return values_R, np.ones_like(values_R)
    if len(clusters) != len(values_R):
        raise DataError(f"{len(values_R)} values and {len(clusters)} cluster names; pass one a value")
    number = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    index_R = np.array([number[name] for name in clusters], np.int64)
    return np.bincount(index_R, values_R).astype(np.float64), np.bincount(index_R).astype(np.float64)


def _spread(total_C: Array, size_C: Array) -> float:
    """Standard deviation of a cluster's part in the ratio of sums (the linearised ratio estimator)."""
    n = len(total_C)
    off_C = total_C - size_C * total_C.sum() / size_C.sum()
    return float(np.sqrt((off_C**2).sum() / (n - 1)) * n / size_C.sum())
