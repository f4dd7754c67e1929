"""What to label next: a Bayesian linear Bradley-Terry model on completions' features, and scores of prompts.

    P(i > j) = sigma(w . (x_i - x_j)),    w ~ N(0, I / precision)

The features x are the last hidden layer of a reward model, or an encoder's embedding. w is found by Newton's
method, its covariance by Laplace's approximation, the precision by the evidence. Each choice below gives
every prompt a score, greater is sooner; a labeler ranks all completions of a prompt, so a prompt counts
with all its pairs, each weighing sqrt(2/N) as in ``stats.rankings``.

Left out: choosing single pairs of a prompt (a labeler sees all), cross-prompt comparisons, learning the
features.

Shapes: P prompts, N completions of the largest prompt, D features, V paired votes, E members or draws.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from accord.errors import DataError
from accord.judgements import Ranking
from accord.stats import logistic
from accord.stats.rankings import levels, pair_outcomes

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

PRECISIONS = np.geomspace(0.01, 100.0, 9)
"""What the evidence chooses from. Features are scaled so that 1 / precision is the variance of the reward
difference of an ordinary pair."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Prompts with their completions' features, padded; make one with :func:`pool`."""

    prompts: tuple[str, ...]
    features_PND: Array
    """Centred within the prompt, reduced and scaled; rows past a prompt's completions are zero."""
    sizes_P: Index

    def take(self, index: ArrayLike) -> Pool:
        """The prompts at ``index`` (positions or a mask)."""
        at = np.arange(len(self.prompts))[np.asarray(index)]
        return Pool(tuple(self.prompts[i] for i in at), self.features_PND[at], self.sizes_P[at])

    def only(self, places: Sequence[Sequence[int]]) -> Pool:
        """The same prompts with some of their completions: places among them, for each prompt."""
        sizes_P = np.array([len(kept) for kept in places], np.int64)
        packed_PND = np.zeros((len(places), sizes_P.max(initial=0), self.features_PND.shape[2]))
        for n, kept in enumerate(places):
            packed_PND[n, : len(kept)] = self.features_PND[n, list(kept)]
        return Pool(self.prompts, packed_PND, sizes_P)

    def weights(self) -> Array:
        """Weight of each pair (P, N, N): sqrt(2/N), zero for a completion with itself and for padding."""
        n = self.features_PND.shape[1]
        real_PN = np.arange(n) < self.sizes_P[:, None]
        pairs_PNN = real_PN[:, :, None] & real_PN[:, None, :] & ~np.eye(n, dtype=bool)
        return np.where(pairs_PNN, np.sqrt(2 / np.maximum(self.sizes_P, 2))[:, None, None], 0.0)


@dataclass(frozen=True, slots=True)
class Votes:
    """Paired votes on a pool's completions."""

    prompt_V: Index
    first_V: Index
    """The pair, as places among the prompt's completions."""
    second_V: Index
    outcome_V: Array
    """1 the first won, 1/2 tie, 0 the second won."""
    weight_V: Array

    def of(self, keep_V: ArrayLike) -> Votes:
        """Those at ``keep_V`` (positions or a mask)."""
        at = np.asarray(keep_V)
        return Votes(
            self.prompt_V[at], self.first_V[at], self.second_V[at], self.outcome_V[at], self.weight_V[at]
        )

    def differences(self, pool: Pool) -> Array:
        """x_first - x_second of each vote (V, D)."""
        x_PND = pool.features_PND
        return x_PND[self.prompt_V, self.first_V] - x_PND[self.prompt_V, self.second_V]


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed of w."""

    mean_D: Array
    cov_DD: Array
    precision: float
    log_evidence: float
    """Laplace's approximation."""


def pool(features: Mapping[str, ArrayLike], dimensions: int = 64) -> Pool:
    """A pool from features (completions, D) by prompt id.

    Features are centred within each prompt (only differences count), reduced to the ``dimensions`` principal
    axes of what is left, and scaled so that the squared length of a pair's difference is 1 in the mean.

    Raises:
        DataError: no prompt, fewer than two completions of one, different widths, or a number not finite.
    """
    arrays = {name: np.asarray(given, np.float64) for name, given in features.items()}
    if not arrays:
        raise DataError("no prompts to choose from; a prompt needs at least two completions")
    width = next(iter(arrays.values())).shape[-1]
    for name, array in arrays.items():
        if array.ndim != 2 or len(array) < 2 or array.shape[1] != width or not width:
            raise DataError(
                f"features of prompt {name!r} have shape {array.shape}; pass (completions, {width or 'D'}), "
                "with at least two completions and one feature"
            )
        if not np.isfinite(array).all():
            raise DataError(f"a feature of prompt {name!r} is not finite; check the model it came from")
    sizes_P = np.array([len(array) for array in arrays.values()], np.int64)
    centred_PND = np.zeros((len(arrays), sizes_P.max(), width))
    for place, array in enumerate(arrays.values()):
        centred_PND[place, : len(array)] = array - array.mean(axis=0)
    flat_ID = centred_PND.reshape(-1, width)
    if width > dimensions:
        _, axes_DD = np.linalg.eigh(flat_ID.T @ flat_ID)
        centred_PND = centred_PND @ axes_DD[:, ::-1][:, :dimensions]
    # the squared differences of a prompt's N(N-1)/2 pairs sum to N times its squared deviations
    square = float((sizes_P * (centred_PND**2).sum(axis=(1, 2))).sum() / (sizes_P * (sizes_P - 1) / 2).sum())
    return Pool(tuple(arrays), centred_PND / np.sqrt(square or 1.0), sizes_P)


