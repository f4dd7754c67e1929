"""What a rollout costs as the work grows: more rollouts, longer prompts, larger vocabularies.

    python benchmarks/growth.py --plot docs/figures/growth.svg

One PPO step (one pass) of a random Llama of S's layers, for 16 to 512 rollouts, prompts of 16 to 1,024
tokens and vocabularies of 4,096 to 128,000, each in a process of its own. A straight line through the
processor's seconds a step, which other work touches less than the clock's, and through the peak memory is
fitted for each; worst_* is the largest ratio of a measured point to the line, either way, so 1 is a straight
line. For prompts the line is through seconds over what a forward needs in operations, since attention rightly
grows faster. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _real_models import say
from _speed import Distinct, Work, forward_operations, learner_of, policy_of, prompts_of
from accord.align.online import run_step

AXES = {
    "rollouts": (16, 32, 64, 128, 256, 512),
    "prompt": (16, 64, 128, 256, 512, 1024),
    "vocabulary": (4_096, 8_000, 16_000, 32_000, 64_000, 128_000),
}
QUICK = {"rollouts": (4, 8), "prompt": (16, 32), "vocabulary": (4_096, 8_192)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2, help="measured steps, of which the fastest counts")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--one", help="axis=value: one point, in this process")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    given = parser.parse_args()
    if given.one:
        axis, value = given.one.split("=")
        print(json.dumps(point(axis, int(value), given)))
        return
    curves = {
        axis: [fresh(axis, value, given) for value in values]
        for axis, values in (QUICK if given.quick else AXES).items()
    }
    if given.plot:
        draw(curves, given.plot)
    result: dict[str, Any] = {"benchmark": "growth", "quick": given.quick, "threads": given.threads}
    for axis, found in curves.items():
        values, needed, seconds, peak = (
            [p[key] for p in found] for key in ("value", "operations", "seconds", "peak_mb")
        )
        result[f"worst_seconds_{axis}"] = off_the_line(needed if axis == "prompt" else values, seconds)
        result[f"worst_memory_{axis}"] = off_the_line(values, peak)
    print(json.dumps(result | {"curves": curves}))


def fresh(axis: str, value: int, given: argparse.Namespace) -> dict[str, float]:
    """A point from a process of its own."""
    command = [sys.executable, __file__, f"--one={axis}={value}", f"--threads={given.threads}",
               f"--steps={given.steps}", *(["--quick"] if given.quick else [])]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": str(given.threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{axis} {value} failed:\n{done.stderr[-3000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    say(f"{axis} {value}: {found['seconds']:.2f} s a step, {found['peak_mb']:.0f} MB")
    return found


def point(axis: str, value: int, given: argparse.Namespace) -> dict[str, float]:
    """The fastest step at one size."""
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    sizes = {"rollouts": 32, "prompt": 24, "new": 8 if given.quick else 32}
    config = {}
    if axis == "vocabulary":
        config["vocab_size"] = value
    else:
        sizes[axis] = value
    work = Work(**sizes)
    policy = policy_of("S", **config)
    learner, prompts = learner_of(policy, work), prompts_of("S", work)
    found = []
    for step in range(given.steps + 1):
        start = time.process_time()
        run_step(learner, Distinct(), prompts, step)
        found.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    needed = forward_operations(policy, work)
    return {"value": value, "seconds": min(found[1:]), "peak_mb": peak, "operations": needed}


def off_the_line(x: list[float], y: list[float]) -> float:
    """The largest ratio of a point to the straight line through all, or of the line to a point.

    The line is the one with the least squared relative errors.
    """
    x_N, y_N = np.asarray(x, float), np.asarray(y, float)
    design = np.stack([x_N, np.ones_like(x_N)], 1) / y_N[:, None]
    line_N = np.stack([x_N, np.ones_like(x_N)], 1) @ np.linalg.lstsq(design, np.ones_like(y_N), rcond=None)[0]
    ratio_N = y_N / line_N
    return float(np.maximum(ratio_N, 1 / ratio_N).max())


def draw(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Seconds a step above, peak memory below."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    names = {"rollouts": "rollouts a step", "prompt": "tokens of the prompt", "vocabulary": "vocabulary"}
    figure, axes = plt.subplots(2, len(curves), figsize=(9, 4.4), sharex="col")
    for column, (axis, found) in enumerate(curves.items()):
        x = [p["value"] for p in found]
        labels = {"seconds": "processor's seconds a step", "peak_mb": "peak memory, MB"}
        for row, (key, label) in enumerate(labels.items()):
            axes[row][column].plot(x, [p[key] for p in found], marker="o", color="#0f766e", ms=3.5)
            axes[row][column].set_ylim(bottom=0)
            axes[row][column].spines[["top", "right"]].set_visible(False)
            if not column:
                axes[row][column].set_ylabel(label, fontsize=9)
        axes[1][column].set_xlabel(names[axis], fontsize=9)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


if __name__ == "__main__":
    main()
