import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from accord.errors import DataError
from accord.stats.davidson import posterior, probabilities
from accord.stats.rankings import (
    Prior,
    _orient,
    assume,
    fit,
    mid_ranks,
    negative_log_density,
    ranking_table,
    without_labeler,
)
from accord.types import Ranking
from pool import simulate

PLANTED = [3.0, 2.5, 2.0, 1.5, 1.0, 0.0, -1.5]


@pytest.fixture(scope="module")
def planted():
    pool = simulate(np.random.default_rng(5), PLANTED, prompts=1200, size=2, per_prompt=3)
    return pool, fit(ranking_table(pool.rankings))


@given(d=st.floats(-50, 50), b=st.floats(-20, 20), log_tie=st.floats(-10, 5))
def test_probabilities_sum_to_one_and_swap(d, b, log_tie):
    win, tie, loss = (float(p) for p in probabilities(np.array(d), b, log_tie))
    assert win + tie + loss == pytest.approx(1)
    swapped = tuple(float(p) for p in probabilities(np.array(-d), b, log_tie))
    assert swapped == pytest.approx((loss, tie, win))


def test_probabilities_by_hand():
    win, tie, loss = (float(p) for p in probabilities(np.array(2 * np.log(2)), 1.0, np.log(0.5)))
    # e^x = 4, nu e^(x/2) = 1, 1: odds 4 : 1 : 1
    assert (win, tie, loss) == pytest.approx((4 / 6, 1 / 6, 1 / 6))


def test_weights_and_fails():
    table = ranking_table([Ranking("p", "x", (("a",), ("b", "c")), fails=("d", "e"), shown=tuple("abcdef"))])
    assert [c for _, c in table.items] == list("abcde")  # f was shown and not ranked
    votes = table.votes
    assert len(votes.site_V) == 9  # ten pairs less FAIL-FAIL
    assert votes.weight_V == pytest.approx(np.sqrt(2 / 5))
    first, second = votes.pair_items()
    told = {
        ("abcde"[first[s]], "abcde"[second[s]]): o for s, o in zip(votes.site_V, votes.outcome_V, strict=True)
    }
    assert told[("a", "b")] == told[("a", "e")] == told[("c", "d")] == 1
    assert told[("b", "c")] == 0.5
    assert ("d", "e") not in told
    assert mid_ranks(Ranking("p", "x", (("a",), ("b", "c")), fails=("d", "e"))) == {
        "a": 1, "b": 2.5, "c": 2.5, "d": 4.5, "e": 4.5,
    }  # fmt: skip


def test_nothing_to_compare_is_refused():
    with pytest.raises(DataError, match="two judged completions"):
        ranking_table([Ranking("p", "x", (("a",),), shown=("a", "b"))])


def test_posterior_of_a_pair_equals_the_integral():
    """Two completions: the evidence and the mean difference against scipy's quadrature."""
    rankings = [Ranking("p", k, (("a",), ("b",))) for k in "xyz"] + [Ranking("p", "w", (("a", "b"),))]
    table = ranking_table(rankings)
    reliability, log_tie = np.array([0.7, 6.0, 2.0, -1.0]), np.log([0.3, 1.0, 0.5, 0.2])
    order = [table.labelers.index(k) for k in "wxyz"]
    assert order == [0, 1, 2, 3]

    def density(d):
        value = np.exp(-(d**2) / 4) / np.sqrt(4 * np.pi)
        for k in range(4):
            win, tie, _ = probabilities(np.array(d), reliability[k], log_tie[k])
            value *= tie if k == 0 else win
        return float(value)

    mass = integrate.quad(density, -12, 12, epsabs=1e-13, limit=200)[0]
    mean = integrate.quad(lambda d: d * density(d), -12, 12, epsabs=1e-13, limit=200)[0] / mass
    got = posterior(table.votes, reliability, log_tie)
    assert got.log_evidence == pytest.approx(np.log(mass), abs=2e-4)
    assert got.mean_I[0] - got.mean_I[1] == pytest.approx(mean, abs=2e-4)