def votes(pool: Pool, rankings: Sequence[Ranking], completions: Mapping[str, Sequence[str]]) -> Votes:
    """The paired votes of ``rankings``; ``completions`` gives each prompt's ids in the order of its features.

    Rankings of prompts that are not in the pool, and of completions without features, are left out.
    """
    place = {name: n for n, name in enumerate(pool.prompts)}
    rows: list[tuple[int, int, int, float, float]] = []
    for ranking in rankings:
        if ranking.prompt_id not in place:
            continue
        order = {name: n for n, name in enumerate(completions[ranking.prompt_id])}
        judged = levels(ranking)
        if not judged.keys() <= order.keys():
            continue
        weight = float(np.sqrt(2 / max(len(judged), 2)))
        rows += [(place[ranking.prompt_id], a, b, o, weight) for a, b, o in pair_outcomes(ranking, order)]
    columns = np.array(rows, np.float64).reshape(-1, 5).T
    prompt_V, first_V, second_V = columns[:3].astype(np.int64)
    return Votes(prompt_V, first_V, second_V, columns[3], columns[4])


# -- the model ---------------------------------------------------------------------------------


def fit(pool: Pool, votes: Votes, precision: float | None = None) -> Belief:
    """Belief after ``votes``; without votes it is the prior. A ``precision`` not given is chosen by evidence.

    Raises:
        NumericsError: Newton's method did not converge.
    """
    given = _given(pool, votes)
    grid = [precision] if precision is not None else PRECISIONS[::-1].tolist() if len(given.p_N) else [1.0]
    zero_D = np.zeros(given.x_NK.shape[1])
    start_D, fits = zero_D, []
    for each in grid:  # from tight to loose: each starts where the one before ended
        found = logistic.fit(given, zero_D, each * np.eye(len(zero_D)), start_D)
        start_D = found.mean_K
        fits.append(Belief(found.mean_K, found.cov_KK, each, found.evidence))
    return max(fits, key=lambda belief: belief.log_evidence)


def _given(pool: Pool, votes: Votes) -> logistic.Votes:
    return logistic.votes(votes.differences(pool), votes.outcome_V, weight=votes.weight_V)


def ensemble(pool: Pool, votes: Votes, members: int, rng: np.random.Generator, precision: float) -> Array:
    """Weights (E, D) of models fitted to bootstrapped prompts, each about a draw from the prior of its own.

    Without the prior's draw all members would agree on what no vote speaks of (Osband et al. 2018,
    arXiv:1806.03335): that they are all zero there.
    """
    given = _given(pool, votes)
    n_prompts, n_features = len(pool.prompts), pool.features_PND.shape[2]
    drawn = []
    for _ in range(members):
        anchor_D = rng.normal(scale=precision**-0.5, size=n_features)
        seen = np.unique(votes.prompt_V)
        counts_P = np.zeros(n_prompts)
        counts_P[seen] = rng.multinomial(len(seen), np.full(len(seen), 1 / max(len(seen), 1)))
        drawn_again = replace(given, weight_N=given.weight_N * counts_P[votes.prompt_V])
        drawn.append(logistic.fit(drawn_again, anchor_D, precision * np.eye(n_features)).mean_K)
    return np.array(drawn).reshape(members, n_features)


# -- choices -----------------------------------------------------------------------------------


def d_optimal(pool: Pool, belief: Belief, batch: int) -> Array:
    """Gain in log-determinant of the information about w (P), in nats, for a greedy batch.

    Past-aware D-optimal design on the last layer (Shen, Sun and Ton 2025, arXiv:2502.04354): what is known
    is in the covariance, and a prompt adds the sum over its pairs of p (1 - p) z z'. The best ``batch``
    prompts are taken one by one, the covariance updated after each (by rank N - 1 for N completions); the
    others' scores are their gains after the batch. The gain is submodular, so the scores of the batch fall in
    the order in which they were taken, and a stale gain is an upper bound (Minoux 1978, lazy greedy).
    """
    cov_DD = belief.cov_DD
    info_PNN = _information(pool, belief.mean_D)
    scores_P = _gains(pool.features_PND, info_PNN, cov_DD)
    heap = [(-gain, place) for place, gain in enumerate(scores_P.tolist())]
    heapq.heapify(heap)
    taken: list[int] = []
    while heap and len(taken) < batch:
        place = heap[0][1]
        gain = float(_gains(pool.features_PND[[place]], info_PNN[[place]], cov_DD)[0])
        heapq.heapreplace(heap, (-gain, place))
        if heap[0][1] != place:
            continue
        heapq.heappop(heap)
        taken.append(place)
        scores_P[place] = gain
        x_ND, info_NN = pool.features_PND[place], info_PNN[place]
        known_DN = cov_DD @ x_ND.T
        inner_NN = np.eye(len(info_NN)) + x_ND @ known_DN @ info_NN
        cov_DD = cov_DD - known_DN @ info_NN @ np.linalg.solve(inner_NN, known_DN.T)
    rest = np.setdiff1d(np.arange(len(scores_P)), taken)
    scores_P[rest] = _gains(pool.features_PND[rest], info_PNN[rest], cov_DD)
    return scores_P


