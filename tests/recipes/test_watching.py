"""A run of alignment with its page beside it, and with trackers: what they hear, and how they end."""

import logging
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from accord.errors import ConfigError, NumericsError, StoreError
from accord.recipes import tracking
from accord.recipes.record import recorded
from accord.recipes.tracking import Notes, track
from accord.recipes.watching import page, page_of, run_of
from accord.serve.watch import WatchConfig
from accord.store.lineage import Status
from accord.workspace import Workspace

ROWS = [{"step": n, "steps": 3, "reward": 0.5 * n, "part helpful": 0.25, "value_explained": float("nan")}
        for n in (1, 2, 3)]  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "desk")


def follow(workspace: Workspace, listener, rows=ROWS, error: Exception | None = None, **more):
    """A run that tells of its rows; returns its record. ``status`` is that of a run that did not finish."""
    status = more.pop("status", Status.DONE)
    with recorded(workspace, "align", {"beta": 0.1}, listeners=[listener], **more) as record:
        record.status = status
        tell = record.told(lambda _: None)
        for row in rows:
            tell(row)
        if error is not None:
            raise error
    return record.run


def test_the_page_is_up_while_the_run_lasts_and_tells_how_it_ended(workspace: Workspace) -> None:
    addresses: list[str] = []
    listener = page(WatchConfig(port=0), addresses.append)
    with recorded(workspace, "align", {"beta": 0.1}, listeners=[listener]) as record:
        assert httpx.get(addresses[0]).status_code == 200
        assert record.run.id in httpx.get(addresses[0]).text
    with pytest.raises(httpx.ConnectError):
        httpx.get(addresses[0])


def test_a_listener_hears_each_step_and_closes_after_the_runs_end(workspace: Workspace) -> None:
    heard: list[object] = []

    class Ear:
        def __init__(self, run, look) -> None:
            self.look = look

        def __enter__(self):
            return lambda row: heard.append(row["step"])

        def __exit__(self, kind, *_) -> None:
            heard.append((self.look().status, kind))

    follow(workspace, Ear)
    with pytest.raises(NumericsError):
        follow(workspace, Ear, ROWS[:1], NumericsError("reward nan"))
    assert heard == [1, 2, 3, (Status.DONE, None), 1, (Status.FAILED, NumericsError)]


def test_a_listener_that_cannot_open_ends_the_run_as_failed(workspace: Workspace) -> None:
    def listener(run, look):
        raise ConfigError("no such project")

    with pytest.raises(ConfigError, match="no such project"):
        follow(workspace, listener)
    assert workspace.store.runs("align")[-1].status is Status.FAILED


def test_a_port_that_is_taken_or_an_algorithm_without_a_page_is_refused_at_once(workspace: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="is taken"):
        page_of(workspace, "align", taken.getsockname()[1], print)
    with pytest.raises(ConfigError, match="reinforcement learning alone"):
        page_of(workspace, "prefer", 0, print)
    with pytest.raises(ConfigError, match="--watch-port: port = 70000"):
        page_of(workspace, "align", 70000, print)


def test_the_run_to_watch_is_the_one_named_or_the_latest(workspace: Workspace) -> None:
    with pytest.raises(StoreError, match=r"there is no run of alignment here; .* none yet"):
        run_of(workspace, "")
    for _ in range(2):
        with recorded(workspace, "align", {"prompts_per_step": 4}):
            pass
    assert run_of(workspace, "").id == "align-2"
    assert run_of(workspace, "align-1").id == "align-1"
    with pytest.raises(StoreError, match="'align-9' here; the latest are: align-1, align-2"):
        run_of(workspace, "align-9")
    with recorded(workspace, "align", {"algorithm": "dpo"}):
        pass
    with pytest.raises(StoreError, match="reinforcement learning alone"):
        run_of(workspace, "")


# -- trackers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wandb", "trackio", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_named_with_its_extra(workspace, monkeypatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else name, None)
    with pytest.raises(ConfigError, match=rf"--track {name} .* pip install 'accord\[{name}\]'"):
        track(name, workspace)