def test_posterior_of_a_triple_equals_the_integral():
    """Three completions, where expectation propagation approximates: on a grid of their scores."""
    rankings = [Ranking("p", "x", (("a",), ("b",), ("c",))), Ranking("p", "y", (("b",), ("a", "c")))]
    table = ranking_table(rankings)
    reliability, log_tie = np.array([3.0, 1.5]), np.log([0.5, 0.8])
    axis = np.linspace(-5, 5, 81)
    s = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    log_density = -0.5 * (s**2).sum(axis=0)
    first, second = table.votes.pair_items()
    votes = table.votes
    for site, k, outcome, weight in zip(
        votes.site_V, votes.labeler_V, votes.outcome_V, votes.weight_V, strict=True
    ):
        win, tie, loss = probabilities(s[first[site]] - s[second[site]], reliability[k], log_tie[k])
        log_density += weight * np.log({1.0: win, 0.5: tie, 0.0: loss}[outcome])
    density = np.exp(log_density)
    evidence = density.sum() * (axis[1] - axis[0]) ** 3 / (2 * np.pi) ** 1.5
    means = [(density * s[i]).sum() / density.sum() for i in range(3)]
    got = posterior(votes, reliability, log_tie)
    assert got.log_evidence == pytest.approx(np.log(evidence), abs=0.01)
    assert got.mean_I == pytest.approx(means, abs=0.02)
    assert got.sd_items()[0] == pytest.approx(
        np.sqrt((density * s[0] ** 2).sum() / density.sum() - means[0] ** 2), rel=0.03
    )


@pytest.mark.parametrize("size", [2, 4])
def test_gradient_equals_finite_differences(size):
    pool = simulate(np.random.default_rng(0), [2.0, 0.5, -1.0], prompts=40, size=size, per_prompt=2)
    votes = ranking_table(pool.rankings).votes
    theta = np.random.default_rng(1).normal(0.5, 1.0, 6)
    gradient = negative_log_density(votes, theta, Prior(), tol=1e-9)[1]
    for n in range(6):
        step = np.zeros(6)
        step[n] = 1e-3
        high, low = (
            negative_log_density(votes, theta + sign * step, Prior(), tol=1e-9)[0] for sign in (1, -1)
        )
        assert gradient[n] == pytest.approx((high - low) / 2e-3, rel=1e-3, abs=1e-3)


def test_standard_errors_equal_the_curvature(planted):
    _, fitted = planted
    theta = np.concatenate([fitted.reliability_K, fitted.log_tie_K])
    curvature = []
    for n in range(len(theta)):
        step = np.zeros_like(theta)
        step[n] = 1e-3
        high, low = (
            negative_log_density(fitted.table.votes, theta + sign * step, Prior())[1] for sign in (1, -1)
        )
        curvature.append((high - low) / 2e-3)
    assert fitted.cov_TT == pytest.approx(np.linalg.inv(np.array(curvature)), rel=0.02, abs=2e-4)


def test_planted_reliability_is_recovered(planted):
    pool, fitted = planted
    off = (fitted.reliability_K - pool.reliability) / fitted.reliability_sd()
    print("reliability", fitted.reliability_K.round(2), "in standard errors", off.round(2))
    assert np.abs(off).max() < 3
    assert np.corrcoef(fitted.reliability_K, pool.reliability)[0, 1] > 0.95
    adversary, careless = fitted.reliability_K[6], fitted.reliability_K[5]
    assert adversary + 2 * fitted.reliability_sd()[6] < 0
    assert abs(careless) < 0.3
    assert np.exp(fitted.log_tie_K) == pytest.approx(0.5, rel=0.35)


def test_intervals_cover():
    """Over fresh pools the 95 % intervals hold the truth about as often as they say."""
    rng = np.random.default_rng(11)
    hits = []
    for _ in range(25):
        pool = simulate(rng, [2.5, 1.5, 1.0, 0.0, -1.0], prompts=150, size=2, per_prompt=3)
        fitted = fit(ranking_table(pool.rankings))
        hits += list(np.abs(fitted.reliability_K - pool.reliability) < 1.96 * fitted.reliability_sd())
    print("coverage", np.mean(hits))
    assert np.mean(hits) > 0.88


