"""The labelers' parameters that explain the votes best, their uncertainty, and the scores under them.

Penalised maximum likelihood with the scores integrated out (``propagation``) and priors that keep every
estimate finite:

    b_k ~ N(mean, sd),    log nu_k ~ N(log nu_0, sd),    c_k ~ N(0, sd)

The prior mean of b is positive: the majority of labelers is taken to be better than chance, which settles
the sign that the votes alone cannot. L-BFGS climbs on a part of the prompts, Newton's method with Louis'
information ends the climb on all of them. Shapes: see ``davidson``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, sparse

from accord.errors import NumericsError
from accord.stats.davidson import Array, Habits, Index, Votes, probabilities
from accord.stats.information import expected_gradient, information
from accord.stats.propagation import Posterior, posterior
from accord.stats.rankings import RankingTable

BOUNDS = ((-40.0, 40.0), (-12.0, 8.0), (-20.0, 20.0))
"""Where the line search may go; the priors keep optima far inside."""
MAX_TURNS = 5
MAX_STEPS = 30
FIRST_PROMPTS = 1500
"""Prompts on which the climb begins; the others only move the labelers by what is left of chance."""
ALLOWANCE = 0.1
"""Of a parameter's size, for what no weight of its pairs mends in a ranking of more than two: simulated
rankers (Plackett-Luce) of reliability 3 come out a sixth low and those of 1 a tenth high, however many
prompts there are. Votes on pairs alone have no such error."""
CLOSE = 0.01
"""The fit ends where Newton's next step is below this share of each standard error."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of a labeler before any vote."""

    reliability_mean: float = 1.0
    reliability_sd: float = 2.0
    tie_mean: float = 0.5
    """nu_0: with 0.5, one pair of equals in five is called a tie."""
    tie_sd: float = 0.5
    """Standard deviation of log nu."""
    position_sd: float = 0.5
    """Of the position bias, whose mean is 0."""

    def moments(self, n_labelers: int) -> tuple[Array, Array]:
        """Means and standard deviations of all parameters (T)."""
        mean_T = np.repeat([self.reliability_mean, np.log(self.tie_mean), 0.0], n_labelers)
        return mean_T, np.repeat([self.reliability_sd, self.tie_sd, self.position_sd], n_labelers)


@dataclass(frozen=True, slots=True)
class Fit:
    """Labelers' parameters with their covariance, and the posterior of the scores under them."""

    table: RankingTable
    habits: Habits
    cov_TT: Array
    """Laplace covariance of the packed habits; zero where they were given, not fitted."""
    posterior: Posterior
    typical: tuple[float, float]
    """Reliability and log tie propensity of the labeler for whom probabilities are stated."""

    def reliability_sd(self) -> Array:
        """Standard errors of the reliabilities (K), with ``ALLOWANCE`` for rankings of more than two."""
        return self._standard_errors(0, self.habits.reliability_K)

    def position_sd(self) -> Array:
        """Standard errors of the position biases (K), with the same allowance."""
        return self._standard_errors(2, self.habits.position_K)

    def _standard_errors(self, part: int, value_K: Array) -> Array:
        n_labelers, votes = self.table.votes.n_labelers, self.table.votes
        ranked_V = votes.sizes_P[votes.pair_prompts()[votes.site_V]] > 2
        total_K = np.bincount(votes.labeler_V, votes.weight_V, n_labelers)
        ranked_K = np.bincount(votes.labeler_V, votes.weight_V * ranked_V, n_labelers)
        error_K = ALLOWANCE * ranked_K / np.where(total_K > 0, total_K, 1) * np.abs(value_K)
        return np.sqrt(np.split(np.diagonal(self.cov_TT), 3)[part] + error_K**2)

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


