import numpy as np
import pytest

from accord.feedback.consensus import AgreeConfig, agree
from accord.feedback.turned import turned_by, turned_pairs
from accord.judgements import Ranking
from accord.stats.baselines import majority
from pool import simulate


def test_turned_pairs_by_hand():
    """Two careless votes for b over a, one careful one for a: the consensus goes with the latter."""
    rankings = [Ranking("p", k, (("b",), ("a",))) for k in ("x", "y")] + [Ranking("p", "z", (("a",), ("b",)))]
    found = turned_pairs(rankings, {("p", "a", "b"): 0.7}, {"x", "z"})
    assert [(t.winner, t.loser, t.labelers) for t in found] == [("a", "b", ("x",))]
    assert found[0].share == pytest.approx(2 / 3)
    assert turned_by(found) == {"x": 1}
    assert turned_pairs(rankings, {("p", "a", "b"): 0.3}, {"x"}) == []
    even = [Ranking("p", "x", (("b",), ("a",))), Ranking("p", "z", (("a",), ("b",)))]
    assert turned_pairs(even, {("p", "a", "b"): 0.7}, {"x"}) == []  # a majority that does not decide


def test_what_the_reliabilities_turned():
    """Two careless labelers outvote a careful one; the consensus says on which pairs that was undone."""
    pool = simulate(
        np.random.default_rng(7), [4.0, 4.0, 0.0, 0.0, 0.0, -3.0], prompts=150, size=2, per_prompt=3
    )
    got = agree(pool.prompts, pool.completions, pool.rankings, AgreeConfig(bootstrap=100))
    plain = majority(pool.rankings)
    told = {(c.prompt.id, c.chosen.id, c.rejected.id): c.p_chosen for c in got.comparisons}
    turned = {(t.prompt_id, t.winner, t.loser): t for t in got.turned}
    for (p, a, b), t in turned.items():
        assert told[p, a, b] > 0.5
        share = plain[p][min(a, b), max(a, b)]
        assert t.share == pytest.approx(share if a > b else 1 - share)
        assert t.share > 0.5
    against = {
        key for key in told if (s := plain[key[0]]["c0", "c1"]) != 0.5 and (s > 0.5) != (key[1] == "c0")
    }
    assert turned.keys() == against
    assert len(turned) > 20
    right = [pool.gold[p][a] > pool.gold[p][b] for p, a, b in turned]
    assert np.mean(right) > 0.6
    assert {name for t in got.turned for name in t.labelers} <= {"w2", "w3", "w4", "w5"}
    assert turned_by(got.turned)["w5"] > 10
    one = next(t for t in got.turned if "w5" in t.labelers)
    theirs = next(r for r in pool.rankings if r.prompt_id == one.prompt_id and r.labeler == "w5")
    assert theirs.tiers[0] == (one.loser,)
    assert any("'w5'" in w and f"turned {turned_by(got.turned)['w5']} pairs" in w for w in got.warnings)
