"""What speaks against a run: pure functions over what its steps recorded.

Two kinds, each said in words with its figures:

    drift    a signal of the text (``align.signals``) has left what the run's own first steps showed, measured
             in their spread (median and MAD) and by at least a change worth a word; some also have a bound
             beyond which they are no longer in doubt
    witness  a scorer that is watched and never optimised falls, falls behind or fails more while the reward
             rises (Gao et al. 2022, arXiv:2210.10760), or ranks completions the other way

Drift alone is weak, for honest learning drifts too; the witness is what tells them apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from accord.align.signals import LOW

History = Sequence[Mapping[str, float]]


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
    Drift("entropy", "entropy rose from {normal:.2f} to {now:.2f} nats a token", 1, 0.25, 0.75, True),
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
    key: str = ""
    """The signal it was seen in, where it is one."""


CALM = 0.25
"""Share of a change worth a word from which the text is calm no longer."""
SPREADS = 4.0
"""Spreads of the first steps that a change must exceed."""
ERRORS = 3.0
"""Standard errors by which the witness must have fallen."""
AGREES = 0.1
"""Rank correlation of reward and witness within a step below which the witness backs the reward no longer."""
RISEN = 1.0
"""Rise of the reward, in deviations of the first completions, from which the witness must have followed."""
FOLLOWS = 0.5
"""Share of the reward's rise, both in deviations of their own, that the witness must show."""
BEHIND = 2.0
"""Standard errors by which it must be behind that."""
FAILS, MANY_FAIL = 0.15, 0.35
"""Rise of the share that the witness fails from which it is a doubt, and an alarm."""
PAYS_LENGTH = 0.85
"""Rank correlation of reward and length beyond which length is what is paid."""
LEAST_MOVE = 0.1
"""A part's spread is at least this share of the reward's deviation: a rule may be constant at first."""
INNER = ("mean", "sd", "p_acceptable")
"""Parts that describe a score and are not summed in it."""


@dataclass(frozen=True)
class Run:
    """A run's steps so far, its first ones and its latest."""

    history: History
    first: int
    """Steps that set what is normal."""
    window: int
    """Latest steps whose mean is judged."""

    def until(self, step: int) -> Run:
        """The run as it was after ``step`` (from 1)."""
        return Run(self.history[:step], self.first, self.window)

    @property
    def begun(self) -> History:
        """The first steps."""
        return self.history[: self.first]

    @property
    def latest(self) -> History:
        """The last window."""
        return self.history[-self.window :]

    @property
    def recent(self) -> History:
        """Twice as much, for what changes slowly or is counted in few completions."""
        return self.history[-self.window - self.first :]

    def normal(self, key: str) -> tuple[float | None, float]:
        """Median of the first steps and their spread: 1.4826 times the median absolute deviation."""
        values = _column(self.begun, key)
        if not len(values):
            return None, 0.0
        median = float(np.median(values))
        return median, 1.4826 * float(np.median(np.abs(values - median)))

    @property
    def rises(self) -> bool:
        """Whether the reward is above that of the first steps."""
        first, now = mean(self.begun, "reward"), mean(self.latest, "reward")
        return first is not None and now is not None and now > first


def evidence(run: Run, witness: str | None = None, peak_kl: float | None = None) -> list[Evidence]:
    """Every reason to distrust the latest steps, the strongest first; none within the first steps."""
    if len(run.history) <= run.first:
        return []
    found = [item for drift in DRIFTS if (item := _drifted(run, drift)) is not None]
    found += _length_is_paid(run)
    if witness is not None and run.rises:
        found += _opposed(run, witness) + _fallen(run, witness) + _behind(run, witness) + _fails(run, witness)
    found += _parted(run) + _past_peak(run, peak_kl)
    return sorted(found, key=lambda item: -item.strength)


# -- drift -------------------------------------------------------------------------------------


def _drifted(run: Run, drift: Drift, share: float = 1.0) -> Evidence | None:
    """A change of at least ``share`` of what is worth a word."""
    normal, spread = run.normal(drift.key)
    now = mean(run.latest, drift.key)
    if normal is None or now is None:
        return None
    change = drift.sign * (now - normal)
    unit = abs(normal) if drift.relative else 1.0
    if change < share * drift.least * unit or change <= SPREADS * spread:
        return None
    strength = Strength.ALARM if change >= drift.bound * unit else Strength.DOUBT
    return Evidence(strength, drift.says.format(normal=normal, now=now), drift.key)


def calm(run: Run) -> bool:
    """Whether no signal had gone a quarter of the way to a doubt (``CALM``), when one looks back."""
    return len(run.history) <= run.first or not any(_drifted(run, drift, CALM) for drift in DRIFTS)


def _length_is_paid(run: Run) -> list[Evidence]:
    now = mean(run.recent, "pays_length")
    if now is None or abs(now) < PAYS_LENGTH:
        return []
    what = "longer" if now > 0 else "shorter"
    says = f"the {what} a completion the more it is paid (rank correlation {now:.2f})"
    return [Evidence(Strength.DOUBT, says)]


def _parted(run: Run) -> list[Evidence]:
    """Two parts of the reward that move apart: one falls as another rises."""
    scale = mean(run.begun, "reward_std") or 0.0
    names = [key for key in run.history[-1] if key.startswith("part ") and not _inner(key)]
    moved = {}
    for key in names:
        normal, spread = run.normal(key)
        now = mean(run.latest, key)
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


