"""Gradient and information of the labelers' parameters, scores integrated out.

At a fixed point of expectation propagation the evidence is stationary in the sites, so its gradient is the
expected gradient of the log-likelihood under each pair's marginal. The information is Louis' (1982): the
votes' expected curvature with scores known, less the posterior covariance of their gradients. That
covariance is exact within a pair and linear in the scores between the pairs of a prompt. Shapes: see
``davidson``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from accord.stats.davidson import Array, Habits, Index, Votes, probabilities
from accord.stats.propagation import Posterior, blocks


@dataclass(frozen=True, slots=True)
class _Block:
    """The votes on some prompts, with what is believed at their nodes."""

    votes: Votes
    first_site: int
    first_item: int
    habits: Habits
    d_VQ: Array
    prob_VQ: Array
    tie_VQ: Array
    mean_VQ: Array
    """Expected outcome."""


def _blocks(votes: Votes, theta_T: Array, scores: Posterior) -> Iterator[_Block]:
    habits = Habits.unpack(theta_T)
    for part, first_site, first_item in blocks(votes):
        at_V = first_site + part.site_V
        d_VQ, k_V = scores.nodes_SQ[at_V], part.labeler_V
        lean_V1 = (habits.position_K[k_V] * part.lead_V)[:, None]
        win_VQ, tie_VQ, _ = probabilities(
            d_VQ, habits.reliability_K[k_V, None], habits.log_tie_K[k_V, None], lean_V1
        )
        mean_VQ = win_VQ + tie_VQ / 2
        yield _Block(part, first_site, first_item, habits, d_VQ, scores.prob_SQ[at_V], tie_VQ, mean_VQ)


def expected_gradient(votes: Votes, theta_T: Array, scores: Posterior) -> Array:
    """Gradient (T) of the log evidence in the labelers' parameters."""
    gradient_3K = np.zeros((3, votes.n_labelers))
    for block in _blocks(votes, theta_T, scores):
        part = block.votes
        surplus_VQ = block.prob_VQ * (part.outcome_V[:, None] - block.mean_VQ)
        columns = (
            (surplus_VQ * block.d_VQ).sum(axis=1),
            (part.outcome_V == 0.5) - (block.prob_VQ * block.tie_VQ).sum(axis=1),
            surplus_VQ.sum(axis=1) * part.lead_V,
        )
        for row_K, column_V in zip(gradient_3K, columns, strict=True):
            row_K += np.bincount(part.labeler_V, part.weight_V * column_V, votes.n_labelers)
    return gradient_3K.ravel()


def information(votes: Votes, theta_T: Array, scores: Posterior) -> Array:
    """Observed information (T, T) of the votes on the labelers' parameters."""
    total_TT = np.zeros((len(theta_T),) * 2)
    covariance_II = scores.covariance()
    for block in _blocks(votes, theta_T, scores):
        total_TT += _known(block) - _missing(block, scores, covariance_II)
    return total_TT


def _columns(block: _Block) -> Index:
    """Where each vote's three parameters stand among all (3V): reliability, tie, position."""
    k_V, n_labelers = block.votes.labeler_V, block.votes.n_labelers
    return np.concatenate([k_V, k_V + n_labelers, k_V + 2 * n_labelers])


