"""Without ties, with equal labelers and many votes, the scores are Bradley and Terry's: choix as oracle."""

from itertools import combinations

import numpy as np
import pytest

from accord.judgements import Ranking
from accord.stats.agreement import tau_b
from accord.stats.fitting import assume, fit
from accord.stats.maximum import Prior
from accord.stats.rankings import ranking_table

choix = pytest.importorskip("choix", reason="choix is not installed: pip install 'accord[test]'")

TRUTH = np.array([1.2, 0.5, 0.1, -0.4, -1.4])
NAMES = "abcde"
NO_TIES = 1e-6


def _votes(rng, each, labelers=1, reliability=1.0):
    """Wins by Bradley and Terry on every pair, as rankings of two and as choix's (winner, loser)."""
    rankings, wins = [], []
    for a, b in combinations(range(len(TRUTH)), 2):
        p = 1 / (1 + np.exp(-reliability * (TRUTH[a] - TRUTH[b])))
        for n in range(each):
            won, lost = (a, b) if rng.random() < p else (b, a)
            rankings.append(Ranking("p", f"k{n % labelers}", ((NAMES[won],), (NAMES[lost],))))
            wins.append((won, lost))
    return rankings, wins


def _scores(fitted):
    values = dict(zip((c for _, c in fitted.table.items), fitted.posterior.mean_I.tolist(), strict=True))
    found = np.array([values[c] for c in NAMES])
    return found - found.mean()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scores_times_reliability_are_choixs(seed):
    rankings, wins = _votes(np.random.default_rng(seed), each=400)
    oracle = choix.opt_pairwise(len(TRUTH), wins, alpha=0.0)
    ours = 4.0 * _scores(assume(ranking_table(rankings), 4.0, NO_TIES))
    # The prior N(0, 1) on the scores is N(0, 4^2) on the product: over 4,000 votes it weighs nothing.
    np.testing.assert_allclose(ours, oracle - oracle.mean(), atol=0.01)


def test_the_difference_goes_as_the_priors_weight():
    rankings, wins = _votes(np.random.default_rng(3), each=40)
    oracle = choix.opt_pairwise(len(TRUTH), wins, alpha=0.0)
    table = ranking_table(rankings)
    off = [
        np.abs(b * _scores(assume(table, b, NO_TIES)) - (oracle - oracle.mean())).max()
        for b in (0.5, 1.0, 2.0, 4.0)
    ]
    assert off[0] > 3 * off[1] > 9 * off[2]
    # choix's own N(0, 1) prior (alpha is half of its precision) gives the mode where ours gives the mean.
    shrunk = choix.opt_pairwise(len(TRUTH), wins, alpha=0.5)
    ours = _scores(assume(table, 1.0, NO_TIES))
    np.testing.assert_allclose(ours, shrunk - shrunk.mean(), atol=0.02)


def test_learned_reliabilities_leave_the_order_and_the_proportions():
    rankings, wins = _votes(np.random.default_rng(4), each=400, labelers=4, reliability=1.5)
    oracle = choix.opt_pairwise(len(TRUTH), wins, alpha=0.0)
    oracle = oracle - oracle.mean()
    ours = _scores(fit(ranking_table(rankings), Prior(tie_mean=NO_TIES, tie_sd=0.01)))
    assert np.argsort(ours).tolist() == np.argsort(oracle).tolist()
    scale = float(ours @ oracle / (ours @ ours))
    np.testing.assert_allclose(scale * ours, oracle, atol=0.03)


def test_whole_rankings_lead_to_plackett_and_luces_order():
    """Luce's model of the whole ranking and ours of its pairs differ in scale, not in order."""
    rng = np.random.default_rng(5)
    orders = [tuple(np.argsort(-(TRUTH + rng.gumbel(size=5))).tolist()) for _ in range(600)]
    rankings = [Ranking("p", f"k{n % 5}", tuple((NAMES[i],) for i in o)) for n, o in enumerate(orders)]
    oracle = choix.ilsr_rankings(len(TRUTH), orders)
    ours = _scores(assume(ranking_table(rankings), 4.0, NO_TIES))
    assert np.argsort(ours).tolist() == np.argsort(oracle).tolist() == [4, 3, 2, 1, 0]
    assert np.corrcoef(ours, oracle)[0, 1] > 0.998


def test_tau_is_choixs_kendall_distance():
    rng = np.random.default_rng(6)
    for _ in range(50):
        one, two = rng.normal(size=(2, 6))
        away = choix.utils.kendalltau_dist(one, two)
        assert tau_b(dict(enumerate(one)), dict(enumerate(two))) == pytest.approx(1 - 2 * away / 15)
