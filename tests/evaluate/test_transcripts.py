"""Pairs of transcripts: the shared turns are the prompt, and what does not pair is refused by its place."""

from __future__ import annotations

import pytest

from accord.errors import DataError
from accord.evaluate.transcripts import parted

SHARED = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Where is it?"


def test_the_shared_turns_are_the_prompt_and_the_last_the_answers() -> None:
    row = {"a": f"{SHARED}\n\nAssistant: It left. ", "b": f"{SHARED}\n\nAssistant: Go away."}
    prompt, answers = parted(row, ("a", "b"), "row 1")
    assert prompt == SHARED.strip()
    assert answers == {"better": "It left.", "worse": "Go away."}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("\n\nHuman: Hi", "\n\nHuman: Hi"),
        (f"{SHARED}\n\nAssistant: x", f"{SHARED}!\n\nAssistant: y"),
        (f"{SHARED}\n\nAssistant: x", f"{SHARED}\n\nAssistant:  "),
        ("\n\nAssistant: x", "\n\nAssistant: y"),
    ],
)
def test_what_does_not_pair_is_refused(a: str, b: str) -> None:
    with pytest.raises(DataError, match="row 7: a"):
        parted({"a": a, "b": b}, ("a", "b"), "row 7")
