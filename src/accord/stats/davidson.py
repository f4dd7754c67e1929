"""The Davidson model of paired judgements with ties and labeler parameters, and its posterior.

Labeler k sees completions i and j of a prompt whose scores differ by d = s_i - s_j:

    P(i > j) = 1 / (1 + nu_k e^(-b_k d / 2) + e^(-b_k d)),    P(tie) = nu_k e^(-b_k d / 2) P(i > j)

b_k is the labeler's reliability (0 flips a coin, negative inverts), nu_k the habit of calling a tie
(Davidson 1970). With the outcome written t = 1, 1/2, 0 for win, tie, loss this is an exponential family
in b_k d and log nu_k, so each derivative below is a cumulant of (t, [tie]) and the log-likelihood is
concave in the scores.

The scores have the prior N(0, 1) and are integrated out: maximising over scores and reliabilities together
lets reliability grow without end while the scores shrink to nothing. The integral is taken prompt by prompt
by expectation propagation (Minka 2001), one site a pair of completions; for prompts of two completions that
is exact up to the quadrature.

Shapes: P prompts, I completions of all prompts, S pairs of all prompts, V votes (merged over repeats),
K labelers, Q quadrature nodes, N completions of one prompt, M pairs of one prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from accord.errors import NumericsError

Array = NDArray[np.float64]
Index = NDArray[np.int64]

NODES_Q: Array = np.linspace(-6.3, 6.3, 29)
"""Nodes in standard deviations about the pair's posterior mean: the trapezoid rule converges
geometrically on a smooth, fast decaying integrand."""
STEP = float(NODES_Q[1] - NODES_Q[0])
MAX_SWEEPS = 500


@dataclass(frozen=True, slots=True)
class Votes:
    """Paired votes as arrays. Each prompt owns consecutive completions and all its pairs, in the
    order (0, 1), (0, 2), ..., (1, 2), ...; a pair's first member is the one of lower index."""

    sizes_P: Index
    """Completions of each prompt."""
    site_V: Index
    """The pair each vote is about."""
    labeler_V: Index
    outcome_V: Array
    """1 the pair's first member won, 1/2 tie, 0 the second won."""
    weight_V: Array
    n_labelers: int

    def pair_items(self) -> tuple[Index, Index]:
        """First and second completion of every pair (S), as indices into all completions."""
        first, second = [], []
        start = 0
        for size in self.sizes_P:
            a, b = np.triu_indices(int(size), 1)
            first.append(a + start)
            second.append(b + start)
            start += int(size)
        empty = np.zeros(0, np.int64)
        return np.concatenate([empty, *first]), np.concatenate([empty, *second])

    def pair_prompts(self) -> Index:
        """The prompt of every pair (S)."""
        return np.repeat(np.arange(len(self.sizes_P)), self.sizes_P * (self.sizes_P - 1) // 2)

    def judges(self) -> Index:
        """How many labelers voted on each pair (S)."""
        pairs_2 = np.unique(np.stack([self.site_V, self.labeler_V]), axis=1)
        return np.bincount(pairs_2[0], minlength=len(self.pair_prompts()))

    def restrict(self, keep_P: NDArray[np.bool_], without: int) -> tuple[Votes, Index]:
        """The votes on some prompts without one labeler's, and the old index of each pair kept."""
        kept_S = np.flatnonzero(keep_P[self.pair_prompts()])
        renumber_S = np.full(len(self.pair_prompts()), -1)
        renumber_S[kept_S] = np.arange(len(kept_S))
        keep_V = (renumber_S[self.site_V] >= 0) & (self.labeler_V != without)
        return Votes(
            self.sizes_P[keep_P],
            renumber_S[self.site_V[keep_V]],
            self.labeler_V[keep_V],
            self.outcome_V[keep_V],
            self.weight_V[keep_V],
            self.n_labelers,
        ), kept_S


@dataclass(frozen=True, slots=True)
class Posterior:
    """Beliefs about the scores given the labelers' parameters."""

    log_evidence: float
    """Log of the probability of all votes, scores integrated out."""
    mean_I: Array
    cov: tuple[tuple[Index, Array], ...]
    """Per prompt size: completion indices (P', N) and covariances (P', N, N)."""
    nodes_SQ: Array
    """Score differences at which each pair's marginal is kept..."""
    prob_SQ: Array
    """...and its probabilities there (rows sum to 1)."""
    tau_S: Array
    shift_S: Array
    """The sites' natural parameters: a warm start for nearby labeler parameters."""

    def sd_items(self) -> Array:
        """Standard deviation of each score (I)."""
        sd_I = np.empty_like(self.mean_I)
        for items_PN, cov_PNN in self.cov:
            sd_I[items_PN] = np.sqrt(np.diagonal(cov_PNN, axis1=1, axis2=2))
        return sd_I

    def covariance(self) -> sparse.csr_matrix:
        """The scores' block-diagonal covariance (I, I)."""
        rows, cols, values = [], [], []
        for items_PN, cov_PNN in self.cov:
            rows.append(np.broadcast_to(items_PN[:, :, None], cov_PNN.shape).ravel())
            cols.append(np.broadcast_to(items_PN[:, None, :], cov_PNN.shape).ravel())
            values.append(cov_PNN.ravel())
        index = (np.concatenate(rows), np.concatenate(cols))
        return sparse.csr_matrix((np.concatenate(values), index), shape=(len(self.mean_I),) * 2)


def probabilities(d: Array, reliability: Array | float, log_tie: Array | float) -> tuple[Array, Array, Array]:
    """P(win), P(tie), P(loss) of the first of two completions whose scores differ by ``d`` (broadcast)."""
    x = np.asarray(reliability * d)
    half = np.exp(-np.abs(x) / 2)
    tie = np.exp(log_tie) * half
    total = 1 + tie + half**2
    favoured, other = 1 / total, half**2 / total
    return np.where(x >= 0, favoured, other), tie / total, np.where(x >= 0, other, favoured)


def log_probability(d: Array, outcome: Array, reliability: Array, log_tie: Array) -> Array:
    """Log of the probability of outcomes 1, 1/2 or 0 (broadcast)."""
    x = reliability * d
    half = np.exp(-np.abs(x) / 2)
    log_total = np.maximum(x, 0) + np.log1p(half * (np.exp(log_tie) + half))
    return outcome * x + np.where(outcome == 0.5, log_tie, 0.0) - log_total


def posterior(
    votes: Votes, reliability_K: Array, log_tie_K: Array, warm: Posterior | None = None, tol: float = 1e-7
) -> Posterior:
    """The posterior of all scores by expectation propagation.

    ``tol`` bounds the last change of each pair's mean (in standard deviations) and relative variance.
    Raises :class:`NumericsError` when that is not reached.
    """
    sites = _Sites(votes, reliability_K, log_tie_K)
    tau_S, shift_S = (warm.tau_S, warm.shift_S) if warm is not None else sites.start()
    damping, last = 1.0, np.inf
    for sweep in range(MAX_SWEEPS):
        state = sites.marginals(tau_S, shift_S)
        tilted = sites.tilt(state, tau_S, shift_S)
        change = tilted.change(state)
        if change < tol:
            return sites.finish(state, tilted, tau_S, shift_S)
        if not np.isfinite(change):
            break
        if sweep == 0 and warm is not None and change > 1:  # too far to be of use
            tau_S, shift_S = sites.start()
            continue
        # Parallel updates of pairs that share completions overshoot; a step that grows is cut.
        damping = max(0.2, damping * 0.7) if change > 0.9 * last and sweep else damping
        last = change
        tau_S = tau_S + damping * (tilted.tau_S - tau_S)
        shift_S = shift_S + damping * (tilted.shift_S - shift_S)
    raise NumericsError(
        f"the consensus posterior did not settle in {MAX_SWEEPS} sweeps (last change "
        f"{last:.2e}, wanted {tol:.0e}) with reliabilities in [{reliability_K.min():.3g}, "
        f"{reliability_K.max():.3g}]: look for labelers with contradictory rankings, or tighten the prior"
    )


@dataclass(frozen=True, slots=True)
class _Marginals:
    """Gaussian beliefs: per-size covariances, scores' means, pairs' means and variances, log Z part."""

    cov: tuple[tuple[Index, Array], ...]
    mean_I: Array
    mean_S: Array
    var_S: Array
    log_z: float


@dataclass(frozen=True, slots=True)
class _Tilted:
    """Each pair's marginal with its true likelihood in place of the Gaussian one."""

    nodes_SQ: Array
    prob_SQ: Array
    mean_S: Array
    var_S: Array
    tau_S: Array
    shift_S: Array
    log_z: float

    def change(self, state: _Marginals) -> float:
        if not len(self.mean_S):
            return 0.0
        shift = np.abs(self.mean_S - state.mean_S) / np.sqrt(state.var_S)
        return float(max(shift.max(), np.abs(self.var_S / state.var_S - 1).max()))


class _Sites:
    """One expectation-propagation problem: votes with fixed labeler parameters."""

    def __init__(self, votes: Votes, reliability_K: Array, log_tie_K: Array) -> None:
        self.votes = votes
        self.b_V = reliability_K[votes.labeler_V]
        self.eta_V = log_tie_K[votes.labeler_V]
        self.n_sites = len(votes.pair_prompts())
        n_votes = len(votes.site_V)
        entries = (votes.weight_V, (votes.site_V, np.arange(n_votes)))
        self.sum_SV = sparse.csr_matrix(entries, shape=(self.n_sites, n_votes))
        self.groups = list(_groups(votes.sizes_P))

    def start(self) -> tuple[Array, Array]:
        """Sites expanded about the scores of greatest density, so that the first grids are well placed.

        Newton's method with bounded, later halved steps; expectation propagation does the rest, so that
        this need not converge to the last digit.
        """
        mean_S = np.zeros(self.n_sites)
        for sweep in range(50):
            win_V, tie_V, _ = probabilities(mean_S[self.votes.site_V], self.b_V, self.eta_V)
            expected_V = win_V + tie_V / 2
            tau_S = self.sum_SV @ (self.b_V**2 * (expected_V * (1 - expected_V) - tie_V / 4))
            shift_S = tau_S * mean_S + self.sum_SV @ (self.b_V * (self.votes.outcome_V - expected_V))
            state = self.marginals(tau_S, shift_S)
            step_S = state.mean_S - mean_S
            if (np.abs(step_S) < 0.1 * np.sqrt(state.var_S)).all():
                break
            mean_S = mean_S + np.clip(step_S, -1, 1) * (1.0 if sweep < 10 else 0.5)
        return tau_S, shift_S

    def marginals(self, tau_S: Array, shift_S: Array) -> _Marginals:
        mean_I = np.zeros(int(self.votes.sizes_P.sum()))
        mean_S, var_S = np.zeros(self.n_sites), np.zeros(self.n_sites)
        cov, log_z = [], 0.0
        for items_PN, sites_PM, design_MN in self.groups:
            precision_PNN = np.einsum("pm,mi,mj->pij", tau_S[sites_PM], design_MN, design_MN, optimize=True)
            precision_PNN += np.eye(design_MN.shape[1])
            cov_PNN = np.linalg.inv(precision_PNN)
            pull_PN = shift_S[sites_PM] @ design_MN
            mean_PN = np.einsum("pij,pj->pi", cov_PNN, pull_PN)
            mean_I[items_PN] = mean_PN
            mean_S[sites_PM] = mean_PN @ design_MN.T
            var_S[sites_PM] = np.einsum("mi,pij,mj->pm", design_MN, cov_PNN, design_MN, optimize=True)
            log_z += 0.5 * float((pull_PN * mean_PN).sum() - np.linalg.slogdet(precision_PNN)[1].sum())
            cov.append((items_PN, cov_PNN))
        return _Marginals(tuple(cov), mean_I, mean_S, var_S, log_z)

    def tilt(self, state: _Marginals, tau_S: Array, shift_S: Array) -> _Tilted:
        mean_S, var_S = state.mean_S, state.var_S
        cavity_precision_S = 1 / var_S - tau_S
        cavity_shift_S = mean_S / var_S - shift_S
        nodes_SQ = mean_S[:, None] + np.sqrt(var_S)[:, None] * NODES_Q
        nodes_VQ = nodes_SQ[self.votes.site_V]
        columns = (self.votes.outcome_V[:, None], self.b_V[:, None], self.eta_V[:, None])
        log_SQ = self.sum_SV @ log_probability(nodes_VQ, *columns)
        log_SQ += cavity_shift_S[:, None] * nodes_SQ - 0.5 * cavity_precision_S[:, None] * nodes_SQ**2
        peak_S = log_SQ.max(axis=1) if len(log_SQ) else np.zeros(0)
        prob_SQ = np.exp(log_SQ - peak_S[:, None])
        mass_S = prob_SQ.sum(axis=1)
        prob_SQ /= mass_S[:, None]
        new_mean_S = (prob_SQ * nodes_SQ).sum(axis=1)
        new_var_S = (prob_SQ * (nodes_SQ - new_mean_S[:, None]) ** 2).sum(axis=1)
        # On a badly placed grid (a far start) the moments mean little. Narrower than a step: shrink towards
        # it and look again. Mass near the edge: move there first, without shrinking.
        far_S = np.abs(new_mean_S - mean_S) > 3 * np.sqrt(var_S)
        new_var_S = np.maximum(new_var_S, np.where(far_S, 1.0, STEP**2) * var_S)
        # log of (integral with the true likelihood / integral with the Gaussian site); the cavity's own
        # normaliser cancels between the two.
        true_S = peak_S + np.log(mass_S * STEP * np.sqrt(var_S))
        gaussian_S = 0.5 * np.log(2 * np.pi * var_S) + 0.5 * mean_S**2 / var_S
        return _Tilted(
            nodes_SQ,
            prob_SQ,
            new_mean_S,
            new_var_S,
            np.maximum(1 / new_var_S - cavity_precision_S, 0.0),
            new_mean_S / new_var_S - cavity_shift_S,
            float((true_S - gaussian_S).sum()),
        )

    def finish(self, state: _Marginals, tilted: _Tilted, tau_S: Array, shift_S: Array) -> Posterior:
        return Posterior(
            state.log_z + tilted.log_z,
            state.mean_I,
            state.cov,
            tilted.nodes_SQ,
            tilted.prob_SQ,
            tau_S,
            shift_S,
        )


def _groups(sizes_P: Index) -> Iterator[tuple[Index, Index, Array]]:
    """Prompts of equal size together: completion indices (P', N), pair indices (P', M), design (M, N)."""
    item_start_P = np.concatenate([[0], np.cumsum(sizes_P)[:-1]])
    n_pairs_P = sizes_P * (sizes_P - 1) // 2
    site_start_P = np.concatenate([[0], np.cumsum(n_pairs_P)[:-1]])
    for size in np.unique(sizes_P):
        members = np.flatnonzero(sizes_P == size)
        a, b = np.triu_indices(int(size), 1)
        design_MN = np.zeros((len(a), int(size)))
        design_MN[np.arange(len(a)), a] = 1
        design_MN[np.arange(len(a)), b] = -1
        items_PN = item_start_P[members, None] + np.arange(int(size))
        yield items_PN, site_start_P[members, None] + np.arange(len(a)), design_MN
