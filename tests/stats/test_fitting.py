from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from accord.judgements import Ranking
from accord.stats.davidson import Habits, probabilities
from accord.stats.fitting import assume, fit, without_labeler
from accord.stats.maximum import Prior, climb, finish, negative_log_density, orient, spread
from accord.stats.propagation import posterior
from accord.stats.rankings import ranking_table
from pool import simulate

FIXED = Prior(1.0, 2.0)
PLANTED = [3.0, 2.5, 2.0, 1.5, 1.0, 0.0, -1.5]


@pytest.fixture(scope="module")
def planted():
    pool = simulate(np.random.default_rng(5), PLANTED, prompts=1200, size=2, per_prompt=3)
    return pool, fit(ranking_table(pool.rankings))


@pytest.mark.parametrize("size", [2, 4])
def test_gradient_equals_finite_differences(size):
    pool = simulate(np.random.default_rng(0), [2.0, 0.5, -1.0], prompts=40, size=size, per_prompt=2)
    # half of the rankings without an order on the screen
    half = [replace(r, shown=()) if n % 2 else r for n, r in enumerate(pool.rankings)]
    votes = ranking_table(half).votes
    assert 0 < (votes.lead_V == 0).sum() < len(votes.lead_V)
    theta = np.random.default_rng(1).normal(0.5, 1.0, 9)
    gradient = negative_log_density(votes, theta, FIXED, tol=1e-9)[1]
    for n in range(9):
        step = np.zeros(9)
        step[n] = 1e-3
        high, low = (negative_log_density(votes, theta + sign * step, FIXED, tol=1e-9)[0] for sign in (1, -1))
        assert gradient[n] == pytest.approx((high - low) / 2e-3, rel=1e-3, abs=1e-3)


def test_standard_errors_equal_the_curvature(planted):
    fitted = fit(planted[1].table, FIXED)
    theta = fitted.habits.pack()
    curvature = []
    for n in range(len(theta)):
        step = np.zeros_like(theta)
        step[n] = 1e-3
        high, low = (
            negative_log_density(fitted.table.votes, theta + sign * step, FIXED)[1] for sign in (1, -1)
        )
        curvature.append((high - low) / 2e-3)
    assert fitted.cov_TT == pytest.approx(np.linalg.inv(np.array(curvature)), rel=0.02, abs=2e-4)


def test_planted_reliability_is_recovered(planted):
    pool, fitted = planted
    off = (fitted.habits.reliability_K - pool.reliability) / fitted.reliability_sd()
    print("reliability", fitted.habits.reliability_K.round(2), "in standard errors", off.round(2))
    assert np.abs(off).max() < 3
    assert np.corrcoef(fitted.habits.reliability_K, pool.reliability)[0, 1] > 0.95
    adversary, careless = fitted.habits.reliability_K[6], fitted.habits.reliability_K[5]
    assert adversary + 2 * fitted.reliability_sd()[6] < 0
    assert abs(careless) < 0.3
    assert np.exp(fitted.habits.log_tie_K) == pytest.approx(0.5, rel=0.35)


def test_intervals_cover():
    """Over fresh pools the 95 % intervals hold the truth about as often as they say."""
    rng = np.random.default_rng(11)
    hits = []
    for _ in range(16):
        pool = simulate(rng, [2.5, 1.5, 1.0, 0.0, -1.0], prompts=150, size=2, per_prompt=3)
        fitted = fit(ranking_table(pool.rankings))
        hits += list(np.abs(fitted.habits.reliability_K - pool.reliability) < 1.96 * fitted.reliability_sd())
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
    alone = posterior(others.votes, Habits(*(part[1:] for part in np.split(fitted.habits.pack(), 3))))
    first, second = others.votes.pair_items()
    assert len(kept) == 90
    assert differences == pytest.approx(alone.mean_I[first] - alone.mean_I[second], abs=1e-3)


