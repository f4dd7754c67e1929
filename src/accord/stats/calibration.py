"""Are a reward model's probabilities what they say, and does its doubt point at its mistakes?

A pair whose rewards differ by d is predicted to be won with probability sigma(d / T). All functions take the
differences ``d_P`` (P pairs) and the labels ``p_P`` in [0, 1]: 1 and 0 are hard, 0.5 a tie, anything between
a consensus. Swapping a pair (d, p) to (-d, 1 - p) changes nothing here.

Shapes: P pairs, B draws of a bootstrap, C clusters, L levels of doubt.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from accord.errors import DataError
from accord.stats.intervals import DRAWS, Interval, bootstrap

Array = NDArray[np.float64]
BINS = 10
SHARPEST = 1e3
"""A fitted temperature keeps the root mean square of d / T between 1 / SHARPEST and SHARPEST."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs of like predictions, each turned so that the model prefers its first."""

    predicted: float
    """Mean predicted probability."""
    observed: float
    """Mean label."""
    count: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far probabilities can be believed, after a temperature that was fitted on other prompts."""

    temperature: float
    """Fitted on all pairs: what to use from now on."""
    log_loss: float
    ece: float
    ece_floor: float
    """What the same pairs and bins show on average where every probability is right."""
    brier: float


def log_loss(d_P: ArrayLike, p_P: ArrayLike, temperature: float | ArrayLike = 1.0) -> float:
    """Mean of -[p log sigma(d / T) + (1 - p) log sigma(-d / T)], in nats a pair."""
    d_P, p_P = _pairs(d_P, p_P)
    scaled_P = d_P / _positive(temperature)
    return float((p_P * np.logaddexp(0, -scaled_P) + (1 - p_P) * np.logaddexp(0, scaled_P)).mean())


def fit_temperature(d_P: ArrayLike, p_P: ArrayLike) -> float:
    """The temperature T > 0 of least log-loss on held-out pairs (Guo et al. 2017, arXiv:1706.04599).

    The loss is convex in 1 / T. It has no finite best T where the model is right about every pair (T goes to
    0) or no better than chance (T goes to infinity); then T stays at a bound, where the root mean square of d
    / T is 1,000 or 0.001. Differences that are all zero say nothing of T, and it is 1.

    Raises:
        DataError: no pairs, or values that are not finite or out of range.
    """
    d_P, p_P = _pairs(d_P, p_P)
    scale = float(np.sqrt(np.mean(d_P**2)))
    if scale == 0:
        return 1.0
    z_P = d_P / scale

    def slope(log_s: float) -> float:
        return float(np.mean(z_P * (special.expit(np.exp(log_s) * z_P) - p_P)))

    low, high = -np.log(SHARPEST), np.log(SHARPEST)
    if slope(low) >= 0:
        return scale * SHARPEST
    if slope(high) <= 0:
        return scale / SHARPEST
    return scale / float(np.exp(optimize.brentq(slope, low, high, xtol=1e-12)))


def reliability_bins(
    d_P: ArrayLike, p_P: ArrayLike, temperature: float | ArrayLike = 1.0, bins: int = BINS
) -> list[Bin]:
    """Bins of equal count (to one, but equal predictions share a bin), from the least sure to the surest.

    There are fewer than ``bins`` where there are fewer pairs. Equal counts, not equal widths: a bin of two
    pairs says nothing of calibration, and a good reward model crowds its predictions near 1. Each pair is
    turned so that the prediction is at least one half; a difference of zero prefers neither side, so its
    label counts as one half.
    """
    predicted_P, observed_P = _turned(d_P, p_P, temperature)
    return [
        Bin(float(predicted_P[part].mean()), float(observed_P[part].mean()), len(part))
        for part in _parts(predicted_P, bins)
    ]


def ece(d_P: ArrayLike, p_P: ArrayLike, temperature: float | ArrayLike = 1.0, bins: int = BINS) -> float:
    """Expected calibration error: mean over pairs of their bin's |predicted - observed|, bins of equal count.

    Few pairs bias it upwards, for noise in a bin counts as error whichever its sign: hold it against
    :func:`ece_floor` of the same pairs and bins. More bins raise the floor, fewer hide errors that cancel.
    """
    found = reliability_bins(d_P, p_P, temperature, bins)
    return sum(b.count * abs(b.predicted - b.observed) for b in found) / sum(b.count for b in found)


def reliability_error(confidence: ArrayLike, right: ArrayLike, bins: int = BINS) -> float:
    """The same of choices among any number of options: their stated probability (N) against 1 or 0 (N)."""
    sure_N, right_N = _pairs(confidence, right)
    if ((sure_N < 0) | (sure_N > 1)).any():
        raise DataError("a confidence lies outside of 0..1")
    parts = _parts(sure_N, bins)
    return float(sum(abs(sure_N[part].sum() - right_N[part].sum()) for part in parts) / len(sure_N))


def ece_floor(
    d_P: ArrayLike,
    p_P: ArrayLike,
    temperature: float | ArrayLike = 1.0,
    bins: int = BINS,
    clusters: Sequence[Hashable] | None = None,
) -> float:
    """The :func:`ece` that noise alone gives on average, were every probability right.

    A bin's mean residual is then normal around zero, and its mean size sqrt(2 / pi) times its standard error,
    which is taken from the residuals themselves: summed by cluster (a prompt) where ``clusters`` are given,
    because pairs of a prompt err together. A bin of one cluster has no standard error and adds nothing.
    """
    predicted_P, observed_P = _turned(d_P, p_P, temperature)
    names = np.arange(len(predicted_P)) if clusters is None else _numbered(clusters, len(predicted_P))
    total = 0.0
    for part in _parts(predicted_P, bins):
        residual = observed_P[part] - predicted_P[part]
        _, index = np.unique(names[part], return_inverse=True)
        sums = np.bincount(index, residual - residual.mean())
        if len(sums) > 1:
            total += float(np.sqrt(2 / np.pi * np.sum(sums**2) * len(sums) / (len(sums) - 1)))
    return total / len(predicted_P)


def brier(d_P: ArrayLike, p_P: ArrayLike, temperature: float | ArrayLike = 1.0) -> float:
    """Mean of (sigma(d / T) - p)^2 (Brier 1950).

    With a consensus p this is the distance to the consensus; single votes drawn from it would add p (1 - p).
    """
    d_P, p_P = _pairs(d_P, p_P)
    return float(np.mean((special.expit(d_P / _positive(temperature)) - p_P) ** 2))


def calibration(
    d_P: ArrayLike,
    p_P: ArrayLike,
    clusters: Sequence[Hashable],
    rng: np.random.Generator,
    bins: int = BINS,
) -> Calibration:
    """Temperature and the figures after it, each pair judged with the temperature of the other half.

    A temperature judged on the pairs it was fitted on looks better than it is. ``clusters`` names each
    pair's prompt; whole prompts go to one half.

    Raises:
        DataError: fewer than two clusters.
    """
    d_P, p_P = _pairs(d_P, p_P)
    names = _numbered(clusters, len(d_P))
    count = int(names.max()) + 1
    if count < 2:
        raise DataError("calibration needs pairs of at least 2 prompts: one half fits, the other is judged")
    half_P = (rng.permutation(count) < count / 2)[names]
    t_P = np.where(
        half_P, fit_temperature(d_P[~half_P], p_P[~half_P]), fit_temperature(d_P[half_P], p_P[half_P])
    )
    return Calibration(
        fit_temperature(d_P, p_P),
        log_loss(d_P, p_P, t_P),
        ece(d_P, p_P, t_P, bins),
        ece_floor(d_P, p_P, t_P, bins, clusters),
        brier(d_P, p_P, t_P),
    )


def mistakes_found(
    doubt_P: ArrayLike,
    d_P: ArrayLike,
    p_P: ArrayLike,
    clusters: Sequence[Hashable],
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Interval:
    """AUROC of ``doubt`` for mistakes: the chance that a wrong pair is more doubted than a right one.

    A pair is wrong where d and p - 1/2 are of different signs; d = 0 is wrong, ties (p = 1/2) are left out,
    and equal doubt counts half. 1/2 is doubt that says nothing. The interval resamples ``clusters``
    (prompts). Hold it against the AUROC of -abs(d): a small difference is doubt too, and costs nothing.

    Raises:
        DataError: no pair is wrong, or none is right.
    """
    d_P, p_P = _pairs(d_P, p_P)
    doubt_P = np.asarray(doubt_P, np.float64)
    if doubt_P.shape != d_P.shape or not np.isfinite(doubt_P).all():
        raise DataError(f"doubt of shape {doubt_P.shape} for {len(d_P)} pairs; pass one finite number a pair")
    names_P = _numbered(clusters, len(d_P))
    kept_P = p_P != 0.5
    wrong_P = (d_P * (p_P - 0.5) <= 0)[kept_P]
    if not 0 < wrong_P.sum() < len(wrong_P):
        raise DataError(
            f"{int(wrong_P.sum())} of {len(wrong_P)} decided pairs are wrong; AUROC needs both kinds"
        )
    order = np.argsort(doubt_P[kept_P], kind="stable")
    sorted_P, wrong_P = doubt_P[kept_P][order], wrong_P[order]
    _, names_P = np.unique(names_P[kept_P][order], return_inverse=True)
    starts_L = np.flatnonzero(np.r_[True, sorted_P[1:] > sorted_P[:-1]])

    def statistic(counts_BC: Array) -> Array:
        weight_BP = counts_BC[:, names_P]
        wrong_BL = np.add.reduceat(weight_BP * wrong_P, starts_L, axis=1)
        right_BL = np.add.reduceat(weight_BP * ~wrong_P, starts_L, axis=1)
        below_BL = right_BL.cumsum(axis=1) - right_BL / 2
        both_B = wrong_BL.sum(axis=1) * right_BL.sum(axis=1)
        found_B = (wrong_BL * below_BL).sum(axis=1)
        return np.divide(found_B, both_B, out=np.full(len(found_B), np.nan), where=both_B > 0)

    return bootstrap(int(names_P.max()) + 1, statistic, rng, draws)


def _turned(d_P: ArrayLike, p_P: ArrayLike, temperature: float | ArrayLike) -> tuple[Array, Array]:
    d_P, p_P = _pairs(d_P, p_P)
    predicted_P = special.expit(np.abs(d_P) / _positive(temperature))
    return predicted_P, np.where(d_P > 0, p_P, np.where(d_P < 0, 1 - p_P, 0.5))


def _parts(predicted_P: Array, bins: int) -> list[NDArray[np.intp]]:
    if bins < 1:
        raise DataError(f"{bins} bins; calibration needs at least 1")
    order = np.argsort(predicted_P, kind="stable")
    ends = np.cumsum([len(part) for part in np.array_split(order, min(bins, len(order)))])
    # Equal predictions share a bin, or the order of the rows would tell them apart.
    ends = np.searchsorted(predicted_P[order], predicted_P[order][ends - 1], side="right")
    return np.split(order, np.unique(ends)[:-1])


def _pairs(d_P: ArrayLike, p_P: ArrayLike) -> tuple[Array, Array]:
    d_P, p_P = np.asarray(d_P, np.float64), np.asarray(p_P, np.float64)
    if d_P.ndim != 1 or d_P.shape != p_P.shape or not len(d_P):
        raise DataError(f"differences of shape {d_P.shape}, labels of {p_P.shape}; pass one of each a pair")
    if not np.isfinite(d_P).all():
        raise DataError(f"the difference of pair {int(np.flatnonzero(~np.isfinite(d_P))[0])} is not finite")
    if not ((p_P >= 0) & (p_P <= 1)).all():
        raise DataError(f"a label of {p_P[~((p_P >= 0) & (p_P <= 1))][0]}; labels are probabilities, 0 to 1")
    return d_P, p_P


def _positive(temperature: float | ArrayLike) -> Array:
    found = np.asarray(temperature, np.float64)
    if not (np.isfinite(found) & (found > 0)).all():
        raise DataError(f"temperature {temperature!r}; it must be finite and above 0")
    return found


def _numbered(clusters: Sequence[Hashable], n: int) -> NDArray[np.int64]:
    if len(clusters) != n:
        raise DataError(f"{n} pairs and {len(clusters)} cluster names; pass one a pair")
    number = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    return np.array([number[name] for name in clusters], np.int64)