def _known(block: _Block) -> Array:
    """Expected curvature of the votes with scores known."""
    part, k_V, n_labelers = block.votes, block.votes.labeler_V, block.votes.n_labelers
    weighted_VQ = block.prob_VQ * part.weight_V[:, None]
    var_VQ = weighted_VQ * (block.mean_VQ * (1 - block.mean_VQ) - block.tie_VQ / 4)
    skew_VQ = weighted_VQ * block.tie_VQ * (0.5 - block.mean_VQ)
    lead_V, d_VQ = part.lead_V, block.d_VQ
    total_TT = np.zeros((3 * n_labelers,) * 2)
    entries = {
        (0, 0): (var_VQ * d_VQ**2).sum(axis=1),
        (1, 1): (weighted_VQ * block.tie_VQ * (1 - block.tie_VQ)).sum(axis=1),
        (2, 2): var_VQ.sum(axis=1) * lead_V**2,
        (0, 1): (skew_VQ * d_VQ).sum(axis=1),
        (0, 2): (var_VQ * d_VQ).sum(axis=1) * lead_V,
        (1, 2): skew_VQ.sum(axis=1) * lead_V,
    }
    k_K = np.arange(n_labelers)
    for (row, column), value_V in entries.items():
        value_K = np.bincount(k_V, value_V, n_labelers)
        total_TT[row * n_labelers + k_K, column * n_labelers + k_K] = value_K
        total_TT[column * n_labelers + k_K, row * n_labelers + k_K] = value_K
    return total_TT


def _missing(block: _Block, scores: Posterior, covariance_II: sparse.csr_matrix) -> Array:
    """Posterior covariance of the gradients: what not knowing the scores takes away."""
    part, columns_X = block.votes, _columns(block)
    n_nodes = block.d_VQ.shape[1]
    n_sites, n_items = int(part.pairs_P.sum()), int(part.sizes_P.sum())
    width = 3 * part.n_labelers
    slopes_X = _slopes(block)
    sites_X = np.tile(part.site_V, 3)
    slope_ST = sparse.csr_matrix((slopes_X, (sites_X, columns_X)), (n_sites, width))
    first_S, second_S = part.pair_items()
    ends = np.r_[first_S[sites_X], second_S[sites_X]]
    pull_IT = sparse.csr_matrix(
        (np.r_[slopes_X, -slopes_X], (ends, np.r_[columns_X, columns_X])), (n_items, width)
    )
    span = slice(block.first_site, block.first_site + n_sites)
    prob_SQ, nodes_SQ = scores.prob_SQ[span], scores.nodes_SQ[span]
    off_SQ = nodes_SQ - (prob_SQ * nodes_SQ).sum(axis=1, keepdims=True)
    var_S = (prob_SQ * off_SQ**2).sum(axis=1)
    surplus_VQ = block.mean_VQ - part.outcome_V[:, None]
    gradients = (surplus_VQ * block.d_VQ, block.tie_VQ, surplus_VQ * part.lead_V[:, None])
    root_VQ = np.sqrt(block.prob_VQ) * part.weight_V[:, None]
    centred = [root_VQ * (g - (block.prob_VQ * g).sum(axis=1, keepdims=True)) for g in gradients]
    cells_VQ = part.site_V[:, None] * n_nodes + np.arange(n_nodes)
    exact_CT = sparse.csr_matrix(
        (np.concatenate(centred).ravel(), (np.tile(cells_VQ, (3, 1)).ravel(), np.repeat(columns_X, n_nodes))),
        (n_sites * n_nodes, width),
    )
    items = slice(block.first_item, block.first_item + n_items)
    within_TT = exact_CT.T @ exact_CT - slope_ST.T @ sparse.diags_array(var_S) @ slope_ST
    return (within_TT + pull_IT.T @ covariance_II[items, items] @ pull_IT).toarray()


def _slopes(block: _Block) -> Array:
    """Expected slope in d of each vote's gradients, weighted (3V)."""
    part, k_V = block.votes, block.votes.labeler_V
    b_V = block.habits.reliability_K[k_V]
    weighted_VQ = block.prob_VQ * part.weight_V[:, None]
    var_V = weighted_VQ * (block.mean_VQ * (1 - block.mean_VQ) - block.tie_VQ / 4)
    surplus_V = (weighted_VQ * (block.mean_VQ - part.outcome_V[:, None])).sum(axis=1)
    return np.concatenate(
        [
            surplus_V + b_V * (var_V * block.d_VQ).sum(axis=1),
            b_V * (weighted_VQ * block.tie_VQ * (0.5 - block.mean_VQ)).sum(axis=1),
            b_V * part.lead_V * var_V.sum(axis=1),
        ]
    )