def fit(table: RankingTable, prior: Prior = Prior()) -> Fit:
    """Labelers' parameters of greatest posterior density, scores integrated out, and the scores' posterior.

    Raises :class:`NumericsError` when it does not converge.
    """
    votes = table.votes
    theta_T = _climb(_spread(votes, FIRST_PROMPTS), prior.moments(votes.n_labelers)[0], prior)
    theta_T, cov_TT, scores = _finish(votes, theta_T, prior)
    habits = Habits.unpack(theta_T)
    return Fit(table, habits, cov_TT, scores, _typical(votes, habits))


def assume(table: RankingTable, reliability: float | Array, tie: float, typical: float | None = None) -> Fit:
    """The scores' posterior when labelers have these reliabilities (one for all, or K), this tie propensity
    and no position bias; ``typical`` is the reliability for which probabilities are stated."""
    n_labelers = table.votes.n_labelers
    reliability_K = np.broadcast_to(np.asarray(reliability, np.float64), (n_labelers,)).copy()
    habits = Habits(reliability_K, np.full(n_labelers, np.log(tie)), np.zeros(n_labelers))
    cov_TT = np.zeros((3 * n_labelers,) * 2)
    usual = float(reliability_K.mean()) if typical is None else typical
    return Fit(table, habits, cov_TT, posterior(table.votes, habits), (usual, float(np.log(tie))))


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


def negative_log_density(
    votes: Votes,
    theta_T: Array,
    prior: Prior,
    warm: tuple[Array, Array] | None = None,
    tol: float = 1e-7,
) -> tuple[float, Array, Posterior]:
    """Minus the log of evidence times prior at the labelers' parameters, its gradient, and the posterior."""
    scores = posterior(votes, Habits.unpack(theta_T), warm, tol)
    mean_T, sd_T = prior.moments(votes.n_labelers)
    off_T = (theta_T - mean_T) / sd_T
    gradient_T = off_T / sd_T - expected_gradient(votes, theta_T, scores)
    return 0.5 * float(off_T @ off_T) - scores.log_evidence, gradient_T, scores


def _spread(votes: Votes, at_most: int) -> Votes:
    """The votes on at most so many prompts, evenly spread over all."""
    n_prompts = len(votes.sizes_P)
    if n_prompts <= at_most:
        return votes
    keep_P = np.zeros(n_prompts, bool)
    keep_P[np.linspace(0, n_prompts - 1, at_most).astype(np.int64)] = True
    return votes.restrict(keep_P)[0]


def _climb(votes: Votes, start_T: Array, prior: Prior) -> Array:
    """The labelers' parameters (T) near the greatest posterior density, the right way up."""
    theta_T, n_labelers = start_T, votes.n_labelers
    for _ in range(MAX_TURNS):
        theta_T = _ascend(votes, theta_T, prior)
        upright_K = _orient(votes, theta_T[:n_labelers])
        if np.array_equal(upright_K, theta_T[:n_labelers]):
            return theta_T
        theta_T = np.concatenate([upright_K, theta_T[n_labelers:]])
    raise NumericsError(
        f"the consensus fit changed sign {MAX_TURNS} times: half of the labelers contradict the "
        "other half; add labelers, or leave out the ones you trust least"
    )


def _ascend(votes: Votes, start_T: Array, prior: Prior) -> Array:
    """L-BFGS with the analytic gradient; it need not reach the last digit."""
    warm: list[tuple[Array, Array] | None] = [None]

    def objective(theta_T: Array) -> tuple[float, Array]:
        value, gradient_T, scores = negative_log_density(votes, theta_T, prior, warm[0], tol=1e-3)
        warm[0] = (scores.tau_S, scores.shift_S)
        return value, gradient_T

    found = optimize.minimize(
        objective,
        start_T,
        jac=True,
        method="L-BFGS-B",
        bounds=[bound for bound in BOUNDS for _ in range(votes.n_labelers)],
        options={"maxiter": 1000, "gtol": 1e-6 * max(1.0, len(votes.site_V)), "ftol": 1e-6},
    )
    if not found.success:
        raise NumericsError(
            f"the consensus fit did not converge after {found.nit} steps ({found.message}); "
            "tighten reliability_sd or look for labelers with contradictory rankings"
        )
    return found.x


