"""Runs end, go on, and come to the same bits whatever stopped them."""

import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import accord
import toys
from accord.align.guard import GuardConfig
from accord.align.online import Learner
from accord.align.run import End, align, load_checkpoint
from accord.errors import ConfigError, DataError, NumericsError, StoreError
from accord.lm import checkpoints
from accord.lm import hasten as hastening
from accord.lm.checkpoints import latest
from accord.types import Prompt, Score
from toys import PROMPTS, ShareOfGood, run_config


def same(a, b) -> bool:
    """Equality to the bit through tensors, mappings and lists, NaN equal to itself."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


def bits(result) -> dict:
    learner = result.learner
    return {
        "policy": dict(learner.policy.net.state_dict()),
        "reference": dict(learner.reference.net.state_dict()),
        "critic": dict(learner.critic.state_dict()),
        "optimiser": learner.optimiser.state_dict(),
        "beta": learner.beta.state_dict(),
        "history": result.history,
    }


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def straight(toy_folder, tmp_path_factory):
    """The run that nothing stopped, and its folder."""
    folder = tmp_path_factory.mktemp("straight")
    policy = toys.LanguageModel.load(toy_folder())
    return align(policy, ShareOfGood(), PROMPTS, run_config(), folder), folder


def child(toy_folder, folder: Path, save_every=3, kill_at=-1, sleep=0.0) -> subprocess.Popen:
    arguments = [str(x) for x in (toy_folder(), folder, save_every, kill_at, sleep)]
    homes = [str(Path(accord.__file__).parents[1]), str(Path(toys.__file__).parent)]
    return subprocess.Popen(
        [sys.executable, toys.__file__, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(homes)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# -- what a run leaves -------------------------------------------------------------------------


def test_a_run_leaves_a_line_a_step_and_its_last_checkpoints(straight):
    result, folder = straight
    assert (result.end, len(result.history)) == (End.STEPS, 6)
    assert same(lines(folder), result.history)
    assert [row["step"] for row in result.history] == [1, 2, 3, 4, 5, 6]
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint-000006",
        "metrics.jsonl",
        "samples.jsonl",
        "verdicts.jsonl",
    ]
    assert result.history[-1]["beta"] != result.history[0]["beta"]  # the adaptive one has moved


def test_watched_scorers_are_logged_and_change_nothing(straight, toy, tmp_path):
    watched = align(toy(), ShareOfGood(), PROMPTS, run_config(), tmp_path, watch={"again": ShareOfGood()})
    for row, plain in zip(watched.history, straight[0].history, strict=True):
        assert row.pop("again") == pytest.approx(row["reward"])
        assert row.pop("again error") == pytest.approx(row["reward_std"] / math.sqrt(8))
        assert row.pop("again agrees", 1.0) == pytest.approx(1.0)  # undefined where all rewards are equal
        assert 0 <= row.pop("again low") <= row["reward"]
        assert 0 <= row.pop("again fails", 0.0) <= 1  # once there are steps to take the floor from
        assert same(row, plain)


def test_progress_sees_each_step_as_it_is_logged(straight, toy, tmp_path):
    seen = []

    def progress(metrics):
        seen.append(metrics)
        assert same(lines(tmp_path)[-1], metrics)

    align(toy(), ShareOfGood(), PROMPTS, run_config(steps=2), tmp_path, progress=progress)
    assert len(seen) == 2


def test_in_mixed_precision_a_bfloat16_copy_samples_and_its_gap_is_logged(
    straight, toy, tmp_path, has_bfloat16
):
    result = align(toy(), ShareOfGood(), PROMPTS, run_config(mixed_precision=True), tmp_path)
    policy = result.learner.policy
    assert policy.rough is hastening.begin_halved
    assert policy.decoding is hastening.begin  # whoever samples from it afterwards gets the weights
    exact = max(row["sampler_gap"] for row in straight[0].history)
    assert exact < 1e-4 < 1e-3 < max(row["sampler_gap"] for row in result.history) < 0.2
    assert all(row["first_ratio"] == pytest.approx(1, abs=1e-3) for row in result.history)


# -- resume ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lora_rank": 0, "kl_target": None, "learning_rate": 1e-3},
        {"critic_warmup": 4},
        {"mixed_precision": True},
        {"mixed_precision": True, "algorithm": "nlpo", "mask_every": 2},
    ],
    ids=[
        "lora, adaptive beta",
        "full, fixed beta",
        "in the middle of the warm-up",
        "mixed precision",
        "nlpo",
    ],
)
def test_three_steps_and_three_more_are_six(toy, tmp_path, has_bfloat16, changes):
    config = run_config(**changes)
    whole = align(toy(), ShareOfGood(), PROMPTS, config, tmp_path / "whole")
    with pytest.raises(NumericsError, match="nan"):  # in the fifth step; the checkpoint is of the third
        align(toy(), ShareOfGood(nan_at=4), PROMPTS, config, tmp_path / "parts", save_every=3)
    assert len(lines(tmp_path / "parts")) == 4
    assert latest(tmp_path / "parts").name == "checkpoint-000003"
    parts = align(toy(), ShareOfGood(), PROMPTS, config, tmp_path / "parts", resume=True)
    assert same(bits(parts), bits(whole))
    assert same(lines(tmp_path / "parts"), whole.history)


@pytest.mark.parametrize(
    ("forgotten", "changes"),
    [
        *((name, {}) for name in ("policy", "critic", "optimiser", "beta", "history")),
        ("reference", {"reference": "ema"}),
        ("masker", {"algorithm": "nlpo", "mask_every": 2, "mask_top_p": 0.6}),
    ],
)
def test_a_part_forgotten_on_resuming_is_not_the_same_run(toy, tmp_path, monkeypatch, forgotten, changes):
    """The fault planted against all tests of resuming: what they compare would show it."""
    config = run_config(**changes)
    whole_run = align(toy(), ShareOfGood(), PROMPTS, config, tmp_path / "whole")
    with pytest.raises(NumericsError):
        align(toy(), ShareOfGood(nan_at=4), PROMPTS, config, tmp_path, save_every=3)
    whole = checkpoints.read

    def read(folder):
        saved = whole(folder)
        tensors = {k: v for k, v in saved.tensors.items() if not k.startswith(forgotten)}
        optimiser = saved.optimiser | ({"state": {}} if forgotten == "optimiser" else {})
        state = dict(saved.state)
        if forgotten == "beta":
            state["beta"] = state["beta"] | {"value": run_config().beta}
        if forgotten == "history":
            state["history"] = state["history"][:2]
        return replace(saved, tensors=tensors, optimiser=optimiser, state=state)

    def put_into(saved, tensors):
        for name, value in saved.tensors.items():
            tensors[name].copy_(value)

    monkeypatch.setattr(checkpoints, "read", read)
    monkeypatch.setattr(checkpoints.Checkpoint, "put_into", put_into)
    resumed = align(toy(), ShareOfGood(), PROMPTS, config, tmp_path, resume=True)
    assert not same(bits(resumed), bits(whole_run))


class Rising(ShareOfGood):
    """A reward that pays more each step: it adapts, and a run must not forget how far it had come."""

    price = 0.0

    def score_groups(self, groups):
        scored = super().score_groups(groups)
        return [[Score(s.value * (1 + self.price)) for s in group] for group in scored]

    def adapt(self, scores):
        self.price += 0.1 + sum(s.value for s in scores) / len(scores)
        return {"price": self.price}

    def state_dict(self):
        return {"price": self.price}

    def load_state_dict(self, state):
        self.price = state["price"]


def test_a_reward_that_adapts_is_resumed_where_it_was(toy, tmp_path):
    whole = align(toy(), Rising(), PROMPTS, run_config(), tmp_path / "whole")
    assert whole.history[-1]["price"] > whole.history[0]["price"] > 0
    with pytest.raises(NumericsError, match="nan"):
        align(toy(), Rising(nan_at=4), PROMPTS, run_config(), tmp_path / "parts", save_every=3)
    parts = align(toy(), Rising(), PROMPTS, run_config(), tmp_path / "parts", resume=True)
    assert same(bits(parts), bits(whole))


def test_a_reward_that_adapts_is_not_resumed_from_one_that_does_not(straight, toy):
    with pytest.raises(StoreError, match="keeps no state"):
        align(toy(), Rising(), PROMPTS, run_config(), straight[1], resume=True)


def test_killed_in_a_step_it_goes_on_to_the_same_bits(straight, toy_folder, toy, tmp_path):
    process = child(toy_folder, tmp_path, save_every=3, kill_at=4)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL, errors
    assert latest(tmp_path).name == "checkpoint-000003"
    torn = tmp_path / ".draft"  # what a kill while saving leaves; it is no checkpoint
    torn.mkdir()
    (torn / "weights.safetensors").write_bytes(b"half")
    (tmp_path / "checkpoint-000001").mkdir()  # and one while an old checkpoint is dropped
    result = align(toy(), ShareOfGood(), PROMPTS, run_config(), tmp_path, resume=True)
    assert same(bits(result), bits(straight[0]))
    assert same(lines(tmp_path), straight[0].history)
    assert not torn.exists()


def test_from_a_torn_checkpoint_it_goes_back_to_the_one_before_and_on_to_the_same_bits(
    straight, toy, tmp_path, caplog
):
    with pytest.raises(NumericsError):  # in the fifth step
        align(toy(), ShareOfGood(nan_at=4), PROMPTS, run_config(), tmp_path, save_every=1)
    file = tmp_path / "checkpoint-000004" / "optimiser.pt"
    file.write_bytes(file.read_bytes()[:-100])
    result = align(toy(), ShareOfGood(), PROMPTS, run_config(), tmp_path, resume=True)
    assert "checkpoint-000004 is torn" in caplog.text
    assert same(bits(result), bits(straight[0]))
    assert same(lines(tmp_path), straight[0].history)


class FillsTheDisk(ShareOfGood):
    """From a given call on the kernel lets no file grow beyond a few bytes."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def score_groups(self, groups):
        if self.calls == self.at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return super().score_groups(groups)


