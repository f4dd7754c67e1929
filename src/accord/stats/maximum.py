"""The labelers' parameters that explain the votes best under a prior, the scores integrated out.

Penalised maximum likelihood with the scores integrated out (``propagation``) and priors that keep every
estimate finite:

    b_k ~ N(mean, sd),    log nu_k ~ N(log nu_0, sd),    c_k ~ N(0, sd)

The prior mean of b is positive: the majority of labelers is taken to be better than chance, which settles
the sign that the votes alone cannot. L-BFGS climbs on a part of the prompts, Newton's method with Louis'
information ends the climb on all of them. Shapes: see ``davidson``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, sparse

from accord.errors import ConfigError, NumericsError
from accord.stats.davidson import Array, Habits, Votes
from accord.stats.information import expected_gradient, information
from accord.stats.propagation import Posterior, posterior

BOUNDS = ((-40.0, 40.0), (-12.0, 8.0), (-20.0, 20.0))
"""Where the line search may go; the priors keep optima far inside."""
MAX_TURNS = 5
MAX_STEPS = 30
FIRST_PROMPTS = 1500
"""Prompts on which the climb begins; the others only move the labelers by what is left of chance."""
VAGUE = (1.0, 2.0)
"""Mean and standard deviation of reliability where nothing is known of a pool."""
CLOSE = 0.01
"""The fit ends where Newton's next step is below this share of each standard error."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of a labeler before any vote."""

    reliability_mean: float | None = None
    """``None``: chosen by evidence, like the next (``evidence.choose``)."""
    reliability_sd: float | None = None
    tie_mean: float = 0.5
    """nu_0: with 0.5, one pair of equals in five is called a tie."""
    tie_sd: float = 0.5
    """Standard deviation of log nu."""
    position_sd: float = 0.5
    """Of the position bias, whose mean is 0."""

    def reliability(self) -> tuple[float, float]:
        """Mean and standard deviation of reliability. Raises :class:`ConfigError` where one is open."""
        if self.reliability_mean is None or self.reliability_sd is None:
            raise ConfigError(
                f"the prior has reliability_mean {self.reliability_mean} and reliability_sd "
                f"{self.reliability_sd}; give both, or have evidence.choose find them"
            )
        return self.reliability_mean, self.reliability_sd

    def vague(self) -> Prior:
        """The prior, what it leaves open filled from ``VAGUE``."""
        mean = VAGUE[0] if self.reliability_mean is None else self.reliability_mean
        sd = VAGUE[1] if self.reliability_sd is None else self.reliability_sd
        return replace(self, reliability_mean=mean, reliability_sd=sd)

    def moments(self, n_labelers: int) -> tuple[Array, Array]:
        """Means and standard deviations of all parameters (T). Raises like :meth:`reliability`."""
        mean, sd = self.reliability()
        mean_T = np.repeat([mean, np.log(self.tie_mean), 0.0], n_labelers)
        return mean_T, np.repeat([sd, self.tie_sd, self.position_sd], n_labelers)


OPEN = Prior()
"""The reliability prior left to the votes, the others usual."""


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


def spread(votes: Votes, at_most: int) -> Votes:
    """The votes on at most so many prompts, evenly spread over all."""
    n_prompts = len(votes.sizes_P)
    if n_prompts <= at_most:
        return votes
    keep_P = np.zeros(n_prompts, bool)
    keep_P[np.linspace(0, n_prompts - 1, at_most).astype(np.int64)] = True
    return votes.restrict(keep_P)[0]


def climb(votes: Votes, start_T: Array, prior: Prior) -> Array:
    """The labelers' parameters (T) near the greatest posterior density, the right way up."""
    theta_T, n_labelers = start_T, votes.n_labelers
    for _ in range(MAX_TURNS):
        theta_T = _ascend(votes, theta_T, prior)
        upright_K = orient(votes, theta_T[:n_labelers])
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


def finish(votes: Votes, theta_T: Array, prior: Prior) -> tuple[Array, Array, Posterior]:
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


def maximise(votes: Votes, start_T: Array, prior: Prior) -> tuple[Array, Array, Posterior]:
    """Like :func:`finish`, from a start that may lie too far for Newton's method."""
    try:
        return finish(votes, start_T, prior)
    except NumericsError:
        fresh_T = prior.moments(votes.n_labelers)[0]
        return finish(votes, climb(spread(votes, FIRST_PROMPTS), fresh_T, prior), prior)


def _covariance(votes: Votes, theta_T: Array, scores: Posterior, prior: Prior) -> Array:
    """Laplace covariance (T, T), in no direction wider than the prior's."""
    _, sd_T = prior.moments(votes.n_labelers)
    scaled_TT = information(votes, theta_T, scores) * np.outer(sd_T, sd_T)
    values_T, vectors_TT = np.linalg.eigh((scaled_TT + scaled_TT.T) / 2)
    root_TT = sd_T[:, None] * vectors_TT / np.sqrt(1 + np.maximum(values_T, 0))
    return root_TT @ root_TT.T


def orient(votes: Votes, reliability_K: Array) -> Array:
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
