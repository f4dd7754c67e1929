"""Tastes: a planted one is found, a new person has the shared reward, and one by one is all at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from accord.errors import DataError
from accord.reward.taste import NONE, Opinion, Taste, fit_taste, posterior

TASTE = Taste(np.diag([1.0, 4.0, 0.25]), scale=2.0, habit=0.5)


def opinions(w, n, rng, scale=2.0, thumbs=0, habit=0.0):
    """What somebody of weights ``w`` says of pairs and single completions drawn at random."""
    found = []
    for i in range(n + thumbs):
        x, gap, thumb = rng.normal(size=len(w)), rng.normal(), i >= n
        p = special.expit(scale * gap + x @ w + habit * thumb)
        found.append(Opinion(f"{i}", tuple(x.tolist()), gap, float(rng.random() < p), thumb))
    return found


def population(people, n, cov, seed=0, scale=2.0):
    rng = np.random.default_rng(seed)
    drawn = rng.multivariate_normal(np.zeros(len(cov)), cov, size=people)
    return {f"{u}": opinions(w, n, rng, scale) for u, w in enumerate(drawn)}


def test_of_somebody_new_the_weights_are_zero_with_the_population_s_spread():
    found = posterior(TASTE, [])
    assert found.mean_K.tolist() == [0.0] * 4
    np.testing.assert_allclose(found.cov_KK, np.diag([1.0, 4.0, 0.25, 0.5]))


def test_opinions_move_the_weights_towards_the_truth_and_narrow_them():
    rng = np.random.default_rng(1)
    truth = np.array([1.5, -2.0, 0.5])
    said = opinions(truth, 400, rng)
    off = [np.linalg.norm(posterior(TASTE, said[:n]).mean_K[:-1] - truth) for n in (0, 20, 400)]
    assert off[0] > off[1] > off[2]
    assert off[2] < 0.5
    sure = [np.linalg.det(posterior(TASTE, said[:n]).cov_KK) for n in (0, 20, 400)]
    assert sure[0] > sure[1] > sure[2]


def test_one_pair_by_hand():
    """One feature, prior variance 1, no gap: the mode solves w = (1 - sigma(w x)) x."""
    taste = Taste(np.array([[1.0]]), scale=1.0)
    w = posterior(taste, [Opinion("a", (2.0,), 0.0, 1.0)]).mean_K[0]
    assert w == pytest.approx(2 * (1 - special.expit(2 * w)), abs=1e-6)
    against = posterior(taste, [Opinion("a", (2.0,), 0.0, 0.0)]).mean_K[0]
    assert against == pytest.approx(-w)
    expected = posterior(taste, [Opinion("a", (2.0,), 3.0, 1.0)]).mean_K[0]
    assert 0 < expected < w  # what the shared reward foretells teaches little


@given(st.integers(0, 10_000), st.permutations(range(12)))
def test_the_order_of_opinions_does_not_matter_beyond_a_millionth(seed, order):
    rng = np.random.default_rng(seed)
    said = opinions(rng.normal(size=3), 8, rng, thumbs=4)
    one, other = posterior(TASTE, said), posterior(TASTE, [said[i] for i in order])
    np.testing.assert_allclose(one.mean_K, other.mean_K, atol=1e-6)
    np.testing.assert_allclose(one.cov_KK, other.cov_KK, atol=1e-6)


def test_a_generous_person_is_not_taken_for_one_of_another_taste():
    rng = np.random.default_rng(2)
    said = opinions(np.zeros(3), 0, rng, thumbs=300, habit=2.0)
    found = posterior(TASTE, said).mean_K
    assert found[-1] > 0.8
    assert np.abs(found[:-1]).max() < 0.5


def test_an_opinion_that_does_not_count_teaches_nothing():
    said = [Opinion("a", (1.0, 1.0, 1.0), 0.0, 1.0, counts=False)] * 50
    assert posterior(TASTE, said).mean_K.tolist() == [0.0] * 4


def test_the_spread_of_a_population_is_recovered():
    cov = np.array([[2.0, 0.8, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 0.05]])
    found = fit_taste(population(80, 60, cov, scale=2.0), scale=2.0)
    np.testing.assert_allclose(found.cov_KK, cov, atol=0.5)
    assert found.cov_KK[0, 1] > 0.3
    assert found.cov_KK[2, 2] < 0.3
    assert found.gain > 0.02
    assert (found.people, found.judgements) == (80, 4800)


def test_people_who_do_not_differ_are_found_not_to_differ():
    for seed in range(5):
        found = fit_taste(population(20, 20, np.zeros((3, 3)), seed), scale=2.0)
        assert found.gain == 0
        assert np.diag(found.cov_KK).tolist() == [NONE] * 3
        assert np.abs(posterior(found, population(1, 50, np.eye(3))["0"]).mean_K).max() < 1e-5


def test_the_scale_is_learned_from_pairs():
    found = fit_taste(population(30, 60, 0.01 * np.eye(2), scale=3.0))
    assert found.scale == pytest.approx(3.0, rel=0.15)


def test_the_habit_of_thumbs_is_learned_too():
    rng = np.random.default_rng(4)
    people = {f"{u}": opinions(np.zeros(2), 5, rng, thumbs=40, habit=rng.normal(0, 2)) for u in range(40)}
    generous = fit_taste(people, scale=2.0)
    people = {f"{u}": opinions(rng.normal(size=2), 30, rng, thumbs=40) for u in range(40)}
    alike = fit_taste(people, scale=2.0)
    assert alike.gain > 0
    assert alike.habit < 0.5 < generous.habit


def test_what_cannot_be_learned_from_is_refused():
    with pytest.raises(DataError, match="no judgement"):
        fit_taste({"a": []})
    with pytest.raises(DataError, match="pass scale"):
        fit_taste({"a": [Opinion("a", (1.0,), 0.0, 1.0, thumb=True)]})
    with pytest.raises(DataError, match="2 features and the tastes 3"):
        posterior(TASTE, [Opinion("a", (1.0, 2.0), 0.0, 1.0)])
