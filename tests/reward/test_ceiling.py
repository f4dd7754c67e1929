"""The human ceiling: by hand, and on simulated people whose true agreement is known."""

import numpy as np
import pytest

from accord.judgements import Ranking
from accord.reward.ceiling import human_ceiling

RNG = np.random.default_rng


def rank(prompt, labeler, tiers, fails=(), **more):
    """Tiers as text: "a bc" puts a first, then b and c as equals."""
    return Ranking(prompt, labeler, tuple(tuple(t) for t in tiers.split()), tuple(fails), **more)


def test_by_hand():
    rankings = [
        # p: x and y prefer a, z prefers b. Held out x: others split; y: others split; z: others say a: wrong.
        rank("p", "x", "a b"), rank("p", "y", "a b"), rank("p", "z", "b a"),
        # q: x ties, y prefers b, z prefers b. x: half; y: others b (a tie and a vote): right; z: right.
        rank("q", "x", "ab"), rank("q", "y", "b a"), rank("q", "z", "b a"),
        # r: one judge alone; and two of a pair nobody asks about
        rank("r", "x", "a b"), rank("r", "x", "c d"), rank("r", "y", "c d"),
    ]  # fmt: skip
    rewards = {("p", "a", "b"): 1.0, ("q", "a", "b"): 0.0, ("r", "a", "b"): 2.0}
    found = human_ceiling(rankings, rewards, RNG(0))
    assert found.human.interval.value == pytest.approx((0 + 0.5 + 1 + 1) / 4)
    assert found.model.interval.value == pytest.approx((1 + 0.5 + 0.5 + 0.5) / 4)
    assert found.model_minus_human.interval.value == pytest.approx(0.0)
    assert (found.judgements, found.pairs, found.people) == (4, 2, 3)
    assert "1 of 3 pairs" in found.human.left_out


def test_the_model_is_marked_by_the_side_it_prefers_not_by_the_order_of_ids():
    rankings = [rank(p, k, "b a") for p in "pq" for k in "xy"]
    wrong = human_ceiling(rankings, {(p, "a", "b"): 1.0 for p in "pq"}, RNG(0))
    right = human_ceiling(rankings, {(p, "a", "b"): -1.0 for p in "pq"}, RNG(0))
    assert (wrong.model.interval.value, right.model.interval.value) == (0.0, 1.0)
    assert wrong.human.interval.value == right.human.interval.value == 1.0


def test_fails_lose_repeats_do_not_count_and_the_latest_ranking_does():
    rankings = [
        rank("p", "x", "b a"), rank("p", "x", "a", "b"), rank("p", "y", "a b"),
        rank("p", "y", "b a", arm="repeat"),
        rank("q", "x", "a b"), rank("q", "y", "", "ab"),  # two FAILs are no vote
        rank("r", "x", "a b"), rank("r", "y", "a b"),
    ]  # fmt: skip
    rewards = {(p, "a", "b"): 1.0 for p in "pqr"}
    found = human_ceiling(rankings, rewards, RNG(0))
    assert found.human.interval.value == 1.0
    assert found.pairs == 2


def test_simulated_people_who_err_a_fifth_of_the_time():
    """Two who are right 0.8 agree 0.68; a perfect model agrees with either 0.8; intervals hold both."""
    rng = RNG(1)
    rankings = [
        rank(f"p{i}", k, "a b" if rng.random() < 0.8 else "b a") for i in range(1500) for k in ("x", "y")
    ]
    found = human_ceiling(rankings, {(f"p{i}", "a", "b"): 1.0 for i in range(1500)}, rng)
    assert found.human.interval.low < 0.68 < found.human.interval.high
    assert found.model.interval.low < 0.80 < found.model.interval.high
    assert found.model_minus_human.interval.low > 0.05


def test_what_cannot_be_had_says_why():
    none = human_ceiling([], {("p", "a", "b"): 1.0}, RNG(0))
    assert none.human.interval is None
    assert "no rankings" in none.human.why
    alone = human_ceiling([rank("p", "x", "a b")], {("p", "a", "b"): 1.0}, RNG(0))
    assert "several labelers" in alone.model.why


def test_prompts_of_one_cluster_are_one_unit():
    rankings = [rank(p, k, "a b") for p in "pq" for k in "xy"]
    rewards = {(p, "a", "b"): 1.0 for p in "pq"}
    assert human_ceiling(rankings, rewards, RNG(0)).human.interval.n == 2
    assert human_ceiling(rankings, rewards, RNG(0), {"p": "s", "q": "s"}).human.interval is None
