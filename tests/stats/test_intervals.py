import numpy as np
import pytest

from accord.errors import DataError
from accord.stats.intervals import bootstrap_mean, bootstrap_sums, clustered_mean, paired_bootstrap, wilson


def test_wilson_equals_the_textbook():
    got = wilson(8, 10)  # 0.8 with z = 1.96: (0.4902, 0.9433)
    assert (got.value, got.low, got.high) == (
        0.8,
        pytest.approx(0.4902, abs=1e-4),
        pytest.approx(0.9433, abs=1e-4),
    )
    assert wilson(0, 10).low == 0.0
    assert wilson(0, 10).high == pytest.approx(0.2775, abs=1e-4)


def test_bootstrap_of_a_mean_has_the_normal_width():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    got = bootstrap_mean(values, np.random.default_rng(1))
    assert got.value == pytest.approx(values.mean())
    assert got.high - got.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)


def test_paired_bootstrap_uses_the_pairing():
    rng = np.random.default_rng(0)
    before = rng.normal(0, 10, 200)
    after = before + 1 + rng.normal(0, 0.1, 200)
    got = paired_bootstrap(before, after, np.random.default_rng(1))
    assert 0.95 < got.low < got.value < got.high < 1.05  # unpaired, noise of sd 10 would drown the 1


def test_same_generator_same_interval():
    values = np.arange(50.0)
    first, second = (bootstrap_mean(values, np.random.default_rng(7)) for _ in range(2))
    assert first == second
    assert first != bootstrap_mean(values, np.random.default_rng(8))


def test_clusters_widen_the_interval():
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(60) < 0.7, 10).astype(float)  # ten pairs a prompt, all right or all wrong
    prompts = np.repeat(np.arange(60), 10).tolist()
    clustered = clustered_mean(right, prompts, np.random.default_rng(1))
    naive = bootstrap_mean(right, np.random.default_rng(1))
    assert clustered.value == naive.value
    assert clustered.n == 60
    ratio = (clustered.high - clustered.low) / (naive.high - naive.low)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.15)


def test_weights_count_as_repeats():
    weighted = clustered_mean([1.0, 0.0], ["a", "b"], np.random.default_rng(0), weights=[3.0, 1.0])
    assert weighted.value == 0.75


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(300):
        got = bootstrap_mean(rng.exponential(size=60), rng, draws=400)
        hits += got.low <= 1.0 <= got.high
    assert 0.88 <= hits / 300 <= 0.98


@pytest.mark.parametrize(
    "call",
    [
        lambda rng: bootstrap_mean([], rng),
        lambda rng: bootstrap_mean([1.0, float("nan")], rng),
        lambda rng: paired_bootstrap([1.0], [1.0, 2.0], rng),
        lambda rng: clustered_mean([1.0], [], rng),
        lambda rng: wilson(3, 2),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(DataError):
        call(np.random.default_rng(0))


def test_bootstrap_of_sums_equals_that_of_the_mean_and_shares_its_draws():
    rng = np.random.default_rng(0)
    values, sizes = rng.normal(3.0, 2.0, 400), rng.integers(1, 5, 400)
    sums = np.stack([values * sizes, sizes], axis=1)
    mean, double, never = bootstrap_sums(
        sums,
        [lambda s: s[:, 0] / s[:, 1], lambda s: 2 * s[:, 0] / s[:, 1], lambda s: s[:, 0] * np.nan],
        np.random.default_rng(1),
        draws=4000,
    )
    slow = clustered_mean(values, range(400), np.random.default_rng(2), sizes, draws=4000)
    assert mean.value == pytest.approx(slow.value)
    assert (mean.low, mean.high) == (pytest.approx(slow.low, abs=0.02), pytest.approx(slow.high, abs=0.02))
    assert (double.low, double.high) == (2 * mean.low, 2 * mean.high)
    assert np.isnan(never.low)
    with pytest.raises(DataError, match="no rows"):
        bootstrap_sums(np.zeros((0, 2)), [], rng)
