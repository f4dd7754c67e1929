"""Verifiers: numbers read by hand, published judgements of real solutions, patterns that never end."""

from __future__ import annotations

import math
import re
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import ConfigError, DataError
from accord.reward.verify import JsonShape, NumberMatch, Pattern, numbers_in
from accord.types import Completion, Prompt
from realdata import real_data


def one(rule, text: str, **meta) -> float:
    (score,) = rule.score(Prompt.from_text("?", meta=meta), [Completion(text)])
    return score.value


# -- reading numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("42", [42]),
        ("The answer is 42.", [42]),
        ("-5", [-5]),
        ("−8 °C", [-8]),
        ("(-3)", [-3]),
        ("-.5", ["-1/2"]),
        ("$-5 or -$6", [-5, -6]),
        ("$1,234.50", ["2469/2"]),
        ("1,234,567", [1234567]),
        ("1'000 1_000", [1000, 1000]),
        ("1\u202f000", [1000]),
        ("1,2,3", [1, 2, 3]),
        ("12,34", [12, 34]),
        ("3/4", ["3/4"]),
        ("It is 1/2.", ["1/2"]),
        ("1 1/2 cups", ["3/2"]),
        ("-1/4", ["-1/4"]),
        (r"\frac{3}{4}", ["3/4"]),
        (r"\dfrac{-3}{4}", ["-3/4"]),
        ("5e-2 1E3", ["1/20", 1000]),
        ("5eggs 7km", [5, 7]),
        ("10%", [10]),
        ("3-4", [3, 4]),
        ("7 - 5", [7, 5]),
        ("x12 B7", []),
        ("1.2.3", ["6/5"]),
        ("12/25/2020", [12, 25, 2020]),
        ("3/0", []),
        ("none", []),
        ("", []),
        ("1e999", []),
        ("9" * 41, []),
    ],
)
def test_numbers_as_people_write_them(text, read):
    assert numbers_in(text) == [Fraction(each) for each in read]


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "${:,}", "{:,} km", "= {:_}.", "So {}"]))
def test_a_written_integer_is_read_back(number, form):
    shown = form.format(number)
    assert numbers_in(shown)[-1] == number


@given(st.decimals(-1000000, 1000000, places=4))
def test_a_written_decimal_is_read_back(number):
    assert numbers_in(f"about {number:,} litres") == [Fraction(number)]


@given(st.text(max_size=60))
def test_any_text_can_be_read(text):
    assert all(isinstance(each, Fraction) for each in numbers_in(text))


def test_a_wall_of_digits_takes_no_time():
    started = time.process_time()
    for text in (
        "9" * 50_000,
        "1," * 25_000,
        "-" * 50_000,
        "$" * 50_000 + "1",
        "1 " * 25_000 + "1/",
        "\\frac{" * 9_000,
    ):
        numbers_in(text)
    assert time.process_time() - started < 20  # quadratic work on these would take minutes


# -- matching them -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "right", "worth"),
    [
        ("So 3 + 4 = 7", 7, 1),
        ("So 3 + 4 = 8", 7, 0),
        ("7, or maybe 8", 7, 0),
        ("It costs $1,000.00.", "1000", 1),
        ("0.3333", Fraction(1, 3) + 0.0, 0),
        ("1/3", 1 / 3, 1),
        ("0.1", 0.1, 1),
        ("3431581", 3431580.0, 0),
        ("-7", 7, 0),
        ("seven", 7, 0),
        ("", 7, 0),
        ("7 apples", "#### 7", 1),
        ("3431580", 3431580.0, 1),
        ("3431584", 3431580.0, 0),
        ("0", 0, 1),
        ("1e-9", 0, 0),
    ],
)
def test_the_last_number_is_the_answer(text, right, worth):
    assert one(NumberMatch(), text, answer=right) == worth


def test_tolerances_are_of_the_reference_and_of_the_unit():
    assert one(NumberMatch(relative=0.01), "101", answer=100) == 1
    assert one(NumberMatch(relative=0.01), "101.1", answer=100) == 0
    assert one(NumberMatch(relative=0, absolute=0.5), "99.5", answer=100) == 1
    assert one(NumberMatch(relative=0), "100.0000001", answer=100) == 0


def test_behind_a_marker_the_first_number_counts_and_the_last_marker():
    rule = NumberMatch(marker="the answer is")
    assert one(rule, "The answer is 5. No: The Answer is 7, not 5", answer=7) == 1
    assert one(rule, "7", answer=7) == 0
    assert one(rule, "the answer is unknown", answer=7) == 0
    assert one(NumberMatch(marker=r"\boxed{"), r"= \boxed{7}, see page 3", answer=7) == 1


@pytest.mark.parametrize("answer", [None, "", "none", True, math.nan, math.inf, [7]])
def test_a_prompt_without_a_number_is_an_error_and_no_zero(answer):
    with pytest.raises(DataError, match=r"no number in meta\['answer'\]"):
        one(NumberMatch(), "7", answer=answer)