def _finish(votes: Votes, theta_T: Array, prior: Prior) -> tuple[Array, Array, Posterior]:
    """Newton's method to the maximum: the parameters, their covariance, and the scores' posterior."""
    value, gradient_T, scores = negative_log_density(votes, theta_T, prior, tol=1e-4)
    cov_TT, known_at_T, last = _covariance(votes, theta_T, scores, prior), theta_T, np.inf
    for _ in range(MAX_STEPS):
        step_T = -cov_TT @ gradient_T
        size = _size(step_T, cov_TT)
        if size < CLOSE:
            scores = posterior(votes, Habits.unpack(theta_T), (scores.tau_S, scores.shift_S), tol=1e-6)
            if _size(theta_T - known_at_T, cov_TT) > CLOSE:
                cov_TT = _covariance(votes, theta_T, scores, prior)
            return theta_T, cov_TT, scores
        if size > 0.5 * last:
            cov_TT, known_at_T = _covariance(votes, theta_T, scores, prior), theta_T
            step_T = -cov_TT @ gradient_T
        last = size
        theta_T, value, gradient_T, scores = _step(votes, theta_T, step_T, value, prior, scores)
    raise NumericsError(
        f"the consensus fit did not converge in {MAX_STEPS} steps (the last of {size:.2g} standard errors); "
        "tighten reliability_sd or look for labelers with contradictory rankings"
    )


def _size(step_T: Array, cov_TT: Array) -> float:
    """The largest part of a step, in standard errors."""
    return float(np.abs(step_T / np.sqrt(np.diagonal(cov_TT))).max())


def _step(
    votes: Votes, theta_T: Array, step_T: Array, value: float, prior: Prior, scores: Posterior
) -> tuple[Array, float, Array, Posterior]:
    """The step, halved until the density does not fall by more than rounding."""
    warm = (scores.tau_S, scores.shift_S)
    for halving in range(12):
        trial_T = theta_T + step_T / 2**halving
        reached, gradient_T, found = negative_log_density(votes, trial_T, prior, warm, tol=1e-5)
        if reached <= value + 1e-2:
            return trial_T, reached, gradient_T, found
    raise NumericsError(
        f"the consensus fit stopped rising at a log density of {-value:.2f}; tighten reliability_sd or look "
        "for labelers with contradictory rankings"
    )


def _covariance(votes: Votes, theta_T: Array, scores: Posterior, prior: Prior) -> Array:
    """Laplace covariance (T, T), in no direction wider than the prior's."""
    _, sd_T = prior.moments(votes.n_labelers)
    scaled_TT = information(votes, theta_T, scores) * np.outer(sd_T, sd_T)
    values_T, vectors_TT = np.linalg.eigh((scaled_TT + scaled_TT.T) / 2)
    root_TT = sd_T[:, None] * vectors_TT / np.sqrt(1 + np.maximum(values_T, 0))
    return root_TT @ root_TT.T


def _orient(votes: Votes, reliability_K: Array) -> Array:
    """The reliabilities with the sign that the prior prefers.

    Turning all reliabilities and scores around explains the votes just as well, and a long step of the line
    search may land there. It can be done for each set of labelers linked by common prompts apart; the
    prior, with its positive mean, prefers a positive sum in each.
    """
    prompt_V = votes.pair_prompts()[votes.site_V]
    shape = (len(votes.sizes_P), votes.n_labelers)
    seen_PK = sparse.csr_matrix((np.ones(len(prompt_V)), (prompt_V, votes.labeler_V)), shape=shape)
    _, part_K = sparse.csgraph.connected_components(seen_PK.T @ seen_PK, directed=False)
    turned_K = np.bincount(part_K, reliability_K)[part_K] < 0
    return np.where(turned_K, -reliability_K, reliability_K)


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
