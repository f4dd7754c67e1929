"""Rankings as paired votes, and the fit of scores, labeler reliability and tie habit to them.

The likelihood and the integral over the scores are in ``davidson``; here the labelers' parameters are found
by penalised maximum likelihood, with priors that keep every estimate finite:

    b_k ~ N(mean, sd),    log nu_k ~ N(log nu_0, sd)

The prior mean of b is positive: the majority of labelers is taken to be better than chance, which settles
the sign that the votes alone cannot. Shapes: see ``davidson``; T is 2K, the labelers' parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, sparse

from accord.errors import DataError, NumericsError
from accord.stats.davidson import Array, Index, Posterior, Votes, posterior, probabilities
from accord.types import Ranking

BOUNDS = {"reliability": (-40.0, 40.0), "log_tie": (-12.0, 8.0)}
"""Where the line search may go; the priors keep optima far inside."""
MAX_TURNS = 5


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of a labeler before any vote."""

    reliability_mean: float = 1.0
    reliability_sd: float = 2.0
    tie_mean: float = 0.5
    """nu_0: with 0.5, one pair of equals in five is called a tie."""
    tie_sd: float = 0.5
    """Standard deviation of log nu."""


@dataclass(frozen=True, slots=True)
class RankingTable:
    """Rankings as votes, with the names behind the indices. Names are sorted, so that the order in
    which rankings, labelers or prompts arrive changes nothing."""

    votes: Votes
    prompts: tuple[str, ...]
    items: tuple[tuple[str, str], ...]
    """(prompt id, completion id) of each completion, prompt by prompt."""
    labelers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """Labelers' parameters with their covariance, and the posterior of the scores under them."""

    table: RankingTable
    reliability_K: Array
    log_tie_K: Array
    cov_TT: Array
    """Laplace covariance of (reliability_K, log_tie_K); zero where they were given, not fitted."""
    posterior: Posterior
    typical: tuple[float, float]
    """Reliability and log tie propensity of the labeler for whom probabilities are stated."""

    def reliability_sd(self) -> Array:
        """Standard errors of the reliabilities (K)."""
        return np.sqrt(np.diagonal(self.cov_TT))[: len(self.reliability_K)]

    def p_first(self) -> Array:
        """Per pair (S): the probability that a typical labeler who calls no tie prefers the first.

        Averages win and loss over the posterior of d, then conditions on no tie.
        """
        win_SQ, _, loss_SQ = probabilities(self.posterior.nodes_SQ, *self.typical)
        win_S = (self.posterior.prob_SQ * win_SQ).sum(axis=1)
        loss_S = (self.posterior.prob_SQ * loss_SQ).sum(axis=1)
        return win_S / (win_S + loss_S)


def levels(ranking: Ranking) -> dict[str, int]:
    """Each placed completion's level, 0 the best; every FAIL shares the lowest."""
    placed = {c: level for level, tier in enumerate(ranking.tiers) for c in tier}
    return placed | dict.fromkeys(ranking.fails, len(ranking.tiers))


def mid_ranks(ranking: Ranking) -> dict[str, float]:
    """Each placed completion's rank, 1 the best, equals sharing the mean of their ranks."""
    ranks: dict[str, float] = {}
    for tier in (*ranking.tiers, ranking.fails):
        ranks |= dict.fromkeys(tier, len(ranks) + (len(tier) + 1) / 2)
    return ranks


