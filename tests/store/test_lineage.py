"""Runs and artefacts say what they were made from, with what, and whether it is still so."""

from __future__ import annotations

import hashlib
import platform
import shutil
from pathlib import Path

import pytest

from accord.errors import DataError, StoreError
from accord.store.lineage import Status, content_hash
from accord.store.store import Store


def test_a_run_keeps_how_it_was_started_and_how_it_ended(store: Store, tmp_path: Path) -> None:
    run = store.start_run("reward", {"lr": 1e-4, "layers": [1, 2]}, ["ab" * 32, "hf:gpt2"])
    assert run.path == tmp_path / "runs" / "reward-1"
    assert run.path.is_dir()
    assert (run.status, run.finished, run.metrics) == (Status.RUNNING, None, {})
    assert run.inputs == ("ab" * 32, "hf:gpt2")
    assert run.versions["python"] == platform.python_version()
    assert {"accord", "torch", "transformers"} <= run.versions.keys()
    done = store.finish_run(run.id, "done", {"accuracy": 0.1 + 0.2})
    assert done == store.run("reward-1")
    assert (done.status, done.metrics) == ("done", {"accuracy": 0.1 + 0.2})
    assert done.finished is not None
    assert done.started < done.finished
    assert done.config == {"lr": 1e-4, "layers": [1, 2]}


def test_runs_are_listed_by_kind_and_status(store: Store) -> None:
    for kind in ("reward", "align", "reward"):
        store.start_run(kind, {})
    store.finish_run("reward-1", "failed", {})
    assert [run.id for run in store.runs()] == ["reward-1", "align-1", "reward-2"]
    assert [run.id for run in store.runs("reward")] == ["reward-1", "reward-2"]
    assert [run.id for run in store.runs(status="running")] == ["align-1", "reward-2"]
    assert [run.id for run in store.runs("reward", "failed")] == ["reward-1"]


def test_an_interrupted_run_goes_on_and_a_done_one_does_not(store: Store) -> None:
    store.start_run("align", {})
    store.finish_run("align-1", "interrupted", {"step": 3})
    assert store.resume_run("align-1").status == "running"
    store.finish_run("align-1", "done", {"step": 9})
    for again in (lambda: store.resume_run("align-1"), lambda: store.finish_run("align-1", "failed", {})):
        with pytest.raises(StoreError, match="is done since"):
            again()
    with pytest.raises(StoreError, match="no run 'align-2'"):
        store.finish_run("align-2", "done", {})
    with pytest.raises(DataError, match="'finished'"):
        store.finish_run("align-1", "finished", {})


def test_what_cannot_be_traced_is_refused(store: Store) -> None:
    for kind, config, inputs, match in [
        ("reward", {}, ["agree-1"], "no run, no artefact and no hash"),
        ("reward", {"f": print}, [], r"config of reward\.f is a builtin"),
        ("reward", {"a": [float("nan")]}, [], r"config of reward\.a\[0\] is nan"),
        ("../up", {}, [], "run kind"),
    ]:
        with pytest.raises(DataError, match=match):
            store.start_run(kind, config, inputs)
    assert store.runs() == []


def test_a_lineage_leads_back_to_the_facts(store: Store) -> None:
    agree = store.start_run("agree", {"prior": 1})
    reward = store.start_run("reward", {}, [agree.id, "hf:gpt2"])
    (reward.path / "model").mkdir()
    (reward.path / "model" / "weights").write_bytes(b"w")
    model = store.add_artefact(reward.id, "model", reward.path / "model")
    align = store.start_run("align", {}, [model.id, agree.id])
    tree = store.lineage(align.id)
    found, direct = tree.inputs
    assert (found.artefact, direct.run) == (model, store.run(agree.id))
    (made_by,) = found.inputs
    assert made_by.run is not None
    assert made_by.run.id == "reward-1"
    assert [node.id for node in made_by.inputs] == ["agree-1", "hf:gpt2"]
    assert made_by.inputs[0] is direct
    assert (made_by.inputs[1].run, made_by.inputs[1].artefact) == (None, None)
    with pytest.raises(StoreError, match="no run or artefact 'nope'"):
        store.lineage("nope")


def test_a_hash_covers_every_name_and_byte(tmp_path: Path) -> None:
    (tmp_path / "m" / "sub").mkdir(parents=True)
    (tmp_path / "m" / "b").write_bytes(b"2")
    (tmp_path / "m" / "sub" / "a").write_bytes(b"1")
    one, two = hashlib.sha256(b"2").hexdigest(), hashlib.sha256(b"1").hexdigest()
    by_hand = hashlib.sha256(f"{one} b\n{two} sub/a\n".encode()).hexdigest()
    assert content_hash(tmp_path / "m") == by_hand
    assert content_hash(tmp_path / "m" / "b") == one
    (tmp_path / "m" / "b").rename(tmp_path / "m" / "c")
    assert content_hash(tmp_path / "m") != by_hand
    with pytest.raises(StoreError, match="is missing"):
        content_hash(tmp_path / "nothing")


def test_artefacts_move_with_the_workspace(store: Store, database_url: str, tmp_path: Path) -> None:
    run = store.start_run("reward", {})
    (run.path / "w").write_bytes(b"w")
    first = store.add_artefact(run.id, "model", "runs/reward-1/w")
    assert store.add_artefact(run.id, "model", run.path / "w") == first
    assert store.artefacts(run.id) == [first] == [store.artefact(first.id)]
    shutil.move(tmp_path / "runs", tmp_path / "new" / "runs")
    moved = Store(database_url, tmp_path / "new")
    assert moved.artefact(first.id).path == tmp_path / "new" / "runs" / "reward-1" / "w"
    assert moved.verify() == []
    assert [problem.table for problem in store.verify()] == ["artefacts"]


def test_a_path_written_again_by_a_later_run_is_no_problem(store: Store, tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        run = store.start_run("align", {})
        (tmp_path / "policy").write_bytes(content)
        store.add_artefact(run.id, "policy", "policy")
    assert store.verify() == []
