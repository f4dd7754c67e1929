"""A run of alignment: steps, metrics, checkpoints, and the ways it may end.

Checkpoints are atomic (written beside, then renamed) and hold all that a step changes: the training
weights, the critic, the optimiser, beta, the state of a reward that adapts, and the history. Randomness
is a function of seed and step, so a run that was killed goes on from its last checkpoint to the same bits.
"""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from accord.align.guard import Action, distrust
from accord.align.learner import Learner
from accord.align.online import run_step
from accord.align.settings import AlignConfig
from accord.errors import ConfigError, DataError, StoreError
from accord.lm.critic import OwnCritic
from accord.lm.heads import ValueHead
from accord.lm.model import LanguageModel
from accord.types import Adapts, Prompt, Scorer, digest

Metrics = dict[str, float]


class End(StrEnum):
    """Why a run ended."""

    STEPS = "all steps done"
    GUARD = "stopped by its rules"
    INTERRUPTED = "interrupted; --resume goes on"


@dataclass(frozen=True)
class AlignResult:
    """The trained learner, every step's metrics, and why it ended."""

    learner: Learner
    history: list[Metrics]
    end: End
    reason: str


def align(
    policy: LanguageModel,
    scorer: Scorer,
    prompts: Sequence[Prompt],
    config: AlignConfig,
    folder: str | Path,
    *,
    watch: Mapping[str, Scorer] | None = None,
    critic: ValueHead | None = None,
    resume: bool = False,
    save_every: int = 10,
    progress: Callable[[Metrics], None] = lambda _: None,
) -> AlignResult:
    """Train ``policy`` in place against ``scorer``; metrics.jsonl and checkpoints go to ``folder``.

    Ctrl-C ends the run after the step under way, with a checkpoint. ``watch`` names scorers that
    are logged beside the reward and never optimised. ``critic`` is given where the settings ask for one
    begun as a reward model.

    Raises:
        DataError: no prompts, or one that is empty or does not fit the context.
        ConfigError: ``folder`` holds a run and ``resume`` was not asked for.
        StoreError: the run to resume was made from another model, with other settings or prompts.
        NumericsError: a reward, loss or importance ratio is wrong; the last checkpoint stands.
    """
    if not prompts:
        raise DataError("no prompts to align on; import some, or choose another split")
    if save_every < 1:
        raise ConfigError(f"save_every is {save_every}; a checkpoint is written every 1 or more steps")
    folder = Path(folder)
    if latest(folder) is not None and not resume:
        raise ConfigError(f"{folder} holds a run already; add --resume to go on with it, or name another")
    if critic is None and config.row.critic and config.critic == "own":
        critic = OwnCritic(policy.frozen_copy())
    learner = Learner(policy, config, critic)
    for prompt in prompts:  # a prompt too long is refused now, not hours later when it is drawn
        learner.engine(0).encode(prompt)
    history = _begin(folder, learner, prompts, scorer, resume)
    end, reason = End.STEPS, ""
    with _interruptible() as interrupted, (folder / "metrics.jsonl").open("a") as log:
        for step in range(len(history), config.steps):
            metrics, _, _ = run_step(learner, scorer, prompts, step, watch)
            metrics = {"step": step + 1, "steps": config.steps, **metrics}
            history.append(metrics)
            log.write(json.dumps(metrics) + "\n")
            log.flush()
            progress(metrics)
            verdict = distrust(history, stop_reward=config.stop_reward, stop_kl=config.stop_kl)
            if verdict.action is Action.STOP:
                end, reason = End.GUARD, verdict.reason
            elif interrupted.is_set():
                end = End.INTERRUPTED
            if end is not End.STEPS or step + 1 == config.steps or (step + 1) % save_every == 0:
                save_checkpoint(folder, learner, history, prompts, scorer)
            if end is not End.STEPS:
                break
    return AlignResult(learner, history, end, reason)


def _begin(
    folder: Path, learner: Learner, prompts: Sequence[Prompt], scorer: Scorer, resume: bool
) -> list[Metrics]:
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "metrics.jsonl"
    history: list[Metrics] = []
    if resume and latest(folder) is not None:
        history = load_checkpoint(folder, learner, prompts, scorer)
    # Steps done after the last checkpoint will be done again; their lines must not stand twice.
    log.write_text("".join(json.dumps(row) + "\n" for row in history))
    return history


# -- checkpoints -------------------------------------------------------------------------------


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run's folder."""
    found = sorted(path for path in folder.glob("checkpoint-*") if path.is_dir())
    return found[-1] if found else None


def save_checkpoint(
    folder: Path,
    learner: Learner,
    history: Sequence[Metrics],
    prompts: Sequence[Prompt],
    scorer: Scorer | None = None,
) -> Path:
    """Write a checkpoint beside the others, rename it into place, then drop the older ones.

    The state of a ``scorer`` that adapts (:class:`accord.types.Adapts`) is kept with it.
    """
    target = folder / f"checkpoint-{len(history):06d}"
    draft = folder / f".draft-{len(history):06d}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    save_file(learner.tensors(), draft / "weights.safetensors")
    torch.save(learner.optimiser.state_dict(), draft / "optimiser.pt")
    state = {
        "history": list(history),
        "beta": learner.beta.state_dict(),
        "fingerprint": fingerprint(learner, prompts),
        "scorer": scorer.state_dict() if isinstance(scorer, Adapts) else None,
    }
    (draft / "state.json").write_text(json.dumps(state))
    older = latest(folder)
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    if older is not None and older != target:
        shutil.rmtree(older)
    return target


def load_checkpoint(
    folder: Path, learner: Learner, prompts: Sequence[Prompt], scorer: Scorer | None = None
) -> list[Metrics]:
    """Put the newest checkpoint into ``learner`` and a ``scorer`` that adapts; returns the history up to it.

    Raises:
        StoreError: there is none, or it is of another model, other settings or prompts.
    """
    path = latest(folder)
    if path is None:
        raise StoreError(f"{folder} has no checkpoint to resume from")
    state: dict[str, Any] = json.loads((path / "state.json").read_text())
    if state["fingerprint"] != fingerprint(learner, prompts):
        raise StoreError(
            f"{path} was made from another model, or with other settings or prompts; resume with those of "
            "the run's record, or start a new run"
        )
    if isinstance(scorer, Adapts):
        if state.get("scorer") is None:
            raise StoreError(f"{path} was made with a reward that keeps no state; resume with that reward")
        scorer.load_state_dict(state["scorer"])
    saved = load_file(path / "weights.safetensors")
    with torch.no_grad():
        for name, tensor in learner.tensors().items():
            tensor.copy_(saved[name])
    learner.optimiser.load_state_dict(torch.load(path / "optimiser.pt", weights_only=True))
    learner.beta.load_state_dict(state["beta"])
    return state["history"]


def fingerprint(learner: Learner, prompts: Sequence[Prompt]) -> str:
    """Digest of what a resumed run must share with the one that was stopped: reference, settings, prompts."""
    settings = learner.config.model_dump()
    return digest(learner.reference_hash, settings, [prompt.id for prompt in prompts])


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C (or SIGTERM) into a flag; a second one interrupts at once."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def on_signal(number: int, frame: object) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
