"""The consensus on FAIL: Dawid and Skene's model of two kinds of error a labeler.

Completion i is a failure with probability pi; labeler k marks a failure with probability a_k (sensitivity)
and passes what is none with probability c_k (specificity). One accuracy for both would read a strict
labeler's many FAILs as careful and a lenient one's few as careless. Expectation-maximisation (Dawid and
Skene 1979) with Beta priors, so that a labeler of few votes stays near the prior.

Shapes: I completions, K labelers, V votes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accord.errors import NumericsError

Array = NDArray[np.float64]
Index = NDArray[np.int64]

SENSITIVITY_PRIOR = (8.0, 2.0)
"""Beta: as if eight failures marked and two missed had been seen before the first vote."""
SPECIFICITY_PRIOR = (19.0, 1.0)
"""Beta: nineteen good completions passed, one marked."""
SHARE_PRIOR = (1.0, 9.0)
"""Beta of the share of failures."""
MAX_STEPS = 5000


@dataclass(frozen=True, slots=True)
class TwoCoin:
    """Consensus on a yes-or-no question."""

    p_I: Array
    """Probability that the answer is yes, per item."""
    sensitivity_K: Array
    """How often each labeler says yes where it is yes..."""
    specificity_K: Array
    """...and no where it is no."""
    share: float
    """Share of yes in the pool."""


def two_coin(
    item_V: Index, labeler_V: Index, yes_V: NDArray[np.bool_], n_items: int, n_labelers: int
) -> TwoCoin:
    """Dawid-Skene with a sensitivity and a specificity a labeler; items without votes get the pool's share.

    Raises :class:`NumericsError` when it does not converge.
    """
    sensitivity_K = np.full(n_labelers, SENSITIVITY_PRIOR[0] / sum(SENSITIVITY_PRIOR))
    specificity_K = np.full(n_labelers, SPECIFICITY_PRIOR[0] / sum(SPECIFICITY_PRIOR))
    share = SHARE_PRIOR[0] / sum(SHARE_PRIOR)
    votes_K = np.bincount(labeler_V, minlength=n_labelers)
    p_I = np.full(n_items, np.inf)
    for _ in range(MAX_STEPS):
        yes_K = np.log(sensitivity_K) - np.log1p(-specificity_K)
        no_K = np.log1p(-sensitivity_K) - np.log(specificity_K)
        weight_V = np.where(yes_V, yes_K[labeler_V], no_K[labeler_V])
        odds_I = np.log(share) - np.log1p(-share) + np.bincount(item_V, weight_V, n_items)
        new_I = 1 / (1 + np.exp(-np.clip(odds_I, -700, 700)))
        failures_K = np.bincount(labeler_V, new_I[item_V], n_labelers)
        marked_K = np.bincount(labeler_V, new_I[item_V] * yes_V, n_labelers)
        passed_K = np.bincount(labeler_V, (1 - new_I[item_V]) * ~yes_V, n_labelers)
        sensitivity_K = (marked_K + SENSITIVITY_PRIOR[0]) / (failures_K + sum(SENSITIVITY_PRIOR))
        specificity_K = (passed_K + SPECIFICITY_PRIOR[0]) / (votes_K - failures_K + sum(SPECIFICITY_PRIOR))
        share = float((new_I.sum() + SHARE_PRIOR[0]) / (n_items + sum(SHARE_PRIOR)))
        if np.abs(new_I - p_I).max(initial=0.0) < 1e-8:
            return TwoCoin(new_I, sensitivity_K, specificity_K, share)
        p_I = new_I
    raise NumericsError(
        f"the consensus on FAIL did not converge in {MAX_STEPS} steps; check for contradictory labelers"
    )