def disagreement(pool: Pool, members_ED: Array) -> Array:
    """Mutual information of a prompt's outcomes with the choice of member (P), in nats: BALD of an ensemble.

    Houlsby et al. 2011, arXiv:1112.5745: entropy of the mean probability less the mean entropy, summed over
    the prompt's pairs with their weights. Zero where the members agree.
    """
    first, second = np.triu_indices(pool.features_PND.shape[1], 1)
    reward_EPN = np.einsum("pnd,ed->epn", pool.features_PND, members_ED)
    p_EPK = special.expit(reward_EPN[:, :, first] - reward_EPN[:, :, second])
    gain_PK = _entropy(p_EPK.mean(axis=0)) - _entropy(p_EPK).mean(axis=0)
    return (np.maximum(gain_PK, 0) * pool.weights()[:, first, second]).sum(axis=1)


def double_thompson(pool: Pool, belief: Belief, rng: np.random.Generator, draws: int = 256) -> Array:
    """Probability (P) that two posterior draws of the reward differ on the prompt's best completion.

    Double Thompson sampling (Dwaracherla et al. 2024, arXiv:2402.00396) puts the best of one draw to the best
    of another and asks where they differ; this is how often it would ask about each prompt. ``draws`` draws
    estimate it without bias.
    """
    root_DD = np.linalg.cholesky(belief.cov_DD)
    w_ED = belief.mean_D + rng.normal(size=(draws, len(belief.mean_D))) @ root_DD.T
    n = pool.features_PND.shape[1]
    wins_PN = np.zeros((len(pool.prompts), n))
    real_PN = np.arange(n) < pool.sizes_P[:, None]
    every = np.arange(len(pool.prompts))
    for w_D in w_ED:
        wins_PN[every, np.where(real_PN, pool.features_PND @ w_D, -np.inf).argmax(axis=1)] += 1
    same_P = (wins_PN * (wins_PN - 1)).sum(axis=1) / (draws * (draws - 1))
    return 1 - same_P


def large_gap(pool: Pool, belief: Belief, optimism: float = 1.0) -> Array:
    """The greatest optimistic reward gap between two of a prompt's completions (P).

    After DeltaUCB (Melikidze et al. 2026, arXiv:2603.09692), which picks the pair of greatest gap under
    confidence bounds, because clear pairs teach with less noise: here |mean| + ``optimism`` standard
    deviations of the difference, under the Laplace posterior.
    """
    reward_PN = pool.features_PND @ belief.mean_D
    gap_PNN = np.abs(reward_PN[:, :, None] - reward_PN[:, None, :])
    known_PNN = np.einsum(
        "pnd,de,pme->pnm", pool.features_PND, belief.cov_DD, pool.features_PND, optimize=True
    )
    own_PN = np.diagonal(known_PNN, axis1=1, axis2=2)
    var_PNN = np.maximum(own_PN[:, :, None] + own_PN[:, None, :] - 2 * known_PNN, 0)
    upper_PNN = gap_PNN + optimism * np.sqrt(var_PNN)
    return np.where(pool.weights() > 0, upper_PNN, 0).max(axis=(1, 2))


def _information(pool: Pool, w_D: Array) -> Array:
    """Per prompt the matrix (N, N) L with X' L X its information on w: a Laplacian weighted by p (1 - p)."""
    reward_PN = pool.features_PND @ w_D
    p_PNN = special.expit(reward_PN[:, :, None] - reward_PN[:, None, :])
    pull_PNN = pool.weights() * p_PNN * (1 - p_PNN)
    return pull_PNN.sum(axis=2)[:, :, None] * np.eye(pull_PNN.shape[1]) - pull_PNN


def _gains(x_PND: Array, info_PNN: Array, cov_DD: Array) -> Array:
    """log det(I + X cov X' L) of each prompt (P)."""
    known_PNN = (x_PND @ cov_DD) @ x_PND.swapaxes(1, 2)
    return np.linalg.slogdet(np.eye(x_PND.shape[1]) + known_PNN @ info_PNN)[1]


def _entropy(p: Array) -> Array:
    return special.entr(p) + special.entr(1 - p)
