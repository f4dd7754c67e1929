"""Suite files: what is read, what is refused and where, and that all that come with accord are sound."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from accord.errors import AccordError, ConfigError, DataError
from accord.evaluate.contamination import overlap
from accord.evaluate.suite import Take, built_in, find, read_suite
from accord.feedback.formats.files import numbered_rows
from realdata import real_data, real_folder

GOOD = """about = "A test."
main = "b"
by = "kind"

[scorer.refusal]
kind = "refusal"
opening = 9

[[figure]]
name = "a"
of = "words"
better = "neither"

[[figure]]
name = "b"
of = "refusal"
where = { label = "unsafe" }
percent = true

[[prompt]]
text = "One?"
label = "unsafe"
[[prompt]]
text = "Two?"
label = "safe"
"""


def no_rows(path: Path) -> Iterable[tuple[str, Mapping[str, Any] | DataError]]:
    raise AssertionError(path)


def read(tmp_path: Path, text: str, rows: Any = no_rows, data: Any = ()) -> Any:
    file = tmp_path / "own.toml"
    file.write_text(text)
    return read_suite(file, rows, data)


def test_a_suite_says_what_it_is(tmp_path: Path) -> None:
    suite = read(tmp_path, GOOD)
    assert suite.name == "own"
    assert [(p.text, p.meta["label"]) for p in suite.prompts] == [("One?", "unsafe"), ("Two?", "safe")]
    assert suite.main.name == "b"
    assert suite.figures[0].take is Take.MEAN
    assert suite.scorers["refusal"].settings == {"opening": 9}
    assert suite.hash != read(tmp_path, GOOD.replace("One?", "Won?")).hash


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('about = "A test."', "about = ", "line 1"),
        ('about = "A test."\n', "", "about"),
        ('main = "b"', 'mian = "b"', "did you mean 'main'"),
        ('main = "b"', 'main = "c"', "known: a, b"),
        ('main = "b"', 'main = "a"', "cannot rank"),
        ('of = "words"', 'of = "words.x"', "own.toml:9 [[figure]]: of = 'words.x': words has no parts"),
        ('of = "words"', 'of = "diversity"', "own.toml:9 [[figure]]: diversity is of several answers"),
        ('of = "words"', 'of = "words"\ntake = "calibration"', "states no confidence"),
        (
            'of = "words"',
            'of = "word"',
            "own.toml:9 [[figure]]: of = 'word' is no scorer or measure; did you",
        ),
        ('of = "refusal"', 'off = "refusal"', "own.toml:14 [[figure]]"),
        ("percent = true", "percent = 3", "own.toml:14 [[figure]]: percent"),
        ('name = "b"', 'name = "a"', "stands twice"),
        ("percent = true", 'beside = "z"', "beside = 'z'"),
        ('kind = "refusal"\n', "", "own.toml:5 [scorer.refusal]: no kind"),
        ('text = "Two?"', 'txt = "Two?"', "own.toml:23 [[prompt]]: no text"),
        ("[scorer.refusal]", '[prompts]\nsource = "workspace"\n[scorer.refusal]', "either a table [prompts]"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as told:
        read(tmp_path, GOOD.replace(old, new))
    assert said in str(told.value)


ROWS = """about = "Rows."
[prompts]
file = "rows.jsonl"
text = "Q: {q}"
id = "n"
cluster = "topic"
where = { topic = ["x", "y"] }
limit = 2
of_each = "topic"
[[figure]]
name = "words"
of = "words"
"""


def rows(path: Path) -> Iterable[tuple[str, Mapping[str, Any] | DataError]]:
    for n in range(12):
        yield f"{path}:{n}", {"n": n, "q": f"{{n}} is {n}?", "topic": "xyz"[n % 3]}


def test_rows_become_prompts_and_a_limit_always_picks_the_same(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.jsonl").touch()
    suite = read(tmp_path, ROWS, rows, [tmp_path / "data"])
    assert len(suite.prompts) == 4
    assert {p.meta["cluster"] for p in suite.prompts} == {"x", "y"}
    first = suite.prompts[0]
    assert first.text == f"Q: {{n}} is {first.id}?"  # a row's own braces are text
    again = read(tmp_path, ROWS, lambda path: reversed(list(rows(path))), [tmp_path / "data"])
    assert {p.id for p in again.prompts} == {p.id for p in suite.prompts}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{q}", "{question}", "no column 'question'; the columns are n, q, topic"),
        ('id = "n"', 'id = "nn"', "no column 'nn'"),
        ('cluster = "topic"', 'cluster = "tpic"', "no column 'tpic'"),
        ('of_each = "topic"', 'of_each = "tpic"', "no column 'tpic'"),
        ('id = "n"', 'id = "topic"', "the id 'x' stands on two prompts"),
        ('["x", "y"]', '"w"', "no row"),
        ("topic = [", "tpic = [", "no column 'tpic'"),
        ("rows.jsonl", "other.jsonl", "--data"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "rows.jsonl").touch()
    with pytest.raises(DataError) as told:
        read(tmp_path, ROWS.replace(old, new), rows)
    assert said in str(told.value)


def test_a_copy_of_a_row_is_found_without_the_words_of_the_template(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    told = "Which river runs through the old town?"
    text = re.sub("(?m)^(id|cluster|where|limit|of_each) .*\n", "", ROWS).replace("{q}", "{question}\\nA:")
    suite = read(tmp_path, text, lambda path: [("r:1", {"question": told})])
    assert suite.prompts[0].text == f"Q: {told}\nA:"
    assert overlap(suite.prompts, [f"Somebody asked. {told} Nobody knew."]).whole == (suite.prompts[0].id,)


def test_a_bad_row_is_not_left_out_in_silence(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    with pytest.raises(DataError, match=r"rows:3: not JSON"):
        read(tmp_path, ROWS, lambda path: [("rows:3", DataError("not JSON"))])


@pytest.mark.parametrize("name", sorted(built_in()))
def test_every_suite_that_comes_along_can_be_read(name: str) -> None:
    file = re.search(r'^file = "(.*)\.jsonl\.gz"', find(name).read_text(), re.M)
    if file:
        real_data(file[1])
    suite = read_suite(find(name), numbered_rows, [real_folder()])
    assert len(suite.table.about) > 40
    for figure in suite.figures:  # what is to be shown together is
        if "refusal" in figure.name:
            assert figure.beside


def test_the_published_red_team_prompts_run_as_a_suite() -> None:
    real_data("red-team-prompts/prompts")
    suite = read_suite(find("xstest"), numbered_rows, [real_folder()])
    labels = [p.meta["label"] for p in suite.prompts]
    assert (labels.count("safe"), labels.count("unsafe")) == (248, 197)


def test_an_unknown_suite_is_named_with_its_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'refusal'"):
        find("refusals")
    with pytest.raises(AccordError, match="xstest"):
        find("something else")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_suite(Path("none.toml"), no_rows)
