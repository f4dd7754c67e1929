"""Logistic regression with a prior: the mode, its covariance and the evidence, against what is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize, special

from accord.errors import DataError
from accord.stats.logistic import fit, votes


def sample(n, w, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    x = scale * rng.normal(size=(n, len(w)))
    return x, (rng.random(n) < special.expit(x @ np.array(w))).astype(float)


def test_one_feature_against_integration_of_the_posterior():
    x, p = sample(40, [0.8])
    found = fit(votes(x, p), [0.3], [[2.0]])

    def density(w):
        likelihood = special.expit(x[:, 0] * w) ** p * special.expit(-x[:, 0] * w) ** (1 - p)
        return likelihood.prod() * np.sqrt(2 / (2 * np.pi)) * np.exp(-((w - 0.3) ** 2))

    total = integrate.quad(density, -5, 5)[0]
    mean = integrate.quad(lambda w: w * density(w), -5, 5)[0] / total
    variance = integrate.quad(lambda w: (w - mean) ** 2 * density(w), -5, 5)[0] / total
    assert found.mean_K[0] == pytest.approx(mean, abs=0.04)  # the mode; the posterior leans
    assert found.cov_KK[0, 0] == pytest.approx(variance, rel=0.06)
    assert found.evidence == pytest.approx(np.log(total), abs=0.03)


@given(st.integers(0, 10_000), st.integers(0, 60))
def test_the_gradient_is_zero_at_the_mode(seed, n):
    rng = np.random.default_rng(seed)
    x, p, offset, weight = rng.normal(size=(n, 3)), rng.random(n), rng.normal(size=n), 3 * rng.random(n)
    mean, root = rng.normal(size=3), rng.normal(size=(3, 3))
    precision = root @ root.T + 0.1 * np.eye(3)
    w = fit(votes(x, p, offset=offset, weight=weight), mean, precision).mean_K
    gradient = x.T @ (weight * (special.expit(offset + x @ w) - p)) + precision @ (w - mean)
    assert np.abs(gradient).max() < 1e-5


def test_the_start_changes_no_mode_and_is_left_as_it_was():
    x, p = sample(80, [1.0, -2.0])
    far = np.array([6.0, 5.0])
    found, plain = (fit(votes(x, p), [0.0, 0.0], np.eye(2), start) for start in (far, None))
    np.testing.assert_allclose(found.mean_K, plain.mean_K, atol=1e-6)
    assert found.evidence == pytest.approx(plain.evidence)
    assert far.tolist() == [6.0, 5.0]


def test_without_a_judgement_the_posterior_is_the_prior():
    found = fit(votes(np.zeros((0, 2)), []), [1.0, -2.0], np.diag([4.0, 0.25]))
    assert found.mean_K.tolist() == [1.0, -2.0]
    np.testing.assert_allclose(found.cov_KK, np.diag([0.25, 4.0]))
    assert found.evidence == 0


def test_separable_judgements_and_huge_features_have_a_finite_mode():
    x = np.array([[1e4], [2e4], [-3e4]])
    found = fit(votes(x, [1, 1, 0]), [0.0], [[1.0]])
    assert 0 < found.mean_K[0] < 1


def test_the_mode_is_the_one_a_general_optimiser_finds():
    x, p = sample(200, [1.0, -2.0, 0.0], scale=2)
    weight = np.linspace(0, 2, 200)

    def energy(w):
        d = x @ w
        return weight @ (np.logaddexp(0, d) - p * d) + w @ w / 2

    best = optimize.minimize(energy, np.zeros(3), tol=1e-12).x
    np.testing.assert_allclose(
        fit(votes(x, p, weight=weight), np.zeros(3), np.eye(3)).mean_K, best, atol=1e-5
    )


@pytest.mark.parametrize(
    ("x", "p", "more", "words"),
    [
        ([[1.0]], [1, 0], {}, "shape"),
        ([[np.nan]], [1], {}, "finite"),
        ([[1.0]], [1.5], {}, "outside"),
        ([[1.0]], [1], {"weight": [-1]}, "negative"),
        ([[1.0]], [1], {"offset": [0, 0]}, "shape"),
    ],
)
def test_bad_judgements_are_refused(x, p, more, words):
    with pytest.raises(DataError, match=words):
        votes(x, p, **more)
