import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.judgements import Ranking
from accord.stats.baselines import borda, majority, mean_count, pair_shares


def _rank(labeler, tiers, fails="", prompt="p"):
    """Tiers as text: "a bc" puts a first, then b and c as equals."""
    return Ranking(prompt, labeler, tuple(tuple(t) for t in tiers.split()), tuple(fails))


def test_majority_by_hand():
    got = majority(
        [_rank("x", "a b c"), _rank("y", "b a c"), _rank("z", "ab c"), _rank("x", "d c", prompt="q")]
    )
    assert got["p"] == {("a", "b"): 0.5, ("a", "c"): 1.0, ("b", "c"): 1.0}
    assert got["q"] == {("c", "d"): 0.0}


def test_majority_of_partial_rankings_and_fails():
    got = majority([_rank("x", "a", "bc"), _rank("y", "c b"), _rank("z", "", "bc"), _rank("u", "a")])
    # x compares a with both FAILs and not the FAILs; z marked both FAIL, u placed one alone: no votes.
    assert got == {"p": {("a", "b"): 1.0, ("a", "c"): 1.0, ("b", "c"): 0.0}}
    assert majority([_rank("z", "", "bc")]) == {}


def test_majorities_go_round_in_a_circle():
    """Condorcet's example."""
    got = majority([_rank("x", "a b c"), _rank("y", "b c a"), _rank("z", "c a b")])["p"]
    assert got[("a", "b")] == got[("b", "c")] == pytest.approx(2 / 3)
    assert got[("a", "c")] == pytest.approx(1 / 3)


def test_borda_by_hand():
    got = borda([_rank("x", "a b c"), _rank("y", "a bc"), _rank("z", "b a", prompt="q")])
    assert got["p"] == {"a": 1.0, "b": (0.5 + 0.25) / 2, "c": (0 + 0.25) / 2}
    assert got["q"] == {"b": 1.0, "a": 0.0}


def test_borda_of_partial_rankings_and_fails():
    got = borda([_rank("x", "a b", "cd"), _rank("y", "b a"), _rank("z", "c")])
    # x: ranks 1, 2, 3.5, 3.5 of four; y: ranks 1, 2 of two; z says nothing.
    assert got["p"] == pytest.approx({"a": (1 + 0) / 2, "b": (2 / 3 + 1) / 2, "c": 1 / 6, "d": 1 / 6})


def test_equal_counts_are_equal_in_any_order():
    """0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 in floats, and would be a preference."""
    got = mean_count([{"a": 0.1, "b": 0.3}, {"a": 0.2, "b": 0.2}, {"a": 0.3, "b": 0.1}])
    assert got["a"] == got["b"] == 0.2


def test_tennessee_tells_majority_from_borda():
    """Voters by distance to four cities (42, 26, 15, 17 of 100): Nashville beats each other city by a
    majority and has the greatest Borda count, though Memphis is most often first."""
    orders = {"m n c k": 42, "n c k m": 26, "c k n m": 15, "k c n m": 17}
    rankings = [_rank(f"{order} {n}", order) for order, count in orders.items() for n in range(count)]
    pairs, counts = majority(rankings)["p"], borda(rankings)["p"]
    assert pairs[("m", "n")] == pytest.approx(0.42)
    assert pairs[("c", "n")] == pytest.approx(0.32)
    assert pairs[("k", "n")] == pytest.approx(0.32)
    # Published Borda counts of this example: Memphis 126, Nashville 194, Chattanooga 173, Knoxville 107.
    assert counts == pytest.approx({"m": 1.26 / 3, "n": 1.94 / 3, "c": 1.73 / 3, "k": 1.07 / 3})


def test_scores_as_pairs():
    assert pair_shares({"p": {"c": 1.0, "a": 2.0, "b": 2.0}}) == {
        "p": {("a", "b"): 0.5, ("a", "c"): 1.0, ("b", "c"): 1.0}
    }


_orders = st.permutations(list("abcd"))


@given(st.lists(_orders, min_size=1, max_size=5), _orders)
def test_names_change_nothing(orders, renamed):
    name = dict(zip("abcd", renamed, strict=True))
    rankings = [_rank(f"{n}", " ".join(o)) for n, o in enumerate(orders)]
    others = [_rank(f"{n}", " ".join(name[c] for c in o)) for n, o in enumerate(orders)]
    counts, renamed_counts = borda(rankings)["p"], borda(others)["p"]
    assert {name[c]: v for c, v in counts.items()} == pytest.approx(renamed_counts)
    for (a, b), share in majority(rankings)["p"].items():
        first, second = name[a], name[b]
        other = majority(others)["p"]
        assert share == pytest.approx(other.get((first, second), 1 - other.get((second, first), 0)))
