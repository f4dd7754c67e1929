"""Checkpoints are whole or not there: killed while saving, a full disk, torn files."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from accord.errors import ConfigError, StoreError
from accord.lm import checkpoints
from accord.lm.checkpoints import OPTIMISER, STATE, SUMS, WEIGHTS, found, read, take_up, write


def saved(folder, step, size=1000):
    weight = torch.nn.Parameter(torch.full((size,), float(step)))
    optimiser = torch.optim.Adam([weight])
    weight.sum().backward()
    optimiser.step()
    write(folder, step, {"w": weight.detach()}, optimiser.state_dict(), {"step": step, "beta": 0.1 + 0.2})
    return weight.detach().clone(), optimiser.state_dict()


def test_what_was_written_is_read_to_the_bit(tmp_path):
    weight, state = saved(tmp_path, 3)
    back = read(tmp_path)
    assert back.step == 3
    assert torch.equal(back.tensors["w"], weight)
    assert torch.equal(back.optimiser["state"][0]["exp_avg"], state["state"][0]["exp_avg"])
    assert back.state == {"step": 3, "beta": 0.1 + 0.2}


def test_the_newest_two_are_kept_and_a_step_may_be_saved_again(tmp_path):
    for step in (9, 10, 11, 11):
        saved(tmp_path, step)
    assert [path.name for path in found(tmp_path)] == ["checkpoint-000010", "checkpoint-000011"]
    assert not list(tmp_path.glob(".draft*"))


def test_a_run_is_taken_up_by_who_may(tmp_path):
    folder = tmp_path / "deep" / "run"
    assert take_up(folder, "mark", resume=False) is None
    assert take_up(folder, "mark", resume=True) is None  # a run may be killed before its first checkpoint
    write(folder, 4, {}, {}, {"fingerprint": "mark"})
    again = take_up(folder, "mark", resume=True)
    assert again is not None
    assert again.step == 4
    with pytest.raises(ConfigError, match="holds a run already"):
        take_up(folder, "mark", resume=False)
    with pytest.raises(StoreError, match="another model, or with other settings or prompts"):
        take_up(folder, "other", True, "prompts")


@pytest.mark.parametrize("name", [WEIGHTS, OPTIMISER, STATE, SUMS])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_torn_file_is_set_aside_and_the_one_before_it_taken(tmp_path, caplog, name, damage):
    saved(tmp_path, 1)
    saved(tmp_path, 2)
    file = tmp_path / "checkpoint-000002" / name
    content = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(content[:-3] if damage == "cut" else content)
    assert read(tmp_path).step == 1
    assert "torn" in caplog.text
    assert (tmp_path / "torn-checkpoint-000002").is_dir()  # nothing is thrown away
    assert read(tmp_path).step == 1


def test_where_none_is_whole_it_says_so(tmp_path):
    with pytest.raises(StoreError, match="no whole checkpoint"):
        read(tmp_path)
    saved(tmp_path, 1)
    (tmp_path / "checkpoint-000001" / WEIGHTS).write_bytes(b"")
    with pytest.raises(StoreError, match=r"weights.safetensors changed since it was written"):
        read(tmp_path)


def test_a_disk_that_is_full_loses_nothing(tmp_path):
    saved(tmp_path, 1, size=10)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # no file may grow beyond: the kernel refuses
    try:
        with pytest.raises(StoreError, match=r"step 2 could not be written .* checkpoint-000001 stands"):
            saved(tmp_path, 2, size=100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000001"]
    assert read(tmp_path).step == 1
    saved(tmp_path, 2, size=100_000)
    assert read(tmp_path).step == 2


THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
SAVES = """
import sys, torch
from pathlib import Path
from accord.lm.checkpoints import write
for step in range(1, 1000):
    w = torch.full((300_000,), float(step))
    write(Path(sys.argv[1]), step, {"w": w}, {"state": w.clone()}, {"step": step})
    print(step, flush=True)
"""


def test_killed_while_saving_the_last_whole_one_is_there(tmp_path):
    for kill in range(8):
        folder = tmp_path / str(kill)
        child = subprocess.Popen(
            [sys.executable, "-c", SAVES, str(folder)],
            stdout=subprocess.PIPE,
            env=THREAD,
        )
        for _ in range(3):
            child.stdout.readline()
        time.sleep(0.0017 * kill)  # somewhere in a save
        child.kill()
        told = [int(line) for line in child.stdout.read().split()]
        child.wait()
        back = read(folder)
        assert back.step >= max([3, *told])  # what was reported as saved is there
        assert (back.tensors["w"] == back.step).all()
        assert (back.optimiser["state"] == back.step).all()
        assert not list(folder.glob("torn-*"))
        shutil.rmtree(folder)


def test_a_fault_planted_in_the_order_of_writing_is_caught(tmp_path, monkeypatch):
    """Without the sums a half-written file would pass for whole."""
    saved(tmp_path, 1)
    saved(tmp_path, 2)
    file = tmp_path / "checkpoint-000002" / STATE
    file.write_text(file.read_text().replace("2", "7", 1))
    monkeypatch.setattr(checkpoints, "_fault", lambda path: None)
    assert read(tmp_path).state["step"] == 7
    monkeypatch.undo()
    assert read(tmp_path).state["step"] == 1