def ranking_table(rankings: Sequence[Ranking]) -> RankingTable:
    """Paired votes from rankings; each ranking of N completions weighs sqrt(2/N) a pair.

    A ranking's pairs are not independent. In simulation, with weight 1 the fitted probabilities run ahead of
    what labelers then vote; with 2/N, which makes N-1 comparisons of a ranking, they fall behind. The root
    of it meets them within 0.05 (Plackett-Luce and Gaussian noise, N from 3 to 7).
    A FAIL loses to every ranked completion, two FAILs give no vote, what was not ranked gives none.
    Raises :class:`DataError` when no prompt has two judged completions.
    """
    judged: dict[str, set[str]] = {}
    for ranking in rankings:
        judged.setdefault(ranking.prompt_id, set()).update(levels(ranking))
    prompts = tuple(sorted(p for p, completions in judged.items() if len(completions) >= 2))
    if not prompts:
        raise DataError(
            f"{len(rankings)} rankings, none of a prompt with two judged completions; "
            "rank at least two of a prompt"
        )
    labelers = tuple(sorted({r.labeler for r in rankings}))
    local = {p: {c: n for n, c in enumerate(sorted(judged[p]))} for p in prompts}
    sizes_P = np.array([len(local[p]) for p in prompts], np.int64)
    pair_start_P = np.concatenate([[0], np.cumsum(sizes_P * (sizes_P - 1) // 2)[:-1]])
    prompt_of = {p: n for n, p in enumerate(prompts)}
    labeler_of = {k: n for n, k in enumerate(labelers)}
    weights: dict[tuple[int, int, float], float] = {}
    for ranking in rankings:
        if ranking.prompt_id not in prompt_of:
            continue
        p, k = prompt_of[ranking.prompt_id], labeler_of[ranking.labeler]
        placed = levels(ranking)
        for a, b, outcome in pair_outcomes(ranking, local[ranking.prompt_id]):
            site = int(pair_start_P[p] + a * (2 * sizes_P[p] - a - 1) // 2 + b - a - 1)
            key = (site, k, outcome)
            weights[key] = weights.get(key, 0.0) + float(np.sqrt(2 / len(placed)))
    keys = sorted(weights)
    votes = Votes(
        sizes_P,
        np.array([key[0] for key in keys], np.int64),
        np.array([key[1] for key in keys], np.int64),
        np.array([key[2] for key in keys], np.float64),
        np.array([weights[key] for key in keys], np.float64),
        len(labelers),
    )
    items = tuple((p, c) for p in prompts for c in local[p])
    return RankingTable(votes, prompts, items, labelers)


def pair_outcomes(ranking: Ranking, order: Mapping[str, int]) -> list[tuple[int, int, float]]:
    """The ranking's votes as (a, b, outcome), a before b in ``order``; outcome 1 where a won."""
    placed = sorted(levels(ranking).items(), key=lambda entry: order[entry[0]])
    lowest = len(ranking.tiers)
    votes = []
    for n, (first, level) in enumerate(placed):
        for second, other in placed[n + 1 :]:
            if level == other == lowest:
                continue
            votes.append((order[first], order[second], 0.5 if level == other else float(level < other)))
    return votes


def fit(table: RankingTable, prior: Prior = Prior()) -> Fit:
    """Labelers' parameters of greatest posterior density, scores integrated out, and the scores' posterior.

    L-BFGS with the analytic gradient; raises :class:`NumericsError` when it does not converge.
    """
    n_labelers = table.votes.n_labelers
    start_T = np.concatenate(
        [np.full(n_labelers, prior.reliability_mean), np.full(n_labelers, np.log(prior.tie_mean))]
    )
    theta_T = _climb(table.votes, start_T, prior)
    for _ in range(MAX_TURNS):
        oriented_T = np.concatenate([_orient(table.votes, theta_T[:n_labelers]), theta_T[n_labelers:]])
        if np.array_equal(oriented_T, theta_T):
            break
        theta_T = _climb(table.votes, oriented_T, prior)
    else:
        raise NumericsError(
            f"the consensus fit changed sign {MAX_TURNS} times: half of the labelers contradict the "
            "other half; add labelers, or leave out the ones you trust least"
        )
    reliability_K, log_tie_K = np.split(theta_T, 2)
    scores = posterior(table.votes, reliability_K, log_tie_K)
    cov_TT = np.linalg.inv(_information(table.votes, theta_T, prior, scores)).astype(np.float64)
    return Fit(
        table, reliability_K, log_tie_K, cov_TT, scores, _typical(table.votes, reliability_K, log_tie_K)
    )


def _climb(votes: Votes, start_T: Array, prior: Prior) -> Array:
    """The labelers' parameters (T) at a maximum of the posterior density, from a start."""
    warm: list[Posterior | None] = [None]

    def objective(theta_T: Array) -> tuple[float, Array]:
        value, gradient_T, warm[0] = negative_log_density(votes, theta_T, prior, warm[0], tol=1e-4)
        return value, gradient_T

    found = optimize.minimize(
        objective,
        start_T,
        jac=True,
        method="L-BFGS-B",
        bounds=[BOUNDS["reliability"]] * votes.n_labelers + [BOUNDS["log_tie"]] * votes.n_labelers,
        options={"maxiter": 1000, "gtol": 1e-6 * max(1.0, len(votes.site_V)), "ftol": 1e-9},
    )
    if not found.success:
        raise NumericsError(
            f"the consensus fit did not converge after {found.nit} steps ({found.message}); "
            "tighten reliability_sd or look for labelers with contradictory rankings"
        )
    return found.x


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


def assume(table: RankingTable, reliability: float, tie: float) -> Fit:
    """The scores' posterior when every labeler is taken to have this reliability and tie propensity."""
    n_labelers = table.votes.n_labelers
    reliability_K, log_tie_K = np.full(n_labelers, reliability), np.full(n_labelers, np.log(tie))
    scores = posterior(table.votes, reliability_K, log_tie_K)
    cov_TT = np.zeros((2 * n_labelers,) * 2)
    return Fit(table, reliability_K, log_tie_K, cov_TT, scores, (reliability, float(np.log(tie))))


def without_labeler(fitted: Fit, labeler: int) -> tuple[Index, Array]:
    """The pairs of the labeler's prompts and their posterior mean differences from the others' votes alone.

    The others keep their fitted parameters: only the scores are inferred anew.
    """
    votes = fitted.table.votes
    judged_P = np.zeros(len(votes.sizes_P), bool)
    judged_P[votes.pair_prompts()[votes.site_V[votes.labeler_V == labeler]]] = True
    rest, kept_S = votes.restrict(judged_P, labeler)
    scores = posterior(rest, fitted.reliability_K, fitted.log_tie_K, tol=1e-4)
    first_S, second_S = rest.pair_items()
    return kept_S, scores.mean_I[first_S] - scores.mean_I[second_S]


def negative_log_density(
    votes: Votes, theta_T: Array, prior: Prior, warm: Posterior | None = None, tol: float = 1e-7
) -> tuple[float, Array, Posterior]:
    """Minus the log of evidence times prior at the labelers' parameters, its gradient, and the posterior.

    At a fixed point of expectation propagation the evidence is stationary in the sites, so its gradient is
    the expected gradient of the log-likelihood under each pair's marginal.
    """
    reliability_K, log_tie_K = np.split(theta_T, 2)
    scores = posterior(votes, reliability_K, log_tie_K, warm, tol)
    d_VQ, prob_VQ, tie_VQ, mean_VQ = _at_votes(votes, theta_T, scores)
    is_tie_V = votes.outcome_V == 0.5
    by_reliability_V = (prob_VQ * d_VQ * (mean_VQ - votes.outcome_V[:, None])).sum(axis=1)
    by_tie_V = (prob_VQ * tie_VQ).sum(axis=1) - is_tie_V
    gradient_T = np.concatenate(
        [
            np.bincount(votes.labeler_V, votes.weight_V * column_V, votes.n_labelers)
            for column_V in (by_reliability_V, by_tie_V)
        ]
    )
    mean_T, sd_T = _prior_moments(votes.n_labelers, prior)
    off_T = (theta_T - mean_T) / sd_T
    return 0.5 * float(off_T @ off_T) - scores.log_evidence, gradient_T + off_T / sd_T, scores


def _prior_moments(n_labelers: int, prior: Prior) -> tuple[Array, Array]:
    mean_T = np.repeat([prior.reliability_mean, np.log(prior.tie_mean)], n_labelers)
    return mean_T, np.repeat([prior.reliability_sd, prior.tie_sd], n_labelers)


def _at_votes(votes: Votes, theta_T: Array, scores: Posterior) -> tuple[Array, Array, Array, Array]:
    """At each vote's nodes: d, its probability, P(tie), and the mean of the outcome."""
    reliability_K, log_tie_K = np.split(theta_T, 2)
    d_VQ = scores.nodes_SQ[votes.site_V]
    win_VQ, tie_VQ, _ = probabilities(
        d_VQ, reliability_K[votes.labeler_V, None], log_tie_K[votes.labeler_V, None]
    )
    return d_VQ, scores.prob_SQ[votes.site_V], tie_VQ, win_VQ + tie_VQ / 2


def _information(votes: Votes, theta_T: Array, prior: Prior, scores: Posterior) -> Array:
    """Curvature (T, T) of the negative log density, by Louis' identity: the votes' expected curvature with
    scores known, less the posterior covariance of their gradients.

    That covariance is exact within a pair and linear in the scores between the pairs of a prompt.
    """
    n_labelers = votes.n_labelers
    rows_V, ties_V = votes.labeler_V, votes.labeler_V + n_labelers
    b_V1 = theta_T[rows_V, None]
    d_VQ, prob_VQ, tie_VQ, mean_VQ = _at_votes(votes, theta_T, scores)
    outcome_V1, weight_V1 = votes.outcome_V[:, None], votes.weight_V[:, None]
    var_VQ = mean_VQ * (1 - mean_VQ) - tie_VQ / 4
    skew_VQ = tie_VQ * (0.5 - mean_VQ)

    def expect_V(values_VQ: Array) -> Array:
        return (prob_VQ * weight_V1 * values_VQ).sum(axis=1)

    def matrix(rows: Index, cols: Index, values: Array, height: int) -> sparse.csr_matrix:
        return sparse.csr_matrix((values.ravel(), (rows.ravel(), cols.ravel())), (height, 2 * n_labelers))

    twice_V = np.concatenate([rows_V, ties_V])
    known_TT = matrix(
        twice_V, twice_V, np.r_[expect_V(d_VQ**2 * var_VQ), expect_V(tie_VQ * (1 - tie_VQ))], 2 * n_labelers
    )
    mixed_TT = matrix(rows_V, ties_V, expect_V(d_VQ * skew_VQ), 2 * n_labelers)
    slope_V = np.r_[expect_V(mean_VQ - outcome_V1 + b_V1 * d_VQ * var_VQ), expect_V(b_V1 * skew_VQ)]
    sites_2V = np.tile(votes.site_V, 2)
    n_sites = len(scores.tau_S)
    slope_ST = matrix(sites_2V, twice_V, slope_V, n_sites)
    first_S, second_S = votes.pair_items()
    pull_IT = matrix(
        np.r_[first_S[sites_2V], second_S[sites_2V]],
        np.r_[twice_V, twice_V],
        np.r_[slope_V, -slope_V],
        len(scores.mean_I),
    )
    mean_d_S = (scores.prob_SQ * scores.nodes_SQ).sum(axis=1)
    var_d_S = (scores.prob_SQ * (scores.nodes_SQ - mean_d_S[:, None]) ** 2).sum(axis=1)
    gradients_VQ = [d_VQ * (mean_VQ - outcome_V1), tie_VQ]
    centred_VQ = [
        np.sqrt(prob_VQ) * weight_V1 * (g - (prob_VQ * g).sum(axis=1, keepdims=True)) for g in gradients_VQ
    ]
    cells_VQ = votes.site_V[:, None] * d_VQ.shape[1] + np.arange(d_VQ.shape[1])
    exact_CT = matrix(
        np.r_[cells_VQ, cells_VQ],
        np.repeat(twice_V, d_VQ.shape[1]),
        np.concatenate(centred_VQ),
        n_sites * d_VQ.shape[1],
    )
    within_TT = exact_CT.T @ exact_CT - slope_ST.T @ sparse.diags_array(var_d_S) @ slope_ST
    between_TT = pull_IT.T @ scores.covariance() @ pull_IT
    total_TT = (known_TT + mixed_TT + mixed_TT.T - within_TT - between_TT).toarray()
    return total_TT + np.diag(1 / _prior_moments(n_labelers, prior)[1] ** 2)


def _typical(votes: Votes, reliability_K: Array, log_tie_K: Array) -> tuple[float, float]:
    """The labeler behind an average piece of evidence: parameters weighted by votes times reliability,
    labelers no better than chance left out."""
    weight_K = np.bincount(votes.labeler_V, votes.weight_V, votes.n_labelers) * np.maximum(reliability_K, 0)
    if weight_K.sum() == 0:
        return 0.0, float(log_tie_K.mean())
    return float(np.average(reliability_K, weights=weight_K)), float(np.average(log_tie_K, weights=weight_K))
