"""The labelers' parameters that explain the votes best, their uncertainty, and the scores under them.

The prior on reliability is chosen by ``evidence``, the maximum found by ``maximum``.
Shapes: see ``davidson``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accord.stats.davidson import Array, Habits, Index, Votes, probabilities
from accord.stats.evidence import Choice, choose
from accord.stats.maximum import FIRST_PROMPTS, OPEN, Prior, climb, finish, maximise, spread
from accord.stats.propagation import Posterior, posterior
from accord.stats.rankings import RankingTable

ALLOWANCE = 0.1
"""Of a parameter's size, for what no weight of its pairs mends in a ranking of more than two: simulated
rankers (Plackett-Luce) of reliability 3 come out a sixth low and those of 1 a tenth high, however many
prompts there are. Votes on pairs alone have no such error."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Labelers' parameters with their covariance, and the posterior of the scores under them."""

    table: RankingTable
    habits: Habits
    """What the scores were inferred with."""
    own: Habits
    """What is reported of each labeler. Where the prior was chosen by evidence it is fitted under a vague
    one: that a pool cannot be told from one of equals suits the scores, and is no proof that each is the
    usual labeler."""
    cov_TT: Array
    """Laplace covariance of ``own``, packed; zero where habits were given, not fitted."""
    posterior: Posterior
    typical: tuple[float, float]
    """Reliability and log tie propensity of the labeler for whom probabilities are stated."""
    choice: Choice | None = None
    """The prior and what spoke for it; ``None`` where the habits were given."""

    def reliability_sd(self) -> Array:
        """Standard errors of the reliabilities (K), with ``ALLOWANCE`` for rankings of more than two."""
        return self._standard_errors(0, self.own.reliability_K)

    def position_sd(self) -> Array:
        """Standard errors of the position biases (K), with the same allowance."""
        return self._standard_errors(2, self.own.position_K)

    def _standard_errors(self, part: int, value_K: Array) -> Array:
        n_labelers, votes = self.table.votes.n_labelers, self.table.votes
        ranked_V = votes.sizes_P[votes.pair_prompts()[votes.site_V]] > 2
        total_K = np.bincount(votes.labeler_V, votes.weight_V, n_labelers)
        ranked_K = np.bincount(votes.labeler_V, votes.weight_V * ranked_V, n_labelers)
        error_K = ALLOWANCE * ranked_K / np.where(total_K > 0, total_K, 1) * np.abs(value_K)
        return np.sqrt(np.split(np.diagonal(self.cov_TT), 3)[part] + error_K**2)

    def usual(self) -> float:
        """Reliability of the typical labeler as it is reported (``own``), to hold the labelers' against."""
        return _typical(self.table.votes, self.own)[0]

    def p_first(self) -> Array:
        """Per pair (S): the probability that a typical labeler who calls no tie prefers the first.

        Averages win and loss over the posterior of d, then conditions on no tie. The typical labeler has no
        position bias.
        """
        win_SQ, _, loss_SQ = probabilities(self.posterior.nodes_SQ, *self.typical)
        win_S = (self.posterior.prob_SQ * win_SQ).sum(axis=1)
        loss_S = (self.posterior.prob_SQ * loss_SQ).sum(axis=1)
        return win_S / (win_S + loss_S)

    def p_first_interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Per pair (S): the bounds of p_first given the score difference, over the posterior of the latter.

        ``p_first`` is an average; these are quantiles of what is averaged.
        """
        bounds = []
        for quantile in ((1 - level) / 2, (1 + level) / 2):
            d_S = _quantile(self.posterior, quantile)
            bounds.append(1 / (1 + np.exp(-self.typical[0] * d_S)))
        return bounds[0], bounds[1]


def _quantile(scores: Posterior, quantile: float) -> Array:
    """That quantile of each pair's score difference (S), linear between the nodes."""
    # each node owns the interval half a step to either side
    reached_SQ = np.cumsum(scores.prob_SQ, axis=1)
    at_S = np.minimum((reached_SQ < quantile).sum(axis=1), reached_SQ.shape[1] - 1)
    row_S = np.arange(len(at_S))
    mass_S = scores.prob_SQ[row_S, at_S]
    inside_S = np.clip((quantile - reached_SQ[row_S, at_S] + mass_S) / np.maximum(mass_S, 1e-300), 0, 1)
    step_S = scores.nodes_SQ[:, 1] - scores.nodes_SQ[:, 0]
    return scores.nodes_SQ[row_S, at_S] + (inside_S - 0.5) * step_S


def fit(table: RankingTable, prior: Prior = OPEN) -> Fit:
    """Labelers' parameters of greatest posterior density, scores integrated out, and the scores' posterior.

    What the prior leaves open is chosen by evidence (``evidence.choose``). Raises :class:`NumericsError` when
    it does not converge.
    """
    votes = table.votes
    choice, start_T = choose(votes, prior)
    theta_T = climb(spread(votes, FIRST_PROMPTS), start_T, choice.prior)
    theta_T, cov_TT, scores = finish(votes, theta_T, choice.prior)
    own_T = theta_T
    if choice.prior != prior:
        own_T, cov_TT, _ = maximise(votes, theta_T, prior.vague())
    habits = Habits.unpack(theta_T)
    return Fit(table, habits, Habits.unpack(own_T), cov_TT, scores, _typical(votes, habits), choice)


def assume(table: RankingTable, reliability: float | Array, tie: float, typical: float | None = None) -> Fit:
    """The scores' posterior when labelers have these reliabilities (one for all, or K), this tie propensity
    and no position bias; ``typical`` is the reliability for which probabilities are stated."""
    n_labelers = table.votes.n_labelers
    reliability_K = np.broadcast_to(np.asarray(reliability, np.float64), (n_labelers,)).copy()
    habits = Habits(reliability_K, np.full(n_labelers, np.log(tie)), np.zeros(n_labelers))
    cov_TT = np.zeros((3 * n_labelers,) * 2)
    usual = float(reliability_K.mean()) if typical is None else typical
    return Fit(table, habits, habits, cov_TT, posterior(table.votes, habits), (usual, float(np.log(tie))))


def without_labeler(fitted: Fit, labeler: int) -> tuple[Index, Array]:
    """The pairs of the labeler's prompts and their posterior mean differences from the others' votes alone.

    The others keep their fitted parameters: only the scores are inferred anew.
    """
    votes = fitted.table.votes
    judged_P = np.zeros(len(votes.sizes_P), bool)
    judged_P[votes.pair_prompts()[votes.site_V[votes.labeler_V == labeler]]] = True
    rest, kept_S = votes.restrict(judged_P, labeler)
    scores = posterior(rest, fitted.habits, tol=1e-3)
    first_S, second_S = rest.pair_items()
    return kept_S, scores.mean_I[first_S] - scores.mean_I[second_S]


def _typical(votes: Votes, habits: Habits) -> tuple[float, float]:
    """The labeler behind an average piece of evidence: parameters weighted by votes times reliability,
    labelers no better than chance left out."""
    votes_K = np.bincount(votes.labeler_V, votes.weight_V, votes.n_labelers)
    weight_K = votes_K * np.maximum(habits.reliability_K, 0)
    if weight_K.sum() == 0:
        return 0.0, float(habits.log_tie_K.mean())
    return (
        float(np.average(habits.reliability_K, weights=weight_K)),
        float(np.average(habits.log_tie_K, weights=weight_K)),
    )