class Torn:
    """A diary whose third page is torn."""

    def __init__(self) -> None:
        self.pages: list[tuple[int, dict]] = []

    def log(self, figures, step: int) -> None:
        if len(self.pages) == 2:
            raise OSError("disk full")
        self.pages.append((step, dict(figures)))

    def close(self, well: bool) -> None:
        raise AssertionError("a diary that failed is not written to again")


def test_a_tracker_that_fails_in_the_middle_is_given_up_with_a_warning(caplog) -> None:
    diary = Torn()
    notes = Notes("wandb", diary)
    with caplog.at_level(logging.WARNING):
        for row in [*ROWS, *ROWS]:
            notes(row)
        notes.close(True)
    assert [step for step, _ in diary.pages] == [1, 2]
    assert [record.message for record in caplog.records] == [
        "wandb failed and gets no more figures (metrics.jsonl has them all): disk full"
    ]


def test_steps_rise_where_a_way_counts_each_round_from_one() -> None:
    diary = Torn()
    notes = Notes("wandb", diary)
    notes({"step": 7, "steps": 9, "loss": 1.0})
    notes({"step": 1, "steps": 9, "loss": 0.5})
    assert diary.pages == [(7, {"loss": 1.0}), (8, {"loss": 0.5})]


def test_a_tracker_that_cannot_start_says_what_to_do(workspace: Workspace, monkeypatch) -> None:
    def refuse(*_: object):
        raise RuntimeError("No API key configured")

    monkeypatch.setitem(tracking._OPEN, "wandb", refuse)
    monkeypatch.setattr(tracking, "_library", lambda name: None)
    with pytest.raises(ConfigError, match=r"wandb cannot start: No API key .* `wandb login`"):
        follow(workspace, track("wandb", workspace))


def test_tensorboards_own_reader_finds_each_step_once_after_a_resume(workspace: Workspace) -> None:
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    run = follow(workspace, track("tensorboard", workspace), status=Status.INTERRUPTED)
    again = [{"step": n, "steps": 4, "reward": 0.5 * n} for n in (3, 4)]  # a checkpoint after step 2
    follow(workspace, track("tensorboard", workspace), again, run=workspace.store.resume_run(run.id))
    read = reader.EventAccumulator(str(run.path / "tensorboard"))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("reward")] == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0)]
    assert [e.value for e in read.Scalars("part_helpful")] == [0.25, 0.25]
    assert "value_explained" not in read.Tags()["scalars"], "no figure is made up for one that is undefined"


def test_wandb_keeps_a_run_offline(workspace: Workspace, monkeypatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = follow(workspace, track("wandb", workspace))
    kept = next((run.path / "wandb").glob("offline-run-*/run-align-1-*.wandb"))
    until = time.monotonic() + 30
    while b"part helpful" not in kept.read_bytes() and time.monotonic() < until:
        time.sleep(0.1)  # its own process writes the file, a moment after the end
    assert b"part helpful" in kept.read_bytes()


def test_trackio_keeps_a_run_on_this_computer(workspace: Workspace, tmp_path: Path) -> None:
    """In a process of its own: the folder is chosen when the library is loaded."""
    pytest.importorskip("trackio", reason="trackio is not installed")
    code = (
        "import sys; from accord.recipes.record import recorded; from accord.recipes.tracking import track\n"
        "from accord.workspace import Workspace\n"
        "desk = Workspace.open(sys.argv[1])\n"
        "with recorded(desk, 'align', {'beta': 0.1}, listeners=[track('trackio', desk)]) as record:\n"
        "    for n in (1, 2): record.told(lambda _: None)({'step': n, 'steps': 2, 'reward': 0.5 * n})\n"
        "from trackio.sqlite_storage import SQLiteStorage\n"
        "name = SQLiteStorage.get_runs('desk')[0]\n"
        "print(name, [(row['step'], row['reward']) for row in SQLiteStorage.get_logs('desk', name)])\n"
    )
    own = {**os.environ, "TRACKIO_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code, str(workspace.path)], env=own, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"align-1-\w{8} \[\(1, 0\.5\), \(2, 1\.0\)\]\n", done.stdout), (
        "and nothing else is said there"
    )