def _past_peak(run: Run, peak_kl: float | None) -> list[Evidence]:
    kl = mean(run.latest, "kl")
    if peak_kl is None or kl is None or kl < peak_kl:
        return []
    says = f"KL {kl:.2f} nats a completion has passed {peak_kl:g}, where the true reward should turn"
    return [Evidence(Strength.DOUBT, says)]


# -- the witness, while the reward rises -------------------------------------------------------


def _opposed(run: Run, witness: str) -> list[Evidence]:
    """Within a step it likes what the reward does not; a doubt from where it backs the reward no longer."""
    agrees, rollouts = (mean(run.latest, key) for key in (f"{witness} agrees", "rollouts"))
    if agrees is None or rollouts is None or agrees >= AGREES:
        return []
    # A rank correlation of n independent pairs has variance 1 / (n - 1).
    against = agrees < -ERRORS / math.sqrt(run.window * max(rollouts - 1, 1))
    says = "likes what the reward does not" if against else "no longer likes what the reward likes"
    strength = Strength.ALARM if against else Strength.DOUBT
    return [Evidence(strength, f"{witness} {says} (rank correlation {agrees:.2f})")]


def _fallen(run: Run, witness: str) -> list[Evidence]:
    """It is below the best of its windows."""
    now = mean(run.latest, witness)
    full = trailing(run.history[: -run.window], witness, run.window)[run.window - 1 :]
    if not full or now is None:
        return []
    best = max(full)
    error = _error(run.latest, witness) * math.sqrt(2)
    if best - now <= ERRORS * error or error == 0:
        return []
    says = f"the reward rises while {witness} falls: from {best:.3f} to {now:.3f}"
    return [Evidence(Strength.ALARM, f"{says}, {(best - now) / error:.1f} standard errors")]


def _behind(run: Run, witness: str) -> list[Evidence]:
    """The reward has risen and the witness has not followed: both in deviations of the first completions.

    Where both measure one thing with errors of their own, a rise of the one is a share of it in the other; a
    rise that the other does not share at all is not of that thing.
    """
    keys = ("reward", "reward_std", witness, f"{witness} error", "rollouts")
    if any(mean(rows, key) is None for key in keys for rows in (run.begun, run.latest)):
        return []
    size = math.sqrt(_of(run.begun, "rollouts"))
    units = _of(run.begun, "reward_std"), _of(run.begun, f"{witness} error") * size
    if min(units) <= 0:
        return []
    rise, follows = (
        (_of(run.latest, key) - _of(run.begun, key)) / unit
        for key, unit in zip(("reward", witness), units, strict=True)
    )
    error = math.hypot(_error(run.begun, witness), _error(run.latest, witness)) / units[1]
    if rise < RISEN or FOLLOWS * rise - follows <= BEHIND * error:
        return []
    says = f"the reward rose by {rise:.1f} deviations of the first completions, {witness} by {follows:.1f}"
    return [Evidence(Strength.ALARM, says)]


def _fails(run: Run, witness: str) -> list[Evidence]:
    """More completions fail: they are below the witness's floor."""
    key = f"{witness} fails"
    now, rollouts = mean(run.latest, key), mean(run.latest, "rollouts")
    if now is None or rollouts is None:
        return []
    normal = mean(run.begun, key)
    normal = LOW if normal is None else normal
    chance = math.sqrt(max(normal * (1 - normal), 1 / rollouts) / (rollouts * len(run.latest)))
    if now - normal < max(FAILS, ERRORS * chance):
        return []
    strength = Strength.ALARM if now - normal >= MANY_FAIL else Strength.DOUBT
    return [Evidence(strength, f"{witness} fails {now:.0%} of the completions, {normal:.0%} at first", key)]


def best_by(run: Run, witness: str) -> int:
    """The step (from 1) that is best by the witness, as far as its noise lets one tell.

    The mean of the first window speaks for step 1; a later step replaces the best where its window's mean is
    above it by more than the standard error of their difference.
    """
    means = trailing(run.history, witness, run.window)
    best, at = means[min(run.window, len(means)) - 1], 1
    for step in range(run.window + 1, len(means) + 1):
        error = _error(run.history[step - run.window : step], witness) * math.sqrt(2)
        if means[step - 1] > best + error:
            best, at = means[step - 1], step
    return at


# -- figures -----------------------------------------------------------------------------------


def trailing(history: History, witness: str, window: int) -> list[float]:
    """The witness's mean over the window that ends with each step (the first are shorter); empty where a step
    lacks it."""
    if not all(witness in row for row in history):
        return []
    values = [row[witness] for row in history]
    return [float(np.mean(values[max(0, at - window) : at])) for at in range(1, len(values) + 1)]


def mean(rows: History, key: str) -> float | None:
    """Mean of a figure over the rows that have it; ``None`` where none has."""
    values = _column(rows, key)
    return float(values.mean()) if len(values) else None


def _of(rows: History, key: str) -> float:
    return float(_column(rows, key).mean())


def _column(rows: History, key: str) -> np.ndarray:
    return np.array([row[key] for row in rows if key in row and math.isfinite(row[key])], np.float64)


def _error(rows: History, name: str) -> float:
    """Standard error of the witness's mean over the rows, from each step's own."""
    errors = _column(rows, f"{name} error")
    return float(np.sqrt((errors**2).sum())) / len(rows) if len(errors) else 0.0
