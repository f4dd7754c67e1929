"""The prior chosen by the votes. Labelers are simulated."""

from dataclasses import replace

import numpy as np
import pytest

from accord.errors import ConfigError
from accord.judgements import Ranking
from accord.stats.baselines import borda, pair_shares
from accord.stats.davidson import Habits
from accord.stats.evidence import ALIKE, LEAST, PROMPTS, STRONG, VOTES, _evidence, _part, choose
from accord.stats.fitting import assume, fit
from accord.stats.intervals import bootstrap_mean
from accord.stats.maximum import Prior
from accord.stats.propagation import posterior
from accord.stats.rankings import ranking_table
from pool import simulate

POLLUTED = [2.2] * 15 + [0.0] * 4 + [-1.5]


def _pool(seed, reliability, prompts, size=4, per_prompt=3):
    return simulate(np.random.default_rng(seed), reliability, prompts, size, per_prompt)


def _right(shares, gold) -> float:
    """Share of pairs in the true order; one half is worth one half."""
    credits = [
        0.5 + 0.5 * np.sign(share - 0.5) * np.sign(gold[p][a] - gold[p][b])
        for p, pairs in shares.items()
        for (a, b), share in pairs.items()
    ]
    return float(np.mean(credits))


def _shares(fitted) -> dict:
    items, shares = fitted.table.items, {}
    for a, b, p in zip(*fitted.table.votes.pair_items(), fitted.p_first(), strict=True):
        shares.setdefault(items[a][0], {})[items[a][1], items[b][1]] = p
    return shares


def _over_borda(pool, prior) -> float:
    ours = _right(_shares(fit(ranking_table(pool.rankings), prior)), pool.gold)
    return ours - _right(pair_shares(borda(pool.rankings)), pool.gold)


@pytest.mark.parametrize(("mean", "sd"), [(2.0, 0.4), (1.0, 2.0)])
def test_the_evidence_is_the_integral_over_the_labeler(mean, sd):
    """One labeler who judged each pair three times; habits of ties all but known, no order on the screen."""
    pool = _pool(0, [2.0] * 3, 60, size=2)
    votes = ranking_table([replace(r, labeler="x", shown=()) for r in pool.rankings]).votes
    prior = Prior(mean, sd, tie_sd=0.001)
    nodes = np.linspace(0.3, 5, 48)
    log_p = [
        posterior(votes, Habits(np.array([b]), np.array([np.log(0.5)]), np.zeros(1))).log_evidence
        - 0.5 * ((b - mean) / sd) ** 2
        - np.log(sd * np.sqrt(2 * np.pi))
        for b in nodes
    ]
    integral = np.log(np.exp(np.array(log_p) - max(log_p)).sum() * (nodes[1] - nodes[0])) + max(log_p)
    start_T = np.array([mean, np.log(0.5), 0.0])
    assert _evidence(votes, start_T, prior)[0] == pytest.approx(integral, abs=0.1)


def test_small_pools_of_equals_elect_no_oracle():
    """Five labelers of one reliability, ten prompts: not worse than counting, as a wide prior is."""
    pools = [_pool(seed, [1.0] * 5, 10) for seed in range(24)]
    rng = np.random.default_rng(0)
    chosen, wide = (
        bootstrap_mean([_over_borda(pool, prior) for pool in pools], rng)
        for prior in (Prior(), Prior(1.0, 2.0))
    )
    print("over Borda: chosen", chosen, "wide", wide)
    assert chosen.value > -0.01
    assert chosen.high > -0.005
    assert wide.value < -0.01  # so that the figures above can fail


def test_polluted_pools_keep_their_gain():
    """Four of twenty labelers careless, one adversarial."""
    over = []
    for seed in range(3):
        pool = _pool(seed, POLLUTED, 60)
        choice, _ = choose(ranking_table(pool.rankings).votes)
        assert choice.gain > STRONG
        assert not choice.alike
        over.append(_over_borda(pool, Prior()))
    print("over Borda", np.round(over, 3))
    assert np.mean(over) > 0.04


def test_labelers_who_cannot_be_told_apart_are_alike_but_no_better_known():
    pool = _pool(3, [1.5] * 4, 8)
    fitted = fit(ranking_table(pool.rankings))
    mean, sd = fitted.choice.prior.reliability()
    assert fitted.choice.alike
    assert sd == ALIKE * mean
    assert fitted.habits.reliability_K == pytest.approx(mean, rel=2 * ALIKE)
    assert fitted.own.reliability_K.std() > 3 * fitted.habits.reliability_K.std()
    vague = fit(fitted.table, Prior(1.0, 2.0))
    assert fitted.own.reliability_K == pytest.approx(vague.habits.reliability_K, abs=0.02)
    assert fitted.reliability_sd() == pytest.approx(vague.reliability_sd(), rel=0.02)
    assert (np.abs(fitted.own.reliability_K - 1.5) < 2 * fitted.reliability_sd()).all()
    known = fit(fitted.table, Prior(mean, sd))
    assert (known.own.reliability_K == known.habits.reliability_K).all()


