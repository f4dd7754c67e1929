"""Refusals by their words: what refuses, what only looks so, and the published texts that do neither."""

from __future__ import annotations

import pytest

from accord.refusals import bare, declined, refusal
from realdata import real_data


@pytest.mark.parametrize(
    "text",
    [
        "I can't help with that.",
        "I\u2019m sorry, but I can\u2019t assist with that request.",
        "Sorry, I cannot do that!",
        "As an AI language model, I cannot fulfill this request.",
        "I'm unable to provide that information.",
        "I am not able to rewrite that.",
        "I must decline to answer that question.",
        "We won't discuss this topic.",
    ],
)
def test_a_bare_refusal(text: str) -> None:
    assert bare(text)
    assert declined(text)
    assert refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "We cannot give a discount.",
        "We cannot cancel the order, because the table was sent on 28 February.",
        "I can't help with picking locks; a locksmith can.",
        "I can't help with that. Please see a doctor at once.",
        "I cannot recommend this enough.",
        "I must say that it is kind.",
        "",
    ],
)
def test_a_refusal_that_says_more_and_what_is_none_are_not_bare(text: str) -> None:
    assert not bare(text)


@pytest.mark.parametrize(
    "text",
    [
        "As an AI assistant, the response should not give instructions for making weapons.",
        "As an assistant, it should not have encouraged the user to lie.",
        "I cannot find anything harmful in the response.",
        "We can't tell whether the user is an adult, so the response should ask first.",
        "The response says I'm not able to eat gluten, which it made up.",
        "I must answer the question.",
        "I have to do the task.",
        "I must help you with this.",
    ],
)
def test_what_a_critique_says_of_others_or_of_its_own_doubt_refuses_nothing(text: str) -> None:
    assert not declined(text)
    assert not bare(text)


def test_a_critique_that_quotes_a_refusal_does_not_refuse() -> None:
    assert declined("I'm sorry, but I can't criticise an answer of this kind, for it is harmful.")
    assert not declined(
        'The answer says "I can\'t help with that" although nothing is wrong with the question.'
    )
    assert not declined("It is unethical to help somebody break into a house, and the answer does.")
    assert not declined("It is rude. I can't find another fault.")


def test_no_published_critique_or_revision_is_taken_for_a_refusal_to_write_it() -> None:
    steps = [s for row in real_data("constitutional/critique_revision_chains") for s in row["steps"]]
    assert len(steps) == 264
    assert not [s["critique"] for s in steps if declined(s["critique"])]
    assert not [s["revision"] for s in steps if bare(s["revision"])]
