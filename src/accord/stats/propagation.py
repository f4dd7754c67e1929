"""The posterior of all scores under the Davidson model, by expectation propagation.

The scores have the prior N(0, 1) and are integrated out: maximising over scores and reliabilities together
lets reliability grow without end while the scores shrink to nothing. The integral is taken prompt by prompt
by expectation propagation (Minka 2001), one site a pair of completions; for prompts of two completions that
is exact up to the quadrature. Prompts are worked on in blocks that fit the processor's cache, and one that
has settled is left alone. Shapes: see ``davidson``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from accord.errors import NumericsError
from accord.stats.davidson import Array, Habits, Index, Votes, probabilities, starts

NODES_Q: Array = np.linspace(-6.3, 6.3, 29)
"""Nodes in standard deviations about the pair's posterior mean: the trapezoid rule converges
geometrically on a smooth, fast decaying integrand."""
STEP = float(NODES_Q[1] - NODES_Q[0])
MAX_SWEEPS = 500
BLOCK = 3000
"""Votes worked on together: their nodes fit the processor's cache."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """Beliefs about the scores given the labelers' parameters."""

    log_evidence: float
    """Log of the probability of all votes, scores integrated out."""
    mean_I: Array
    cov: tuple[tuple[Index, Array], ...]
    """Groups of prompts of one size: completion indices (P', N) and covariances (P', N, N)."""
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


def posterior(
    votes: Votes, habits: Habits, warm: tuple[Array, Array] | None = None, tol: float = 1e-7
) -> Posterior:
    """The posterior of all scores by expectation propagation.

    ``warm`` holds the natural parameters of sites to start from; ``tol`` bounds the last change of each
    pair's mean (in standard deviations) and relative variance. Raises :class:`NumericsError` when that is
    not reached.
    """
    found = _Found(votes)
    for block, first_site, first_item in blocks(votes):
        sites = _Sites(block, habits)
        span = slice(first_site, first_site + sites.n_sites)
        tau_S, shift_S = (warm[0][span], warm[1][span]) if warm is not None else sites.start()
        _settle(sites, tau_S, shift_S, warm is not None, tol, found, first_site, first_item)
    return found.posterior()


def blocks(votes: Votes) -> Iterator[tuple[Votes, int, int]]:
    """Votes on consecutive prompts, some ``BLOCK`` each, with the numbers of their first pair and item."""
    pair_end_P = np.cumsum(votes.pairs_P)
    vote_end_P = np.searchsorted(votes.site_V, pair_end_P)
    # a pair without votes costs something too
    cut_P = (vote_end_P + pair_end_P) // (2 * BLOCK)
    ends = [*(np.flatnonzero(np.diff(cut_P)) + 1), len(votes.sizes_P)]
    start, first_item = 0, 0
    for end in ends if len(votes.sizes_P) else []:
        first_site = int(pair_end_P[start - 1]) if start else 0
        part = slice(int(vote_end_P[start - 1]) if start else 0, int(vote_end_P[end - 1]))
        yield (
            Votes(
                votes.sizes_P[start:end],
                votes.site_V[part] - first_site,
                votes.labeler_V[part],
                votes.outcome_V[part],
                votes.lead_V[part],
                votes.weight_V[part],
                votes.n_labelers,
            ),
            first_site,
            first_item,
        )
        first_item += int(votes.sizes_P[start:end].sum())
        start = end


class _Found:
    """What has settled so far."""

    def __init__(self, votes: Votes) -> None:
        n_sites = int(votes.pairs_P.sum())
        self.log_evidence = 0.0
        self.mean_I = np.zeros(int(votes.sizes_P.sum()))
        self.cov: list[tuple[Index, Array]] = []
        self.nodes_SQ, self.prob_SQ = np.zeros((n_sites, len(NODES_Q))), np.zeros((n_sites, len(NODES_Q)))
        self.tau_S, self.shift_S = np.zeros(n_sites), np.zeros(n_sites)

    def posterior(self) -> Posterior:
        return Posterior(
            self.log_evidence,
            self.mean_I,
            tuple(self.cov),
            self.nodes_SQ,
            self.prob_SQ,
            self.tau_S,
            self.shift_S,
        )


@dataclass(frozen=True, slots=True)
class _Marginals:
    """Gaussian beliefs: per-size covariances, scores' means, pairs' means and variances."""

    cov: tuple[tuple[Index, Array], ...]
    mean_I: Array
    mean_S: Array
    var_S: Array


@dataclass(frozen=True, slots=True)
class _Tilted:
    """Each pair's marginal with its true likelihood in place of the Gaussian one."""

    nodes_SQ: Array
    prob_SQ: Array
    mean_S: Array
    var_S: Array
    tau_S: Array
    shift_S: Array
    log_z_S: Array

    def change(self, state: _Marginals) -> Array:
        """How far each pair (S) is from agreeing with its Gaussian."""
        shift_S = np.abs(self.mean_S - state.mean_S) / np.sqrt(state.var_S)
        return np.maximum(shift_S, np.abs(self.var_S / state.var_S - 1))


