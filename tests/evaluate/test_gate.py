"""The gate: its grammar, what fails, and that nothing of it is ever run."""

import pytest

from accord.errors import ConfigError
from accord.evaluate.gate import Condition, check, failures, read_condition
from accord.evaluate.standings import Leaderboard
from boards import board


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
    figures = {"a": ["right"], "b": ["right"]}
    with pytest.raises(ConfigError, match="a/right or b/right"):
        check([read_condition("right > 1")], figures)
    check([read_condition("b/right > 1")], figures)
