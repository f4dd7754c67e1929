"""Choices and references from log-probs: by hand, on TruthfulQA's fields, and what is refused."""

import math

import pytest

from accord.errors import DataError, NumericsError
from accord.evaluate.likelihood import Choice, Reference, choice, reference_loss, unread
from accord.judging import TextLogprob
from accord.types import Prompt


def told(*p: float, tokens: int = 1) -> list[TextLogprob]:
    return [TextLogprob(math.log(x), tokens) for x in p]


def test_a_choice_by_hand() -> None:
    score = choice(told(0.2, 0.1, 0.3, 0.05), [True, True, False, False])
    assert score.value == 0.0  # 0.3 is the likeliest, and wrong
    assert score.parts["mc1"] == 0.0
    assert score.parts["mc2"] == pytest.approx(0.3 / 0.65)
    assert score.parts["confidence"] == pytest.approx(0.3 / 0.65)


def test_what_guessing_gets_is_stated_with_each_choice() -> None:
    score = choice(told(0.2, 0.1, 0.3, 0.05, 0.05), [True, True, False, False, False])
    assert score.parts["chance"] == pytest.approx(2 / 5)
    assert score.parts["mc1_chance"] == pytest.approx(1 / 4)  # the best against three wrong ones


def test_a_question_that_was_not_read_is_wrong_with_the_confidence_of_a_guess() -> None:
    score = unread([False, True, False, False])
    assert (score.value, score.parts["per_token"], score.parts["mc1"], score.parts["mc2"]) == (0, 0, 0, 0)
    assert score.parts["confidence"] == score.parts["chance"] == 0.25
    assert "longer than" in score.why


def test_mc1_asks_for_the_best_answer_alone() -> None:
    score = choice(told(0.1, 0.4, 0.2), [True, True, False])
    assert (score.value, score.parts["mc1"]) == (1.0, 0.0)


def test_a_long_option_is_not_behind_per_token() -> None:
    options = [TextLogprob(-6.0, 6), TextLogprob(-4.0, 2)]
    score = choice(options, [True, False])
    assert (score.value, score.parts["per_token"]) == (0.0, 1.0)


@pytest.mark.parametrize("answer", ["B", "(B)", "b", 1, "two"])
def test_options_with_an_answer(answer: object) -> None:
    prompt = Prompt.from_text("?", meta={"options": ["one", "two"], "answer": answer})
    assert Choice().of(prompt) == (["one", "two"], [False, True])


@pytest.mark.parametrize(("answer", "right"), [("C", 2), ("L", 1), ("(d)", 3), ("1/C", 2), ("R", 0)])
def test_a_letter_in_range_goes_before_an_options_text(answer: str, right: int) -> None:
    prompt = Prompt.from_text("?", meta={"options": ["R", "L", "1/C", "C"], "answer": answer})
    assert Choice().of(prompt)[1].index(True) == right


def test_truthfulqas_fields() -> None:
    meta = {"best": "c", "correct": ["a", "c"], "incorrect": ["x"]}
    found = Choice(right="correct", wrong="incorrect", best="best").of(Prompt.from_text("?", meta=meta))
    assert found == (["c", "a", "x"], [True, True, False])


@pytest.mark.parametrize(
    "meta",
    [{}, {"options": ["a"], "answer": "A"}, {"options": ["a", "b"], "answer": "Q"}, {"options": ["a", "b"]}],
)
def test_options_without_a_right_one_are_refused(meta: dict) -> None:
    with pytest.raises(DataError, match="options"):
        Choice().of(Prompt.from_text("?", meta=meta))


def test_a_references_loss_is_nats_a_token() -> None:
    assert reference_loss(TextLogprob(-6.0, 3)).value == 2.0
    with pytest.raises(DataError):
        Reference().of(Prompt.from_text("?"))


@pytest.mark.parametrize("bad", [(float("nan"), 1), (0.5, 1), (-1.0, 0)])
def test_what_is_no_log_prob_is_refused(bad: tuple[float, int]) -> None:
    with pytest.raises(NumericsError):
        TextLogprob(*bad)
