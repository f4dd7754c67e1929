"""When to stop trusting a run: pure functions over its history.

A reward stands for what people want, and optimising it far enough finds where it does not (Gao et al. 2022,
arXiv:2210.10760; Skalse et al. 2022, arXiv:2209.13085). The guard reads what each step recorded, weighs what
speaks against the run (:mod:`accord.align.evidence`), and answers with one of five verdicts and its reason.
Nothing here is random and nothing is remembered but the history, so a resumed run comes to the same verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from accord.align.evidence import Evidence, History, Run, Strength, best_by, calm, evidence, mean
from accord.config import Config
from accord.errors import ConfigError


class Action(StrEnum):
    """What to do after a step, the mildest first."""

    GO_ON = "go on"
    WARN = "warn"
    RAISE_BETA = "raise beta"
    ROLL_BACK = "roll back"
    STOP = "stop"


@dataclass(frozen=True)
class Verdict:
    """The action, and the reason in words (empty when all is well)."""

    action: Action
    reason: str = ""


class GuardConfig(Config):
    """What is watched for, and what is done about it."""

    mode: Literal["off", "warn", "act"] = "warn"
    """off: only the rules that were asked for (targets, budgets, patience); warn: say what is suspicious;
    act: raise beta, then roll back to the best step."""
    witness: str | None = None
    """Name of a watched scorer that is trusted: a reward model of other comparisons, a judge."""
    patience: int | None = Field(None, ge=1)
    """Steps without a gain of the witness after which a run goes back to its best step and ends."""
    peak_kl: float | None = Field(None, gt=0)
    """KL at which the true reward is expected to turn (``stats.overoptimisation``), in nats a completion."""
    first: int = Field(3, ge=2)
    """First steps, which set what is normal; nothing is suspected during them."""
    window: int = Field(3, ge=1)
    """Latest steps whose mean is judged."""
    beta_factor: float = Field(2.0, gt=1)
    """What beta is multiplied by when it is raised."""
    raises: int = Field(1, ge=0)
    """Times that beta is raised before the run is rolled back."""

    @model_validator(mode="after")
    def _patient(self) -> GuardConfig:
        if self.patience is not None and self.witness is None:
            raise ConfigError(f"patience {self.patience} waits for a gain of the witness; name the witness")
        return self

    @property
    def keeps(self) -> bool:
        """Whether a run may have to go back, and so keeps its best weights."""
        return self.mode == "act" or self.patience is not None


DOUBTS = 3
"""Doubts that are an alarm together."""
SHOWN = 80
"""Characters of a text that a reason quotes."""


def distrust(
    history: History,
    *,
    stop_reward: float | None = None,
    stop_kl: float | None = None,
    guard: GuardConfig | None = None,
    window: int = 5,
    shown: Mapping[str, str] | None = None,
) -> Verdict:
    """Judge the steps so far; targets and budgets by the means of the last ``window``.

    Stops when the reward has reached ``stop_reward`` (the job is done), or when the exact KL to
    the reference, in nats a completion, has passed ``stop_kl`` (the leash is out). Then ``guard`` speaks, if
    there is one. Every figure is judged where it is there. ``guard`` in a row is the level of an earlier
    verdict (its place in :class:`Action`). ``shown`` says what signals of the latest step were of (the phrase
    that spread: ``signals.shown``), for the reason alone.
    """
    asked = _asked_for(history[-window:], stop_reward, stop_kl, window)
    if asked is not None or guard is None:
        return asked or Verdict(Action.GO_ON)
    if guard.patience is not None and (waited := _waited(history, guard)) >= guard.patience:
        best = best_step(history, guard)
        return Verdict(
            Action.ROLL_BACK, f"{guard.witness} has not gained for {waited} steps; its best was step {best}"
        )
    if guard.mode == "off":
        return Verdict(Action.GO_ON)
    found = evidence(Run(history, guard.first, guard.window), guard.witness, guard.peak_kl)
    if not found:
        return Verdict(Action.GO_ON)
    return Verdict(_answer(history, found, guard), "; ".join(_told(item, shown or {}) for item in found))


def _told(item: Evidence, shown: Mapping[str, str]) -> str:
    if item.key not in shown:
        return item.words
    text = shown[item.key]
    return f"{item.words}: {text if len(text) <= SHOWN else text[:SHOWN] + '...'!r}"


def floor(history: History, witness: str, guard: GuardConfig) -> float | None:
    """The score below which a completion fails: what few of the first steps' did not reach; before, none.

    For ``signals.watched``, which counts how many fail.
    """
    return None if len(history) < guard.first else mean(history[: guard.first], f"{witness} low")


def _asked_for(
    recent: History, stop_reward: float | None, stop_kl: float | None, window: int
) -> Verdict | None:
    if len(recent) < min(window, 2):
        return None
    kl = mean(recent, "kl")
    reward = mean(recent, "reward")
    if stop_kl is not None and kl is not None and kl > stop_kl:
        return Verdict(
            Action.STOP, f"exact KL {kl:.2f} nats a completion is beyond the budget of {stop_kl:g}"
        )
    if stop_reward is not None and reward is not None and reward >= stop_reward and len(recent) == window:
        return Verdict(Action.STOP, f"mean reward {reward:.3f} has reached the target of {stop_reward:g}")
    return None


def _answer(history: History, found: Sequence[Evidence], guard: GuardConfig) -> Action:
    """What is done about the evidence: nothing but words, beta, or the way back."""
    doubts = sum(item.strength is Strength.DOUBT for item in found)
    alarms = len(found) - doubts
    if guard.mode == "warn" or not (alarms or doubts >= DOUBTS):
        return Action.WARN
    raised = [i for i, row in enumerate(history[:-1]) if row.get("guard") == _level(Action.RAISE_BETA)]
    if alarms or len(raised) >= guard.raises or not history[-1].get("beta"):
        # A step or two after beta was raised its effect cannot be seen yet.
        waiting = bool(raised) and len(history) - 1 - raised[-1] < guard.window and not alarms
        return Action.WARN if waiting else Action.ROLL_BACK
    return Action.RAISE_BETA


def _level(action: Action) -> float:
    return float(list(Action).index(action))


# -- the best step -----------------------------------------------------------------------------


def best_step(history: History, guard: GuardConfig) -> int:
    """The step (from 1) whose weights a roll-back goes to; 0 for an empty history.

    By the witness: the mean of the first window speaks for step 1, and a later step takes its place where the
    window that ends with it is better by more than a standard error; so noise sends no run to later, more
    optimised weights. Without a witness: the latest step at which the text was calm.
    """
    if not history:
        return 0
    run = Run(history, guard.first, guard.window)
    if guard.witness is not None and all(guard.witness in row for row in history):
        return best_by(run, guard.witness)
    return next((at for at in range(len(history), 1, -1) if calm(run.until(at))), 1)


def _waited(history: History, guard: GuardConfig) -> int:
    """Steps since the witness was at its best."""
    if guard.witness is None or not history or guard.witness not in history[-1]:
        return 0
    return len(history) - best_step(history, guard)
