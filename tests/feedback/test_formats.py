"""Formats read by hand-made rows: what each layout means, and what a bad row says."""

import contextlib
import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from accord.errors import AccordError, ConfigError, DataError
from accord.feedback.formats.gather import Feedback
from accord.feedback.formats.read import read_feedback
from accord.types import Message, digest


def jsonl(tmp_path: Path, *rows: object, name: str = "rows.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def texts(feedback: Feedback, prompt_id: str | None = None) -> dict[str, str]:
    """Completion id to text."""
    return {
        c.id: c.text for id, group in feedback.completions.items() for c in group if prompt_id in (None, id)
    }


def only_pair(feedback: Feedback) -> tuple[tuple[Message, ...], str, str]:
    """The messages, chosen and rejected of a feedback with one strict pair."""
    (ranking,), (prompt,) = feedback.rankings, feedback.prompts.values()
    (chosen,), (rejected,) = ranking.tiers
    return prompt.messages, texts(feedback)[chosen], texts(feedback)[rejected]


U, A = "user", "assistant"
HI = (Message(U, "Hi"),)

PAIRS = {
    "standard": (
        {"prompt": "Hi", "chosen": "Hello!", "rejected": "No."},
        "trl-preference",
        HI,
        "Hello!",
        "No.",
    ),
    "conversational": (
        {
            "prompt": [{"role": "system", "content": "Be kind."}, {"role": U, "content": "Hi"}],
            "chosen": [{"role": A, "content": "Hello!"}],
            "rejected": [{"role": A, "content": ""}],
        },
        "trl-preference",
        (Message("system", "Be kind."), *HI),
        "Hello!",
        "",
    ),
    "prompt repeated in the sides": (
        {
            "prompt": "Hi",
            "chosen": [{"role": U, "content": "Hi"}, {"role": A, "content": "Hello!"}],
            "rejected": [{"role": U, "content": "Hi"}, {"role": A, "content": "No."}],
        },
        "trl-preference",
        HI,
        "Hello!",
        "No.",
    ),
    "implicit string, cut at a word": (
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
        "trl-implicit",
        (Message(U, "The sky is"),),
        " blue.",
        " black.",
    ),
    "implicit string, one side ends": (
        {"chosen": "Say it", "rejected": "Say it again"},
        "trl-implicit",
        (Message(U, "Say it"),),
        "",
        " again",
    ),
    "implicit messages": (
        {
            "chosen": [{"role": U, "content": "Hi"}, {"role": A, "content": "Hello!"}],
            "rejected": [{"role": U, "content": "Hi"}, {"role": A, "content": "Hell no."}],
        },
        "trl-implicit",
        HI,
        "Hello!",
        "Hell no.",
    ),
    "openrlhf": ({"input": "Hi", "chosen": "Hello!", "rejected": "No."}, "openrlhf", HI, "Hello!", "No."),
    "hh": (
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: Hm?\n\nHuman: Hi!\n\nAssistant: Hello!",
            "rejected": "\n\nHuman: Hi\n\nAssistant: Hm?\n\nHuman: Hi!\n\nAssistant: Hell no.",
        },
        "hh",
        (*HI, Message(A, "Hm?"), Message(U, "Hi!")),
        "Hello!",
        "Hell no.",
    ),
    "hh with prompt": (
        {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": " Hello!", "rejected": " No."},
        "hh",
        HI,
        "Hello!",
        "No.",
    ),
    "hh with prompt and whole transcripts": (
        {
            "prompt": "\n\nHuman: Hi\n\nAssistant:",
            "chosen": "\n\nHuman: Hi\n\nAssistant: Hello!",
            "rejected": "\n\nHuman: Hi\n\nAssistant: No.",
        },
        "hh",
        HI,
        "Hello!",
        "No.",
    ),
}


@pytest.mark.parametrize("case", PAIRS)
def test_each_pair_layout_is_detected_and_read(tmp_path: Path, case: str) -> None:
    row, format, messages, chosen, rejected = PAIRS[case]
    feedback = read_feedback(jsonl(tmp_path, row))
    assert feedback.format == format
    assert only_pair(feedback) == (messages, chosen, rejected)
    (ranking,) = feedback.rankings
    assert (ranking.labeler, ranking.source) == ("imported", f"import:{format}")
    assert feedback.rows == 1
    assert not feedback.problems
    assert not feedback.notes


def test_ids_are_digests_and_equal_texts_meet(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "chosen": "a", "rejected": "b"}
    feedback = read_feedback(jsonl(tmp_path, row, {**row, "rejected": "c"}, row))
    (prompt,) = feedback.prompts.values()
    assert prompt.id == digest([("user", "Hi")])
    assert [c.id for c in feedback.completions[prompt.id]] == [digest(prompt.id, t) for t in "abc"]
    assert len(feedback.rankings) == 3, "a repeated row is a second judgement, not a mistake"


def test_two_equal_texts_stay_two_completions_and_are_noted(tmp_path: Path) -> None:
    feedback = read_feedback(jsonl(tmp_path, {"prompt": "Hi", "chosen": "a", "rejected": "a"}))
    assert len(set(texts(feedback))) == 2
    assert feedback.notes == {"pairs of two equal texts": 1}
    assert "pairs of two equal texts (1)" in feedback.describe()


def test_rankings_as_tiers(tmp_path: Path) -> None:
    row = {
        "prompt": "Hi",
        "completions": ["a", "b", "c", "d", "e"],
        "tiers": [[2], [0, 1]],
        "fails": [3],
        "shown": [4, 3, 2, 1, 0],
        "labeler": "mira",
        "seconds": 7.5,
    }
    feedback = read_feedback(jsonl(tmp_path, row))
    (ranking,), text = feedback.rankings, texts(feedback)
    assert [[text[id] for id in tier] for tier in ranking.tiers] == [["c"], ["a", "b"]]
    assert [text[id] for id in ranking.fails] == ["d"]
    assert [text[id] for id in ranking.shown] == ["e", "d", "c", "b", "a"]
    assert (ranking.labeler, ranking.seconds, feedback.format) == ("mira", 7.5, "rankings")


def test_rankings_as_ranks_with_ties_and_gaps(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "completions": ["a", "b", "c", "d"], "rank": [10, 2, None, 2]}
    feedback = read_feedback(jsonl(tmp_path, row))
    (ranking,), text = feedback.rankings, texts(feedback)
    assert [[text[id] for id in tier] for tier in ranking.tiers] == [["b", "d"], ["a"]]
    assert ranking.shown == (), "the list's order is not the order on a screen"
    assert len(text) == 4, "the unranked one was shown too"


def test_unpaired_labels(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "completion": c, "label": v} for c, v in [("a", True), ("b", False), ("c", 1)]]
    feedback = read_feedback(jsonl(tmp_path, *rows))
    assert [(texts(feedback)[t.completion_id], t.up) for t in feedback.thumbs] == [
        ("a", True),
        ("b", False),
        ("c", True),
    ]


