"""Functional tests by kind: what the mean of all hides."""

import pytest

from accord.errors import DataError
from accord.evaluate.functional import by_kind, spread
from realdata import real_data


def test_by_hand() -> None:
    kinds = ["slur", "slur", "quote", "quote", "quote"]
    labels = ["hateful", "hateful", "fine", "fine", "fine"]
    said = ["hateful", "hateful", "hateful", "fine", "hateful"]
    table = by_kind(kinds, labels, said)
    assert [(k.name, k.label, k.accuracy.n) for k in table] == [("quote", "fine", 3), ("slur", "hateful", 2)]
    assert table[0].accuracy.value == pytest.approx(1 / 3)
    found = spread(table)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["accuracy, hateful"] == 1.0
    assert (found["worst_kind"], found["kinds_below_half"]) == (pytest.approx(1 / 3), 1.0)


def test_a_classifier_that_always_says_hate_is_seen_through_on_hatecheck() -> None:
    cases = real_data("hate-speech/hatecheck")
    table = by_kind(
        [c["functionality"] for c in cases], [c["label"] for c in cases], ["hateful"] * len(cases)
    )
    assert len(table) == 29
    assert {k.accuracy.value for k in table} == {0.0, 1.0}
    found = spread(table)
    assert found["cases"] == 3901
    assert found["accuracy"] == pytest.approx(sum(c["label"] == "hateful" for c in cases) / 3901)


def test_lists_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError):
        by_kind(["a"], ["x"], [])
    with pytest.raises(DataError):
        by_kind([], [], [])
