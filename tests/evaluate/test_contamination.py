"""Copies of a suite in the training text are found, and nothing else is."""

import pytest

from accord.errors import ConfigError
from accord.evaluate.contamination import overlap
from accord.types import Prompt

LONG = "the quick brown fox jumps over the lazy dog and then it sleeps in the warm afternoon sun"


def prompts(*texts: str) -> list[Prompt]:
    return [Prompt.from_text(text, id=f"p{i}") for i, text in enumerate(texts)]


def test_a_whole_prompt_is_found_whatever_its_case_and_marks() -> None:
    found = overlap(prompts(LONG, "something else entirely, of five words"), [f"He said: {LONG.upper()}!"])
    assert (found.whole, found.touched) == (("p0",), ("p0",))
    assert (found.prompts, found.texts, found.too_short) == (2, 1, 0)


def test_a_run_of_words_touches() -> None:
    part = " ".join(LONG.split()[2:15])
    assert overlap(prompts(LONG), [f"x {part} y"]).touched == ("p0",)
    assert overlap(prompts(LONG), [f"x {part} y"]).whole == ()
    shorter = " ".join(LONG.split()[2:14])
    assert overlap(prompts(LONG), [f"x {shorter} y"]).touched == ()
    assert overlap(prompts(LONG), [f"x {shorter} y"], n=12).touched == ("p0",)


def test_a_short_prompt_must_stand_there_whole_and_a_tiny_one_is_not_looked_for() -> None:
    found = overlap(
        prompts("Where is my parcel now?", "Hi there"), ["well where is my parcel now then hi there"]
    )
    assert found.whole == ("p0",)
    assert found.too_short == 1
    assert overlap(prompts("Where is my parcel now?"), ["where is my big parcel now"]).touched == ()


def test_words_are_not_found_across_texts_or_inside_words() -> None:
    assert overlap(prompts("one two three four"), ["one two", "three four"]).touched == ()
    assert overlap(prompts("one two three four"), ["none two three fourteen"]).touched == ()


def test_runs_too_short_to_mean_anything_are_refused() -> None:
    with pytest.raises(ConfigError):
        overlap(prompts(LONG), [], n=3)