def test_soft_and_joint_pairs_are_comparisons_not_one_persons_ranking(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "chosen": "a", "rejected": "b"}
    rows = [
        row | {"p_chosen": 0.8, "labelers": ["x", "y"]},
        row | {"p_chosen": 0.5, "labeler": "x", "source": "simulated"},
        row | {"p_chosen": 1, "n_labelers": 3},
    ]
    feedback = read_feedback(jsonl(tmp_path, *rows))
    assert [(c.p_chosen, c.labelers) for c in feedback.comparisons] == [(0.8, ("x", "y")), (1.0, ())]
    (tie,) = feedback.rankings
    assert (len(tie.tiers), tie.labeler, tie.source) == (1, "x", "simulated")
    assert feedback.notes == {"pairs of several labelers without their names": 1}


def test_columns_are_renamed_and_leftovers_counted(tmp_path: Path) -> None:
    row = {"question": "Hi", "good": "a", "bad": "b", "margin": 2, "source": "some web page", "tools": None}
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    feedback = read_feedback(jsonl(tmp_path, row, row), columns=columns)
    assert only_pair(read_feedback(jsonl(tmp_path, row), columns=columns)) == (HI, "a", "b")
    assert feedback.notes == {"column 'margin' not used": 2, "'source' that is not a kind of labeler": 2}


