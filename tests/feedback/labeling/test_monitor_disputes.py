import numpy as np
import pytest

from accord.feedback.consensus import AgreeConfig, agree
from accord.feedback.labeling.monitor_disputes import (
    Dispute,
    contradictions,
    disputes,
    entropy,
    reliability_weights,
    weighted_dispute,
)
from accord.judgements import Ranking
from accord.types import Completion, Prompt
from pool import simulate

FAST = AgreeConfig(bootstrap=100)


def ranking(prompt, labeler, tiers, fails="", arm=""):
    return Ranking(prompt, labeler, tuple(map(tuple, tiers.split())), tuple(fails), arm=arm)


def consensus_of(rankings, config=FAST):
    prompts = {r.prompt_id: Prompt.from_text(r.prompt_id, id=r.prompt_id) for r in rankings}
    completions = {p: [Completion(c, id=c) for c in "abcd"] for p in prompts}
    return agree(prompts, completions, rankings, config)


def test_a_dispute_by_hand():
    """Two against one of half the weight: (1 x 1/2 + 1 x 1/2) / (1 x 1 + 1 x 1/2 + 1 x 1/2) apart; with a
    tie instead, half as far."""
    weights = {"ann": 1.0, "ben": 1.0, "cat": 0.5}
    assert weighted_dispute({"ann": 1.0, "ben": 1.0, "cat": 0.0}, weights) == pytest.approx(1 / 2)
    assert weighted_dispute({"ann": 1.0, "ben": 1.0, "cat": 0.5}, weights) == pytest.approx(1 / 4)
    assert weighted_dispute({"ann": 1.0, "ben": 0.0}, {"ann": 1.0, "ben": 0.0}) == 0.0
    assert weighted_dispute({"ann": 1.0}, weights) == 0.0
    assert entropy(0.5) == 1.0
    assert entropy(0.25) == pytest.approx(0.8112781)
    assert entropy(0.0) == entropy(1.0) == 0.0


def test_an_even_quarrel_is_hotter_than_a_settled_one_and_unity_is_cold():
    rankings = [ranking("even", "ann", "a b"), ranking("even", "ben", "b a")]
    rankings += [ranking("most", name, "a b") for name in ("ann", "ben", "cat", "dan")]
    rankings += [ranking("most", "eve", "b a")]
    rankings += [ranking("one mind", name, "a b") for name in ("ann", "ben", "cat", "dan", "eve")]
    rankings += [ranking("alone", "ann", "a b")]
    found = disputes(rankings, consensus_of(rankings), {})
    assert [each.prompt_id for each in found] == ["even", "most"]
    assert found[0] == Dispute("even", pytest.approx(1.0, abs=0.02), 2, 1, 0)
    assert found[1].heat < 0.35  # four against one are 0.4 apart, and the consensus is fairly certain
    assert found[1].labelers == 5


def test_a_quarrel_with_a_coin_is_no_quarrel():
    rankings = [ranking("p", "ann", "a b"), ranking("p", "coin", "b a"), ranking("p", "ben", "a b")]
    consensus = consensus_of(rankings)
    (hot,) = disputes(rankings, consensus, {"ann": 1.0, "coin": 1.0, "ben": 1.0})
    (cool,) = disputes(rankings, consensus, {"ann": 1.0, "coin": 0.1, "ben": 1.0})
    assert cool.heat < hot.heat / 3
    assert disputes(rankings, consensus, {"ann": 1.0, "coin": 0.0, "ben": 1.0}) == []


def test_a_dispute_about_fail_alone_is_seen():
    """ann fails both, ben ranks both: they share no pair, and disagree all the same."""
    rankings = [Ranking("p", "ann", (), ("a", "b")), ranking("p", "ben", "a b")]
    rankings += [ranking("q", name, "a b") for name in ("ann", "ben")]
    (found,) = disputes(rankings, consensus_of(rankings), {})
    assert (found.prompt_id, found.pairs, found.fails) == ("p", 0, 2)


def test_the_last_ranking_counts_and_an_adjudicated_prompt_is_closed():
    rankings = [ranking("p", "ann", "a b"), ranking("p", "ben", "b a")]
    consensus = consensus_of(rankings)
    assert disputes(rankings, consensus, {})
    assert not disputes([*rankings, ranking("p", "ben", "a b", arm="repeat")], consensus, {})
    assert not disputes([*rankings, ranking("p", "rev", "a b", arm="adjudicated")], consensus, {})


def test_contradictions_by_hand():
    """p: a over b against b over a, 1 of 1; the coin is not asked. q: ann ties a and b, ben and dan put them
    both ways, 1 of 1; all three put a and b over c, 0 of 3 twice. In all 2 of 8."""
    rankings = [ranking("p", "ann", "a b"), ranking("p", "ben", "b a"), ranking("p", "coin", "b a")]
    rankings += [ranking("q", "ann", "ab c"), ranking("q", "ben", "b a c"), ranking("q", "dan", "a b c")]
    found = contradictions(rankings, ["ann", "ben", "dan"], np.random.default_rng(0))
    assert found.value == pytest.approx(2 / 8)
    assert contradictions(rankings, ["ann"], np.random.default_rng(0)) is None


def test_planted_quarrels_come_first():
    """200 simulated prompts; on 10 of them the pool is split by halves (some turned around)."""
    rng = np.random.default_rng(7)
    pool = simulate(rng, [6.0] * 8, 200, 3, 4)
    odd = {f"p{n:04d}" for n in range(10)}
    rankings = []
    for n, each in enumerate(pool.rankings):
        turned = each.prompt_id in odd and n % 2
        rankings.append(
            Ranking(
                each.prompt_id, each.labeler, each.tiers[::-1] if turned else each.tiers, shown=each.shown
            )
        )
    consensus = agree(pool.prompts, pool.completions, rankings, FAST)
    found = disputes(rankings, consensus, reliability_weights(consensus, FAST.min_overlap))
    assert len(odd & {each.prompt_id for each in found[:20]}) >= 9


def test_the_weight_is_reliability_over_what_is_typical():
    rng = np.random.default_rng(8)
    pool = simulate(rng, [5.0, 5.0, 5.0, 5.0, 0.0, -5.0], 150, 3, 4)
    consensus = agree(pool.prompts, pool.completions, pool.rankings, FAST)
    weights = reliability_weights(consensus, FAST.min_overlap)
    assert weights["w5"] == 0.0
    assert weights["w4"] < 0.25
    assert all(0.7 < weights[f"w{k}"] <= 1 for k in range(4))
    assert set(reliability_weights(consensus, 10**6).values()) == {1.0}
