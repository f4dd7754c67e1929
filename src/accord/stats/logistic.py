"""Logistic regression with a Gaussian prior: its mode, Laplace's covariance and the evidence.

    P(yes | x) = sigma(offset + w . x),    w ~ N(mean, precision^-1)

Left out: an intercept (give a column of ones), classes beyond two, sparse features.

Shapes: N judgements, K features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from accord.errors import DataError, NumericsError

Array = NDArray[np.float64]
MAX_STEPS = 100


@dataclass(frozen=True, slots=True)
class Posterior:
    """A Gaussian over the weights."""

    mean_K: Array
    cov_KK: Array
    evidence: float = 0.0
    """Log of the judgements' probability under the prior, nats, by Laplace's approximation."""


@dataclass(frozen=True, slots=True)
class Votes:
    """What the weights are learned from: make one with :func:`votes`, which checks it."""

    x_NK: Array
    p_N: Array
    """Probability of yes that each judgement stands for: 1, 0, or anything between."""
    offset_N: Array
    weight_N: Array

    def take(self, index: ArrayLike) -> Votes:
        """The judgements at ``index`` (positions or a mask)."""
        at = np.asarray(index)
        return Votes(self.x_NK[at], self.p_N[at], self.offset_N[at], self.weight_N[at])


def votes(
    x: ArrayLike, p: ArrayLike, *, offset: ArrayLike | None = None, weight: ArrayLike | None = None
) -> Votes:
    """Judgements from features (N, K), probabilities, offsets (0) and weights (1), each (N).

    Raises:
        DataError: shapes differ, a number is not finite, p is outside of [0, 1], or a weight is negative.
    """
    x_NK, p_N = np.asarray(x, np.float64), np.asarray(p, np.float64)
    offset_N = np.zeros_like(p_N) if offset is None else np.asarray(offset, np.float64)
    weight_N = np.ones_like(p_N) if weight is None else np.asarray(weight, np.float64)
    if x_NK.ndim != 2 or not x_NK.shape[:1] == p_N.shape == offset_N.shape == weight_N.shape:
        raise DataError(
            f"features of shape {x_NK.shape} with p {p_N.shape}, offset {offset_N.shape} and weight "
            f"{weight_N.shape}; give (N, K) and three times (N)"
        )
    if not all(np.isfinite(part).all() for part in (x_NK, p_N, offset_N, weight_N)):
        raise DataError("a feature, probability, offset or weight is not finite; drop or repair it first")
    if ((p_N < 0) | (p_N > 1)).any() or (weight_N < 0).any():
        raise DataError("a probability lies outside of [0, 1], or a weight is negative")
    return Votes(x_NK, p_N, offset_N, weight_N)


def fit(given: Votes, mean: ArrayLike, precision: ArrayLike, start: ArrayLike | None = None) -> Posterior:
    """The posterior of w under N(mean, precision^-1), by Newton's method with halved steps.

    ``precision`` (K, K) must be positive definite, which makes the mode unique and finite. A ``start`` near
    it saves steps; it is the mean, if not given.

    Raises:
        NumericsError: Newton's method did not converge.
    """
    mean_K, precision_KK = np.asarray(mean, np.float64), np.asarray(precision, np.float64)
    w_K = mean_K.copy() if start is None else np.array(start, np.float64)
    value = _energy(w_K, given, mean_K, precision_KK)
    scale = max(1.0, float(given.weight_N.sum()))
    for _ in range(MAX_STEPS):
        p_N = special.expit(given.offset_N + given.x_NK @ w_K)
        gradient_K = given.x_NK.T @ (given.weight_N * (p_N - given.p_N)) + precision_KK @ (w_K - mean_K)
        curved_N = given.weight_N * p_N * (1 - p_N)
        hessian_KK = (given.x_NK * curved_N[:, None]).T @ given.x_NK + precision_KK
        step_K = np.linalg.solve(hessian_KK, gradient_K)
        if float(gradient_K @ step_K) < 1e-14 * scale:  # what the next step would still gain, twice, in nats
            return _laplace(w_K, value, hessian_KK, precision_KK)
        size = 1.0
        while (lower := _energy(w_K - size * step_K, given, mean_K, precision_KK)) > value and size > 1e-8:
            size /= 2
        if lower > value:  # no descent left at this precision of numbers
            return _laplace(w_K, value, hessian_KK, precision_KK)
        w_K, value = w_K - size * step_K, lower
    raise NumericsError(
        f"logistic regression did not converge in {MAX_STEPS} steps on {len(given.p_N)} judgements; scale "
        "the features to about 1, or narrow the prior"
    )


def _energy(w_K: Array, given: Votes, mean_K: Array, precision_KK: Array) -> float:
    """Minus the log density of judgements and prior, but for the prior's constant."""
    d_N, off_K = given.offset_N + given.x_NK @ w_K, w_K - mean_K
    loss_N = np.logaddexp(0, d_N) - given.p_N * d_N
    return float(given.weight_N @ loss_N + off_K @ precision_KK @ off_K / 2)


def _laplace(w_K: Array, energy: float, hessian_KK: Array, precision_KK: Array) -> Posterior:
    prior, posterior = np.linalg.slogdet(precision_KK)[1], np.linalg.slogdet(hessian_KK)[1]
    return Posterior(w_K, np.linalg.inv(hessian_KK).astype(np.float64), float(prior - posterior) / 2 - energy)