@settings(max_examples=8)
@given(seed=st.integers(0, 1000))
def test_shuffled_rankings_give_the_same_fit(seed):
    pool = simulate(np.random.default_rng(seed), [2.0, 1.0, -1.0], prompts=8, size=3, per_prompt=2)
    shuffled = list(pool.rankings)
    np.random.default_rng(seed + 1).shuffle(shuffled)
    one, two = fit(ranking_table(pool.rankings)), fit(ranking_table(shuffled))
    assert one.table.items == two.table.items
    assert one.posterior.mean_I == pytest.approx(two.posterior.mean_I, abs=1e-6)
    assert one.habits.reliability_K == pytest.approx(two.habits.reliability_K, abs=1e-6)


def test_extreme_input_stays_finite():
    """A completion that never loses, a hundred equal votes, one labeler against all."""
    rankings = [Ranking("p", f"w{k}", (("a",), ("b",), ("c",))) for k in range(100)]
    rankings += [Ranking("p", "w0", (("c",), ("b",), ("a",))) for _ in range(300)]
    fitted = fit(ranking_table(rankings))
    assert np.isfinite(fitted.posterior.mean_I).all()
    assert np.isfinite(fitted.reliability_sd()).all()
    assert list(np.argsort(-fitted.posterior.mean_I)) == [0, 1, 2]


def test_assumed_reliability_gives_hard_labels():
    fitted = assume(ranking_table([Ranking("p", "x", (("b",), ("a",)))]), 8.0, 0.5)
    assert fitted.p_first()[0] < 0.1


@pytest.mark.parametrize("seed", range(4))
def test_two_pools_that_never_meet_both_keep_their_sign(seed):
    """Turning one pool around explains its votes as well; only the prior tells the right way up."""
    pools = [simulate(np.random.default_rng(seed + n), [4.0, 2.0, -2.0], 60, 4, 3) for n in (0, 100)]
    rankings = pools[0].rankings + [
        Ranking("other " + r.prompt_id, "other " + r.labeler, r.tiers) for r in pools[1].rankings
    ]
    fitted = fit(ranking_table(rankings))
    signs = dict(zip(fitted.table.labelers, np.sign(fitted.habits.reliability_K), strict=True))
    assert signs == {"w0": 1, "w1": 1, "w2": -1, "other w0": 1, "other w1": 1, "other w2": -1}
    # Where the line search lands is luck: a pool that came out upside down is turned, the other left.
    turn_K = np.where([k.startswith("other") for k in fitted.table.labelers], -1, 1)
    landed_K = fitted.habits.reliability_K * turn_K
    assert orient(fitted.table.votes, landed_K) == pytest.approx(fitted.habits.reliability_K)


@pytest.mark.parametrize("size", [2, 4])
def test_planted_position_bias_is_recovered(size):
    """Five labelers who lean to the first shown, to the last, or to neither."""
    planted = [0.8, -0.6, 0.0, 0.3, 0.0]
    rng = np.random.default_rng(1)
    pool = simulate(rng, [3.0, 2.0, 2.0, 1.5, 0.0], 500, size, 3, position=planted)
    fitted = fit(ranking_table(pool.rankings))
    off = (fitted.habits.position_K - planted) / fitted.position_sd()
    print("position", fitted.habits.position_K.round(2), "in standard errors", off.round(2))
    assert np.abs(off).max() < 3
    assert fitted.habits.position_K[0] - 2 * fitted.position_sd()[0] > 0
    assert fitted.habits.position_K[1] + 2 * fitted.position_sd()[1] < 0


def test_bias_that_is_left_out_hurts():
    """Where everyone leans to the first shown, knowing the screens sets the consensus right."""
    pool = simulate(np.random.default_rng(2), [2.5, 2.0, 1.5, 2.0], 500, 2, 3, position=[2.5] * 4)
    told = _accuracy(pool, pool.rankings)
    kept_from = _accuracy(pool, [replace(r, shown=()) for r in pool.rankings])
    print(f"accuracy with the order on the screen {told:.3f}, without {kept_from:.3f}")
    assert told > kept_from + 0.02