def test_it_agrees_with_the_publishers_of_gsm8k_on_every_model_solution():
    """4,220 solutions of four models, each with the publisher's own verdict."""
    wrong, seen = [], 0
    for row in real_data("gsm8k/model_solutions_test"):
        prompt = Prompt.from_text(row["question"], meta={"answer": row["reference"]})
        scores = NumberMatch().score(prompt, [Completion(s["solution"]) for s in row["solutions"]])
        for solution, score in zip(row["solutions"], scores, strict=True):
            seen += 1
            if bool(score.value) != solution["is_correct"]:
                wrong.append((row["id"], solution["model"], score.why))
    assert seen > 4000
    assert wrong == []


def test_every_published_solution_and_answer_of_the_reasoning_sets_is_read():
    rows = real_data("gsm8k/train")[:400]
    for row in rows:  # some solutions end on another number, so the publisher marks the answer with ####
        said = f"{row['solution']}\n#### {row['answer']}"
        assert one(NumberMatch(), said, answer=row["answer"]) == 1, row
        assert one(NumberMatch(marker="####"), said, answer=said) == 1, row
    numeric = [row for row in real_data("pal-reasoning/math") if isinstance(row["answer"], int | float)]
    assert len(numeric) > 6000
    for row in numeric[::6]:
        said = f"The answer is {row['answer']:,} of them."
        assert one(NumberMatch(), said, answer=row["answer"]) == 1, row
        assert one(NumberMatch(), f"The answer is {row['answer'] + 1:,}.", answer=row["answer"]) == 0, row


# -- patterns ----------------------------------------------------------------------------------


def test_the_whole_text_has_to_match_unless_a_part_may():
    assert one(Pattern(pattern=r"\d+ euro"), "30 euro") == 1
    assert one(Pattern(pattern=r"\d+ euro"), "about 30 euro") == 0
    assert one(Pattern(pattern=r"\d+ euro", whole=False), "about 30 euro") == 1
    assert one(Pattern(pattern=r"(?is)answer:.*"), "ANSWER:\nyes") == 1


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*$", "(a|aa)+$", "(.*a){20}$", "^(([a-z])+.)+[A-Z]([a-z])+$"]
)
def test_a_pattern_that_never_ends_is_cut_off_and_fails(pattern):
    started = time.monotonic()
    rule = Pattern(pattern=pattern, seconds=0.05)
    (score,) = rule.score(Prompt.from_text("?"), [Completion("a" * 60 + "!")])
    assert score.value == 0.0
    assert time.monotonic() - started < 20
    if score.parts["timed_out"]:
        assert "within 0.05 s" in score.why


def test_the_clock_is_what_ends_it():
    (score,) = Pattern(pattern="(a|aa)+$", seconds=0.05).score(
        Prompt.from_text("?"), [Completion("a" * 60 + "!")]
    )
    assert score.parts["timed_out"] == 1.0


@pytest.mark.parametrize("pattern", ["(", "[a", "", "(?P<x>a)(?P<x"])
def test_what_is_no_pattern_is_refused_when_it_is_set(pattern):
    with pytest.raises(ConfigError):
        Pattern.build({"pattern": pattern})


@given(st.text("ab1 \n", max_size=12))
def test_it_is_the_full_match_that_python_means(text):
    assert one(Pattern(pattern=r"a[ab]*\d?"), text) == bool(re.fullmatch(r"a[ab]*\d?", text))


# -- JSON --------------------------------------------------------------------------------------

SHAPE = JsonShape(keys={"name": "text", "age": "integer", "tags": "list", "ok": "bool"})
GOOD = '{"name": "x", "age": 3, "tags": [], "ok": true}'


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        (GOOD, 1),
        (GOOD.replace("}", ', "more": 1}'), 1),
        ("{}", 0),
        ("[]", 0),
        ("", 0),
        ("null", 0),
        ("not json", 0),
        (GOOD.replace("3", '"3"'), 0),
        (GOOD.replace("3", "3.5"), 0),
        (GOOD.replace("3", "true"), 0),
        (GOOD.replace("true", "1"), 0),
        (GOOD.replace("3", "NaN"), 0),
        (GOOD + GOOD, 0),
        ("[" * 100_000, 0),
        ('{"a":' * 100_000, 0),
        (GOOD.replace('"age"', '"name"'), 0),
        (GOOD.replace("3", "9" * 5000), 0),
    ],
)
def test_json_has_the_shape_or_it_has_not(text, worth):
    assert one(SHAPE, text) == worth


def test_other_keys_and_fences_by_choice():
    assert one(JsonShape(keys={"a": "any"}, more=False), '{"a": null}') == 1
    assert one(JsonShape(keys={"a": "any"}, more=False), '{"a": 1, "b": 2}') == 0
    fenced = 'Here:\n```json\n{}\n```\nor\n```\n{"a": 2}\n```'
    assert one(JsonShape(keys={"a": "number"}, fenced=True), fenced) == 1
    assert one(JsonShape(keys={"a": "number"}, fenced=True), '{"a": 2}') == 0
    assert one(JsonShape(keys={"a": "number"}), fenced) == 0


def test_two_of_one_key_are_no_object_whichever_is_right():
    assert one(JsonShape(keys={"a": "integer"}), '{"a": "x", "a": 1}') == 0
