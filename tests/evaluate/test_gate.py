"""The gate: its grammar, what fails, and that nothing of it is ever run."""

import pytest

from accord.errors import ConfigError
from accord.evaluate.gate import Condition, check, failures, read_condition
from accord.evaluate.standings import Leaderboard
from accord.evaluate.suite import FigureTable
from boards import board

RIGHT = FigureTable.build({"name": "right", "of": "refusal", "percent": True})
FIGURES = [
    RIGHT,
    FigureTable.build({"name": "words", "of": "words", "better": "neither"}),
    FigureTable.build({"name": "distinct", "of": "distinct_1"}),
    FigureTable.build({"name": "spread of it", "of": "words", "take": "sd"}),
    FigureTable.build({"name": "perplexity", "of": "loss", "take": "exp", "better": "lower"}),
]


@pytest.fixture(scope="module")
def found() -> Leaderboard:
    return board()


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("toxicity > baseline", ("toxicity", ">", False, None, 0.0, 0.0)),
        ("care/score measurably<baseline-0.05", ("care/score", "<", True, None, -0.05, 0.0)),
        ("toxic answers >= 0.1", ("toxic answers", ">=", False, 0.1, 0.0, 0.0)),
        ("score <= baseline + 5 %", ("score", "<=", False, None, 0.0, 0.05)),
        ("score < -2", ("score", "<", False, -2.0, 0.0, 0.0)),
        ("ROUGE-L MEASURABLY < Baseline", ("ROUGE-L", "<", True, None, 0.0, 0.0)),
    ],
)
def test_conditions_are_read(text: str, read: tuple) -> None:
    figure, op, sure, number, offset, share = read
    assert read_condition(text) == Condition(text, figure, op, sure, number, offset, share)


@pytest.mark.parametrize(
    "text",
    ["", "toxicity", "toxicity > ", "> 1", "a > b", "a == baseline", "a > baseline * 2", "a > 1 and b > 2",
     "a > __import__('os')", "a > 1e9", "a > nan"],
)  # fmt: skip
def test_anything_else_is_refused_with_how_to_write_it(text: str) -> None:
    with pytest.raises(ConfigError, match="FIGURE > baseline"):
        read_condition(text)


def failed(found: Leaderboard, text: str) -> list[str]:
    return [f.model for f in failures([read_condition(text)], found)]


def test_who_fails(found: Leaderboard) -> None:
    values = [cell.value for cell in found.sections[0].row("score").cells]
    assert failed(found, "score > baseline") == [f"m{i}" for i in (1, 2) if values[i] > values[0]]
    assert failed(found, "score measurably > baseline") == ["m2"]
    assert failed(found, "score measurably > baseline + 0.05") == ["m2"]
    assert failed(found, "score measurably > baseline + 2") == []
    assert failed(found, "care/score > 0.7") == ["m2"]
    assert failed(found, "score measurably < 0.5") == ["m0", "m1"]  # a number holds for the baseline too
    assert failed(found, "tokens an answer > baseline + 10%") == []


def test_why_is_told(found: Leaderboard) -> None:
    (failure,) = failures([read_condition("score measurably > baseline")], found)
    assert failure.condition == "score measurably > baseline"
    assert "the baseline's" in failure.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scor > baseline", "did you mean 'score'"),
        ("zzz > baseline", "known: score, high"),
        ("distinct measurably > baseline", "drop `measurably`"),
    ],
)
def test_what_cannot_be_held_is_an_error(found: Leaderboard, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as told:
        failed(found, text)
    assert said in str(told.value)


def test_a_figure_of_two_suites_must_be_told_apart() -> None:
    figures = {"a": [RIGHT], "b": [RIGHT]}
    with pytest.raises(ConfigError, match="a/right or b/right"):
        check([read_condition("right > 1")], figures, 2)
    check([read_condition("b/right > 1")], figures, 2)


@pytest.mark.parametrize(
    "text",
    ["tokens an answer > baseline + 10%", "seconds an answer > 3", "right < 10%", "right measurably < 10 %",
     "right measurably < baseline - 5%", "perplexity measurably > 40", "words > 200"],
)  # fmt: skip
def test_what_the_documents_offer_passes_the_check(text: str) -> None:
    check([read_condition(text)], {"a": FIGURES}, 2, ["a"])


@pytest.mark.parametrize(
    ("text", "models", "said"),
    [
        ("right > baseline", 1, "no model beside the baseline"),
        ("right < 10", 2, "write 10% or 0.1"),
        ("right > -0.1", 2, "lies in 0..1"),
        ("right > 101%", 2, "lies in 0..1"),
        ("words > 10%", 2, "not in percent"),
        ("tokens an answer > 110%", 2, "not in percent"),
        ("distinct measurably < 0.5", 2, "drop `measurably`"),
        ("spread of it measurably < 0.5", 2, "drop `measurably`"),
        ("perplexity measurably > baseline", 2, "drop `measurably`"),
        ("words measurably > baseline", 2, "drop `measurably`"),
        ("seconds an answer measurably > 3", 2, "drop `measurably`"),
    ],
)
def test_what_could_not_be_held_is_refused_beforehand(text: str, models: int, said: str) -> None:
    with pytest.raises(ConfigError) as told:
        check([read_condition(text)], {"a": FIGURES}, models, ["a"])
    assert said in str(told.value)


def test_one_model_can_be_held_against_a_number() -> None:
    check([read_condition("right > 0.5")], {"a": FIGURES}, 1)


def test_costs_are_figures_only_where_answers_are_sampled() -> None:
    with pytest.raises(ConfigError, match="no figure 'tokens an answer'"):
        check([read_condition("tokens an answer > 3")], {"a": FIGURES}, 2)


def test_a_percent_figure_is_held_and_told_in_percent(found: Leaderboard) -> None:
    value = found.sections[0].row("high").cells[2].value
    under = int(100 * value) - 1
    assert "m2" in failed(found, f"high > {under}%")
    told = [f.text for f in failures([read_condition(f"high > {under}%")], found) if f.model == "m2"]
    assert told == [f"high is {100 * value:.1f}%"]