def test_the_files_own_column_of_a_renamed_name_is_counted(tmp_path: Path) -> None:
    row = {"prompt": "unused", "question": "Hi", "chosen": "a", "rejected": "b"}
    feedback = read_feedback(jsonl(tmp_path, row), columns={"prompt": "question"})
    assert only_pair(feedback)[0] == HI
    assert list(feedback.notes) == ['column "prompt (the file\'s own)" not used']


def test_limit_reads_no_further(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"prompt": "Hi", "chosen": "a", "rejected": "b"}, "broken")
    assert read_feedback(path, limit=1).rows == 1


BAD_ROWS = {
    "no chosen": ({"prompt": "Hi", "rejected": "b"}, "no column 'chosen'"),
    "a number": ({"prompt": "Hi", "chosen": 5, "rejected": "b"}, "column 'chosen' must hold text: 5"),
    "null": ({"prompt": "Hi", "chosen": "a", "rejected": None}, "column 'rejected' must hold text: None"),
    "empty prompt": ({"prompt": "", "chosen": "a", "rejected": "b"}, "'prompt' is empty"),
    "half surrogate": ({"prompt": "Hi", "chosen": "\ud800", "rejected": "b"}, "half a surrogate"),
    "probability": ({"prompt": "Hi", "chosen": "a", "rejected": "b", "p_chosen": 0.3}, "'p_chosen' is 0.3"),
    "labelers": (
        {"prompt": "Hi", "chosen": "a", "rejected": "b", "labelers": ["x"], "n_labelers": 2},
        "'n_labelers' is 2",
    ),
    "role": ({"prompt": [{"role": "bot", "content": "x"}], "chosen": "a", "rejected": "b"}, "'role': 'bot'"),
    "tool call": (
        {"prompt": [{"role": U, "content": "x", "tool_calls": [1]}], "chosen": "a", "rejected": "b"},
        "'tool_calls'",
    ),
    "assistant last": (
        {"prompt": [{"role": A, "content": "x"}], "chosen": "a", "rejected": "b"},
        "must end with a message that is not the assistant's",
    ),
    "not an object": (["prompt"], "not a JSON object"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_names_place_and_value_and_can_be_skipped(tmp_path: Path, case: str) -> None:
    row, message = BAD_ROWS[case]
    path = tmp_path / "rows.jsonl"
    good = json.dumps({"prompt": "Hi", "chosen": "a", "rejected": "b"})
    path.write_text(f"{good}\n\n{json.dumps(row)}\n{good}\n")
    with pytest.raises(DataError) as caught:
        read_feedback(path)
    assert f"{path}:3: " in str(caught.value)
    assert message in str(caught.value)
    feedback = read_feedback(path, on_error="skip")
    assert (feedback.rows, len(feedback.rankings), len(feedback.prompts)) == (3, 2, 1)
    assert [problem.where for problem in feedback.problems] == [f"{path}:3"]
    assert message in feedback.problems[0].reason


BAD_RANKINGS = {
    "out of range": ({"tiers": [[0], [3]]}, "holds 3"),
    "negative": ({"tiers": [[-1]]}, "holds -1"),
    "twice": ({"tiers": [[0], [0]]}, "stands twice"),
    "tier and fail": ({"tiers": [[0]], "fails": [0]}, "stands twice"),
    "not shown": ({"tiers": [[0], [1]], "shown": [0]}, "'shown' [0] lacks"),
    "true is no place": ({"tiers": [[True]]}, "whole numbers"),
    "empty tier": ({"tiers": [[0], []]}, "empty tier"),
    "both": ({"tiers": [[0]], "rank": [1, 2]}, "not both"),
    "ranks too few": ({"rank": [1]}, "for each of 2 completions"),
    "rank as text": ({"rank": ["1", "2"]}, "not a number"),
    "ids too few": ({"tiers": [[0]], "completion_ids": ["x"]}, "each of 2 completions"),
}


@pytest.mark.parametrize("case", BAD_RANKINGS)
def test_a_bad_ranking_is_refused(tmp_path: Path, case: str) -> None:
    fields, message = BAD_RANKINGS[case]
    path = jsonl(tmp_path, {"prompt": "Hi", "completions": ["a", "b"]} | fields)
    with pytest.raises(DataError) as caught:
        read_feedback(path)
    assert message in str(caught.value)


@pytest.mark.parametrize("label", [None, "yes", 2, 0.0])
def test_a_bad_label_is_refused(tmp_path: Path, label: object) -> None:
    path = jsonl(tmp_path, {"prompt": "Hi", "completion": "a", "label": label})
    with pytest.raises(DataError, match="must be true"):
        read_feedback(path, "trl-unpaired")


def test_one_prompt_id_for_two_prompts_is_refused(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "chosen": "a", "rejected": "b", "prompt_id": "7"}
    with pytest.raises(DataError, match="prompt id '7' stands for two different prompts, 'Hi' and 'Ho'"):
        read_feedback(jsonl(tmp_path, row, row | {"prompt": "Ho"}))


def test_implicit_rows_without_a_prompt_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="do not begin with the same words"):
        read_feedback(jsonl(tmp_path, {"chosen": "abc", "rejected": "abd"}))


def test_an_unclear_format_names_the_candidates(tmp_path: Path) -> None:
    both = {"prompt": "p", "chosen": "a", "rejected": "b", "completion": "c", "label": True}
    with pytest.raises(DataError, match="it could be trl-unpaired or trl-preference; name the format"):
        read_feedback(jsonl(tmp_path, both))
    with pytest.raises(DataError, match="the columns are x: no format has these"):
        read_feedback(jsonl(tmp_path, {"x": 1}), on_error="skip")
    assert only_pair(read_feedback(jsonl(tmp_path, both), "trl-preference"))[1:] == ("a", "b")


def test_skipping_everything_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all 2 rows are malformed"):
        read_feedback(jsonl(tmp_path, {"x": 1}, {"x": 2}), "trl-preference", on_error="skip")


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("trl", {}),
        ("auto", {"limit": 0}),
        ("auto", {"on_error": "ignore"}),
        ("auto", {"columns": {"promt": "x"}}),
    ],
)
def test_wrong_settings_are_config_errors(tmp_path: Path, format: str, options: dict) -> None:
    with pytest.raises(ConfigError):
        read_feedback(jsonl(tmp_path, {"prompt": "Hi", "chosen": "a", "rejected": "b"}), format, **options)


