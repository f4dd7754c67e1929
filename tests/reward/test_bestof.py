"""Best of n by a scorer: by hand, a hacked scorer turned on by gold, and what is missing says why."""

import numpy as np
import pytest

from accord.reward.bestof import best_of


def test_by_hand():
    """Two of two: the favourite. One of two: the mean."""
    found = best_of(
        [([1.0, 2.0], [0.1, 0.5]), ([3.0, 0.0], [0.9, 0.3]), ([7.0], [1.0])], np.random.default_rng(0)
    )
    assert (found.prompts, found.n) == (2, (1, 2))
    assert found.kl == (0.0, pytest.approx(np.log(2) - 0.5))
    assert [f.interval.value for f in found.gold] == [
        pytest.approx((0.3 + 0.6) / 2),
        pytest.approx((0.5 + 0.9) / 2),
    ]
    assert [f.interval.value for f in found.reward] == [pytest.approx((1.5 + 1.5) / 2), pytest.approx(2.5)]
    assert found.fit is None
    assert "needs 8 samples" in found.why


def test_the_largest_number_of_samples_is_on_the_curve_too():
    rng = np.random.default_rng(1)
    found = best_of([(x, x) for x in rng.normal(size=(5, 6))], rng)
    assert found.n == (1, 2, 4, 6)


def test_a_scorer_that_likes_what_gold_hates_is_seen_to_turn():
    """Gold rises with the proxy up to 1 and falls beyond."""
    rng = np.random.default_rng(2)
    proxy = rng.normal(size=(60, 64))
    found = best_of([(x, np.where(x < 1, x, 2 - x)) for x in proxy], rng)
    gold = [f.interval.value for f in found.gold]
    assert max(gold) > gold[0] + 0.3
    assert gold[-1] < max(gold) - 0.2
    assert found.reward[-1].interval.low > found.reward[0].interval.high
    assert 0 < found.fit.peak.kl < found.kl[-1]
    assert found.why == ""


def test_too_little_says_why():
    rng = np.random.default_rng(0)
    assert "two samples" in best_of([([1.0, 2.0], [1.0, 2.0])], rng).why
    assert best_of([], rng, "no gold").why == "no gold"
