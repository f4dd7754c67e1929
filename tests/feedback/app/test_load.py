"""The load benchmark at a small size: a real server, killed twice, and not a label lost; and its own eyes."""

from dataclasses import replace

import pytest
from sqlalchemy import delete, update

from accord.feedback.labeling.answers import Answer
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.queue import claim, fill
from accord.feedback.labeling.submit import submit
from accord.store import state as t
from benchmarkrun import BENCHMARKS, last_line
from labeling_app import fill_workspace

CONFIG = LabelConfig(overlap=2, adaptive=False)
NOW = 1_800_000_000.0
CLEAN = {"lost": 0, "doubled": 0, "overlap_exceeded": 0, "places_miscounted": 0, "examples": []}


@pytest.fixture
def labelled(tmp_path, monkeypatch):
    """A store with three labelers' answers, what they know they sent, and the benchmark's check of both."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from _load_check import check
    from _load_people import Sent, Task

    workspace = fill_workspace(tmp_path / "w", prompts=4)
    fill(workspace.store, CONFIG)
    sent = {}
    for name in ("ada", "bo", "cy"):
        for _ in range(2):
            given = claim(workspace.store, name, CONFIG, NOW)
            ids = [each.id for each in given.completions]
            body = {"tiers": [ids[:2], ids[2:3]], "fails": ids[3:], "note": "naïve", "seconds": 2.5}
            answer = Answer(tuple(map(tuple, body["tiers"])), tuple(body["fails"]), note="naïve", seconds=2.5)
            key = f"{name} {given.id}"
            receipt = submit(workspace.store, name, given.id, answer, key, "v1", CONFIG, NOW)
            task = Task(given.id, [(each.id, each.text) for each in given.completions], "v1")
            sent[key] = Sent(name, task, body | {"guidelines": "v1"}, 0.0, 1, 1.0, list(receipt.ids))
    yield workspace.store, sent, lambda: check(workspace.store, sent, CONFIG.overlap)
    workspace.store.close()


def test_an_answer_that_is_not_stored_as_it_was_entered_is_lost(labelled):
    _, sent, check = labelled
    assert len(sent) == 6
    assert check() == CLEAN
    first, second, *_ = sent.values()
    entered = dict(first.body)
    others = {"note": "naive", "seconds": 2.4, "guidelines": "v2", "tiers": [["other"]], "fails": []}
    for name, value in others.items():
        first.body = entered | {name: value}
        assert check()["lost"] == 1, name
    first.body = entered
    first.task = replace(first.task, completions=first.task.completions[::-1])  # another order on the screen
    second.labeler = "eve"
    assert check()["lost"] == 2


def test_a_submission_that_is_gone_is_lost_and_one_that_nobody_sent_is_doubled(labelled):
    store, sent, check = labelled
    key = next(iter(sent))
    with store.database.write() as connection:
        connection.execute(delete(t.submissions).where(t.submissions.c.key == key))
    found = check()
    assert (found["lost"], found["doubled"]) == (1, 1)  # its ranking belongs to no submission now
    sent.pop(key)
    assert check()["lost"] == 0


def test_a_second_answer_to_one_assignment_is_doubled(labelled):
    store, _, check = labelled
    first = next(iter(store.rankings()))
    store.add_rankings([replace(first, id="again", note="once more")])
    assert check()["doubled"] == 2  # of no submission, and the second that stands


def test_a_label_beyond_the_overlap_and_a_wrong_count_are_seen(labelled):
    store, _, check = labelled
    with store.database.write() as connection:
        full = connection.execute(t.queue.select().where(t.queue.c.done == 2)).mappings().first()
        connection.execute(update(t.queue).where(t.queue.c.id == full["id"]).values(wanted=1, taken=1))
    found = check()
    assert (found["overlap_exceeded"], found["places_miscounted"]) == (1, 1)


def test_nothing_is_lost_or_doubled_though_the_server_is_killed(tmp_path):
    figures = last_line("labeling_load.py", "--quick", "--folder", tmp_path)
    assert (figures["labelers"], figures["submitted"], figures["kills"]) == (20, 300, 2)
    for name in ("lost", "doubled", "overlap_exceeded", "places_miscounted", "refused", "receipts_differ"):
        assert figures[name] == 0, figures["examples"]
    assert figures["doctor_clean"]
    assert figures["export_complete"]
    assert figures["annotations"] >= 2000
    assert figures["sent_again"], "the server was not killed in the midst of requests"
