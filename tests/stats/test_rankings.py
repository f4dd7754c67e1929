from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import DataError
from accord.judgements import Ranking
from accord.stats.rankings import levels, mid_ranks, pair_outcomes, places, ranking_table


def test_weights_and_fails():
    table = ranking_table([Ranking("p", "x", (("a",), ("b", "c")), fails=("d", "e"), shown=tuple("abcdef"))])
    assert [c for _, c in table.items] == list("abcde")  # f was shown and not ranked
    votes = table.votes
    assert len(votes.site_V) == 9  # ten pairs less FAIL-FAIL
    assert votes.weight_V == pytest.approx(np.sqrt(2 / 5))
    first, second = votes.pair_items()
    told = {
        ("abcde"[first[s]], "abcde"[second[s]]): o for s, o in zip(votes.site_V, votes.outcome_V, strict=True)
    }
    assert told[("a", "b")] == told[("a", "e")] == told[("c", "d")] == 1
    assert told[("b", "c")] == 0.5
    assert ("d", "e") not in told
    assert mid_ranks(Ranking("p", "x", (("a",), ("b", "c")), fails=("d", "e"))) == {
        "a": 1, "b": 2.5, "c": 2.5, "d": 4.5, "e": 4.5,
    }  # fmt: skip


def test_nothing_to_compare_is_refused():
    with pytest.raises(DataError, match="two judged completions"):
        ranking_table([Ranking("p", "x", (("a",),), shown=("a", "b"))])


def _random_ranking(rng, prompt: str, labeler: str) -> Ranking:
    """Up to six of seven completions in tiers and FAILs, in a recorded order or none."""
    names = [f"c{i}" for i in rng.permutation(7)]
    placed, cut = names[: rng.integers(0, 7)], int(rng.integers(0, 3))
    fails, ranked = placed[:cut], placed[cut:]
    edges = [0, *sorted(rng.choice(range(1, len(ranked)), len(ranked) // 2, replace=False)), len(ranked)]
    tiers = tuple(tuple(ranked[a:b]) for a, b in pairwise(edges) if b > a)
    shown = tuple(f"c{i}" for i in rng.permutation(7)) if rng.random() < 0.7 else ()
    return Ranking(prompt, labeler, tiers, tuple(fails), shown)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_votes_are_those_of_each_ranking(seed):
    """The arrays against the votes counted one ranking and one pair at a time."""
    rng = np.random.default_rng(seed)
    rankings = [_random_ranking(rng, f"p{rng.integers(4)}", f"w{rng.integers(3)}") for _ in range(15)]
    expected: dict[tuple, float] = {}
    for ranking in rankings:
        placed = levels(ranking)
        order = {c: n for n, c in enumerate(sorted(placed))}
        names, at = sorted(placed), places(ranking)
        for a, b, outcome in pair_outcomes(ranking, order):
            lead = round(at[names[b]] - at[names[a]], 6) if at else 0.0
            key = (ranking.prompt_id, names[a], names[b], ranking.labeler, outcome, lead)
            expected[key] = expected.get(key, 0.0) + np.sqrt(2 / len(placed))
    if not expected:
        return
    table = ranking_table(rankings)
    votes = table.votes
    first, second = votes.pair_items()
    found = {}
    for site, k, outcome, lead, weight in zip(
        votes.site_V, votes.labeler_V, votes.outcome_V, votes.lead_V, votes.weight_V, strict=True
    ):
        (prompt, a), (same, b) = table.items[first[site]], table.items[second[site]]
        assert prompt == same
        found[prompt, a, b, table.labelers[k], float(outcome), round(float(lead), 6)] = float(weight)
    assert found.keys() == expected.keys()
    assert all(found[key] == pytest.approx(expected[key]) for key in expected)
    assert (np.diff(votes.site_V) >= 0).all()


def test_places_on_the_screen():
    assert places(Ranking("p", "x", (("a",),), shown=("b", "a", "c"))) == {"b": 0, "a": 0.5, "c": 1}
    assert places(Ranking("p", "x", (("a",),), shown=("a",))) == {"a": 0}
    assert places(Ranking("p", "x", (("a",),))) == {}
