"""What to label next: the linear model and the scores, against answers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from accord.errors import DataError
from accord.feedback.active import (
    Belief,
    Pool,
    Votes,
    d_optimal,
    disagreement,
    double_thompson,
    ensemble,
    fit,
    large_gap,
    pool,
    votes,
)
from accord.judgements import Ranking


def pairs(*differences: list[float]) -> Pool:
    """Prompts of two completions whose features differ by these, taken as they are."""
    z_PD = np.array(differences, float)
    x_PND = np.stack([z_PD / 2, -z_PD / 2], axis=1)
    return Pool(tuple(f"p{n}" for n in range(len(z_PD))), x_PND, np.full(len(z_PD), 2))


def wins(prompt_V: list[int], outcome_V: list[float]) -> Votes:
    n = len(prompt_V)
    return Votes(
        np.array(prompt_V, int), np.zeros(n, int), np.ones(n, int), np.array(outcome_V, float), np.ones(n)
    )


def belief(cov: list[list[float]], mean: list[float] | None = None) -> Belief:
    return Belief(np.array(mean or [0.0] * len(cov)), np.array(cov, float), 1.0, 0.0)


def random_pool(rng: np.random.Generator, prompts: int = 30, most: int = 4, width: int = 3) -> Pool:
    return pool({f"p{n}": rng.normal(size=(int(rng.integers(2, most + 1)), width)) for n in range(prompts)})


def planted(rng: np.random.Generator, given: Pool, w_D: np.ndarray) -> Votes:
    """One vote on every pair by the Bradley-Terry model with ``w_D``."""
    rows = []
    for p, size in enumerate(given.sizes_P):
        for a, b in zip(*np.triu_indices(int(size), 1), strict=True):
            d = (given.features_PND[p, a] - given.features_PND[p, b]) @ w_D
            rows.append((p, a, b, float(rng.random() < 1 / (1 + np.exp(-d)))))
    p_V, a_V, b_V, outcome_V = np.array(rows).T
    return Votes(p_V.astype(int), a_V.astype(int), b_V.astype(int), outcome_V, np.ones(len(rows)))


# -- the pool ----------------------------------------------------------------------------------


def test_features_are_scaled_to_pairs_of_length_one() -> None:
    made = pool({"a": [[0.0, 0.0], [3.0, 4.0]], "b": [[1.0, 1.0], [1.0, 1.0], [1.0, 6.0]]})
    lengths = [
        np.sum((made.features_PND[p, a] - made.features_PND[p, b]) ** 2)
        for p, size in enumerate(made.sizes_P)
        for a, b in zip(*np.triu_indices(int(size), 1), strict=True)
    ]
    assert np.mean(lengths) == pytest.approx(1)
    # by hand: squared lengths 25, 0, 25, 25, mean 18.75
    assert lengths == pytest.approx([25 / 18.75, 0, 25 / 18.75, 25 / 18.75])
    assert not made.features_PND[0, 2].any()  # padding


def test_the_axes_that_are_kept_hold_the_most() -> None:
    rng = np.random.default_rng(0)
    wide = {f"p{n}": rng.normal(size=(3, 5)) * [0.01, 5, 0.01, 1, 0.01] for n in range(50)}
    made, whole = pool(wide, 2), pool(wide, 5)
    assert made.features_PND.shape == (50, 3, 2)
    assert (made.features_PND**2).sum() == pytest.approx((whole.features_PND**2).sum(), rel=1e-4)


def test_pairs_of_a_prompt_weigh_the_root_of_two_by_n() -> None:
    made = pool({"a": np.eye(4)[:2], "b": np.eye(4)})
    assert made.weights()[0, :2, :2] == pytest.approx(np.array([[0, 1], [1, 0]]))
    assert not made.weights()[0, 2:].any()
    assert made.weights()[1] == pytest.approx(np.sqrt(0.5) * (1 - np.eye(4)))


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({}, "no prompts"),
        ({"a": np.zeros((1, 3))}, "'a' have shape"),
        ({"a": np.zeros((2, 0))}, "'a' have shape"),
        ({"a": np.zeros((2, 3)), "b": np.zeros((2, 4))}, "'b' have shape"),
        ({"a": np.array([[0.0], [np.nan]])}, "'a' is not finite"),
    ],
)
def test_features_that_cannot_be_used_are_refused(features: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        pool(features)


def test_completions_alike_say_nothing_and_break_nothing() -> None:
    same = pool({name: np.ones((3, 2)) for name in "abc"})
    known = fit(same, wins([], []))
    rng = np.random.default_rng(0)
    members = ensemble(same, wins([0, 1], [1, 0]), 4, rng, 1.0)
    for scores in (
        d_optimal(same, known, 2), disagreement(same, members), double_thompson(same, known, rng),
        large_gap(same, known),
    ):  # fmt: skip
        assert scores == pytest.approx(np.zeros(3))


def test_one_prompt_can_be_scored() -> None:
    one = pool({"a": [[0.0, 1.0], [1.0, 0.0]]})
    known = fit(one, wins([0], [1.0]))
    assert d_optimal(one, known, 5).shape == (1,)
    assert double_thompson(one, known, np.random.default_rng(0)).shape == (1,)


def test_fewer_completions_are_the_same_completions() -> None:
    rng = np.random.default_rng(3)
    whole = pool({"a": rng.normal(size=(4, 3)), "b": rng.normal(size=(3, 3))})
    part = whole.only([[3, 1], [0, 1, 2]])
    assert part.sizes_P.tolist() == [2, 3]
    assert part.features_PND[0, 0] == pytest.approx(whole.features_PND[0, 3])
    assert part.features_PND[1] == pytest.approx(whole.features_PND[1, :3])


def test_votes_come_from_tiers_and_fails() -> None:
    made = pool({"a": np.eye(3), "b": np.eye(3)[:2]})
    found = votes(
        made,
        [
            Ranking("a", "k", (("y",), ("x",)), fails=("z",)),
            Ranking("b", "k", (("u", "v"),)),
            Ranking("elsewhere", "k", (("u",), ("v",))),
            Ranking("b", "m", (("u",), ("unknown",))),
        ],
        {"a": ["x", "y", "z"], "b": ["u", "v"]},
    )
    rows = zip(found.prompt_V, found.first_V, found.second_V, found.outcome_V, strict=True)
    assert [tuple(map(float, row)) for row in rows] == [
        (0, 0, 1, 0), (0, 0, 2, 1), (0, 1, 2, 1), (1, 0, 1, 0.5)
    ]  # fmt: skip
    assert found.weight_V == pytest.approx([np.sqrt(2 / 3)] * 3 + [1])


# -- the model ---------------------------------------------------------------------------------


def test_one_vote_in_one_dimension() -> None:
    """z = 2, precision 1: w solves w = 2 sigma(-2w), and the variance is 1 / (1 + 4 p (1 - p))."""
    got = fit(pairs([2.0]), wins([0], [1.0]), precision=1.0)
    w = optimize.brentq(lambda w: w - 2 / (1 + np.exp(2 * w)), 0, 2)
    p = 1 / (1 + np.exp(-2 * w))
    assert got.mean_D == pytest.approx([w])
    assert got.cov_DD == pytest.approx(np.array([[1 / (1 + 4 * p * (1 - p))]]))


def test_without_votes_belief_is_the_prior() -> None:
    got = fit(pairs([1.0, 0.0]), wins([], []), precision=4.0)
    assert got.mean_D == pytest.approx([0, 0])
    assert got.cov_DD == pytest.approx(np.eye(2) / 4)
    assert fit(pairs([1.0, 0.0]), wins([], [])).cov_DD == pytest.approx(np.eye(2))


def test_the_map_is_where_an_independent_optimiser_ends() -> None:
    rng = np.random.default_rng(1)
    made = random_pool(rng)
    seen = planted(rng, made, np.array([3.0, -1.0, 0.5]))
    z_VD = seen.differences(made)

    def minus_log_density(w: np.ndarray) -> float:
        d = z_VD @ w
        return float(np.sum(np.log1p(np.exp(-np.where(seen.outcome_V == 1, d, -d)))) + 0.25 * w @ w)

    found = optimize.minimize(minus_log_density, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-8})
    assert fit(made, seen, precision=0.5).mean_D == pytest.approx(found.x, abs=1e-4)


def test_the_evidence_is_the_integral_over_w() -> None:
    made = pairs([0.8])
    for precision in (0.1, 1.0, 10.0):
        got = fit(made, wins([0] * 30, [1.0] * 21 + [0.0] * 9), precision)
        w = np.linspace(-10, 10, 20_001)
        log_likelihood = -21 * np.log1p(np.exp(-0.8 * w)) - 9 * np.log1p(np.exp(0.8 * w))
        density = np.exp(log_likelihood) * stats.norm.pdf(w, scale=precision**-0.5)
        assert got.log_evidence == pytest.approx(np.log(np.trapezoid(density, w)), abs=0.02)


def test_separable_votes_stay_finite_and_the_evidence_finds_a_strong_signal() -> None:
    sure = fit(pairs([1.0], [1.0], [1.0]), wins([0, 1, 2], [1, 1, 1]), precision=0.01)
    assert 2 < sure.mean_D[0] < 20
    rng = np.random.default_rng(2)
    made = random_pool(rng, 400)
    strong = fit(made, planted(rng, made, np.array([12.0, 0, 0])))
    noise = fit(made, planted(rng, made, np.zeros(3)))
    assert strong.precision < 0.1 < 10 <= noise.precision


def test_the_posterior_covers_what_was_planted() -> None:
    inside = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        made = random_pool(rng, 60)
        w_D = rng.normal(size=3)  # as the prior of precision 1 has it
        got = fit(made, planted(rng, made, w_D), precision=1.0)
        inside += (np.abs(got.mean_D - w_D) < 1.96 * np.sqrt(np.diagonal(got.cov_DD))).tolist()
    assert 0.91 < np.mean(inside) < 0.985


def test_members_of_the_ensemble_spread_like_the_posterior() -> None:
    rng = np.random.default_rng(4)
    made = random_pool(rng, 150)
    seen = planted(rng, made, np.array([1.0, -1.0, 0.0]))
    members = ensemble(made, seen, 200, rng, 1.0)
    got = fit(made, seen, precision=1.0)
    assert members.mean(axis=0) == pytest.approx(got.mean_D, abs=0.15)
    ratio = members.std(axis=0) / np.sqrt(np.diagonal(got.cov_DD))
    assert ((ratio > 0.6) & (ratio < 1.7)).all()


def test_members_disagree_where_no_vote_speaks() -> None:
    """Bootstraps alone would all say zero along an axis that was never compared."""
    members = ensemble(pairs([1.0, 0.0]), wins([0] * 50, [1.0] * 50), 200, np.random.default_rng(0), 1.0)
    assert members[:, 1].std() == pytest.approx(1, abs=0.15)
    assert members[:, 0].std() < 0.6


# -- D-optimal ---------------------------------------------------------------------------------


def test_d_optimal_by_hand_in_two_dimensions() -> None:
    """Covariance diag(4, 1), w = 0, so each pair has p (1 - p) = 1/4.

    Gains log(1 + z'Cz / 4): along x log 2, along y log 1.25, the long y (3) log 3.25, the short x (0.5)
    log 1.25. After the long y (variance of y: 1 / (1 + 9/4) = 4/13), x is next, then the other x's.
    """
    made = pairs([1.0, 0.0], [0.0, 1.0], [0.0, 3.0], [0.5, 0.0])
    known = belief([[4, 0], [0, 1]])
    gains = np.log([2, 1.25, 3.25, 1.25])
    assert d_optimal(made, known, 0) == pytest.approx(gains)
    after = d_optimal(made, known, 2)
    assert np.argsort(-after).tolist()[:2] == [2, 0]
    assert after[2] == pytest.approx(np.log(3.25))
    assert after[0] == pytest.approx(np.log(2))
    assert after[1] == pytest.approx(np.log(1 + 4 / 13 / 4))
    assert after[3] == pytest.approx(np.log(1 + 2 * 0.25 / 4))  # variance of x is 2 after the first


def test_d_optimal_knows_the_past_and_the_batch() -> None:
    """Two copies of the best prompt: one is taken, then the other axis comes first."""
    made = pairs([2.0, 0.0], [2.0, 0.0], [0.0, 1.9])
    order = np.argsort(-d_optimal(made, belief([[1, 0], [0, 1]]), 3), kind="stable").tolist()
    assert order == [0, 2, 1]
    seen = fit(made, wins([0] * 20, [1.0, 0.0] * 10), precision=1.0)
    assert np.argmax(d_optimal(made, seen, 1)) == 2


def test_d_optimal_prefers_the_undecided_of_equal_pairs() -> None:
    made = pairs([3.0, 0.0], [0.0, 3.0])
    assert np.argmax(d_optimal(made, belief([[1, 0], [0, 1]], [2.0, 0.0]), 1)) == 1


@given(st.integers(0, 10_000))
def test_the_lazy_batch_is_the_greedy_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = random_pool(rng, 12)
    root = rng.normal(size=(3, 3))
    known = belief((root @ root.T + 0.1 * np.eye(3)).tolist(), rng.normal(size=3).tolist())
    scores = d_optimal(made, known, 5)
    precision, left = np.linalg.inv(known.cov_DD), list(range(12))
    for _ in range(5):
        gains = []
        for p in left:
            info = _information_by_pairs(made, p, known.mean_D)
            gains.append(np.linalg.slogdet(precision + info)[1] - np.linalg.slogdet(precision)[1])
        best = left[int(np.argmax(gains))]
        assert scores[best] == pytest.approx(max(gains))
        precision = precision + _information_by_pairs(made, best, known.mean_D)
        left.remove(best)
    for p in left:
        info = _information_by_pairs(made, p, known.mean_D)
        gain = np.linalg.slogdet(precision + info)[1] - np.linalg.slogdet(precision)[1]
        assert scores[p] == pytest.approx(gain)


def _information_by_pairs(made: Pool, p: int, w_D: np.ndarray) -> np.ndarray:
    size = int(made.sizes_P[p])
    total = np.zeros((len(w_D), len(w_D)))
    for a, b in zip(*np.triu_indices(size, 1), strict=True):
        z = made.features_PND[p, a] - made.features_PND[p, b]
        prob = 1 / (1 + np.exp(-z @ w_D))
        total += np.sqrt(2 / size) * prob * (1 - prob) * np.outer(z, z)
    return total


# -- the others --------------------------------------------------------------------------------


def test_no_disagreement_where_members_agree() -> None:
    rng = np.random.default_rng(0)
    made = random_pool(rng)
    w_D = rng.normal(size=3)
    assert disagreement(made, np.stack([w_D] * 5)) == pytest.approx(np.zeros(30), abs=1e-12)


def test_members_sure_of_the_opposite_disagree_by_one_bit() -> None:
    made = pairs([1.0], [0.0])
    got = disagreement(made, np.array([[200.0], [-200.0]]))
    assert got == pytest.approx([np.log(2), 0])


def test_thompson_asks_as_often_as_draws_differ() -> None:
    """d ~ N(m, s) makes the first best with probability Phi(m / s), and two draws differ 2 Phi (1 - Phi)."""
    made = pairs([1.0, 0.0], [0.0, 1.0])
    known = belief([[1, 0], [0, 4]], [1.0, 1.0])
    p = stats.norm.cdf([1 / 1, 1 / 2])
    got = double_thompson(made, known, np.random.default_rng(0), draws=20_000)
    assert got == pytest.approx(2 * p * (1 - p), abs=0.01)
    few = [double_thompson(made, known, np.random.default_rng(s), draws=2) for s in range(4000)]
    assert np.mean(few, axis=0) == pytest.approx(2 * p * (1 - p), abs=0.03)  # unbiased with few draws too


def test_thompson_never_counts_padding() -> None:
    """Both completions of the first prompt lose to padding's zero, whatever the draw."""
    x_PND = np.array([[[-1.0], [-2.0], [0.0]], [[1.0], [0.0], [-1.0]]])
    made = Pool(("a", "b"), x_PND, np.array([2, 3]))
    got = double_thompson(made, belief([[1e-6]], [1.0]), np.random.default_rng(0))
    assert got == pytest.approx([0, 0])


def test_the_largest_gap_by_hand() -> None:
    """Rewards 2, 0 and -1 with variance 1: the gap of 3 lies along z = 3 with deviation 3."""
    x_PND = np.array([[[2.0], [0.0], [-1.0]], [[1.0], [0.0], [0.0]]])
    made = Pool(("a", "b"), x_PND, np.array([3, 2]))
    known = belief([[1.0]], [1.0])
    assert large_gap(made, known, 0.0) == pytest.approx([3, 1])
    assert large_gap(made, known, 2.0) == pytest.approx([3 + 6, 1 + 2])


@pytest.mark.parametrize("name", ["dopt", "bald", "thompson", "gap"])
def test_a_score_does_not_hang_on_the_origin_of_features(name: str) -> None:
    rng = np.random.default_rng(5)
    made = random_pool(rng)
    real_PN1 = (np.arange(made.features_PND.shape[1]) < made.sizes_P[:, None])[:, :, None]
    moved = Pool(made.prompts, made.features_PND + real_PN1 * rng.normal(size=(30, 1, 3)), made.sizes_P)
    known = belief(np.eye(3).tolist(), [1.0, -0.5, 0.2])
    members = rng.normal(size=(4, 3))
    score = {
        "dopt": lambda each: d_optimal(each, known, 5),
        "bald": lambda each: disagreement(each, members),
        "thompson": lambda each: double_thompson(each, known, np.random.default_rng(0)),
        "gap": lambda each: large_gap(each, known),
    }[name]
    assert score(moved) == pytest.approx(score(made))
