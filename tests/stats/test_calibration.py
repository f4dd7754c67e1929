"""Calibration by hand, against planted temperatures, and against models that are wrong on purpose."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import DataError
from accord.stats.calibration import (
    brier,
    calibration,
    ece,
    ece_floor,
    fit_temperature,
    log_loss,
    mistakes_found,
    reliability_bins,
)


def sigma(x):
    return 1 / (1 + math.exp(-x))


def drawn(n, temperature=1.0, seed=0, spread=2.0):
    """Differences and hard labels that are won with probability sigma(d / temperature)."""
    rng = np.random.default_rng(seed)
    d = rng.normal(0, spread, n)
    return d, (rng.random(n) < 1 / (1 + np.exp(-d / temperature))).astype(float)


# -- by hand -----------------------------------------------------------------------------------


def test_log_loss_and_brier_by_hand():
    d, p = [2.0, -4.0], [1.0, 0.25]
    s1, s2 = sigma(1.0), sigma(-2.0)
    expected = (-math.log(s1) - 0.25 * math.log(s2) - 0.75 * math.log(1 - s2)) / 2
    assert log_loss(d, p, 2.0) == pytest.approx(expected)
    assert brier(d, p, 2.0) == pytest.approx(((s1 - 1) ** 2 + (s2 - 0.25) ** 2) / 2)
    assert brier([0.0], [1.0]) == 0.25


def test_bins_and_ece_by_hand():
    """Four pairs in two bins: |0.1|, |-0.5| (turned), then |1|, |3|."""
    d, p = [0.1, 3.0, -0.5, 1.0], [1.0, 1.0, 0.2, 0.0]
    low, high = reliability_bins(d, p, bins=2)
    assert (low.predicted, low.observed, low.count) == (
        pytest.approx((sigma(0.1) + sigma(0.5)) / 2), pytest.approx((1.0 + 0.8) / 2), 2,
    )  # fmt: skip
    assert (high.predicted, high.observed, high.count) == (
        pytest.approx((sigma(1) + sigma(3)) / 2), 0.5, 2,
    )  # fmt: skip
    expected = (abs(low.predicted - 0.9) + abs(high.predicted - 0.5)) / 2
    assert ece(d, p, bins=2) == pytest.approx(expected)


def test_uneven_bins_weigh_by_their_count():
    assert [b.count for b in reliability_bins(np.arange(1.0, 6.0), np.ones(5), bins=2)] == [3, 2]
    found = reliability_bins(np.arange(1.0, 6.0), np.ones(5), bins=2)
    expected = (3 * (1 - found[0].predicted) + 2 * (1 - found[1].predicted)) / 5
    assert ece(np.arange(1.0, 6.0), np.ones(5), bins=2) == pytest.approx(expected)


def test_no_difference_prefers_neither_side():
    (found,) = reliability_bins([0.0, 0.0], [1.0, 1.0])[:1]
    assert (found.predicted, found.observed) == (0.5, 0.5)


def test_the_floor_by_hand():
    """Residuals +-1/2 of four pairs in one bin: standard error sqrt(1/4 / 3), times sqrt(2 / pi)."""
    d, p = np.full(4, 1e-9), np.array([1.0, 0.0, 1.0, 0.0])
    assert ece_floor(d, p, bins=1) == pytest.approx(math.sqrt(2 / math.pi * 0.25 / 3), rel=1e-6)


# -- temperature -------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 40), st.integers(0, 10**6))
def test_a_planted_temperature_is_recovered_from_soft_labels_exactly(temperature, seed):
    d = np.random.default_rng(seed).normal(0, 2 * temperature, 50)
    assert fit_temperature(d, 1 / (1 + np.exp(-d / temperature))) == pytest.approx(temperature, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_planted_temperature_is_recovered_from_votes(temperature):
    d, p = drawn(20_000, temperature)
    found = fit_temperature(d, p)
    assert found == pytest.approx(temperature, rel=0.06)
    for other in (0.9 * found, 1.1 * found):
        assert log_loss(d, p, found) < log_loss(d, p, other)


def test_temperature_scales_with_the_rewards():
    d, p = drawn(500, 2.0)
    assert fit_temperature(1000 * d, p) == pytest.approx(1000 * fit_temperature(d, p))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 1)), min_size=2, max_size=30), st.integers(0, 2**30))
def test_swapping_pairs_changes_nothing(rows, bits):
    d, p = np.array(rows).T
    turn = np.array([(bits >> i) & 1 for i in range(len(d))], bool)
    swapped = np.where(turn, -d, d), np.where(turn, 1 - p, p)
    for figure in (fit_temperature, log_loss, ece, ece_floor, brier):
        assert figure(*swapped) == pytest.approx(figure(d, p), rel=1e-6, abs=1e-9)


def test_without_a_finite_best_temperature_the_bound_is_given():
    assert fit_temperature([3.0, -4.0], [1.0, 0.0]) == pytest.approx(math.sqrt(12.5) / 1000)  # always right
    assert fit_temperature([3.0, -4.0], [0.0, 1.0]) == pytest.approx(math.sqrt(12.5) * 1000)  # always wrong
    assert fit_temperature([0.0, 0.0], [1.0, 0.0]) == 1.0


# -- what the error says -----------------------------------------------------------------------


def test_a_true_model_shows_the_floor_and_an_overconfident_one_more():
    shown, floors = [], []
    for seed in range(40):
        d, p = drawn(400, seed=seed)
        shown.append(ece(d, p))
        floors.append(ece_floor(d, p))
        assert ece(4 * d, p) > 2 * ece_floor(4 * d, p)
    assert np.mean(shown) == pytest.approx(np.mean(floors), rel=0.1)
    assert np.mean(shown) > 0.04  # the bias is real: 400 pairs cannot show less


def test_the_floor_knows_that_pairs_of_a_prompt_err_together():
    """Each pair written five times under one prompt: the noise is that of the prompts."""
    d, p = drawn(80)
    often = [np.repeat(x, 5) for x in (d, p)]
    prompts = list(np.repeat(np.arange(80), 5))
    assert ece_floor(*often, clusters=prompts) == pytest.approx(ece_floor(d, p), rel=0.03)
    assert ece_floor(*often) < 0.5 * ece_floor(d, p)


def test_equal_predictions_share_a_bin_whatever_the_order_of_the_rows():
    d, p = np.full(300, 6.0), np.r_[np.zeros(100), np.ones(200)]
    assert ece(d, p) == pytest.approx(sigma(6) - 2 / 3)
    assert [b.count for b in reliability_bins([1, 2, 2, 2, 3, 4], np.ones(6), bins=3)] == [4, 2]


def test_calibration_judges_with_the_other_half():
    d, p = drawn(4000, temperature=3.0, spread=6.0)
    prompts = [i // 4 for i in range(len(d))]
    found = calibration(d, p, prompts, np.random.default_rng(0))
    assert found.temperature == fit_temperature(d, p)
    assert found.ece < 0.03 < 0.1 < ece(d, p)
    assert found.ece_floor < 0.03
    assert found.log_loss >= log_loss(d, p, found.temperature)
    assert found.brier == pytest.approx(brier(d, p, found.temperature), abs=1e-3)


def test_calibration_is_not_fooled_by_noise_learned_by_heart():
    """Two prompts, each right in its own way: the temperature of one is wrong for the other."""
    d, p, prompts = [1.0, 1.0], [1.0, 0.0], ["a", "b"]
    assert calibration(d, p, prompts, np.random.default_rng(0)).log_loss > 100


# -- doubt and mistakes ------------------------------------------------------------------------


def test_mistakes_found_by_hand():
    """Wrong: doubt 3 and 1. Right: 2, 1, 0. Of six, 3 beats all (3); 1 beats 0, ties 1, loses to 2 (1.5)."""
    d, p = [-1.0, 1.0, 1.0, -2.0, 5.0, 9.0], [1.0, 0.0, 0.9, 0.2, 1.0, 0.5]
    found = mistakes_found([3, 1, 2, 1, 0, 99], d, p, list("abcdef"), np.random.default_rng(0))
    assert found.value == pytest.approx(4.5 / 6)
    assert found.n == 5  # the tie is left out
    assert found.low <= found.value <= found.high


def test_doubt_that_is_told_the_mistakes_finds_them_and_noise_does_not():
    d, p = drawn(3000)
    prompts = [i // 3 for i in range(3000)]
    rng = np.random.default_rng(0)
    wrong = d * (p - 0.5) < 0
    assert mistakes_found(wrong, d, p, prompts, rng).value == 1.0
    assert mistakes_found(~wrong, d, p, prompts, rng).value == 0.0
    noise = mistakes_found(rng.random(3000), d, p, prompts, rng)
    assert noise.low < 0.5 < noise.high
    margin = mistakes_found(-abs(d), d, p, prompts, rng)
    assert margin.low > 0.6  # a true model errs where it is least sure
    assert mistakes_found(np.ones(3000), d, p, prompts, rng).value == 0.5


def test_a_mistake_needs_a_right_answer_beside_it():
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="both kinds"):
        mistakes_found([1.0, 2.0], [1.0, 1.0], [1.0, 1.0], ["a", "b"], rng)
    with pytest.raises(DataError, match="one finite number"):
        mistakes_found([1.0], [1.0, 1.0], [1.0, 0.0], ["a", "b"], rng)


@pytest.mark.parametrize(
    ("d", "p"), [([], []), ([1.0], [1.0, 0.0]), ([math.nan], [1.0]), ([1.0], [1.2]), ([1.0], [math.nan])]
)
def test_what_is_no_pair_is_refused(d, p):
    for figure in (fit_temperature, log_loss, ece, ece_floor, brier):
        with pytest.raises(DataError):
            figure(d, p)


def test_settings_without_sense_are_refused():
    for temperature in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(DataError, match="temperature"):
            ece([1.0], [1.0], temperature)
    with pytest.raises(DataError, match="bins"):
        ece([1.0], [1.0], bins=0)
    with pytest.raises(DataError, match="2 prompts"):
        calibration([1.0, 2.0], [1.0, 1.0], ["a", "a"], np.random.default_rng(0))
    with pytest.raises(DataError, match="cluster names"):
        ece_floor([1.0], [1.0], clusters=[])
