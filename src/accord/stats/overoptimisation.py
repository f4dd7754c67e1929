"""Over-optimisation: how far a proxy reward can be pushed before the true reward, gold, turns.

Gao, Schulman and Hilton 2022 (arXiv:2210.10760) find that gold gained over the start follows, with
d = sqrt(KL(policy || start)) and KL in nats a completion,

    best of n:               R(d) = d (alpha - beta d)       turns at d = alpha / (2 beta)
    reinforcement learning:  R(d) = d (alpha - beta log d)   turns at d = exp(alpha / beta - 1)

Both are linear in (alpha, beta), so least squares has one answer. Best of n needs no training: its gold comes
without bias from N >= n samples a prompt.

Shapes: R prompts, N samples a prompt, K values of n, U units (prompts or seeds), M points of a unit, B draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from accord.errors import DataError
from accord.stats.intervals import DRAWS, Interval

Array = NDArray[np.float64]
FARTHEST = 700.0
"""Largest log of a d that is still a number."""


class Form(StrEnum):
    """Which law of gold against d."""

    BEST_OF_N = "best of n"
    """d (alpha - beta d)"""
    RL = "reinforcement learning"
    """d (alpha - beta log d)"""


@dataclass(frozen=True, slots=True)
class Peak:
    """Where gold is expected to turn. ``None`` stands where ``why`` says why."""

    kl: float | None
    """Nats a completion."""
    low: float | None
    high: float | None
    """Bounds of ``kl``; ``None`` where more than the tail of the draws never turns, or there is one unit."""
    gain: float | None
    """Gold gained there over the start."""
    turning: float
    """Share of the bootstrap's draws in which gold turns at all."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted law with 95 % intervals from resampled units (NaN bounds where there is one unit)."""

    form: Form
    alpha: Interval
    beta: Interval
    peak: Peak
    rmse: float
    """Root mean square of what the law leaves of the units' mean gains; large where it is the wrong law."""
    farthest: float
    """Largest KL measured: a peak beyond it is an extrapolation."""

    def gain(self, kl: ArrayLike) -> Array:
        """Gold gained over the start at ``kl``."""
        columns = _columns(self.form, np.sqrt(np.asarray(kl, np.float64)))
        return columns @ np.array([self.alpha.value, self.beta.value])


# -- best of n ---------------------------------------------------------------------------------


def best_of_n(proxy: ArrayLike, gold: ArrayLike, sizes: Sequence[int]) -> Array:
    """(R, K) expected gold of the sample the proxy likes best among n, for each n of ``sizes``.

    The unbiased estimate from all N samples of a prompt (R, N), or of one (N): with samples sorted by proxy,
    the i-th lowest is best of a random n with probability C(i - 1, n - 1) / C(N, n) (Nakano et al. 2021,
    arXiv:2112.09332). Samples the proxy cannot tell apart share their gold. ``gold = proxy`` gives the
    proxy's own curve.

    Raises:
        DataError: shapes that differ, values that are not finite, or an n outside 1 to N.
    """
    proxy_RN, gold_RN = (np.atleast_2d(np.asarray(x, np.float64)) for x in (proxy, gold))
    if proxy_RN.shape != gold_RN.shape or proxy_RN.ndim != 2 or not proxy_RN.size:
        raise DataError(f"proxy of shape {proxy_RN.shape} and gold of {gold_RN.shape}; both are (R, N)")
    if not (np.isfinite(proxy_RN).all() and np.isfinite(gold_RN).all()):
        raise DataError("a proxy or gold score is not finite; drop the sample or repair the scorer")
    count = proxy_RN.shape[1]
    bad = [n for n in sizes if not 1 <= n <= count]
    if bad:
        raise DataError(
            f"best of {bad[0]} from {count} samples a prompt; n runs from 1 to the samples there are"
        )
    order = np.argsort(proxy_RN, axis=1, kind="stable")
    sorted_RN = np.take_along_axis(gold_RN, order, axis=1)
    shared_RN = np.array(
        [_shared(p, g) for p, g in zip(np.take_along_axis(proxy_RN, order, axis=1), sorted_RN, strict=True)]
    )
    return shared_RN @ np.array([_chance_of_best(count, n) for n in sizes]).T


