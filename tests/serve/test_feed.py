"""What a viewer is told of files that grow, are torn, and are written anew."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.align.samples import FILE as SAMPLES
from accord.serve.feed import METRICS, Feed, Tail, after, mark_of, plain
from watched_run import GrowingRun, figures


@pytest.fixture
def run(tmp_path: Path) -> GrowingRun:
    return GrowingRun(tmp_path / "align-3")


def rows(feed: Feed) -> list[dict]:
    return [step.row for step in feed.steps]


def test_steps_come_once_with_their_verdicts_and_samples(run: GrowingRun) -> None:
    feed = Feed(run.training)
    assert not feed.read()
    assert feed.steps == []
    run.step(1)
    run.step(2, ("warn", "completions grew from 25 to 41 tokens"))
    assert feed.read()
    assert rows(feed) == [figures(1), figures(2)]
    assert feed.steps[0].verdict is None
    assert feed.steps[1].verdict["reason"] == "completions grew from 25 to 41 tokens"
    assert not feed.read()
    held = feed.steps
    run.step(3)
    assert feed.read()
    assert feed.steps is held, "a viewer's place stays good where nothing was taken back"
    assert len(held) == 3
    assert [row["score"] for row in feed.samples(3)] == [1.5, -0.75, 0.125]
    assert feed.samples(3)[0]["prompt"] == "Where is order 3?"
    assert feed.samples(4) == []


def test_a_line_half_written_waits_for_its_end(run: GrowingRun) -> None:
    run.step(1)
    feed = Feed(run.training)
    feed.read()
    line = json.dumps(figures(2)) + "\n"
    with (run.training / METRICS).open("a") as file:
        file.write(line[:20])
        file.flush()
        assert not feed.read()
        file.write(line[20:])
    assert feed.read()
    assert rows(feed) == [figures(1), figures(2)]


def test_a_resumed_run_begins_anew_for_its_viewers(run: GrowingRun) -> None:
    run.steps(1, 5)
    feed = Feed(run.training)
    feed.read()
    held = feed.steps
    run.rewrite(3)
    assert feed.read()
    assert feed.steps is not held
    assert rows(feed) == [figures(n) for n in (1, 2, 3)]
    run.salt = 1.0  # from here on other figures than before
    run.steps(4, 6)
    assert feed.read()
    assert rows(feed)[3:] == [figures(n, salt=1.0) for n in (4, 5, 6)]
    assert [row["step"] for row in feed.samples(6)] == [6, 6, 6]


def test_a_file_rewritten_to_its_old_length_or_longer_is_noticed(run: GrowingRun) -> None:
    run.steps(1, 4)
    feed = Feed(run.training)
    feed.read()
    run.rewrite(2)
    run.salt = 2.0
    run.steps(3, 7)  # longer than before by the time somebody looks
    assert feed.read()
    assert rows(feed) == [figures(1), figures(2), *(figures(n, salt=2.0) for n in range(3, 8))]


def test_a_folder_that_vanishes_and_comes_back(run: GrowingRun) -> None:
    run.steps(1, 2)
    feed = Feed(run.training)
    feed.read()
    for name in (METRICS, SAMPLES):
        (run.training / name).unlink()
    assert feed.read()
    assert feed.steps == []
    assert feed.quiet() is None
    run.step(1)
    assert feed.read()
    assert len(feed.steps) == 1
    assert 0 <= feed.quiet() < 60


def test_what_cannot_be_read_is_said_and_left_out(run: GrowingRun) -> None:
    run.step(1)
    with (run.training / METRICS).open("a") as file:
        file.write("}{ torn\n[1]\n")
    run.step(2)
    feed = Feed(run.training)
    feed.read()
    assert rows(feed) == [figures(1), figures(2)]
    assert "training/metrics.jsonl cannot be read" in feed.problem


def test_a_browser_never_meets_a_number_that_json_lacks(run: GrowingRun) -> None:
    run.step(1, value_explained=math.nan, kl=-math.inf)
    feed = Feed(run.training)
    feed.read()
    assert feed.steps[0].row["value_explained"] is None
    assert feed.steps[0].row["kl"] is None
    json.dumps(feed.steps[0].row, allow_nan=False)
    assert plain({"a": [1.0, math.nan, {"b": math.inf}]}) == {"a": [1.0, None, {"b": None}]}


def test_the_pace_is_that_of_what_was_seen_to_come(run: GrowingRun) -> None:
    now = [0.0]
    feed = Feed(run.training, lambda: now[0])
    run.steps(1, 10)
    feed.read()
    assert feed.seconds_a_step() is None, "of what was there before nobody knows when it came"
    for at, last in ((3.0, 11), (7.0, 13), (9.0, 14)):
        now[0] = at
        run.steps(len(feed.steps) + 1, last)
        feed.read()
    assert feed.seconds_a_step() == pytest.approx((9.0 - 3.0) / (14 - 11))


def test_a_viewer_goes_on_where_they_were_unless_it_was_another_run(run: GrowingRun) -> None:
    run.steps(1, 4)
    feed = Feed(run.training)
    feed.read()
    marks = [step.mark for step in feed.steps]
    assert [after(feed.steps, mark) for mark in marks] == [1, 2, 3, 4]
    other = mark_of(figures(3, salt=1.0))
    for unknown in ("", "nonsense", "3", other, "9-abc", "-1-x", "0-x", "²-x", "9" * 5000):
        assert after(feed.steps, unknown) == 0, unknown


@given(st.lists(st.text(st.characters(exclude_characters="\r\n"), max_size=8), max_size=6),
       st.lists(st.integers(1, 40), max_size=12))  # fmt: skip
def test_a_tail_gives_each_whole_line_once_however_it_is_cut(tmp_path_factory, lines, cuts) -> None:
    path = tmp_path_factory.mktemp("tail") / "file"
    data = "".join(line + "\n" for line in lines).encode()
    tail, got = Tail(path), []
    for end in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        path.write_bytes(b"") if not path.exists() else None
        with path.open("r+b") as file:
            file.write(data[:end])
        other, new = tail.read()
        assert not other
        got += new
    assert b"".join(line for _, line in got) == data
    assert all(data[at : at + len(line)] == line for at, line in got)
