from itertools import permutations

import numpy as np
import pytest

from accord.errors import DataError
from accord.judgements import Ranking
from accord.stats.agreement import agreement
from accord.stats.consistency import consistency, leave_one_out_tau, repeats
from accord.stats.fitting import assume
from accord.stats.labelers import labeler_rows
from accord.stats.rankings import ranking_table

RNG = np.random.default_rng


def _rank(prompt, labeler, tiers, fails="", **more):
    """Tiers as text: "a bc" puts a first, then b and c as equals."""
    return Ranking(prompt, labeler, tuple(tuple(t) for t in tiers.split()), tuple(fails), **more)


def _twice(*pairs):
    return [tuple(_rank(f"p{n}", "x", tiers) for tiers in pair) for n, pair in enumerate(pairs)]


def test_consistency_by_hand():
    got = consistency(_twice(("a b c", "a c b"), ("a b", "ab"), ("b a", "b a")), RNG(0))
    # Pairs: two of three kept; a strict pair tied the second time; one kept. Taus: 1/3, undefined, 1.
    assert got.exact.interval.value == pytest.approx(3 / 5)
    assert got.exact.interval.n == 3
    # Ties: 1 of 10 votes.
    assert got.exact.chance == pytest.approx(0.1**2 + 0.9**2 / 2)
    assert got.tau.interval.value == pytest.approx((1 / 3 + 1) / 2)
    assert got.tau.chance == 0
    assert "1 of 3 rankings" in got.tau.left_out


def test_a_careful_a_careless_and_a_reversed_labeler():
    orders = [" ".join(o) for o in permutations("abc")] * 20
    rng = RNG(1)
    kept = consistency(_twice(*((o, o) for o in orders)), RNG(0))
    coins = consistency(_twice(*((o, orders[rng.integers(len(orders))]) for o in orders)), RNG(0))
    turned = consistency(_twice(*((o, o[::-1]) for o in orders)), RNG(0))
    assert kept.exact.interval.value == kept.tau.interval.value == kept.tau.interval.low == 1
    assert coins.exact.interval.low < 0.5 < coins.exact.interval.high
    assert coins.tau.interval.low < 0 < coins.tau.interval.high
    assert turned.exact.interval.value == 0
    assert turned.tau.interval.value == -1


def test_undefined_consistency_says_why():
    none = consistency([], RNG(0))
    assert none.exact.interval is None
    assert "no prompt was ranked twice" in none.exact.why
    assert none.tau.why == none.exact.why
    apart = consistency(_twice(("a b", "c d")), RNG(0))
    assert "two completions in common" in apart.exact.why
    assert "1 of 1 rankings" in apart.tau.why
    with pytest.raises(DataError, match=r"labeler 'x' on prompt 'p'.*labeler 'y'"):
        consistency([(_rank("p", "x", "a b"), _rank("p", "y", "a b"))], RNG(0))


def test_repeats_find_their_first_ranking():
    rankings = [
        _rank("p", "x", "a b"),
        _rank("p", "y", "b a"),
        _rank("q", "x", "a b", criterion="short"),
        _rank("p", "x", "b a", arm="repeat"),
        _rank("q", "x", "a b", arm="repeat"),  # of another criterion than the first
        _rank("r", "x", "a b", arm="repeat"),
    ]
    assert repeats(rankings) == [(rankings[0], rankings[3])]


def test_a_final_ranking_made_with_the_others_in_view_is_no_agreement():
    rankings = [
        _rank("p", "x", "a b"),
        _rank("p", "y", "b a"),
        _rank("q", "x", "a b"),
        _rank("q", "y", "b a"),
    ]
    final = [_rank(prompt, "reviewer", "a b", arm="adjudicated") for prompt in "pq"]
    assert agreement([*rankings, *final], RNG(0)) == agreement(rankings, RNG(0))
    assert leave_one_out_tau([*rankings, *final], RNG(0)) == leave_one_out_tau(rankings, RNG(0))


def test_repeats_do_not_count_among_the_pool():
    rankings = [_rank("p", k, "a b") for k in "xy"]
    with_repeat = [*rankings, _rank("p", "x", "b a", arm="repeat")]
    assert agreement(with_repeat, RNG(0)) == agreement(rankings, RNG(0))
    assert leave_one_out_tau(with_repeat, RNG(0)) == leave_one_out_tau(rankings, RNG(0))


def test_leave_one_out_tau_by_hand():
    rankings = [
        _rank("p", "x", "a b c"),
        _rank("p", "y", "a b c"),
        _rank("p", "z", "c b a"),
        _rank("q", "x", "a b"),
        _rank("q", "y", "b a"),
        _rank("s", "z", "a b"),
    ]
    got = leave_one_out_tau(rankings, RNG(0))
    # p: the others of x are y and z, whose counts are all 1/2: undefined. The same for y. Of z: a over b
    # over c, reversed: -1. q: -1 for both. s: nobody else.
    assert got["x"].interval.value == got["y"].interval.value == -1
    assert "1 of 2 rankings" in got["x"].left_out
    assert got["z"].interval.value == -1
    assert got["z"].interval.n == 1


def test_leave_one_out_tau_against_given_scores():
    rankings = [_rank("p", "x", "a b c"), _rank("p", "y", "c", "ab"), _rank("p", "z", "a")]
    scores = {"x": {"p": {"a": 3.0, "b": 1.0, "c": 2.0}}, "y": {"p": {"a": 0.0, "b": 0.0, "c": 1.0}}}
    got = leave_one_out_tau(rankings, RNG(0), scores)
    assert got["x"].interval.value == pytest.approx(1 / 3)
    assert got["y"].interval.value == pytest.approx(1)  # FAILs a and b are equals on both sides
    assert got["z"].interval is None
    assert "fewer than two completions" in got["z"].why


def test_a_labeler_against_the_others_stands_out():
    rng = RNG(0)
    rankings = []
    for n in range(60):
        for k in "wxyz":
            order = "".join(np.array(list("abcd"))[np.argsort(np.arange(4) + rng.normal(0, 0.6, 4))])
            rankings.append(_rank(f"p{n}", k, " ".join(order[::-1] if k == "z" else order)))
    got = leave_one_out_tau(rankings, rng)
    assert got["z"].interval.high < 0 < min(got[k].interval.low for k in "wxy")


def test_rows_of_labelers_hold_both_and_ask_no_model():
    prompts = [f"p{n}" for n in range(12)]
    rankings = [_rank(p, k, "a b c") for p in prompts for k in "wx"]
    rankings += [_rank(p, "z", "c b a") for p in prompts]
    rankings += [_rank(p, "x", "a c b", arm="repeat") for p in prompts[:4]]
    rows = {
        row.labeler: row
        for row in labeler_rows(
            assume(ranking_table(rankings), 3.0, 0.5), rankings, {p: {} for p in prompts}, False, RNG(0)
        )
    }
    assert rows["z"].tau.interval.value == -1
    assert rows["w"].tau.interval is None  # x and z cancel out
    assert rows["x"].repeats.tau.interval.value == pytest.approx(1 / 3)
    assert rows["x"].repeats.exact.interval.n == 4
    assert "no prompt was ranked twice" in rows["z"].repeats.tau.why