def _shared(proxy_N: Array, gold_N: Array) -> Array:
    """Gold of sorted samples, each run of equal proxies at its mean."""
    _, index, size = np.unique(proxy_N, return_inverse=True, return_counts=True)
    return (np.bincount(index, gold_N) / size)[index]


def _chance_of_best(count: int, n: int) -> Array:
    """(N,) C(i - 1, n - 1) / C(N, n) for i = 1 to N, by logarithms: the coefficients overflow."""
    i = np.arange(n, count + 1)
    log_chance = _log_binomial(i - 1, n - 1) - _log_binomial(np.array(count), n)
    return np.r_[np.zeros(n - 1), np.exp(log_chance)]


def _log_binomial(n: NDArray[np.int64], k: int) -> Array:
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)


def kl_best_of_n(n: ArrayLike) -> Array:
    """log n - (n - 1) / n, nats: the KL of best-of-n from its base, if no two samples tie.

    An upper bound where samples can be alike, as texts of a peaked model are: Beirami et al. 2024
    (arXiv:2401.01879). The curve then stands further right than the truth.
    """
    n = np.asarray(n, np.float64)
    if not (n >= 1).all():
        raise DataError(f"best of {n}; n is 1 or more")
    return np.log(n) - (n - 1) / n


# -- the laws ----------------------------------------------------------------------------------


