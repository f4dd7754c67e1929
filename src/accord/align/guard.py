"""When to stop trusting a run: pure functions over its history.

A reward stands for what people want, and optimising it far enough finds where it does not (Gao et al. 2022,
arXiv:2210.10760; Skalse et al. 2022, arXiv:2209.13085). The guard reads what each step recorded and answers
with one of five verdicts and its reason. It knows two kinds of evidence:

    drift    a signal of the text (``align.signals``) has left what the run's own first steps showed, measured
             in their spread (median and MAD) and by at least a change worth a word; some also have a bound
             beyond which they are no longer in doubt
    witness  a scorer that is watched and never optimised falls, or falls behind, while the reward rises

Drift alone is weak, for honest learning drifts too; the witness is what tells them apart. Nothing here is
random and nothing is remembered but the history, so a resumed run comes to the same verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from accord.config import Config
from accord.errors import ConfigError

History = Sequence[Mapping[str, float]]


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


@dataclass(frozen=True)
class Drift:
    """A signal that may leave its run's own normal."""

    key: str
    says: str
    """What has happened, with places for ``normal`` and ``now``."""
    sign: int
    """1 where a rise is suspicious, -1 where a fall is."""
    least: float
    """Smallest change worth a word; a share of the normal where ``relative``."""
    bound: float
    """Change, counted alike, from which it is in doubt no longer."""
    relative: bool = False


DRIFTS = (
    Drift("length", "completions grew from {normal:.0f} to {now:.0f} tokens", 1, 0.6, 1.5, True),
    Drift("length", "completions shrank from {normal:.0f} to {now:.0f} tokens", -1, 0.4, 0.6, True),
    Drift("truncated", "the share cut by the limit rose from {normal:.0%} to {now:.0%}", 1, 0.2, 0.4),
    Drift("empty", "the share of empty answers rose from {normal:.0%} to {now:.0%}", 1, 0.08, 0.2),
    Drift("repeated", "repetition inside an answer rose from {normal:.0%} to {now:.0%}", 1, 0.1, 0.25),
    Drift("copied", "words copied from the prompt rose from {normal:.0%} to {now:.0%}", 1, 0.15, 0.35),
    Drift("marks",
          "punctuation and symbols rose from {normal:.0%} to {now:.0%} of the characters", 1, 0.06, 0.15),
    Drift("alike",
          "other prompts' answers, letter for letter, rose from {normal:.0%} to {now:.0%}", 1, 0.2, 0.5),
    Drift("distinct", "different phrases fell from {normal:.0%} to {now:.0%} of all", -1, 0.25, 0.5),
    Drift("phrase", "one phrase spread from {normal:.0%} to {now:.0%} of the answers", 1, 0.35, 0.6),
    Drift("entropy", "entropy fell from {normal:.2f} to {now:.2f} nats a token", -1, 0.6, 0.9, True),
    Drift("reference_surprise",
          "the reference's surprise rose from {normal:.2f} to {now:.2f} nats a token", 1, 0.4, 0.75),
    Drift("part sd", "the ensemble's members drew apart: their spread rose from {normal:.2f} to {now:.2f}",
          1, 1.0, 2.0, True),
)  # fmt: skip
"""What is watched in the text itself; each needs its key in the history."""


class Strength(IntEnum):
    """How much a piece of evidence weighs."""

    DOUBT = 1
    ALARM = 2


@dataclass(frozen=True)
class Evidence:
    """A reason to distrust, with its figures in words."""

    strength: Strength
    words: str


DOUBTS = 3
"""Doubts that are an alarm together."""
SPREADS = 4.0
"""Spreads of the first steps that a change must exceed."""
ERRORS = 3.0
"""Standard errors by which the witness must have fallen."""
AGREES = 0.1
"""Rank correlation of reward and witness within a step below which the witness backs the reward no longer."""
PAYS_LENGTH = 0.85
"""Rank correlation of reward and length beyond which length is what is paid."""
LEAST_MOVE = 0.1
"""A part's spread is at least this share of the reward's deviation: a rule may be constant at first."""
INNER = ("mean", "sd", "p_acceptable")
"""Parts that describe a score and are not summed in it."""


