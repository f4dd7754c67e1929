"""A run's folder that grows step by step, as a training run writes it, and a store's row for it; no model."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accord.align.samples import FILE as SAMPLES
from accord.serve.feed import METRICS, VERDICTS
from accord.store.lineage import Run, Status

SETTINGS = {
    "algorithm": "ppo",
    "model": "desk-model",
    "steps": 40,
    "beta": 0.05,
    "guard": "warn",
    "label": None,
}


def figures(step: int, steps: int = 40, salt: float = 0.0) -> dict[str, Any]:
    """A step's row: a reward that rises and a witness that turns."""
    wave = math.sin(step * 1.7 + salt) / 20
    return {
        "step": step, "steps": steps, "reward": 0.05 * step + wave, "reward_std": 0.9, "kl": 0.11 * step,
        "kl_sampled": 0.11 * step + 4 * wave, "beta": 0.05 if step < 20 else 0.1, "entropy": 2.6 - step / 30,
        "length": 24.5 + 0.4 * step, "truncated": 0.02 + abs(wave), "value_explained": 1 - 1 / step,
        "clipped_share": 0.08 + wave, "witness": 0.4 + 0.02 * step - 0.0008 * step**2 + wave,
        "witness error": 0.05, "witness agrees": 0.3, "repeated": 0.05, "copied": 0.1 + wave / 2, "alike": 0,
        "distinct": 0.8 - 0.005 * step, "phrase": 0.1 + 0.01 * step, "empty": 0.0, "guard": 0.0,
    }  # fmt: skip


@dataclass
class GrowingRun:
    """The files of a run, and what the store says of it."""

    folder: Path
    status: Status = Status.RUNNING
    metrics: dict[str, Any] | None = None
    salt: float = 0.0

    def __post_init__(self) -> None:
        self.training = self.folder / "training"
        self.training.mkdir(parents=True, exist_ok=True)

    def look(self) -> Run:
        run = Run(
            "align-3", "align", Status.RUNNING, self.folder, SETTINGS, (), {}, "2026-11-21T10:00:00", None, {}
        )
        return replace(run, status=self.status, metrics=self.metrics or {})

    def step(self, step: int, verdict: tuple[str, str] | None = None, **changes: Any) -> dict[str, Any]:
        """Write a step whole, in the order in which a run does."""
        row = figures(step, salt=self.salt) | changes
        if verdict is not None:
            told = {"step": step, "action": verdict[0], "reason": verdict[1], "example": f"Example {step}"}
            self._append(VERDICTS, told)
        for pick, score in (("best paid", 1.5), ("worst paid", -0.75), ("drawn", 0.125)):
            sample = {"step": step, "pick": pick, "prompt": f"Where is order {step}?",
                      "text": f"{pick.capitalize()}: it left on Friday, {step}.", "tokens": 12, "stop": "eos",
                      "score": score, "parts": {"helpful": score, "honest": 0.5}, "why": ""}  # fmt: skip
            self._append(SAMPLES, sample)
        self._append(METRICS, row)
        return row

    def steps(self, first: int, last: int) -> None:
        for step in range(first, last + 1):
            self.step(step)

    def rewrite(self, last: int) -> None:
        """As a resume does: the files up to a step, written anew."""
        for name in (METRICS, SAMPLES, VERDICTS):
            path = self.training / name
            rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
            path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["step"] <= last))

    def _append(self, name: str, row: dict[str, Any]) -> None:
        with (self.training / name).open("a") as file:
            file.write(json.dumps(row) + "\n")
