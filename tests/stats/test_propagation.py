import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from accord.judgements import Ranking
from accord.stats.davidson import Habits, probabilities
from accord.stats.propagation import posterior
from accord.stats.rankings import ranking_table


def test_posterior_of_a_pair_equals_the_integral():
    """Two completions: the evidence and the mean difference against scipy's quadrature."""
    rankings = [Ranking("p", k, (("a",), ("b",))) for k in "xyz"] + [Ranking("p", "w", (("a", "b"),))]
    table = ranking_table(rankings)
    reliability, log_tie = np.array([0.7, 6.0, 2.0, -1.0]), np.log([0.3, 1.0, 0.5, 0.2])
    order = [table.labelers.index(k) for k in "wxyz"]
    assert order == [0, 1, 2, 3]

    def density(d):
        value = np.exp(-(d**2) / 4) / np.sqrt(4 * np.pi)
        for k in range(4):
            win, tie, _ = probabilities(np.array(d), reliability[k], log_tie[k])
            value *= tie if k == 0 else win
        return float(value)

    mass = integrate.quad(density, -12, 12, epsabs=1e-13, limit=200)[0]
    mean = integrate.quad(lambda d: d * density(d), -12, 12, epsabs=1e-13, limit=200)[0] / mass
    got = posterior(table.votes, Habits(reliability, log_tie, np.zeros(4)))
    assert got.log_evidence == pytest.approx(np.log(mass), abs=2e-4)
    assert got.mean_I[0] - got.mean_I[1] == pytest.approx(mean, abs=2e-4)


def test_posterior_of_a_triple_equals_the_integral():
    """Three completions, where expectation propagation approximates: on a grid of their scores."""
    rankings = [Ranking("p", "x", (("a",), ("b",), ("c",))), Ranking("p", "y", (("b",), ("a", "c")))]
    table = ranking_table(rankings)
    reliability, log_tie = np.array([3.0, 1.5]), np.log([0.5, 0.8])
    axis = np.linspace(-5, 5, 81)
    s = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    log_density = -0.5 * (s**2).sum(axis=0)
    first, second = table.votes.pair_items()
    votes = table.votes
    for site, k, outcome, weight in zip(
        votes.site_V, votes.labeler_V, votes.outcome_V, votes.weight_V, strict=True
    ):
        win, tie, loss = probabilities(s[first[site]] - s[second[site]], reliability[k], log_tie[k])
        log_density += weight * np.log({1.0: win, 0.5: tie, 0.0: loss}[outcome])
    density = np.exp(log_density)
    evidence = density.sum() * (axis[1] - axis[0]) ** 3 / (2 * np.pi) ** 1.5
    means = [(density * s[i]).sum() / density.sum() for i in range(3)]
    got = posterior(votes, Habits(reliability, log_tie, np.zeros(2)))
    assert got.log_evidence == pytest.approx(np.log(evidence), abs=0.01)
    assert got.mean_I == pytest.approx(means, abs=0.02)
    assert got.sd_items()[0] == pytest.approx(
        np.sqrt((density * s[0] ** 2).sum() / density.sum() - means[0] ** 2), rel=0.03
    )


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(2, 9),
    copies=st.sampled_from([1, 5, 300]),
    scale=st.floats(0, 30),
)
def test_the_posterior_settles_whatever_the_votes(seed, size, copies, scale):
    """Random and contradictory votes, up to hundreds alike, reliabilities of any size and sign."""
    rng = np.random.default_rng(seed)
    rankings = []
    for k in range(4):
        cut = sorted(rng.choice(size, rng.integers(0, size), replace=False).tolist())
        order = [f"c{i}" for i in rng.permutation(size)]
        tiers = [tuple(order[a:b]) for a, b in zip([0, *cut], [*cut, size], strict=True) if b > a]
        shown = tuple(f"c{i}" for i in rng.permutation(size))
        rankings += [Ranking("p", f"w{k}", tuple(tiers), shown=shown)] * copies
    votes = ranking_table(rankings).votes
    reliability_K, log_tie_K = rng.normal(size=4) * scale, rng.normal(size=4) * 2
    habits = Habits(reliability_K, log_tie_K, rng.normal(size=4) * 2)
    got = posterior(votes, habits)
    assert np.isfinite(got.mean_I).all()
    assert (got.sd_items() <= 1 + 1e-6).all()
    # With the prior N(0, 1), each mean is the expected pull of the votes on it: b_k (t - E[t]) a vote.
    b_V = reliability_K[votes.labeler_V]
    lean_V = habits.position_K[votes.labeler_V] * votes.lead_V
    win_VQ, tie_VQ, _ = probabilities(
        got.nodes_SQ[votes.site_V], b_V[:, None], log_tie_K[votes.labeler_V, None], lean_V[:, None]
    )
    expected_V = (got.prob_SQ[votes.site_V] * (win_VQ + tie_VQ / 2)).sum(axis=1)
    pull_V = votes.weight_V * b_V * (votes.outcome_V - expected_V)
    first_S, second_S = votes.pair_items()
    pull_I = np.zeros(size)
    np.add.at(pull_I, first_S[votes.site_V], pull_V)
    np.add.at(pull_I, second_S[votes.site_V], -pull_V)
    assert got.mean_I == pytest.approx(pull_I, rel=0.01, abs=0.01)
