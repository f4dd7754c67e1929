"""accord and a peer by turns: processes of their own, and the ratios of their figures.

The two sides take turns (accord, peer, accord, peer, ...), each turn a process of its own with a warm-up
step left out, so that a slow spell of the machine falls on both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from _real_models import say
from _sizes import MODELS

HERE = Path(__file__).parent
ACCORD = Path(sys.executable)
PEER = HERE.parent / ".venv-trl/bin/python"
NEWER = HERE.parent / ".venv-trl/newer"
"""TRL 1.16, which no longer has PPO, for the peer's python."""


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """The options that all of these benchmarks take."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(MODELS), default="S")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of turns")
    parser.add_argument("--steps", type=int, default=3, help="measured steps a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=32, help="rows of one training forward, both sides")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of products, on both sides; in bfloat16 accord samples from a copy of the weights in it",
    )
    parser.add_argument("--no-peer", action="store_true", help="accord alone")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options given; --quick cuts them, and the peer has to be there."""
    given = parser.parse_args()
    if given.quick:
        given.pairs, given.steps = 1, 1
    if not (given.no_peer or PEER.exists()):
        raise SystemExit(f"{PEER} is missing: run scripts/setup-trl-env first, or pass --no-peer")
    return given


def run(python: Path, script: str, options: list[str], threads: int, path: Path | None = None) -> str:
    """The stdout of a fresh process; ``path`` comes before what its python has installed."""
    added = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    added |= {"PYTHONPATH": str(path)} if path else {}
    command = [str(python), str(HERE / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | added)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-4000:]}")
    return done.stdout


def beside(
    given: argparse.Namespace, ours: str, theirs: str, path: Path | None = None, **more: Any
) -> dict[str, Any]:
    """Both scripts by turns, and what they come to: medians of either side and of the turns' ratios."""
    asked = {name: getattr(given, name) for name in ("model", "steps", "threads", "rows", "precision")} | more
    options = [f"--{name}={value}" for name, value in asked.items()]
    accord: list[dict[str, float]] = []
    peer: list[dict[str, float]] = []
    for turn in range(given.pairs):
        accord.append(json.loads(run(ACCORD, ours, options, given.threads).splitlines()[-1]))
        if not given.no_peer:
            peer.append(json.loads(run(PEER, theirs, options, given.threads, path).splitlines()[-1]))
        rates = ", ".join(f"{turns[-1]['items_per_second']:.2f}" for turns in (accord, peer) if turns)
        say(f"{more or ours}, turn {turn + 1}: {rates} a second (accord, TRL)")
    found: dict[str, Any] = {"accord": summary(accord)}
    if not peer:
        return found
    pairs = list(zip(accord, peer, strict=True))
    ratios = [a["items_per_second"] / b["items_per_second"] for a, b in pairs]
    spent = [b["cpu_seconds_per_step"] / a["cpu_seconds_per_step"] for a, b in pairs]
    found["trl"] = summary(peer)
    found |= {"ratio_median": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}
    memory = found["accord"]["peak_rss_mb"] / found["trl"]["peak_rss_mb"]
    return found | {"cpu_ratio": statistics.median(spent), "memory_ratio": memory}


def summary(turns: list[dict[str, float]]) -> dict[str, float]:
    """A side's medians over its turns; the peak is the highest."""
    found = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
    return found | {"peak_rss_mb": max(turn["peak_rss_mb"] for turn in turns)}


def conditions(given: argparse.Namespace) -> dict[str, Any]:
    """How it was measured, for the record."""
    names = ("quick", "model", "pairs", "steps", "threads", "rows", "precision")
    return {name: getattr(given, name) for name in names}