def test_on_a_full_disk_it_ends_with_an_error_and_goes_on_to_the_same_bits(straight, toy, tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(StoreError, match=r"step 4 could not be written .* checkpoint-000003 stands"):
            align(toy(), FillsTheDisk(3), PROMPTS, run_config(), tmp_path, save_every=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    result = align(toy(), ShareOfGood(), PROMPTS, run_config(), tmp_path, resume=True)
    assert same(bits(result), bits(straight[0]))
    assert same(lines(tmp_path), straight[0].history)


def test_a_disk_that_is_full_between_checkpoints_says_what_stands(toy, tmp_path):
    """The weights that a guard keeps are the first that do not fit."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    guard = GuardConfig(mode="act")
    try:
        with pytest.raises(StoreError, match=r"roll back to could not be .* checkpoint-000002 stands"):
            align(toy(), FillsTheDisk(3), PROMPTS, run_config(), tmp_path, save_every=2, guard=guard)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    again = align(toy(), ShareOfGood(), PROMPTS, run_config(), tmp_path, guard=guard, resume=True)
    assert len(again.history) == run_config().steps


def test_a_scorers_own_error_is_not_the_disks(toy, tmp_path):
    class Gone(ShareOfGood):
        def score_groups(self, groups):
            raise FileNotFoundError("the scorer's words are gone")

    with pytest.raises(FileNotFoundError, match="scorer's words"):
        align(toy(), Gone(), PROMPTS, run_config(), tmp_path)


def test_a_guard_that_would_roll_back_to_nothing_is_refused_on_resuming(straight, toy, tmp_path):
    with pytest.raises(NumericsError):
        align(toy(), ShareOfGood(nan_at=4), PROMPTS, run_config(), tmp_path, save_every=3)
    with pytest.raises(ConfigError, match=r"begun with one that keeps none\. Resume it with that one"):
        align(
            toy(), ShareOfGood(), PROMPTS, run_config(), tmp_path, guard=GuardConfig(mode="act"), resume=True
        )
    result = align(toy(), ShareOfGood(), PROMPTS, run_config(), tmp_path, resume=True)
    assert same(bits(result), bits(straight[0]))


def test_ctrl_c_ends_with_a_checkpoint_that_goes_on_to_the_same_bits(straight, toy_folder, toy, tmp_path):
    process = child(toy_folder, tmp_path, save_every=100, sleep=1.0)
    log = tmp_path / "metrics.jsonl"
    deadline = time.monotonic() + 600
    while process.poll() is None and time.monotonic() < deadline and not (log.exists() and log.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    done = len(lines(tmp_path))
    assert out.strip() == f"{End.INTERRUPTED} {done}"
    assert 1 <= done < 6
    assert latest(tmp_path).name == f"checkpoint-{done:06d}"
    result = align(toy(), ShareOfGood(), PROMPTS, run_config(), tmp_path, resume=True)
    assert same(bits(result), bits(straight[0]))


def test_a_second_ctrl_c_ends_at_once_and_the_handlers_are_put_back(toy, tmp_path):
    before = signal.getsignal(signal.SIGINT)

    class Impatient(ShareOfGood):
        def score_groups(self, groups):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            return super().score_groups(groups)

    with pytest.raises(KeyboardInterrupt):
        align(toy(), Impatient(), PROMPTS, run_config(), tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


def test_killed_before_the_first_checkpoint_it_starts_again(straight, toy, tmp_path):
    with pytest.raises(NumericsError):
        align(toy(), ShareOfGood(nan_at=1), PROMPTS, run_config(), tmp_path)
    assert latest(tmp_path) is None
    result = align(toy(), ShareOfGood(), PROMPTS, run_config(), tmp_path, resume=True)
    assert same(bits(result), bits(straight[0]))


def test_a_finished_run_resumed_does_nothing(straight, toy):
    result, folder = straight
    again = align(toy(), ShareOfGood(kill_at=0), PROMPTS, run_config(), folder, resume=True)
    assert (again.end, again.reason) == (End.STEPS, "")
    assert same(bits(again), bits(result))


@pytest.mark.parametrize("other", ["setting", "prompts", "model"])
def test_resuming_something_else_is_refused_and_loses_nothing(straight, toy, other):
    _, folder = straight
    config = run_config(clip=0.1) if other == "setting" else run_config()
    prompts = PROMPTS[::-1] if other == "prompts" else PROMPTS
    policy = toy(seed=1) if other == "model" else toy()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match="another model, or with other settings or prompts"):
        align(policy, ShareOfGood(), prompts, config, folder, resume=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_folder_with_a_run_is_refused_before_the_policy_is_touched(straight, toy):
    _, folder = straight
    policy = toy()
    with pytest.raises(ConfigError, match="--resume"):
        align(policy, ShareOfGood(), PROMPTS, run_config(), folder)
    assert policy.peft is None
    assert len(lines(folder)) == 6


def test_no_checkpoint_to_load_is_an_error(toy, tmp_path):
    with pytest.raises(StoreError, match="no whole checkpoint"):
        load_checkpoint(tmp_path, Learner(toy(), run_config()), PROMPTS)


# -- how a run may end, or not begin -----------------------------------------------------------


def test_it_stops_at_the_reward_asked_for(toy, tmp_path):
    config = run_config(steps=60, stop_reward=0.5, kl_target=None, beta=0.0, truncation_penalty=0.0)
    result = align(toy(), ShareOfGood(), PROMPTS, config, tmp_path, save_every=100)
    rewards = [row["reward"] for row in result.history]
    assert result.end is End.GUARD
    assert "0.5" in result.reason
    assert sum(rewards[-5:]) / 5 >= 0.5
    assert all(sum(rewards[at - 5 : at]) / 5 < 0.5 for at in range(5, len(rewards)))
    assert latest(tmp_path).name == f"checkpoint-{len(rewards):06d}"


def test_it_stops_when_the_leash_is_out(toy, tmp_path):
    config = run_config(steps=60, stop_kl=0.3, kl_target=None, beta=0.0)
    result = align(toy(), ShareOfGood(), PROMPTS, config, tmp_path)
    assert result.end is End.GUARD
    assert "exact KL" in result.reason
    assert result.history[-1]["kl"] > 0.3 > result.history[0]["kl"]
    assert latest(tmp_path) is not None


def test_nothing_begins_without_prompts_or_with_one_too_long(toy, tmp_path):
    with pytest.raises(DataError, match="no prompts"):
        align(toy(), ShareOfGood(), [], run_config(), tmp_path / "run")
    many = [*PROMPTS * 5, Prompt.from_text("!" * 600)]  # would be drawn at some later step
    with pytest.raises(DataError, match="601 tokens, 509 fit"):
        align(toy(), ShareOfGood(), many, run_config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_every_zero_steps_is_refused(toy, tmp_path):
    with pytest.raises(ConfigError, match="save_every is 0"):
        align(toy(), ShareOfGood(), PROMPTS, run_config(), tmp_path, save_every=0)