def _settle(
    sites: _Sites,
    tau_S: Array,
    shift_S: Array,
    warm: bool,
    tol: float,
    found: _Found,
    first_site: int,
    first_item: int,
) -> None:
    """Sweeps over a block until each prompt has settled, written to ``found`` as it does."""
    site_S, item_I = first_site + np.arange(sites.n_sites), first_item + np.arange(sites.n_items)
    damping_P, last_P = np.ones(len(sites.votes.sizes_P)), np.full(len(sites.votes.sizes_P), np.inf)
    for sweep in range(MAX_SWEEPS):
        state = sites.marginals(tau_S, shift_S)
        tilted = sites.tilt(state, tau_S, shift_S)
        change_P = np.maximum.reduceat(tilted.change(state), sites.first_P)
        if not np.isfinite(change_P).all():
            break
        done_P = change_P < tol
        if done_P.all() or done_P.mean() > 0.3:
            sites.write(found, done_P, state, tilted, tau_S, shift_S, site_S, item_I)
            if done_P.all():
                return
        if sweep == 0 and warm and (change_P > 1).any():  # too far to be of use
            far_S = np.repeat(change_P > 1, sites.votes.pairs_P)
            fresh = sites.start()
            tau_S, shift_S = np.where(far_S, fresh[0], tau_S), np.where(far_S, fresh[1], shift_S)
        else:
            # Parallel updates of pairs that share completions overshoot; a step that grows is cut.
            grows_P = (change_P > 0.9 * last_P) & (sweep > 0)
            damping_P = np.where(grows_P, np.maximum(0.2, damping_P * 0.7), damping_P)
            last_P = change_P
            damping_S = np.repeat(damping_P, sites.votes.pairs_P)
            tau_S = tau_S + damping_S * (tilted.tau_S - tau_S)
            shift_S = shift_S + damping_S * (tilted.shift_S - shift_S)
        if done_P.mean() > 0.3:
            left_S, left_I = np.repeat(~done_P, sites.votes.pairs_P), np.repeat(~done_P, sites.votes.sizes_P)
            tau_S, shift_S, site_S, item_I = tau_S[left_S], shift_S[left_S], site_S[left_S], item_I[left_I]
            damping_P, last_P = damping_P[~done_P], last_P[~done_P]
            sites = _Sites(sites.votes.restrict(~done_P)[0], sites.habits)
    reliability_K = sites.habits.reliability_K
    raise NumericsError(
        f"the consensus posterior did not settle in {MAX_SWEEPS} sweeps (last change "
        f"{change_P.max():.2e}, wanted {tol:.0e}) with reliabilities in [{reliability_K.min():.3g}, "
        f"{reliability_K.max():.3g}]: look for labelers with contradictory rankings, or tighten the prior"
    )