def test_reported_intervals_hold_the_truth_in_small_pools_too():
    """Forty pairs, too few to tell labelers apart most of the time."""
    hits, alike = [], []
    for seed in range(10, 22):
        pool = _pool(seed, [4.0, 3.0, 2.5, 2.0, 1.5, 0.0, -2.0], 40, size=2)
        fitted = fit(ranking_table(pool.rankings))
        off = fitted.own.reliability_K - pool.reliability
        hits += (np.abs(off) < 1.96 * fitted.reliability_sd()).tolist()
        alike.append(fitted.choice.alike)
    print("coverage", np.mean(hits), "alike", np.mean(alike))
    assert np.mean(alike) > 0.3
    assert np.mean(hits) > 0.85


def test_a_few_rankings_that_agree_make_nobody_infallible():
    """Two labelers who never differ: the mean stays where labelers may be."""
    rankings = [Ranking(f"p{n}", k, (("a",), ("b",), ("c",))) for n in range(12) for k in "xy"]
    fitted = fit(ranking_table(rankings))
    print("typical", fitted.typical[0], fitted.choice)
    assert fitted.choice.alike
    assert 2 < fitted.typical[0] < 8


def test_what_is_given_is_kept():
    votes = ranking_table(_pool(0, [3.0, 2.0, 0.0], 20, per_prompt=2).rankings).votes
    given = Prior(1.3, 0.7)
    choice, start_T = choose(votes, given)
    assert (choice.prior, choice.gain) == (given, None)
    assert start_T == pytest.approx(given.moments(3)[0])
    assert choose(votes, Prior(1.3))[0].prior.reliability_mean == 1.3
    only_sd = choose(votes, Prior(reliability_sd=0.7))[0]
    assert (only_sd.prior.reliability_sd, only_sd.gain, only_sd.alike) == (0.7, None, False)
    assert choose(votes, Prior(tie_mean=0.1))[0].prior.tie_mean == 0.1


def test_an_open_prior_has_no_moments():
    with pytest.raises(ConfigError, match="reliability_sd None"):
        Prior(1.0).moments(3)


def test_names_and_order_do_not_matter():
    pool = _pool(1, POLLUTED, 20)
    shuffled = [replace(r, labeler=f"x{99 - int(r.labeler[1:])}") for r in pool.rankings]
    np.random.default_rng(0).shuffle(shuffled)
    one, two = (choose(ranking_table(rankings).votes)[0] for rankings in (pool.rankings, shuffled))
    assert one.prior.reliability() == pytest.approx(two.prior.reliability(), rel=1e-4)
    assert one.gain == pytest.approx(two.gain, abs=0.05)
    assert one == choose(ranking_table(pool.rankings).votes)[0]


def test_coins_leave_the_scores_a_sign():
    """Nobody is better than chance: the mean stays positive."""
    choice, _ = choose(ranking_table(_pool(0, [0.0] * 4, 30).rankings).votes)
    assert choice.prior.reliability()[0] >= LEAST


def test_large_pools_are_judged_by_a_part():
    """Evidence counts for all votes; labelers who are not in the part start at the mean."""
    pool = _pool(2, [3.0, 2.5, 2.0, 0.0, -1.0], 450, size=2, per_prompt=3)
    late = [
        replace(r, prompt_id="late", labeler=name) for name in ("zoe", "zed") for r in pool.rankings[:1]
    ]  # one prompt, in the middle of two that the part takes
    votes = ranking_table([*(replace(r, prompt_id="a" + r.prompt_id) for r in pool.rankings), *late]).votes
    part, present_K = _part(votes)
    assert len(part.sizes_P) == PROMPTS
    choice, start_T = choose(votes)
    mean = choice.prior.reliability()[0]
    absent_K = np.setdiff1d(np.arange(7), present_K)
    assert start_T[absent_K] == pytest.approx(mean)
    assert not choice.alike
    assert start_T[4] < 0 < start_T[0]


def test_long_rankings_are_judged_by_fewer_prompts():
    """Ten prompts of twelve completions and forty labelers: 26,400 votes."""
    votes = ranking_table(_pool(0, [1.0] * 40, 10, size=12, per_prompt=40).rankings).votes
    part, _ = _part(votes)
    assert len(votes.site_V) == 26_400
    assert VOTES / 2 < len(part.site_V) <= VOTES


def test_assumed_reliability_has_no_choice():
    assert assume(ranking_table(_pool(0, [1.0, 1.0], 3, per_prompt=2).rankings), 8.0, 0.5).choice is None
