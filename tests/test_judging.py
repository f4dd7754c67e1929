"""Who compares two answers: both orders undo a liking, a model's letters are read, a bad judge refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from accord.errors import DataError
from accord.judging import (
    Asked,
    Choice,
    Chooser,
    Judged,
    LikelihoodChooser,
    LikelihoodConfig,
    both_orders,
    flip_share,
    unusable_share,
)
from accord.types import Prompt
from choosers import Letters, PlantedJudge, pairs


def test_both_orders_take_out_what_one_order_is_led_by() -> None:
    equal = [Asked(Prompt.from_text(f"q{i}"), "same", "same") for i in range(4000)]
    judged = both_orders(PlantedJudge(0.8, 0.3, 0), equal)
    alone = np.mean([one.as_listed.p_first > 0.5 for one in judged])
    together = np.mean([0.5 + 0.5 * np.sign(round(one.p - 0.5, 9)) for one in judged])
    assert alone == pytest.approx(0.65, abs=0.03)
    assert together == pytest.approx(0.5, abs=0.03)


def test_a_judge_that_goes_by_position_alone_says_one_half() -> None:
    judged = both_orders(PlantedJudge(0.9, 1.0, 0), pairs(50)[0])
    assert [one.p for one in judged] == pytest.approx([0.5] * 50)
    assert all(one.flipped for one in judged)


def test_shares_of_flips_and_of_what_was_unusable_by_hand() -> None:
    said = [(0.9, 0.1), (0.9, 0.8), (0.2, 0.3), (None, 0.1), (None, None)]  # as listed, and turned round
    judged = [Judged(None, Choice(one), Choice(other)) for one, other in said]
    assert flip_share(judged) == 2 / 3
    assert unusable_share(judged) == 3 / 10
    assert flip_share([]) == unusable_share([]) == 0


@given(st.floats(-4, 4), st.floats(-4, 4))
def test_a_liking_in_log_odds_cancels_exactly(quality: float, liking: float) -> None:
    class Biased:
        def choose(self, asked: Sequence[Asked]) -> list[Choice]:
            signs = [1 if one.first == "a" else -1 for one in asked]
            return [Choice(float(special.expit(sign * quality + liking))) for sign in signs]

    prompt = Prompt.from_text("?")
    one, other = both_orders(Biased(), [Asked(prompt, "a", "b"), Asked(prompt, "b", "a")])
    assert one.p == pytest.approx(special.expit(quality), abs=1e-9)
    assert other.p == pytest.approx(1 - one.p)


def test_unusable_answers_are_counted_and_the_other_order_stands() -> None:
    class Half:
        def choose(self, asked: Sequence[Asked]) -> list[Choice]:
            return [Choice(0.8 if one.first == "good" else None, "hm") for one in asked]

    judged = both_orders(Half(), [Asked(Prompt.from_text("?"), "good", "bad")])
    assert judged[0].p == pytest.approx(0.8)
    assert judged[0].flipped is None


def test_a_model_judges_by_the_likelihood_of_its_letters() -> None:
    letters = Letters(liking=1.0)
    chooser = LikelihoodChooser(letters, LikelihoodConfig(criterion="kinder", temperature=2.0))
    assert isinstance(chooser, Chooser)
    (one,) = both_orders(
        chooser, [Asked(Prompt.from_text("Hello {first} {second}"), "good", "bad {criterion}")]
    )
    assert one.p == pytest.approx(special.expit(1.0))  # 2 over the temperature, the liking gone
    assert one.as_listed.p_first == pytest.approx(special.expit(1.5))
    assert "Message:\nHello {first} {second}\n" in letters.seen[0]  # braces in a text are text
    assert "Answer B:\nbad {criterion}\n" in letters.seen[0]
    assert "better: kinder?" in letters.seen[0]


def test_a_question_brings_its_own_criterion() -> None:
    letters = Letters(0.0)
    asked = [
        Asked(Prompt.from_text("?"), "good", "bad", "which is {first}"),
        Asked(Prompt.from_text("?"), "good", "bad"),
    ]
    both_orders(LikelihoodChooser(letters, LikelihoodConfig(criterion="kinder")), asked)
    said = ["better: which is {first}?", "better: kinder?"]
    assert [one in text for text, one in zip(letters.seen, said * 2, strict=True)] == [True] * 4


def test_what_is_too_long_is_unusable_where_it_may_be() -> None:
    class Short(Letters):
        def fits(self, prompt: Prompt, texts: Sequence[str]) -> bool:
            return "long" not in prompt.text

    asked = [Asked(Prompt.from_text(text), "good", "bad") for text in ("long", "?")]
    found = LikelihoodChooser(Short(0.0), LikelihoodConfig(skip_long=True)).choose(asked)
    assert [one.p_first for one in found] == [None, pytest.approx(special.expit(2.0))]
    assert "longer than the context" in found[0].said
    assert LikelihoodChooser(Short(0.0)).choose(asked)[0].p_first is not None


def test_a_judge_that_breaks_its_word_is_refused() -> None:
    class Few:
        def choose(self, asked):
            return [Choice(0.5)]

    class Wild:
        def choose(self, asked):
            return [Choice(1.5) for _ in asked]

    with pytest.raises(DataError, match="1 choices for 2"):
        both_orders(Few(), [Asked(Prompt.from_text("?"), "a", "b")])
    with pytest.raises(DataError, match=r"1\.5"):
        both_orders(Wild(), [Asked(Prompt.from_text("?"), "a", "b")])
