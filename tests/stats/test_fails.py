import numpy as np
import pytest

from accord.stats.fails import SENSITIVITY_PRIOR, SHARE_PRIOR, SPECIFICITY_PRIOR, two_coin


def _votes(rng, sensitivity, specificity, share=0.15, items=800, each=3):
    """Planted failures and the votes of labelers with these habits."""
    truth = rng.random(items) < share
    item = np.repeat(np.arange(items), each)
    labeler = np.concatenate([rng.choice(len(sensitivity), each, replace=False) for _ in range(items)])
    chance = np.where(truth[item], np.array(sensitivity)[labeler], 1 - np.array(specificity)[labeler])
    return truth, item, labeler, rng.random(len(item)) < chance


def test_lenient_and_strict_labelers_are_told_apart():
    sensitivity, specificity = [0.9, 0.9, 0.9, 0.3, 0.3, 0.95, 0.95, 0.9], [0.97] * 3 + [0.99] * 2 + [0.7] * 3
    rng = np.random.default_rng(0)
    truth, item, labeler, yes = _votes(rng, sensitivity, specificity)
    got = two_coin(item, labeler, yes, len(truth), 8)
    majority = np.bincount(item, yes) / 3 > 0.5
    print(f"wrong: {np.mean((got.p_I >= 0.5) != truth):.3f}, majority {np.mean(majority != truth):.3f}")
    assert np.mean((got.p_I >= 0.5) != truth) < np.mean(majority != truth)
    assert got.sensitivity_K == pytest.approx(sensitivity, abs=0.15)
    assert got.specificity_K == pytest.approx(specificity, abs=0.06)
    assert got.share == pytest.approx(truth.mean(), abs=0.03)


def test_probabilities_are_calibrated():
    truth, item, labeler, yes = _votes(np.random.default_rng(1), [0.8] * 6, [0.92] * 6, items=3000)
    p_I = two_coin(item, labeler, yes, len(truth), 6).p_I
    for low, high in ((0.0, 0.1), (0.2, 0.8), (0.9, 1.0)):
        inside = (p_I >= low) & (p_I <= high)
        assert inside.sum() > 20
        assert truth[inside].mean() == pytest.approx(p_I[inside].mean(), abs=0.12)


def test_without_votes_the_priors_stand():
    got = two_coin(np.zeros(0, int), np.zeros(0, int), np.zeros(0, bool), 2, 1)
    assert got.sensitivity_K[0] == pytest.approx(SENSITIVITY_PRIOR[0] / sum(SENSITIVITY_PRIOR))
    assert got.specificity_K[0] == pytest.approx(SPECIFICITY_PRIOR[0] / sum(SPECIFICITY_PRIOR))
    assert got.p_I == pytest.approx(SHARE_PRIOR[0] / sum(SHARE_PRIOR))


def test_one_step_by_hand():
    """One vote of yes: the posterior odds are share x sensitivity against the rest, at the fixed point."""
    got = two_coin(np.array([0]), np.array([0]), np.array([True]), 1, 1)
    p, a, c, pi = got.p_I[0], got.sensitivity_K[0], got.specificity_K[0], got.share
    assert p == pytest.approx(pi * a / (pi * a + (1 - pi) * (1 - c)))
    assert a == pytest.approx((p + 8) / (p + 10))
    assert c == pytest.approx(19 / (1 - p + 20))
    assert pi == pytest.approx((p + 1) / 11)
