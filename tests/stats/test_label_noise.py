"""The flip rate: known where it can be computed, recovered where it was planted."""

import numpy as np
import pytest

from accord.errors import DataError
from accord.stats.label_noise import flip_rate


def planted(rate, pairs=4000, scale=1.0, seed=0):
    """Differences, and labels drawn from sigma(d) and flipped; the predictor says ``d / scale``."""
    rng = np.random.default_rng(seed)
    d = rng.normal(0, 4, pairs)
    won = rng.random(pairs) < 1 / (1 + np.exp(-d))
    won ^= rng.random(pairs) < rate
    return d / scale, won.astype(float), [i // 4 for i in range(pairs)]


def test_certain_predictions_give_the_share_of_contradictions():
    """Where |d| is huge the likelihood is (1 - e)^right e^wrong: e is the share of wrong ones, 1 in 5."""
    d, p = np.full(10, 1e4), np.array([1.0] * 8 + [0.0] * 2)
    found = flip_rate(d, p, range(10), np.random.default_rng(0))
    assert found.value == pytest.approx(0.2, abs=1e-4)
    assert found.low < 0.2 < found.high
    soft = flip_rate(d, np.full(10, 0.8), range(10), np.random.default_rng(0))
    assert soft.value == pytest.approx(0.2, abs=1e-4)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("scale", [1.0, 0.25, 3.0])
def test_a_planted_rate_is_recovered_whatever_the_predictors_confidence(rate, scale):
    found = flip_rate(*planted(rate, scale=scale), np.random.default_rng(0))
    assert found.value == pytest.approx(rate, abs=0.03)
    assert found.low - 0.011 <= rate <= found.high + 0.011
    assert found.high - found.low < 0.12


def test_labels_turned_within_pairs_change_nothing():
    d, p, clusters = planted(0.15, pairs=400)
    turn = np.where(np.arange(400) % 2, 1, -1)
    one = flip_rate(d, p, clusters, np.random.default_rng(0))
    other = flip_rate(d * turn, np.where(turn > 0, p, 1 - p), clusters, np.random.default_rng(0))
    assert other.value == pytest.approx(one.value, abs=1e-4)


def test_prompts_are_the_units():
    """A prompt fifty times over is one prompt's evidence: a wider interval than fifty prompts'."""
    d, p = np.full(2000, 1e4), (np.arange(2000) % 5 > 0).astype(float)
    apart = flip_rate(d, p, range(2000), np.random.default_rng(0))
    together = flip_rate(d, p, np.arange(2000) // 200, np.random.default_rng(0))
    again = flip_rate(
        np.tile(d[:40], 50), np.tile(p[:40], 50), np.tile(np.arange(40), 50), np.random.default_rng(0)
    )
    assert (apart.n, together.n) == (2000, 10)
    assert again.high - again.low > 2 * (apart.high - apart.low)


def test_one_prompt_has_no_interval():
    found = flip_rate([1e4, 1e4], [1.0, 1.0], ["p", "p"], np.random.default_rng(0))
    assert found.value == pytest.approx(0.0, abs=1e-3)
    assert np.isnan(found.low)


@pytest.mark.parametrize(
    ("d", "p", "clusters"),
    [([], [], []), ([1.0], [1.0, 0.0], ["a"]), ([1.0], [1.0], []), ([np.nan], [1.0], ["a"])],
)
def test_what_cannot_be_fitted_is_refused(d, p, clusters):
    with pytest.raises(DataError):
        flip_rate(d, p, clusters, np.random.default_rng(0))