class _Sites:
    """One expectation-propagation problem: votes with fixed labeler parameters."""

    def __init__(self, votes: Votes, habits: Habits) -> None:
        self.votes, self.habits = votes, habits
        self.b_V = habits.reliability_K[votes.labeler_V]
        self.eta_V = habits.log_tie_K[votes.labeler_V]
        self.lean_V = habits.position_K[votes.labeler_V] * votes.lead_V
        self.n_sites, self.n_items = int(votes.pairs_P.sum()), int(votes.sizes_P.sum())
        self.first_P = starts(votes.pairs_P)
        n_votes = len(votes.site_V)
        begin_S = np.searchsorted(votes.site_V, np.arange(self.n_sites + 1))
        self.sum_SV = sparse.csr_matrix(
            (votes.weight_V, np.arange(n_votes), begin_S), shape=(self.n_sites, n_votes)
        )
        self.groups = list(_groups(votes.sizes_P))

    def start(self) -> tuple[Array, Array]:
        """Sites expanded about the scores of greatest density, so that the first grids are well placed.

        Newton's method with bounded, later halved steps; expectation propagation does the rest, so that
        this need not converge to the last digit.
        """
        votes, mean_S = self.votes, np.zeros(self.n_sites)
        for sweep in range(50):
            win_V, tie_V, _ = probabilities(mean_S[votes.site_V], self.b_V, self.eta_V, self.lean_V)
            expected_V = win_V + tie_V / 2
            tau_S = self.sum_SV @ (self.b_V**2 * (expected_V * (1 - expected_V) - tie_V / 4))
            shift_S = tau_S * mean_S + self.sum_SV @ (self.b_V * (votes.outcome_V - expected_V))
            state = self.marginals(tau_S, shift_S)
            step_S = state.mean_S - mean_S
            if (np.abs(step_S) < 0.1 * np.sqrt(state.var_S)).all():
                break
            mean_S = mean_S + np.clip(step_S, -1, 1) * (1.0 if sweep < 10 else 0.5)
        return tau_S, shift_S

    def marginals(self, tau_S: Array, shift_S: Array) -> _Marginals:
        mean_I, mean_S, var_S = np.zeros(self.n_items), np.zeros(self.n_sites), np.zeros(self.n_sites)
        cov = []
        for items_PN, sites_PM, design_MN in self.groups:
            cov_PNN = np.linalg.inv(_precision(tau_S[sites_PM], design_MN)).astype(np.float64)
            mean_PN = np.einsum("pij,pj->pi", cov_PNN, shift_S[sites_PM] @ design_MN)
            mean_I[items_PN] = mean_PN
            mean_S[sites_PM] = mean_PN @ design_MN.T
            a_M, b_M = np.triu_indices(design_MN.shape[1], 1)
            var_S[sites_PM] = cov_PNN[:, a_M, a_M] + cov_PNN[:, b_M, b_M] - 2 * cov_PNN[:, a_M, b_M]
            cov.append((items_PN, cov_PNN))
        return _Marginals(tuple(cov), mean_I, mean_S, var_S)

    def tilt(self, state: _Marginals, tau_S: Array, shift_S: Array) -> _Tilted:
        mean_S, var_S, sd_S = state.mean_S, state.var_S, np.sqrt(state.var_S)
        cavity_precision_S = 1 / var_S - tau_S
        cavity_shift_S = mean_S / var_S - shift_S
        nodes_SQ = mean_S[:, None] + sd_S[:, None] * NODES_Q
        log_SQ = self.sum_SV @ self._log_likelihood(mean_S, sd_S)
        log_SQ += nodes_SQ * (cavity_shift_S[:, None] - 0.5 * cavity_precision_S[:, None] * nodes_SQ)
        peak_S = log_SQ.max(axis=1)
        log_SQ -= peak_S[:, None]
        prob_SQ = np.exp(log_SQ, out=log_SQ)
        mass_S = prob_SQ.sum(axis=1)
        prob_SQ /= mass_S[:, None]
        off_S = prob_SQ @ NODES_Q
        new_mean_S = mean_S + sd_S * off_S
        new_var_S = var_S * np.maximum(prob_SQ @ NODES_Q**2 - off_S**2, 0.0)
        # On a badly placed grid (a far start) the moments mean little. Narrower than a step: shrink towards
        # it and look again. Mass near the edge: move there first, without shrinking.
        new_var_S = np.maximum(new_var_S, np.where(np.abs(off_S) > 3, 1.0, STEP**2) * var_S)
        # log of (integral with the true likelihood / integral with the Gaussian site); the cavity's own
        # normaliser cancels between the two.
        true_S = peak_S + np.log(mass_S * STEP * sd_S)
        gaussian_S = 0.5 * np.log(2 * np.pi * var_S) + 0.5 * mean_S**2 / var_S
        return _Tilted(
            nodes_SQ,
            prob_SQ,
            new_mean_S,
            new_var_S,
            np.maximum(1 / new_var_S - cavity_precision_S, 0.0),
            new_mean_S / new_var_S - cavity_shift_S,
            true_S - gaussian_S,
        )

    def _log_likelihood(self, mean_S: Array, sd_S: Array) -> Array:
        """Log-probability of each vote at its pair's nodes (V, Q); works in place, for speed."""
        votes = self.votes
        x_VQ = np.multiply.outer(self.b_V * sd_S[votes.site_V], NODES_Q)
        x_VQ += (self.b_V * mean_S[votes.site_V] + self.lean_V)[:, None]
        size_VQ = np.abs(x_VQ)
        size_VQ *= -0.5
        x_VQ *= (votes.outcome_V - 0.5)[:, None]
        x_VQ += size_VQ
        x_VQ += np.where(votes.outcome_V == 0.5, self.eta_V, 0.0)[:, None]
        half_VQ = np.exp(size_VQ, out=size_VQ)
        total_VQ = half_VQ + np.exp(self.eta_V)[:, None]
        total_VQ *= half_VQ
        total_VQ += 1
        x_VQ -= np.log(total_VQ, out=total_VQ)
        return x_VQ

    def write(
        self,
        found: _Found,
        done_P: NDArray[np.bool_],
        state: _Marginals,
        tilted: _Tilted,
        tau_S: Array,
        shift_S: Array,
        site_S: Index,
        item_I: Index,
    ) -> None:
        """Keep what is known of the prompts that are done; ``site_S``, ``item_I``: their numbers overall."""
        done_S, done_I = np.repeat(done_P, self.votes.pairs_P), np.repeat(done_P, self.votes.sizes_P)
        at_S = site_S[done_S]
        found.mean_I[item_I[done_I]] = state.mean_I[done_I]
        found.nodes_SQ[at_S], found.prob_SQ[at_S] = tilted.nodes_SQ[done_S], tilted.prob_SQ[done_S]
        found.tau_S[at_S], found.shift_S[at_S] = tau_S[done_S], shift_S[done_S]
        found.log_evidence += float(tilted.log_z_S[done_S].sum())
        for (items_PN, cov_PNN), (_, sites_PM, design_MN) in zip(state.cov, self.groups, strict=True):
            own_P = done_I[items_PN[:, 0]]
            tau_PM, shift_PM = tau_S[sites_PM[own_P]], shift_S[sites_PM[own_P]]
            pull_PN, mean_PN = shift_PM @ design_MN, state.mean_I[items_PN[own_P]]
            log_det = np.linalg.slogdet(_precision(tau_PM, design_MN))[1].sum()
            found.log_evidence += 0.5 * float((pull_PN * mean_PN).sum() - log_det)
            found.cov.append((item_I[items_PN[own_P]], cov_PNN[own_P]))


def _precision(tau_PM: Array, design_MN: Array) -> Array:
    """The scores' precision (P', N, N): the prior's and the sites'."""
    size = design_MN.shape[1]
    outer_MNN = design_MN[:, :, None] * design_MN[:, None, :]
    return (tau_PM @ outer_MNN.reshape(len(design_MN), -1)).reshape(-1, size, size) + np.eye(size)


def _groups(sizes_P: Index) -> Iterator[tuple[Index, Index, Array]]:
    """Prompts of equal size together: completion indices (P', N), pair indices (P', M), design (M, N)."""
    item_start_P, site_start_P = starts(sizes_P), starts(sizes_P * (sizes_P - 1) // 2)
    for size in np.unique(sizes_P):
        members = np.flatnonzero(sizes_P == size)
        a_M, b_M = np.triu_indices(int(size), 1)
        design_MN = np.zeros((len(a_M), int(size)))
        design_MN[np.arange(len(a_M)), a_M] = 1
        design_MN[np.arange(len(a_M)), b_M] = -1
        items_PN = item_start_P[members, None] + np.arange(int(size))
        yield items_PN, site_start_P[members, None] + np.arange(len(a_M)), design_MN