def test_scores_are_calibrated(planted):
    """The share of scores within one posterior standard deviation of the truth is near 68 %."""
    pool, fitted = planted
    truth = np.array([pool.gold[p][c] for p, c in fitted.table.items])
    z = (fitted.posterior.mean_I - truth) / fitted.posterior.sd_items()
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.68, abs=0.04)
    assert z.mean() == pytest.approx(0, abs=0.1)


def test_probabilities_forecast_a_new_labeler(planted):
    """p_first is the chance that a fresh labeler of typical reliability prefers the first."""
    pool, fitted = planted
    items = fitted.table.items
    first, second = fitted.table.votes.pair_items()
    gaps = np.array(
        [
            pool.gold[items[a][0]]["c0"] - pool.gold[items[b][0]]["c1"]
            for a, b in zip(first, second, strict=True)
        ]
    )
    win, _, loss = probabilities(gaps, *fitted.typical)
    truth, p = win / (win + loss), fitted.p_first()
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)):
        inside = (p >= low) & (p <= high)
        assert inside.sum() > 50
        assert truth[inside].mean() == pytest.approx(p[inside].mean(), abs=0.05)


def test_probabilities_of_rankings_are_calibrated():
    """Rankings of four: the weight of their dependent pairs makes soft labels neither too hard nor too soft.

    Weight 1 a pair misses by 0.057, 2/N by 0.066.
    """
    reliable = [4.0, 3.0, 2.0, 1.5, 1.0]
    pool = simulate(np.random.default_rng(3), [*reliable, 0.0, -1.5], prompts=200, size=4, per_prompt=3)
    fitted = fit(ranking_table(pool.rankings))
    gold = np.array([pool.gold[p][c] for p, c in fitted.table.items])
    first, second = fitted.table.votes.pair_items()
    p_first = fitted.p_first()
    towards = np.where(p_first >= 0.5, 1, -1) * (gold[first] - gold[second])
    votes = np.mean([1 / (1 + np.exp(-b * towards)) for b in reliable], axis=0)
    assert np.maximum(p_first, 1 - p_first).mean() == pytest.approx(votes.mean(), abs=0.03)


def test_leaving_a_labeler_out_ignores_their_votes():
    pool = simulate(np.random.default_rng(2), [2.0, 2.0, 2.0], prompts=30, size=3, per_prompt=3)
    fitted = fit(ranking_table(pool.rankings))
    kept, differences = without_labeler(fitted, 0)
    others = ranking_table([r for r in pool.rankings if r.labeler != "w0"])
    alone = posterior(others.votes, fitted.reliability_K[1:], fitted.log_tie_K[1:])
    first, second = others.votes.pair_items()
    assert len(kept) == 90
    assert differences == pytest.approx(alone.mean_I[first] - alone.mean_I[second], abs=1e-3)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000))
def test_shuffled_rankings_give_the_same_fit(seed):
    pool = simulate(np.random.default_rng(seed), [2.0, 1.0, -1.0], prompts=8, size=3, per_prompt=2)
    shuffled = list(pool.rankings)
    np.random.default_rng(seed + 1).shuffle(shuffled)
    one, two = fit(ranking_table(pool.rankings)), fit(ranking_table(shuffled))
    assert one.table.items == two.table.items
    assert one.posterior.mean_I == pytest.approx(two.posterior.mean_I, abs=1e-6)
    assert one.reliability_K == pytest.approx(two.reliability_K, abs=1e-6)