def fit_curve(
    units: Sequence[tuple[ArrayLike, ArrayLike]],
    form: Form,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Fit:
    """The law of gold's gain against KL by least squares over all units' points.

    ``units`` are what is resampled for the intervals: prompts, which share the KL of each n, or training runs
    of several seeds, each with its own KL; each is (KL of its points (M), gold minus gold at the start (M)).
    Points count alike, so space them evenly in d and not in n. Five seeds give rough intervals, for a
    bootstrap of few units is too narrow.

    Raises:
        DataError: no units, shapes that differ, a negative KL or a value that is not finite, or points at
            fewer than two KL above 0.
    """
    points = [_points(kl, gain) for kl, gain in units]
    if not points:
        raise DataError("no units to fit a curve to; pass at least one prompt's or seed's points")
    kl_M = np.concatenate([kl for kl, _ in points])
    if len(np.unique(kl_M[kl_M > 0])) < 2:
        raise DataError("points at fewer than two KL above 0; alpha and beta need at least two")
    designs = [_columns(form, np.sqrt(kl)) for kl, _ in points]
    normal_U22 = np.array([x.T @ x for x in designs])
    moment_U2 = np.array([x.T @ gain for x, (_, gain) in zip(designs, points, strict=True)])
    count = len(points)
    counts_BU = np.r_[
        np.ones((1, count)), rng.multinomial(count, np.full(count, 1 / count), size=draws)
    ].astype(np.float64)
    found_B2 = _solve(np.tensordot(counts_BU, normal_U22, 1), counts_BU @ moment_U2)
    value_2, drawn_B2 = found_B2[0], found_B2[1:]
    alpha, beta = (_interval(value_2[i], drawn_B2[:, i], count) for i in (0, 1))
    return Fit(
        form,
        alpha,
        beta,
        _peak(form, value_2, drawn_B2, count),
        _rmse(points, form, value_2),
        float(kl_M.max()),
    )


def _points(kl: ArrayLike, gain: ArrayLike) -> tuple[Array, Array]:
    kl_M, gain_M = np.asarray(kl, np.float64), np.asarray(gain, np.float64)
    if kl_M.ndim != 1 or kl_M.shape != gain_M.shape:
        raise DataError(f"KL of shape {kl_M.shape} and gains of {gain_M.shape}; pass one of each a point")
    if not (np.isfinite(kl_M).all() and np.isfinite(gain_M).all() and (kl_M >= 0).all()):
        raise DataError(
            "a KL is negative, or a KL or gain not finite; pass the exact KL, which is never below 0"
        )
    return kl_M, gain_M


def _columns(form: Form, d: Array) -> Array:
    """(..., 2): the law is these columns times (alpha, beta). At d = 0 both are 0, the limit of d log d."""
    return np.stack([d, -d * d if form is Form.BEST_OF_N else -special.xlogy(d, d)], axis=-1)


def _solve(normal_B22: Array, moment_B2: Array) -> Array:
    """Least squares of each draw; NaN where its points do not fix both numbers."""
    spread_B = np.linalg.det(normal_B22) / np.maximum(np.trace(normal_B22, axis1=1, axis2=2) ** 2, 1e-300)
    fixed_B = spread_B > 1e-12
    found_B2 = np.full(moment_B2.shape, np.nan)
    found_B2[fixed_B] = np.linalg.solve(normal_B22[fixed_B], moment_B2[fixed_B][:, :, None])[:, :, 0]
    return found_B2


def _interval(value: float, drawn_B: Array, count: int) -> Interval:
    if count < 2:
        return Interval(float(value), float("nan"), float("nan"), count)
    low, high = np.nanquantile(drawn_B, [0.025, 0.975])
    return Interval(float(value), float(low), float(high), count)


def _turns(form: Form, coefficients_B2: Array) -> tuple[Array, Array]:
    """KL and gain at the peak; infinite where gold never turns, 0 where it falls from the start."""
    alpha_B, beta_B = coefficients_B2.T
    rises_B, bends_B = alpha_B > 0, beta_B > 0
    safe_B = np.where(bends_B, beta_B, 1.0)
    if form is Form.RL:
        d_B = np.exp(np.clip(alpha_B / safe_B - 1, -FARTHEST, FARTHEST / 4))
        return np.where(bends_B, d_B**2, np.inf), np.where(bends_B, beta_B * d_B, np.nan)
    d_B = np.where(rises_B, alpha_B / (2 * safe_B), 0.0)
    kl_B = np.where(bends_B, d_B**2, np.where(rises_B, np.inf, 0.0))
    return kl_B, np.where(bends_B, d_B * alpha_B / 2, np.where(rises_B, np.nan, 0.0))


def _peak(form: Form, value_2: Array, drawn_B2: Array, count: int) -> Peak:
    drawn_B2 = drawn_B2[np.isfinite(drawn_B2).all(axis=1)]
    kl_B = _turns(form, drawn_B2)[0]
    turning = float(np.isfinite(kl_B).mean()) if count > 1 else float("nan")
    low = high = None
    if count > 1:
        ends = np.quantile(kl_B, [0.025, 0.975], method="nearest")
        low, high = (float(x) if np.isfinite(x) else None for x in ends)
    (kl,), (gain,) = _turns(form, value_2[None])
    if not np.isfinite(kl):
        why = f"beta is {value_2[1]:.3g}, not above 0: the fitted curve never turns"
        return Peak(None, low, high, None, turning, why)
    if kl == 0:
        return Peak(0.0, low, high, 0.0, turning, "gold falls from the start: the proxy points the wrong way")
    return Peak(float(kl), low, high, float(gain), turning, "" if count > 1 else "one unit: no interval")


def _rmse(points: Sequence[tuple[Array, Array]], form: Form, value_2: Array) -> float:
    """Against the mean over units where they share their KL, else against every point."""
    kl, gains = points[0][0], [gain for _, gain in points]
    if all(np.array_equal(kl, other) for other, _ in points):
        left = np.mean(gains, axis=0) - _columns(form, np.sqrt(kl)) @ value_2
    else:
        left = np.concatenate([gain - _columns(form, np.sqrt(kl)) @ value_2 for kl, gain in points])
    return float(np.sqrt(np.mean(left**2)))
