"""When to stop trusting a run: pure functions over its history.

Left out until it earns its place: warnings, raising beta, rolling back to the best checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What to do after a step."""

    GO_ON = "go on"
    STOP = "stop"


@dataclass(frozen=True)
class Verdict:
    """The action, and the reason in words (empty when all is well)."""

    action: Action
    reason: str = ""


def distrust(
    history: Sequence[Mapping[str, float]],
    *,
    stop_reward: float | None = None,
    stop_kl: float | None = None,
    window: int = 5,
) -> Verdict:
    """Judge the steps so far by the means of the last ``window``.

    Stops when the reward has reached ``stop_reward`` (the job is done), or when the exact KL to
    the reference, in nats a completion, has passed ``stop_kl`` (the leash is out).
    """
    recent = history[-window:]
    if len(recent) < min(window, 2):
        return Verdict(Action.GO_ON)
    kl = sum(row["kl"] for row in recent) / len(recent)
    reward = sum(row["reward"] for row in recent) / len(recent)
    if stop_kl is not None and kl > stop_kl:
        return Verdict(
            Action.STOP, f"exact KL {kl:.2f} nats a completion is beyond the budget of {stop_kl:g}"
        )
    if stop_reward is not None and reward >= stop_reward and len(recent) == window:
        return Verdict(Action.STOP, f"mean reward {reward:.3f} has reached the target of {stop_reward:g}")
    return Verdict(Action.GO_ON)