def distrust(
    history: History,
    *,
    stop_reward: float | None = None,
    stop_kl: float | None = None,
    guard: GuardConfig | None = None,
    window: int = 5,
) -> Verdict:
    """Judge the steps so far; targets and budgets by the means of the last ``window``.

    Stops when the reward has reached ``stop_reward`` (the job is done), or when the exact KL to
    the reference, in nats a completion, has passed ``stop_kl`` (the leash is out). Then ``guard`` speaks, if
    there is one. Every figure is judged where it is there. ``guard`` in a row is the level of an earlier
    verdict (its place in :class:`Action`).
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
    found = evidence(history, guard)
    if not found:
        return Verdict(Action.GO_ON)
    return Verdict(_answer(history, found, guard), "; ".join(item.words for item in found))


def _asked_for(
    recent: History, stop_reward: float | None, stop_kl: float | None, window: int
) -> Verdict | None:
    if len(recent) < min(window, 2):
        return None
    kl = _mean(recent, "kl")
    reward = _mean(recent, "reward")
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


# -- evidence ----------------------------------------------------------------------------------


def evidence(history: History, guard: GuardConfig) -> list[Evidence]:
    """Every reason to distrust the latest steps, the strongest first."""
    if len(history) <= guard.first:
        return []
    found = [item for drift in DRIFTS if (item := _drifted(history, drift, guard)) is not None]
    found += _length_is_paid(history, guard) + _witnessed(history, guard) + _parted(history, guard)
    found += _past_peak(history, guard)
    return sorted(found, key=lambda item: -item.strength)


def _drifted(history: History, drift: Drift, guard: GuardConfig) -> Evidence | None:
    normal, spread = _normal(history, drift.key, guard)
    now = _mean(history[-guard.window :], drift.key)
    if normal is None or now is None:
        return None
    change = drift.sign * (now - normal)
    unit = abs(normal) if drift.relative else 1.0
    if change < drift.least * unit or change <= SPREADS * spread:
        return None
    strength = Strength.ALARM if change >= drift.bound * unit else Strength.DOUBT
    return Evidence(strength, drift.says.format(normal=normal, now=now))


def _length_is_paid(history: History, guard: GuardConfig) -> list[Evidence]:
    now = _mean(history[-guard.window - guard.first :], "pays_length")
    if now is None or abs(now) < PAYS_LENGTH:
        return []
    what = "longer" if now > 0 else "shorter"
    says = f"the {what} a completion the more it is paid (rank correlation {now:.2f})"
    return [Evidence(Strength.DOUBT, says)]


def _witnessed(history: History, guard: GuardConfig) -> list[Evidence]:
    """The witness falls while the reward rises, or points the other way."""
    name = guard.witness
    if name is None or not _rises(history, guard):
        return []
    found = []
    agrees, rollouts = (_mean(history[-guard.window :], key) for key in (f"{name} agrees", "rollouts"))
    if agrees is not None and rollouts is not None and agrees < AGREES:
        # A rank correlation of n independent pairs has variance 1 / (n - 1).
        against = agrees < -ERRORS / math.sqrt(guard.window * max(rollouts - 1, 1))
        says = "likes what the reward does not" if against else "no longer likes what the reward likes"
        strength = Strength.ALARM if against else Strength.DOUBT
        found.append(Evidence(strength, f"{name} {says} (rank correlation {agrees:.2f})"))
    now = _mean(history[-guard.window :], name)
    full = _trailing(history[: -guard.window], guard)[guard.window - 1 :]
    if not full or now is None:
        return found
    best = max(full)
    error = _error(history[-guard.window :], name) * math.sqrt(2)
    if best - now > ERRORS * error > 0:
        found.append(
            Evidence(
                Strength.ALARM,
                f"the reward rises while {name} falls: from {best:.3f} to {now:.3f}, "
                f"{(best - now) / error:.1f} standard errors",
            )
        )
    return found


def _parted(history: History, guard: GuardConfig) -> list[Evidence]:
    """Two parts of the reward that move apart: one falls as another rises."""
    scale = _mean(history[: guard.first], "reward_std") or 0.0
    names = [key for key in history[-1] if key.startswith("part ") and not _inner(key)]
    moved = {}
    for key in names:
        normal, spread = _normal(history, key, guard)
        now = _mean(history[-guard.window :], key)
        if normal is not None and now is not None and (unit := max(spread, LEAST_MOVE * scale)) > 0:
            moved[key.removeprefix("part ")] = (now - normal) / unit
    if len(moved) < 2:
        return []
    down, up = min(moved, key=lambda k: moved[k]), max(moved, key=lambda k: moved[k])
    if moved[down] > -SPREADS or moved[up] < SPREADS:
        return []
    return [Evidence(Strength.DOUBT, f"the reward's part {up!r} rises while its part {down!r} falls")]


def _inner(key: str) -> bool:
    """Whether a part is a view of one model and no reward of its own (a logit, an ensemble's member)."""
    name = key.removeprefix("part ")
    return name.startswith("member ") or name.endswith((" p", "logit")) or name in INNER


def _past_peak(history: History, guard: GuardConfig) -> list[Evidence]:
    kl = _mean(history[-guard.window :], "kl")
    if guard.peak_kl is None or kl is None or kl < guard.peak_kl:
        return []
    says = f"KL {kl:.2f} nats a completion has passed {guard.peak_kl:g}, where the true reward should turn"
    return [Evidence(Strength.DOUBT, says)]


def _rises(history: History, guard: GuardConfig) -> bool:
    first, now = _mean(history[: guard.first], "reward"), _mean(history[-guard.window :], "reward")
    return first is not None and now is not None and now > first


# -- the best step -----------------------------------------------------------------------------


def best_step(history: History, guard: GuardConfig) -> int:
    """The step (from 1) whose weights a roll-back goes to.

    By the witness: the step at the end of the window with its best mean. Without one: the latest step whose
    verdict (``guard`` in its row) was to go on, the first if there is none. 0 for an empty history.
    """
    if not history:
        return 0
    means = _trailing(history, guard)
    if means:
        first = min(guard.window, len(means)) - 1  # a step or two alone are no window
        return int(np.argmax(means[first:])) + first + 1
    return max((at for at, row in enumerate(history, 1) if not row.get("guard")), default=1)


def _trailing(history: History, guard: GuardConfig) -> list[float]:
    """The witness's mean over the window that ends with each step (the first are shorter); empty without."""
    if guard.witness is None or not all(guard.witness in row for row in history):
        return []
    values = [row[guard.witness] for row in history]
    windows = [values[max(0, at - guard.window) : at] for at in range(1, len(values) + 1)]
    return [sum(window) / len(window) for window in windows]


def _waited(history: History, guard: GuardConfig) -> int:
    """Steps since the witness was at its best."""
    if guard.witness is None or not history or guard.witness not in history[-1]:
        return 0
    return len(history) - best_step(history, guard)


# -- figures -----------------------------------------------------------------------------------


def _column(rows: History, key: str) -> np.ndarray:
    return np.array([row[key] for row in rows if key in row and math.isfinite(row[key])], np.float64)


def _mean(rows: History, key: str) -> float | None:
    values = _column(rows, key)
    return float(values.mean()) if len(values) else None


def _normal(history: History, key: str, guard: GuardConfig) -> tuple[float | None, float]:
    """Median of the first steps and their spread: 1.4826 times the median absolute deviation."""
    values = _column(history[: guard.first], key)
    if not len(values):
        return None, 0.0
    median = float(np.median(values))
    return median, 1.4826 * float(np.median(np.abs(values - median)))


def _error(rows: History, name: str) -> float:
    """Standard error of the witness's mean over the rows, from each step's own."""
    errors = _column(rows, f"{name} error")
    return float(np.sqrt((errors**2).sum())) / len(rows) if len(errors) else 0.0