GOOD = b'{"prompt": "Hi", "chosen": "a", "rejected": "b"}\n'


def damaged_files() -> dict[str, tuple[str, bytes, str]]:
    packed = gzip.compress(os.urandom(100) + GOOD * 5000)
    return {
        "empty": ("x.jsonl", b"", "no rows"),
        "empty csv": ("x.csv", b"", "no rows"),
        "header only": ("x.csv", b"prompt,chosen,rejected\n", "no rows"),
        "binary": ("x.jsonl", b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "not UTF-8"),
        "utf-16": ("x.jsonl", GOOD.decode().encode("utf-16"), "not UTF-8"),
        "cut gzip": ("x.jsonl.gz", gzip.compress(GOOD * 5000)[:-20], "damaged or cut off"),
        "broken gzip": ("x.jsonl.gz", packed[:200] + bytes(60) + packed[260:], "damaged|not UTF-8"),
        "no gzip": ("x.jsonl.gz", GOOD, "damaged or cut off"),
        "json lines in .json": ("x.json", GOOD + GOOD, "belongs in a .jsonl file"),
        "object in .json": ("x.json", GOOD, "not a list"),
        "open quote": ("x.csv", b'prompt,chosen,rejected\n"Hi,a,b\n', "not CSV"),
        "two columns alike": ("x.csv", b"prompt,prompt\nHi,Ho\n", "stands twice"),
        "too many cells": ("x.csv", b"prompt,chosen,rejected\nHi,a,b,c\n", "4 cells under 3"),
        "no parquet": ("x.parquet", GOOD, "not a readable parquet"),
        "unknown suffix": ("x.xlsx", GOOD, "unknown suffix"),
        "deep nesting": ("x.jsonl", b"[" * 100_000 + b"\n", "not a JSON object"),
    }