def test_extreme_input_stays_finite():
    """A completion that never loses, hundreds of equal votes, one labeler against all."""
    rankings = [Ranking("p", f"w{k}", (("a",), ("b",), ("c",))) for k in range(300)]
    rankings += [Ranking("p", "w0", (("c",), ("b",), ("a",))) for _ in range(300)]
    fitted = fit(ranking_table(rankings))
    assert np.isfinite(fitted.posterior.mean_I).all()
    assert np.isfinite(fitted.reliability_sd()).all()
    assert list(np.argsort(-fitted.posterior.mean_I)) == [0, 1, 2]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(2, 9),
    copies=st.sampled_from([1, 5, 300]),
    scale=st.floats(0, 30),
)
def test_the_posterior_settles_whatever_the_votes(seed, size, copies, scale):
    """Random and contradictory votes, up to hundreds alike, reliabilities of any size and sign."""
    rng = np.random.default_rng(seed)
    rankings = []
    for k in range(4):
        cut = sorted(rng.choice(size, rng.integers(0, size), replace=False).tolist())
        order = [f"c{i}" for i in rng.permutation(size)]
        tiers = [tuple(order[a:b]) for a, b in zip([0, *cut], [*cut, size], strict=True) if b > a]
        rankings += [Ranking("p", f"w{k}", tuple(tiers))] * copies
    votes = ranking_table(rankings).votes
    reliability_K, log_tie_K = rng.normal(size=4) * scale, rng.normal(size=4) * 2
    got = posterior(votes, reliability_K, log_tie_K)
    assert np.isfinite(got.mean_I).all()
    assert (got.sd_items() <= 1 + 1e-6).all()
    # With the prior N(0, 1), each mean is the expected pull of the votes on it: b_k (t - E[t]) a vote.
    b_V = reliability_K[votes.labeler_V]
    win_VQ, tie_VQ, _ = probabilities(
        got.nodes_SQ[votes.site_V], b_V[:, None], log_tie_K[votes.labeler_V, None]
    )
    expected_V = (got.prob_SQ[votes.site_V] * (win_VQ + tie_VQ / 2)).sum(axis=1)
    pull_V = votes.weight_V * b_V * (votes.outcome_V - expected_V)
    first_S, second_S = votes.pair_items()
    pull_I = np.zeros(size)
    np.add.at(pull_I, first_S[votes.site_V], pull_V)
    np.add.at(pull_I, second_S[votes.site_V], -pull_V)
    assert got.mean_I == pytest.approx(pull_I, rel=0.01, abs=0.01)


def test_assumed_reliability_gives_hard_labels():
    fitted = assume(ranking_table([Ranking("p", "x", (("b",), ("a",)))]), 8.0, 0.5)
    assert fitted.p_first()[0] < 0.1


def test_time_of_a_fit_is_printed():
    pool = simulate(
        np.random.default_rng(0), np.linspace(-0.5, 4, 20).tolist(), prompts=500, size=4, per_prompt=3
    )
    start = time.perf_counter()
    fit(ranking_table(pool.rankings))
    print(f"{len(pool.rankings)} rankings of 4 by 20 labelers: {time.perf_counter() - start:.1f} s")


@pytest.mark.parametrize("seed", range(4))
def test_two_pools_that_never_meet_both_keep_their_sign(seed):
    """Turning one pool around explains its votes as well; only the prior tells the right way up."""
    pools = [simulate(np.random.default_rng(seed + n), [4.0, 2.0, -2.0], 60, 4, 3) for n in (0, 100)]
    rankings = pools[0].rankings + [
        Ranking("other " + r.prompt_id, "other " + r.labeler, r.tiers) for r in pools[1].rankings
    ]
    fitted = fit(ranking_table(rankings))
    signs = dict(zip(fitted.table.labelers, np.sign(fitted.reliability_K), strict=True))
    assert signs == {"w0": 1, "w1": 1, "w2": -1, "other w0": 1, "other w1": 1, "other w2": -1}
    # Where the line search lands is luck: a pool that came out upside down is turned, the other left.
    landed_K = fitted.reliability_K * np.where([k.startswith("other") for k in fitted.table.labelers], -1, 1)
    assert _orient(fitted.table.votes, landed_K) == pytest.approx(fitted.reliability_K)
