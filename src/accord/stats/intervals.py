"""Intervals for means, differences and shares. Bootstraps draw from the generator passed in.

Shapes: R rows (prompts), B bootstrap draws, C clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from accord.errors import DataError

Array = NDArray[np.float64]
DRAWS = 2000
CELLS = 4_000_000
"""Units times draws held in memory at once."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the bounds of its confidence interval."""

    value: float
    low: float
    high: float
    n: int
    """Independent units behind it."""


def bootstrap(
    n: int,
    statistic: Callable[[Array], Array],
    rng: np.random.Generator,
    draws: int = DRAWS,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of a statistic of ``n`` exchangeable units.

    ``statistic`` maps how often each unit is counted, (B, n), to the statistic (B); draws where it is NaN
    (undefined on that resample) are left out. Raises :class:`DataError` for no units.
    """
    if n < 1:
        raise DataError("no rows to take an interval of; pass at least one")
    value = float(statistic(np.ones((1, n)))[0])
    chunk = max(1, CELLS // n)
    drawn_B = np.concatenate(
        [
            statistic(rng.multinomial(n, np.full(n, 1 / n), size=min(chunk, draws - done)).astype(np.float64))
            for done in range(0, draws, chunk)
        ]
    )
    return _percentile(value, drawn_B, n, level)


def bootstrap_sums(
    sums: ArrayLike,
    statistics: Sequence[Callable[[Array], Array]],
    rng: np.random.Generator,
    draws: int = DRAWS,
    level: float = 0.95,
) -> list[Interval]:
    """Percentile intervals of several statistics of the units' summed features, resampled once for all.

    ``sums`` (R, F) holds what each unit adds; each statistic maps the sums over drawn units, (B, F), to its
    values (B). For many units and several statistics several times faster than :func:`bootstrap`.
    """
    sums_RF = np.asarray(sums, np.float64)
    n = len(sums_RF)
    if n < 1:
        raise DataError("no rows to take an interval of; pass at least one")
    chunk = max(1, CELLS // n)
    drawn = [sums_RF.sum(axis=0)[None]]
    for done in range(0, draws, chunk):
        size = min(chunk, draws - done)
        cell_BR = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        counts_BR = np.bincount(cell_BR.ravel(), minlength=size * n).reshape(size, n)
        drawn.append(counts_BR.astype(np.float64) @ sums_RF)
    totals_BF = np.concatenate(drawn)
    values = [statistic(totals_BF) for statistic in statistics]
    return [_percentile(float(value_B[0]), value_B[1:], n, level) for value_B in values]


def _percentile(value: float, drawn_B: Array, n: int, level: float) -> Interval:
    """The estimate with the percentiles of its draws, undefined draws left out."""
    drawn_B = drawn_B[np.isfinite(drawn_B)]
    if not len(drawn_B):
        return Interval(value, float("nan"), float("nan"), n)
    low, high = np.quantile(drawn_B, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), n)


def bootstrap_mean(
    values: ArrayLike, rng: np.random.Generator, draws: int = DRAWS, level: float = 0.95
) -> Interval:
    """Mean of ``values`` (R) with its percentile bootstrap interval."""
    values_R = finite(values)
    return bootstrap(len(values_R), lambda c: c @ values_R / c.sum(axis=1), rng, draws, level)


def paired_bootstrap(
    before: ArrayLike, after: ArrayLike, rng: np.random.Generator, draws: int = DRAWS, level: float = 0.95
) -> Interval:
    """Mean of ``after - before`` over the same rows (R), rows resampled together."""
    before_R, after_R = finite(before), finite(after)
    if before_R.shape != after_R.shape:
        raise DataError(f"{len(before_R)} values before and {len(after_R)} after; pair them row by row")
    return bootstrap_mean(after_R - before_R, rng, draws, level)


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """A share with Wilson's score interval (Wilson 1927)."""
    if n < 1 or not 0 <= successes <= n:
        raise DataError(f"{successes} successes of {n}; a share needs 0 <= successes <= n and n >= 1")
    share, z = successes / n, float(stats.norm.ppf((1 + level) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return Interval(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)), n)


def clustered_mean(
    values: ArrayLike,
    clusters: Sequence[Hashable],
    rng: np.random.Generator,
    weights: ArrayLike | None = None,
    draws: int = DRAWS,
    level: float = 0.95,
) -> Interval:
    """Mean of ``values`` with whole clusters resampled: for accuracy over pairs, one cluster a prompt.

    Values count the same unless weighted; pairs of a prompt rise and fall together, so prompts are the
    units.
    """
    values_R = finite(values)
    weights_R = np.ones_like(values_R) if weights is None else finite(weights)
    if not len(values_R) == len(clusters) == len(weights_R):
        raise DataError(f"{len(values_R)} values, {len(clusters)} cluster names, {len(weights_R)} weights")
    number = {name: n for n, name in enumerate(dict.fromkeys(clusters))}
    index_R = np.array([number[name] for name in clusters], np.int64)
    total_C, size_C = np.bincount(index_R, values_R * weights_R), np.bincount(index_R, weights_R)
    return bootstrap(len(number), lambda c: (c @ total_C) / (c @ size_C), rng, draws, level)


def finite(values: ArrayLike) -> Array:
    """Values as a non-empty flat array of finite numbers; :class:`DataError` where they are not."""
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array):
        raise DataError(f"values of shape {array.shape}; pass a non-empty list of numbers")
    if not np.isfinite(array).all():
        raise DataError(
            f"value {int(np.flatnonzero(~np.isfinite(array))[0])} is not finite; drop or repair it first"
        )
    return array
