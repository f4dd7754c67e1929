import numpy as np
import pytest

from accord.errors import DataError
from accord.stats.rankings import mid_ranks, ranking_table
from accord.types import Ranking


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
