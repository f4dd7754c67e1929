"""Rules judged by hand-counted texts; functions whose faults are reported with the text."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import ConfigError, DataError, NumericsError
from accord.reward.rules import Forbidden, FunctionReward, Length, Repetition, load_function, plain_letters
from accord.types import Completion, Prompt, Score, Scorer

PROMPT = Prompt.from_text("say")


def value(rule, text: str) -> float:
    (score,) = rule.score(PROMPT, [Completion(text)])
    return score.value


# -- length, repetition ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("", 0.25),
        ("a", 0.5),
        ("a b", 0.75),
        ("a b c", 1.0),
        ("a b c d", 1.0),
        ("a b c d e", 0.75),
        ("a b c d e f g", 0.25),
        ("a b c d e f g h", 0.0),
        (" ".join("a" * 50), 0.0),
    ],
)
def test_length_falls_linearly_outside_of_the_band(text, worth):
    assert value(Length(shortest=3, longest=4, margin=3), text) == worth


def test_length_in_characters_and_its_reason():
    (score,) = Length(unit="characters", longest=3).score(PROMPT, [Completion("abcd")])
    assert (score.value, score.parts["length"]) == (0.0, 4.0)
    assert score.why == "4 characters, asked for 0 to 3"
    assert value(Length(unit="characters", longest=4), "abcd") == 1.0


def test_a_band_that_nothing_fits_is_refused():
    with pytest.raises(ConfigError, match="shortest 5 is above longest 4"):
        Length.build({"shortest": 5, "longest": 4})


def test_repetition_is_the_share_that_came_before():
    assert value(Repetition(), "yes yes yes yes yes") == pytest.approx(-2 / 3)
    assert value(Repetition(n=1), "a b a b") == -0.5
    assert value(Repetition(), "never the same words") == value(Repetition(), "") == 0.0


# -- forbidden words ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "you fool",
        "FOOL!",
        "Fool.",
        "fo\u200bol",
        "ｆｏｏｌ",
        "(fool)",
        "a stupid   thing",
        "stupid\nthing",
        "Fool's",
    ],
)
def test_what_is_forbidden_is_found_however_it_is_dressed(text):
    assert value(Forbidden(words=("fool", "stupid thing")), text) == -1.0


@pytest.mark.parametrize("text", ["foolish", "tomfoolery", "stupid other thing", "", "f o o l"])
def test_a_word_inside_another_is_not_the_word(text):
    assert value(Forbidden(words=("fool", "stupid thing")), text) == 0.0


def test_inside_longer_words_on_request_and_all_are_named():
    (score,) = Forbidden(words=("fool", "ass", "x."), inside=True).score(
        PROMPT, [Completion("Foolish pass xy")]
    )
    assert (score.value, score.parts["found"], score.why) == (-1.0, 2.0, "fool, ass")


@pytest.mark.parametrize("words", [(), ("",), ("ok", "\u200b ")])
def test_an_empty_word_would_forbid_everything_and_is_refused(words):
    with pytest.raises(ConfigError):
        Forbidden.build({"words": words})


@given(st.text(max_size=12))
def test_plain_letters_are_stable(text):
    """Dressing a text twice is no more than once, or a word could hide behind a second layer."""
    assert plain_letters(plain_letters(text)) == plain_letters(text)


# -- functions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said", [1, 1.0, True, np.float32(1), np.array(1.0), torch.tensor(1.0), Score(1.0, {}, "so")]
)
def test_a_function_says_any_kind_of_number(said):
    (score,) = FunctionReward(lambda prompt, completion: said).score(PROMPT, [Completion("x")])
    assert score.value == 1.0


@pytest.mark.parametrize("said", [None, "1", [1.0], np.zeros(2)])
def test_what_is_no_number_is_an_error_with_the_text(said):
    with pytest.raises(DataError, match=r"function judge returned .* for the completion 'hello' of prompt"):
        FunctionReward(lambda prompt, completion: said, "judge").score(PROMPT, [Completion("hello")])


@pytest.mark.parametrize("said", [math.nan, math.inf, Score(math.nan), np.float64("nan")])
def test_nan_from_a_function_is_an_error(said):
    with pytest.raises(NumericsError, match=r"returned (nan|inf)"):
        FunctionReward(lambda prompt, completion: said).score(PROMPT, [Completion("hello")])


def test_an_exception_is_reported_with_the_text_and_kept_as_the_cause():
    def judge(prompt, completion):
        return 1 / 0

    with pytest.raises(DataError, match=r"raised ZeroDivisionError.*'hello'") as caught:
        FunctionReward(judge).score(PROMPT, [Completion("hello")])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my_planted_rules.py").write_text(
        "def polite(prompt, completion):\n    return float('please' in completion.text)\n"
        "class Fixed:\n    def score(self, prompt, completions):\n"
        "        from accord.types import Score\n        return [Score(7.0) for _ in completions]\n"
        "class Needs:\n    def __init__(self, x): pass\n"
        "ready = Fixed()\nnumber = 3\n"
    )
    (tmp_path / "my_broken_rules.py").write_text("raise RuntimeError('torn')\n")
    yield tmp_path
    sys.modules.pop("my_planted_rules", None)


@pytest.mark.parametrize(
    ("name", "worth"), [("polite", 1.0), ("Fixed", 7.0), ("ready", 7.0), ("ready.score.__self__", 7.0)]
)
def test_a_function_a_scorer_and_a_class_are_loaded_by_name(module, name, worth):
    scorer = load_function(f"my_planted_rules:{name}", module)
    assert isinstance(scorer, Scorer)
    assert [s.value for s in scorer.score(PROMPT, [Completion("please")])] == [worth]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_planted_rules", "MODULE:NAME"),
        (":polite", "MODULE:NAME"),
        ("my_planted_rules:rude", "has no 'rude'"),
        ("my_planted_rules:number", "neither a function nor a Scorer"),
        ("my_planted_rules:Needs", "cannot be made without arguments"),
        ("no_such_module_here:x", "could not be imported"),
        ("my_broken_rules:x", "RuntimeError: torn"),
    ],
)
def test_a_name_that_is_none_says_what_is_wrong(module, name, said):
    with pytest.raises(ConfigError, match=said):
        load_function(name, module)