def test_without_a_bias_nothing_gets_worse():
    """The same rankings with and without the order on the screen give the same reliabilities and labels."""
    pool = simulate(np.random.default_rng(4), [3.0, 2.0, 1.5, 1.0, 0.0], 200, 4, 3)
    one, two = (
        fit(ranking_table(rankings))
        for rankings in (pool.rankings, [replace(r, shown=()) for r in pool.rankings])
    )
    assert (two.habits.position_K == 0).all()
    assert two.position_sd() == pytest.approx(Prior().position_sd)
    assert np.abs(one.habits.position_K / one.position_sd()).max() < 3
    assert (
        np.abs(one.habits.reliability_K - two.habits.reliability_K).max() < 0.3 * one.reliability_sd().max()
    )
    assert np.abs(one.p_first() - two.p_first()).mean() < 0.01
    assert (
        _accuracy(pool, pool.rankings)
        > _accuracy(pool, [replace(r, shown=()) for r in pool.rankings]) - 0.005
    )


def _accuracy(pool, rankings) -> float:
    fitted = fit(ranking_table(rankings))
    gold_I = np.array([pool.gold[p][c] for p, c in fitted.table.items])
    first_S, second_S = fitted.table.votes.pair_items()
    return float(np.mean((fitted.p_first() > 0.5) == (gold_I[first_S] > gold_I[second_S])))


def test_the_fast_fit_equals_the_slow_one():
    """Starting on a part of the prompts and stopping early, against one long climb by L-BFGS on all."""
    pool = simulate(np.random.default_rng(0), [4.0, 3.0, 2.0, 1.0, 0.0, -2.0], 120, 4, 3, position=[0.4] * 6)
    table = ranking_table(pool.rankings)
    prior = FIXED

    def objective(theta_T):
        value, gradient_T, _ = negative_log_density(table.votes, theta_T, prior, tol=1e-8)
        return value, gradient_T

    start_T = prior.moments(6)[0]
    slow = optimize.minimize(objective, start_T, jac=True, method="L-BFGS-B", options={"ftol": 1e-13})
    assert slow.success
    from_part = climb(spread(table.votes, 40), start_T, prior)
    theta_T, cov_TT, scores = finish(table.votes, from_part, prior)
    standard_T = np.sqrt(np.diagonal(cov_TT))
    assert np.abs((from_part - slow.x) / standard_T).max() > 0.5  # the part alone is not enough
    assert np.abs((theta_T - slow.x) / standard_T).max() < 0.03
    exact = posterior(table.votes, Habits.unpack(slow.x), tol=1e-10)
    assert scores.mean_I == pytest.approx(exact.mean_I, abs=2e-3)


def test_a_spread_keeps_prompts_whole():
    pool = simulate(np.random.default_rng(0), [2.0, 1.0, 1.0], 50, 3, 2)
    votes = ranking_table(pool.rankings).votes
    few = spread(votes, 10)
    assert len(few.sizes_P) == 10
    assert len(few.site_V) == 10 * 6
    assert spread(votes, 50) is votes


def test_intervals_of_soft_labels_are_quantiles_of_the_marginal():
    """Against the normal distribution, which a pair without votes has."""
    votes = [Ranking("p", "x", (("a",), ("b",))), Ranking("p", "x", (("c",), ("d",)))]
    fitted = assume(ranking_table(votes), 2.0, 0.5)
    first, second = fitted.table.votes.pair_items()
    names = [fitted.table.items[i][1] + fitted.table.items[j][1] for i, j in zip(first, second, strict=True)]
    free = names.index("ac")  # shares no vote: normal, with the variance of its two scores
    cov = fitted.posterior.covariance().toarray()
    mean, sd = fitted.posterior.mean_I[0] - fitted.posterior.mean_I[2], np.sqrt(cov[0, 0] + cov[2, 2])
    low, high = fitted.p_first_interval()
    expected = 1 / (1 + np.exp(-2.0 * (mean + np.array([-1.96, 1.96]) * sd)))
    assert (low[free], high[free]) == pytest.approx(tuple(expected), abs=0.01)
