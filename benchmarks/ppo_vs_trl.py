"""Rollouts per second and peak memory of one PPO step, accord beside TRL 1.12's PPOTrainer.

    scripts/setup-trl-env && python benchmarks/ppo_vs_trl.py

The two take turns (accord, TRL, accord, TRL, ...), each turn a process of its own with a warm-up step
left out, so that a slow spell of the machine falls on both. What is the same on both sides stands in
_ppo_sizes.py, what differs in _accord_ppo.py and _trl_ppo.py. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PEER = HERE.parent / ".venv-trl/bin/python"


def turn(python: Path, script: str, given: argparse.Namespace) -> dict[str, float]:
    """One side's figures from a fresh process."""
    options = [f"--{name}={getattr(given, name)}" for name in ("steps", "threads", "micro")]
    command = [str(python), str(HERE / script), *options]
    threads = {"OMP_NUM_THREADS": str(given.threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def summary(turns: list[dict[str, float]]) -> dict[str, float]:
    """A side's medians over its turns; the peak is the highest."""
    return {
        "rollouts_per_second": statistics.median(t["rollouts_per_second"] for t in turns),
        "seconds_per_step": statistics.median(t["seconds_per_step"] for t in turns),
        "cpu_seconds_per_step": statistics.median(t["cpu_seconds_per_step"] for t in turns),
        "peak_rss_mb": max(t["peak_rss_mb"] for t in turns),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="measured steps a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--micro", type=int, default=32, help="rows of one training forward, both sides")
    given = parser.parse_args()
    if not PEER.exists():
        raise SystemExit(f"{PEER} is missing: run scripts/setup-trl-env first")
    accord, trl = [], []
    for pair in range(given.pairs):
        accord.append(turn(Path(sys.executable), "_accord_ppo.py", given))
        trl.append(turn(PEER, "_trl_ppo.py", given))
        ours, theirs = accord[-1]["rollouts_per_second"], trl[-1]["rollouts_per_second"]
        print(f"pair {pair + 1}: accord {ours:.2f}, TRL {theirs:.2f} rollouts/s, ratio {ours / theirs:.2f}")
    ratios = [a["rollouts_per_second"] / b["rollouts_per_second"] for a, b in zip(accord, trl, strict=True)]
    ours, theirs = summary(accord), summary(trl)
    result = {
        "benchmark": "ppo_vs_trl",
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "memory_ratio": ours["peak_rss_mb"] / theirs["peak_rss_mb"],
        "pairs": given.pairs,
        "steps": given.steps,
        "threads": given.threads,
        "micro": given.micro,
        "cpu_ratio": theirs["cpu_seconds_per_step"] / ours["cpu_seconds_per_step"],
        "accord": ours,
        "trl": theirs,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
