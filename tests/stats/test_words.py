"""Words, runs of words, and how often they come again, counted by hand."""

import pytest

from accord.stats.words import ngrams, repetition, words


def test_words_are_lower_case_runs_of_letters_and_digits() -> None:
    assert words("It's 3.5 EUR_total, Müller!") == ["it", "s", "3", "5", "eur", "total", "müller"]


def test_ngrams() -> None:
    assert ngrams("abc", 2) == [("a", "b"), ("b", "c")]
    assert ngrams("ab", 3) == []
    with pytest.raises(ValueError, match="n >= 1"):
        ngrams("ab", 0)


def test_repetition() -> None:
    assert repetition("yes yes yes yes yes") == pytest.approx(2 / 3)
    assert repetition("one two three four") == 0.0
    assert repetition("") == 0.0
