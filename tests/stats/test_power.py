"""Power: textbook values, sums done by hand, and what simulations find."""

from math import comb

import numpy as np
import pytest

from accord.errors import DataError
from accord.stats.paired import sign_flip, win_gain
from accord.stats.power import (
    comparisons_for_wins,
    detectable_mean,
    detectable_wins,
    power_of_mean,
    power_of_wins,
    units_for_mean,
)


def test_the_textbook_size_for_half_a_standard_deviation():
    # Cohen 1988: d = 0.5, paired, two-sided 0.05, power 0.8 needs 34 pairs; 0.9 needs 44.
    assert units_for_mean(0.5, 1.0) == 34
    assert units_for_mean(-0.5, 1.0, power=0.9) == 44
    assert units_for_mean(5.0, 10.0) == 34


def test_detectable_is_the_inverse_of_power():
    found = detectable_mean(50, 2.0)
    assert power_of_mean(50, found, 2.0) == pytest.approx(0.8)
    assert detectable_mean(200, 2.0) == pytest.approx(found / 2, rel=0.03)
    assert power_of_mean(50, 0.0, 1.0) == pytest.approx(0.05)


def test_the_sign_tests_power_by_hand():
    # 10 comparisons: rejected at 0, 1, 9, 10 wins (2 * 11 / 1024 <= 0.05 < 2 * 56 / 1024)
    won = 0.8
    by_hand = sum(comb(10, k) * won**k * (1 - won) ** (10 - k) for k in (0, 1, 9, 10))
    assert power_of_wins(10, 0.8) == pytest.approx(by_hand)
    assert power_of_wins(5, 1.0) == 0.0  # 2 / 32 is above 0.05: five comparisons prove nothing
    assert power_of_wins(6, 1.0) == pytest.approx(1.0)


def test_ties_are_comparisons_lost():
    assert power_of_wins(100, 0.6, ties=0.4) > power_of_wins(100, 0.6)  # of the decided, two thirds are won
    n = comparisons_for_wins(0.6, ties=0.4)
    draws = np.random.default_rng(0)
    found = [
        sign_flip(draws.choice([0.5, 0.0, -0.5], n, p=[0.4, 0.4, 0.2]), draws) <= 0.05 for _ in range(600)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=3.5 * np.sqrt(0.16 / 600))


@pytest.mark.parametrize(("rate", "ties", "power"), [(0.6, 0.0, 0.8), (0.7, 0.2, 0.9), (0.45, 0.5, 0.8)])
def test_the_size_is_enough_and_not_too_much(rate: float, ties: float, power: float):
    n = comparisons_for_wins(rate, ties, power)
    assert all(power_of_wins(m, rate, ties) >= power for m in range(n, n + 12))
    assert power_of_wins(n - 1, rate, ties) < power


def test_sixty_percent_needs_about_two_hundred():
    # normal approximation: (1.96 / 2 + 0.8416 * sqrt(0.24))^2 / 0.01 = 194
    assert 194 <= comparisons_for_wins(0.6) <= 215
    assert comparisons_for_wins(0.505) > 4000


def test_detectable_win_rate():
    found = detectable_wins(100, ties=0.3)
    assert found is not None
    assert power_of_wins(100, found, 0.3) == pytest.approx(0.8, abs=1e-3)
    assert detectable_wins(4) is None


def test_what_is_promised_for_means_the_paired_test_finds():
    draws = np.random.default_rng(4)
    n = units_for_mean(0.4, 1.0)
    found = [sign_flip(draws.normal(0.4, 1.0, n), draws, flips=499) <= 0.05 for _ in range(500)]
    assert np.mean(found) == pytest.approx(0.8, abs=3.5 * np.sqrt(0.16 / 500))


def test_the_win_intervals_agree_with_the_test_mostly():
    draws = np.random.default_rng(4)
    shares = [draws.choice([1.0, 0.5, 0.0], 120, p=[0.5, 0.2, 0.3]) for _ in range(60)]
    gains = [win_gain(s, draws) for s in shares]
    agree = [(g.p <= 0.05) == (not g.low <= 0.5 <= g.high) for g in gains]
    assert np.mean(agree) > 0.85


@pytest.mark.parametrize(
    "call",
    [
        lambda: units_for_mean(0.0, 1.0),
        lambda: units_for_mean(0.1, 0.0),
        lambda: power_of_mean(1, 0.1, 1.0),
        lambda: comparisons_for_wins(0.5),
        lambda: power_of_wins(10, 0.9, ties=0.5),
        lambda: detectable_wins(10, ties=1.0),
        lambda: detectable_mean(10, 1.0, power=1.0),
    ],
)
def test_what_has_no_answer_is_refused(call):
    with pytest.raises(DataError):
        call()
