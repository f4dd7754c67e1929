"""Figures over seeds: means with t-intervals, and labels needed against a baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from accord.feedback.active import Array
from accord.feedback.active_savings import labels_needed

Bounds = dict[str, float | None]
"""value, low and high."""
UNKNOWN: Bounds = {"value": None, "low": None, "high": None}


def t_interval(values: ArrayLike) -> Bounds:
    """Mean over seeds with its 95 % t-interval; None where a seed has no finite value."""
    values_S = np.asarray(values, np.float64)
    if not np.isfinite(values_S).all():
        return UNKNOWN
    n, mean = len(values_S), float(values_S.mean())
    half = float(stats.t.ppf(0.975, n - 1) * values_S.std(ddof=1) / np.sqrt(n))
    return {"value": mean, "low": mean - half, "high": mean + half}


def ratio(base_SG: Array, other_SG: Array, labels_G: Sequence[int], at: float) -> Bounds:
    """Labels of one way over the baseline's, for the accuracy that the baseline has after ``at`` labels.

    Curves by seed and number of labels (S, G). From their means over seeds, with a 95 % t-interval by the
    jackknife over seeds, on the log. None: the way did not get there with the most labels it was given; a
    bound is None where that holds with one seed left out.
    """
    n = len(base_SG)
    whole = _log_ratio(base_SG, other_SG, labels_G, at)
    if not np.isfinite(whole):
        return UNKNOWN
    left_out = np.array(
        [_log_ratio(np.delete(base_SG, s, 0), np.delete(other_SG, s, 0), labels_G, at) for s in range(n)]
    )
    if not np.isfinite(left_out).all():
        return {"value": float(np.exp(whole)), "low": None, "high": None}
    spread = np.sqrt((n - 1) / n * np.sum((left_out - left_out.mean()) ** 2))
    low, high = np.exp(whole + np.array([-1, 1]) * stats.t.ppf(0.975, n - 1) * spread)
    return {"value": float(np.exp(whole)), "low": float(low), "high": float(high)}


def _log_ratio(base_SG: Array, other_SG: Array, labels_G: Sequence[int], at: float) -> float:
    base_G, other_G = base_SG.mean(axis=0), other_SG.mean(axis=0)
    target = float(np.interp(at, labels_G, optimize.isotonic_regression(base_G).x))
    return float(np.log(labels_needed(labels_G, other_G, target) / labels_needed(labels_G, base_G, target)))


def words(found: Bounds, digits: int = 2) -> str:
    """A figure with its interval, as people read it."""
    value, low, high = ("?" if x is None else f"{x:.{digits}f}" for x in found.values())
    return "not reached" if value == "?" else f"{value} ({low} to {high})"
