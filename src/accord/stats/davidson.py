"""The Davidson model of paired judgements with ties and labeler parameters, and the votes it explains.

Labeler k sees completions i and j of a prompt whose scores differ by d = s_i - s_j. With

    x = b_k d + c_k l

    P(i > j) = 1 / (1 + nu_k e^(-x / 2) + e^(-x)),    P(tie) = nu_k e^(-x / 2) P(i > j)

b_k is the labeler's reliability (0 flips a coin, negative inverts), nu_k the habit of calling a tie
(Davidson 1970), c_k the position bias: l is by how much i stood before j on the screen, 1 from the first
place to the last, 0 where the order is not known. With the outcome written t = 1, 1/2, 0 for win, tie, loss
this is an exponential family in x and log nu_k, so each derivative is a cumulant of (t, [tie]) and the
log-likelihood is concave in the scores.

Shapes: P prompts, I completions of all prompts, S pairs of all prompts, V votes (merged over repeats),
K labelers, Q quadrature nodes, N completions of one prompt, M pairs of one prompt, T = 3K parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Habits:
    """What the model knows of each labeler."""

    reliability_K: Array
    log_tie_K: Array
    position_K: Array

    @classmethod
    def unpack(cls, theta_T: Array) -> Habits:
        """From one vector (T): reliabilities, then log tie propensities, then position biases."""
        return cls(*np.split(theta_T, 3))

    def pack(self) -> Array:
        """All as one vector (T)."""
        return np.concatenate([self.reliability_K, self.log_tie_K, self.position_K])


@dataclass(frozen=True, slots=True)
class Votes:
    """Paired votes as arrays, in order of their pairs. Each prompt owns consecutive completions and all its
    pairs, in the order (0, 1), (0, 2), ..., (1, 2), ...; a pair's first member is the one of lower index."""

    sizes_P: Index
    """Completions of each prompt."""
    site_V: Index
    """The pair each vote is about; never falls."""
    labeler_V: Index
    outcome_V: Array
    """1 the pair's first member won, 1/2 tie, 0 the second won."""
    lead_V: Array
    """By how much the first stood before the second on the labeler's screen, -1 to 1; 0 where unknown."""
    weight_V: Array
    n_labelers: int

    @property
    def pairs_P(self) -> Index:
        """Pairs of each prompt."""
        return self.sizes_P * (self.sizes_P - 1) // 2

    def pair_items(self) -> tuple[Index, Index]:
        """First and second completion of every pair (S), as indices into all completions."""
        item_start_P, pair_start_P = starts(self.sizes_P), starts(self.pairs_P)
        first_S = np.zeros(int(self.pairs_P.sum()), np.int64)
        second_S = first_S.copy()
        for size in np.unique(self.sizes_P):
            members = np.flatnonzero(self.sizes_P == size)
            a_M, b_M = np.triu_indices(int(size), 1)
            sites_PM = pair_start_P[members, None] + np.arange(len(a_M))
            first_S[sites_PM] = item_start_P[members, None] + a_M
            second_S[sites_PM] = item_start_P[members, None] + b_M
        return first_S, second_S

    def pair_prompts(self) -> Index:
        """The prompt of every pair (S)."""
        return np.repeat(np.arange(len(self.sizes_P)), self.pairs_P)

    def judges(self) -> Index:
        """How many labelers voted on each pair (S)."""
        both = np.unique(self.site_V * self.n_labelers + self.labeler_V)
        return np.bincount(both // max(1, self.n_labelers), minlength=int(self.pairs_P.sum()))

    def restrict(self, keep_P: NDArray[np.bool_], without: int = -1) -> tuple[Votes, Index]:
        """The votes on some prompts, perhaps without one labeler's, and the old index of each pair kept."""
        keep_S = np.repeat(keep_P, self.pairs_P)
        renumber_S = np.cumsum(keep_S) - 1
        keep_V = keep_S[self.site_V] & (self.labeler_V != without)
        return Votes(
            self.sizes_P[keep_P],
            renumber_S[self.site_V[keep_V]],
            self.labeler_V[keep_V],
            self.outcome_V[keep_V],
            self.lead_V[keep_V],
            self.weight_V[keep_V],
            self.n_labelers,
        ), np.flatnonzero(keep_S)


def starts(lengths: Index) -> Index:
    """Where each of consecutive runs of these lengths begins."""
    return np.cumsum(lengths) - lengths


def probabilities(
    d: Array, reliability: Array | float, log_tie: Array | float, lean: Array | float = 0.0
) -> tuple[Array, Array, Array]:
    """P(win), P(tie), P(loss) of the first of two completions whose scores differ by ``d`` (broadcast).

    ``lean`` is the labeler's position bias times the lead of the first; 0 is a labeler without one.
    """
    x = np.asarray(reliability * d + lean)
    half = np.exp(-np.abs(x) / 2)
    tie = np.exp(log_tie) * half
    total = 1 + tie + half**2
    favoured, other = 1 / total, half**2 / total
    return np.where(x >= 0, favoured, other), tie / total, np.where(x >= 0, other, favoured)
