"""Text figures against answers worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import DataError
from accord.evaluate import metrics
from accord.types import Completion, Prompt, Stop

sentences = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat"]), max_size=12)


def test_distinct_pools_the_texts() -> None:
    # a b a | a b: words a b a a b (2 of 5), pairs ab ba ab (2 of 3), triples aba (1 of 1).
    texts = ["a b a", "a b"]
    assert metrics.distinct(texts, 1) == pytest.approx(2 / 5)
    assert metrics.distinct(texts, 2) == pytest.approx(2 / 3)
    assert metrics.distinct(texts, 3) == 1.0
    assert metrics.distinct(texts, 4) is None


def test_rouge_by_hand() -> None:
    candidate, reference = "the cat the cat sat", "the cat sat on the mat"
    # Words shared with multiplicity: the x 2, cat, sat = 4 of 5 and of 6.
    one = metrics.rouge_n(candidate, reference, 1)
    assert (one.precision, one.recall, one.f) == pytest.approx((4 / 5, 4 / 6, 8 / 11))
    # Pairs shared: the cat, cat sat = 2 of 4 and of 5.
    two = metrics.rouge_n(candidate, reference, 2)
    assert (two.precision, two.recall, two.f) == pytest.approx((2 / 4, 2 / 5, 4 / 9))
    # Longest common subsequence: the cat sat.
    longest = metrics.rouge_l(candidate, reference)
    assert (longest.precision, longest.recall, longest.f) == pytest.approx((3 / 5, 3 / 6, 6 / 11))


def test_rouge_of_nothing_is_zero() -> None:
    assert metrics.rouge_n("", "a b", 1) == metrics.Rouge(0, 0, 0) == metrics.rouge_l("a", "")


def longest_by_table(left: list[str], right: list[str]) -> int:
    """The textbook table, to hold the bit-parallel one against."""
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(sentences, sentences)
def test_longest_common_subsequence_equals_the_table(left: list[str], right: list[str]) -> None:
    assert metrics.longest_common_subsequence(left, right) == longest_by_table(left, right)


def test_longest_common_subsequence_of_long_texts() -> None:
    left = [str(i % 97) for i in range(400)]
    right = [str(i * i % 89) for i in range(300)]
    assert metrics.longest_common_subsequence(left, right) == longest_by_table(left, right)


@given(sentences, sentences)
def test_rouge_is_symmetric_in_f_and_one_only_for_the_same_words(left: list[str], right: list[str]) -> None:
    a, b = " ".join(left), " ".join(right)
    assert metrics.rouge_l(a, b).f == pytest.approx(metrics.rouge_l(b, a).f)
    if left:
        assert math.isclose(metrics.rouge_l(a, b).f, 1.0) == (left == right)


def test_self_overlap() -> None:
    assert metrics.self_overlap(["a b"]) is None
    assert metrics.self_overlap(["a b", "A b."]) == 1.0
    assert metrics.self_overlap(["", "!"]) == 1.0
    # Pairs: (a b, a b) 1, (a b, c d) 0 twice.
    assert metrics.self_overlap(["a b", "a b", "c d"]) == pytest.approx(1 / 3)


def test_per_completion() -> None:
    sampled = Completion("a b", ids=(5, 6, 7), stop=Stop.LENGTH)
    assert metrics.per_completion(sampled) == {
        "words": 2.0, "repetition": 0.0, "empty": 0.0, "truncated": 1.0, "tokens": 3.0,
    }  # fmt: skip
    written = metrics.per_completion(Completion(" \n"))
    assert written["empty"] == 1.0
    assert "tokens" not in written


def test_corpus_takes_one_sample_a_prompt() -> None:
    groups = [[Completion("a b"), Completion("x y")], [Completion("a b"), Completion("z")]]
    assert metrics.corpus(groups) == {"distinct_1": 0.5, "distinct_2": 0.5}


def test_rouge_scorer() -> None:
    prompt = Prompt.from_text("?", meta={"reference": "the cat sat"})
    (score,) = metrics.RougeScorer().score(prompt, [Completion("the cat")])
    assert score.value == score.parts["rouge_l"] == pytest.approx(0.8)
    assert score.parts["rouge_2"] == pytest.approx(2 * 1 * 0.5 / 1.5)
    with pytest.raises(DataError, match=r"meta\['summary'\]"):
        metrics.RougeScorer("summary").score(prompt, [Completion("x")])