@pytest.mark.parametrize("case", damaged_files())
def test_a_damaged_file_says_so(tmp_path: Path, case: str) -> None:
    name, content, message = damaged_files()[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_feedback(tmp_path / name)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_feedback(tmp_path / "none.jsonl")


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + GOOD, GOOD.replace(b"\n", b"\r\n"), GOOD.rstrip()])
def test_byte_order_mark_and_line_ends_do_not_matter(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    assert only_pair(read_feedback(tmp_path / "x.jsonl")) == (HI, "a", "b")


def test_csv_with_mark_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    text = '\ufeffprompt,chosen,rejected,label\r\n"Hi, ""you""","line\r\nbreak",,\r\n'
    (tmp_path / "x.csv").write_bytes(text.encode())
    expected = ((Message(U, 'Hi, "you"'),), "line\r\nbreak", "")
    assert only_pair(read_feedback(tmp_path / "x.csv")) == expected


def test_a_line_separator_inside_a_text_is_no_end_of_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"prompt": "a\u2028b\x85c", "chosen": "d\x0ce", "rejected": "f"})
    assert only_pair(read_feedback(path)) == ((Message(U, "a\u2028b\x85c"),), "d\x0ce", "f")


def test_a_csv_cell_longer_than_the_modules_own_limit(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f"prompt,chosen,rejected\nHi,{'a' * 200_000},b\n")
    assert len(only_pair(read_feedback(tmp_path / "x.csv"))[1]) == 200_000


def test_missing_packages_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # what Python does for a package that is not there
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "x.parquet").write_bytes(b"")
    for source in (tmp_path / "x.parquet", "hf:owner/name"):
        with pytest.raises(ConfigError, match=r"pip install 'accord\[data\]'"):
            read_feedback(source)


def test_a_folder_of_data_files_and_its_splits(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    jsonl(tmp_path, {"prompt": "Hi", "chosen": "a", "rejected": "b"}, name="train.jsonl")
    assert only_pair(read_feedback(tmp_path)) == (HI, "a", "b")
    jsonl(tmp_path, {"prompt": "Hi", "chosen": "c", "rejected": "d"}, name="test.jsonl")
    assert only_pair(read_feedback(f"hf:{tmp_path}:test")) == (HI, "c", "d")
    with pytest.raises(DataError, match="has the splits train, test"):
        read_feedback(tmp_path)
    with pytest.raises(DataError, match="not 'dev'"):
        read_feedback(f"hf:{tmp_path}:dev")


def test_a_saved_data_set(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"prompt": "Hi", "chosen": "a", "rejected": "b"}]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    assert only_pair(read_feedback(tmp_path / "saved")) == (HI, "a", "b")


def test_a_hub_that_cannot_be_reached_is_a_data_error(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    code = (
        "from accord.feedback.formats.read import read_feedback\n"
        "from accord.errors import DataError\n"
        "try: read_feedback('hf:nobody/nothing:train')\n"
        "except DataError as error: print(error)\n"
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert "the data set 'nobody/nothing' could not be loaded" in done.stdout, done.stderr
    assert "give the folder" in done.stdout


def test_every_error_is_accords_own(tmp_path: Path) -> None:
    """Random damage to a good file never gets another exception out."""
    rng = random.Random(904)
    whole = bytearray(GOOD * 3 + json.dumps({"prompt": "Hi", "chosen": "é", "rejected": "b"}).encode())
    for suffix in ("jsonl", "json", "csv", "jsonl.gz", "parquet"):
        for _ in range(40):
            content = bytearray(gzip.compress(bytes(whole)) if suffix == "jsonl.gz" else whole)
            for _ in range(3):
                content[rng.randrange(len(content))] = rng.randrange(256)
            path = tmp_path / f"x.{suffix}"
            path.write_bytes(content)
            with contextlib.suppress(AccordError):
                read_feedback(path, "trl-preference")


def test_prompts_alone_are_read_to_be_answered(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "topic": "x"}, {"prompt": [{"role": U, "content": "Ho"}], "prompt_id": "7"}]
    feedback = read_feedback(jsonl(tmp_path, *rows))
    assert (feedback.format, list(feedback.prompts)) == ("prompts", [digest([("user", "Hi")]), "7"])
    assert feedback.completions == {id: [] for id in feedback.prompts}
    assert feedback.notes == {"column 'topic' not used": 1}
