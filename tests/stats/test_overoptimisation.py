"""Best of n against brute force, and the laws of over-optimisation against planted ones."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import DataError
from accord.stats.overoptimisation import Form, best_of_n, fit_curve, kl_best_of_n

KL = np.linspace(0.1, 4.0, 15) ** 2
RNG = np.random.default_rng


# -- best of n ---------------------------------------------------------------------------------


def brute(proxy, gold, n):
    """Mean over every subset of n of the gold of its best, subsets' ties shared."""
    total = 0.0
    for chosen in itertools.combinations(range(len(proxy)), n):
        top = max(proxy[i] for i in chosen)
        best = [gold[i] for i in chosen if proxy[i] == top]
        total += sum(best) / len(best)
    return total / math.comb(len(proxy), n)


def test_three_samples_by_hand():
    """Gold 10, 20, 30 with proxy 2, 1, 3: of the pairs, {2, 1} gives 10 and the two with 3 give 30."""
    assert best_of_n([2.0, 1.0, 3.0], [10.0, 20.0, 30.0], [1, 2, 3]).tolist() == [
        [pytest.approx(20), pytest.approx(70 / 3), pytest.approx(30)]
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=8, unique_by=lambda t: t[0])
)
def test_every_n_equals_brute_force(rows):
    proxy, gold = zip(*rows, strict=True)
    sizes = range(1, len(rows) + 1)
    found = best_of_n(proxy, gold, list(sizes))[0]
    assert found == pytest.approx([brute(proxy, gold, n) for n in sizes], abs=1e-9)


def test_equal_proxies_share_their_gold():
    """All alike: any n is a random pick. Three of six alike, against every order of breaking the ties."""
    assert best_of_n([1.0] * 4, [0.0, 1.0, 2.0, 3.0], [1, 2, 4])[0] == pytest.approx([1.5] * 3)
    gold = RNG(0).normal(size=6)
    broken = [
        brute([1.0, 2.0 + p[0], 2.0 + p[1], 3.0, 2.0 + p[2], 0.0], gold, 3)
        for p in itertools.permutations([0.0, 0.1, 0.2])
    ]
    assert best_of_n([1.0, 2.0, 2.0, 3.0, 2.0, 0.0], gold, [3])[0, 0] == pytest.approx(np.mean(broken))


def test_the_order_of_samples_does_not_matter_and_prompts_stay_apart():
    proxy, gold = RNG(0).normal(size=(2, 3, 40)).round(1)
    order = RNG(1).permutation(40)
    sizes = [1, 3, 40]
    found = best_of_n(proxy, gold, sizes)
    assert best_of_n(proxy[:, order], gold[:, order], sizes) == pytest.approx(found)
    assert best_of_n(proxy[1], gold[1], sizes)[0] == pytest.approx(found[1])
    assert found[:, 0] == pytest.approx(gold.mean(axis=1))


def test_thousands_of_samples_do_not_overflow():
    """A perfect proxy on uniform gold: the best of n is n / (n + 1) on average."""
    gold = (np.arange(5000) + 0.5) / 5000
    sizes = [1, 2, 16, 1024, 4096]
    assert best_of_n(gold, gold, sizes)[0] == pytest.approx([n / (n + 1) for n in sizes], abs=2e-4)


def test_the_estimate_is_unbiased():
    """From 8 samples, best of 4 of a noisy proxy is right on average over 4,000 draws."""
    rng = RNG(0)
    gold = rng.normal(size=(4000, 8))
    proxy = gold + rng.normal(size=gold.shape)
    # E of the maximum of 4 normals is 1.0294; gold carries 1 / sqrt(2) of the proxy's standard deviation.
    assert best_of_n(proxy, gold, [4]).mean() == pytest.approx(1.0294 / math.sqrt(2), abs=0.03)


def test_kl_of_best_of_n():
    assert kl_best_of_n([1, 2, 4]).tolist() == [
        0.0,
        pytest.approx(math.log(2) - 0.5),
        pytest.approx(math.log(4) - 0.75),
    ]
    # For two equally likely texts told apart, best of 2 has KL 3/4 log 3/2 + 1/4 log 1/2: below the formula.
    true = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert 0 < true < kl_best_of_n(2)


@pytest.mark.parametrize(
    ("proxy", "gold", "sizes"),
    [
        ([1.0, 2.0], [1.0], [1]), ([], [], [1]), ([1.0, 2.0], [1.0, math.nan], [1]),
        ([1.0, 2.0], [1.0, 2.0], [3]), ([1.0, 2.0], [1.0, 2.0], [0]),
    ],
)  # fmt: skip
def test_what_cannot_be_estimated_is_refused(proxy, gold, sizes):
    with pytest.raises(DataError):
        best_of_n(proxy, gold, sizes)


