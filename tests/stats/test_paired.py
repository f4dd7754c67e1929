"""Paired differences: answers by hand, exactness under the null, clusters, and Holm's steps."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import DataError
from accord.stats.intervals import paired_bootstrap
from accord.stats.paired import expanded, holm, paired_gain, sign_flip, win_gain


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_sign_flip_by_hand():
    # |sum| of (3, 1, 2) is 6; of the 8 patterns only +++ and --- reach it.
    assert sign_flip([3.0, 1.0, 2.0], rng()) == pytest.approx(2 / 8)
    # (3, 1, -2): |sum| 2; the sums over signs are ±6, ±4, ±2, 0, 0, 2 of 8 fall short.
    assert sign_flip([3.0, 1.0, -2.0], rng()) == pytest.approx(6 / 8)
    assert sign_flip([0.0, 0.0], rng()) == 1.0


def test_sign_flip_of_one_size_is_the_binomial_sign_test():
    # 9 wins of 10, ties left out: 2 * (1 + 10) / 1024
    assert sign_flip([0.5] * 9 + [-0.5] + [0.0] * 7, rng()) == pytest.approx(22 / 1024)


def test_drawn_patterns_meet_all_patterns():
    sums = rng(3).normal(0.4, 1.0, 15)
    signs = np.array(list(product((1, -1), repeat=15)))
    exact = (np.abs(signs @ sums) >= abs(sums.sum()) * (1 - 1e-12)).mean()
    assert sign_flip(sums, rng(), flips=20_000) == pytest.approx(exact, abs=0.01)


def test_the_null_is_rejected_no_more_often_than_promised():
    draws = rng(11)
    p = [sign_flip(draws.standard_t(3, 11), draws) for _ in range(2000)]
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
    assert np.mean(np.array(p) <= 0.05) >= 0.03  # and not by never rejecting


def test_gain_has_the_mean_the_spread_and_the_units():
    got = paired_gain([1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 5.0, 4.0], rng())
    assert got.value == pytest.approx(0.75)
    assert got.n == 4
    assert got.sd == pytest.approx(np.std([1, 0, 2, 0], ddof=1))
    assert got.low < got.value < got.high


def test_few_prompts_are_covered_where_plain_percentiles_are_not():
    draws = rng(5)
    covered = plain = 0
    for _ in range(300):
        values = draws.normal(0, 1, 8)
        got = paired_gain(np.zeros(8), values, draws, draws=300)
        covered += got.low <= 0 <= got.high
        narrow = paired_bootstrap(np.zeros(8), values, draws, draws=300)
        plain += narrow.low <= 0 <= narrow.high
    assert plain / 300 < 0.92
    assert covered / 300 > 0.92


def test_rows_of_a_cluster_count_as_one_unit():
    draws = rng(2)
    each = draws.normal(0.2, 1.0, 30)
    rows, names = np.repeat(each, 5), np.repeat(np.arange(30), 5).tolist()
    alone = paired_gain(np.zeros(30), each, rng(1))
    clustered = paired_gain(np.zeros(150), rows, rng(1), names)
    assert (clustered.value, clustered.low, clustered.high) == pytest.approx(
        (alone.value, alone.low, alone.high)
    )
    assert (clustered.n, clustered.sd) == (30, pytest.approx(alone.sd))
    assert clustered.p == pytest.approx(alone.p, abs=0.02)


def test_one_cluster_has_no_interval():
    got = paired_gain([0.0, 0.0], [1.0, 2.0], rng(), ["a", "a"])
    assert got.value == 1.5
    assert np.isnan([got.low, got.high, got.sd]).all()
    assert got.p == 1.0


def test_ten_wins_of_ten_are_not_certain():
    got = win_gain([1.0] * 10, rng())
    assert got.value == got.high == 1.0
    assert 0.6 < got.low < 0.85
    assert got.p == pytest.approx(2 / 1024)


def test_win_rate_by_hand():
    got = win_gain([1.0, 0.5, 0.0, 1.0], rng())
    assert got.value == 0.625
    # with a win and a loss added: mean 3.5 / 6, centre 0.58333; sd ddof 1 over 6 = 0.49160
    half = 2.570582 * 0.4915960 / np.sqrt(6)
    assert (got.low, got.high) == (pytest.approx(7 / 12 - half, abs=1e-5), 1.0)


@pytest.mark.parametrize(("ties", "rate"), [(0.0, 0.5), (0.6, 0.55), (0.2, 0.85)])
def test_the_win_rates_interval_covers(ties: float, rate: float):
    draws = rng(7)
    won = rate - ties / 2
    hits = 0
    for _ in range(800):
        shares = draws.choice([1.0, 0.5, 0.0], 40, p=[won, ties, 1 - ties - won])
        got = win_gain(shares, draws)
        hits += got.low <= rate <= got.high
    assert 0.93 < hits / 800 < 0.99


def test_holm_by_hand():
    # sorted .01 .02 .03 .6 times 4 3 2 1, then never falling
    assert holm([0.03, 0.01, 0.6, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.6, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(p: list[float]):
    adjusted = holm(p)
    assert (adjusted >= np.array(p) - 1e-12).all()
    assert (adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_expanded_percentiles_tend_to_the_plain_ones():
    assert expanded(0.95, 10**6) == pytest.approx(0.95, abs=1e-5)
    assert expanded(0.95, 5) > 0.99


@pytest.mark.parametrize(
    "call",
    [
        lambda: paired_gain([1.0], [1.0, 2.0], rng()),
        lambda: paired_gain([1.0, 2.0], [1.0, 2.0], rng(), ["a"]),
        lambda: win_gain([1.5], rng()),
        lambda: holm([1.2]),
        lambda: sign_flip([float("nan")], rng()),
    ],
)
def test_what_makes_no_sense_is_refused(call):
    with pytest.raises(DataError):
        call()
