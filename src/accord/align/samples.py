"""A few of each step's rollouts, in words, beside its figures: ``samples.jsonl``. Loads no torch.

A line a rollout: ``step``, ``pick`` (why this one), ``prompt``, ``text``, ``tokens``, ``stop``, ``score``,
``parts``, ``why``. The best and the worst paid are there, for they show what the reward wants, and two that
nobody chose, for they show what the policy says. A function of the step alone, so that a run done again
writes the same lines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accord.errors import DataError
from accord.types import Rollout, Score

FILE = "samples.jsonl"
BEST, WORST, DRAWN = "best paid", "worst paid", "drawn"
PLAIN = 2
"""Rollouts of a step that are kept for no reason."""


def record_samples(folder: Path, step: int, rollouts: Sequence[Rollout], scores: Sequence[Score]) -> None:
    """Append the rows of ``step``, counted from 1, to the folder's file."""
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in samples(step, rollouts, scores)))


def samples(step: int, rollouts: Sequence[Rollout], scores: Sequence[Score]) -> list[dict[str, Any]]:
    """The rows of a step: its best and worst paid rollout (the first of equals), and the first two others.

    Raises:
        DataError: not one score for each rollout.
    """
    if len(rollouts) != len(scores):
        raise DataError(f"{len(scores)} scores for {len(rollouts)} rollouts; pass one for each")
    if not rollouts:
        return []
    order = sorted(range(len(scores)), key=lambda i: scores[i].value)  # stable: equals keep their places
    worst = order[0]
    best = next(i for i in range(len(scores)) if scores[i].value == scores[order[-1]].value)
    picks = {best: BEST} if best == worst else {best: BEST, worst: WORST}
    others = [i for i in range(len(rollouts)) if i not in picks][:PLAIN]
    picks |= dict.fromkeys(others, DRAWN)
    return [_row(step, pick, rollouts[i], scores[i]) for i, pick in picks.items()]


def cut_samples(folder: Path, steps: int) -> None:
    """Keep the rows of the first ``steps`` steps; the others, and a torn last line, will be written again."""
    path = folder / FILE
    kept = []
    if steps and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n") or json.loads(line)["step"] > steps:
                break
            kept.append(line)
    draft = path.with_suffix(".draft")
    draft.write_text("".join(kept), encoding="utf-8")
    draft.replace(path)


def _row(step: int, pick: str, rollout: Rollout, score: Score) -> dict[str, Any]:
    return {
        "step": step,
        "pick": pick,
        "prompt": rollout.prompt.text,
        "text": rollout.text,
        "tokens": len(rollout.ids),
        "stop": rollout.stop.value,
        "score": float(score.value),
        "parts": {name: float(value) for name, value in score.parts.items()},
        "why": score.why,
    }