# -- the laws ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "law", "peak"),
    [
        (Form.BEST_OF_N, lambda d: d * (1.2 - 0.3 * d), (2.0**2, 1.2)),
        (Form.RL, lambda d: d * (0.9 - 0.6 * np.log(d)), (math.exp(0.5) ** 2, 0.6 * math.exp(0.5))),
    ],
)
def test_a_planted_law_is_recovered_with_its_peak(form, law, peak):
    gain = law(np.sqrt(KL))
    found = fit_curve([(KL, gain)], form, RNG(0))
    assert (found.alpha.value, found.beta.value) == pytest.approx(
        (1.2, 0.3) if form is Form.BEST_OF_N else (0.9, 0.6)
    )
    assert (found.peak.kl, found.peak.gain) == pytest.approx(peak)
    assert found.gain(KL) == pytest.approx(gain)
    assert found.gain(found.peak.kl) == pytest.approx(found.peak.gain)
    assert found.gain([peak[0] * 0.9, peak[0] * 1.1]).max() < found.peak.gain
    assert found.rmse == pytest.approx(0, abs=1e-12)
    assert found.farthest == KL.max()
    # One unit has no spread to draw an interval from.
    assert math.isnan(found.alpha.low)
    assert (found.peak.low, found.peak.high, found.peak.why) == (None, None, "one unit: no interval")


def test_the_start_is_a_point_of_both_laws():
    for form in Form:
        assert fit_curve([([0.0, 1.0, 4.0], [0.0, 1.0, 1.0])], form, RNG(0)).gain(0.0) == 0.0


def test_the_wrong_law_leaves_more():
    gain = np.sqrt(KL) * (0.9 - 0.6 * np.log(np.sqrt(KL)))
    left = [fit_curve([(KL, gain)], form, RNG(0)).rmse for form in Form]
    assert left[0] > 0.05 > left[1]


def test_intervals_cover_as_often_as_they_say():
    """60 prompts, each with its own curve around (1, 0.2); the truth is known."""
    rng, hits, peaks, trials = RNG(0), np.zeros(2), 0, 120
    d = np.sqrt(KL)
    for _ in range(trials):
        alpha = 1.0 + rng.normal(0, 0.4, 60)
        beta = 0.2 + rng.normal(0, 0.1, 60)
        units = [(KL, d * (a - b * d) + rng.normal(0, 0.1, len(d))) for a, b in zip(alpha, beta, strict=True)]
        found = fit_curve(units, Form.BEST_OF_N, rng, draws=400)
        hits += [found.alpha.low <= 1.0 <= found.alpha.high, found.beta.low <= 0.2 <= found.beta.high]
        assert found.peak.low is not None
        assert found.peak.high is not None
        peaks += found.peak.low <= 6.25 <= found.peak.high
    assert (hits / trials > 0.88).all()
    assert peaks / trials > 0.88


def test_seeds_with_their_own_kl_are_fitted_together():
    rng = RNG(0)
    units = []
    for _ in range(5):
        kl = np.sort(rng.uniform(0.01, 9, 12))
        units.append((kl, np.sqrt(kl) * (1.0 - 0.5 * np.log(np.sqrt(kl)))))
    found = fit_curve(units, Form.RL, RNG(0))
    assert found.peak.kl == pytest.approx(math.e**2)
    assert found.peak.low == pytest.approx(found.peak.high)


def test_gold_that_never_turns_says_so():
    d = np.sqrt(KL)
    noise = RNG(0).normal(0, 1e-3, (6, len(d)))
    for form in Form:
        found = fit_curve([(KL, d + d**1.5 + row) for row in noise], form, RNG(0)).peak
        assert (found.kl, found.gain, found.high, found.turning) == (None, None, None, 0.0)
        assert "never turns" in found.why


def test_gold_that_falls_from_the_start_says_so():
    d = np.sqrt(KL)
    for bend in (-0.1, 0.1):
        found = fit_curve([(KL, -d - bend * d**2), (KL, -d - bend * d**2)], Form.BEST_OF_N, RNG(0)).peak
        assert (found.kl, found.gain) == (0.0, 0.0)
        assert "wrong way" in found.why


def test_a_peak_that_is_often_not_there_has_no_upper_bound():
    """Half the prompts bend down, half up: in many draws the mean never turns."""
    d = np.sqrt(KL)
    units = [(KL, d * (1 - b * d)) for b in [0.3, -0.25] * 5]
    found = fit_curve(units, Form.BEST_OF_N, RNG(0)).peak
    assert found.kl is not None
    assert found.high is None
    assert 0.3 < found.turning < 0.9


def test_a_peak_out_of_all_reach_is_a_number():
    d = np.sqrt(KL)
    found = fit_curve([(KL, d * (1 - 1e-5 * np.log(d)))], Form.RL, RNG(0))
    assert found.peak.kl is not None
    assert 1e100 < found.peak.kl < math.inf


@pytest.mark.parametrize(
    "units",
    [
        [],
        [([1.0, 2.0], [1.0])],
        [([1.0, -2.0], [1.0, 1.0])],
        [([1.0, 2.0], [1.0, math.nan])],
        [([0.0, 1.0, 1.0], [0.0, 1.0, 2.0])],
    ],
)
def test_what_fixes_no_law_is_refused(units):
    for form in Form:
        with pytest.raises(DataError):
            fit_curve(units, form, RNG(0))
