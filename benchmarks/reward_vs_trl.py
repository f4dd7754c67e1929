"""A reward model's training beside TRL 1.12's RewardTrainer: prompts a second, peak memory, accuracy.

    scripts/setup-trl-env && python benchmarks/reward_vs_trl.py

Speed: rankings of four completions, on the random Llama of ppo_vs_trl.py and on one of 33 million weights.
The two sides take turns (accord, TRL, accord, TRL, ...), each turn a process of its own with a warm-up step
left out, so that a slow spell of the machine falls on both. What they share stands in _reward_sizes.py, what
differs in _accord_reward.py and _trl_reward_steps.py. TRL trains on pairs, so a ranking of four passes its
model twelve times; accord's passes it four times, and their prompt once.

Accuracy: the help desk's simulated labelers (_desk_pairs.py). Both sides start from the same model and train
one epoch of as many steps at the same rate; accord on the consensus with its probabilities and FAIL (a tenth
of the prompts held out), TRL on the consensus's winners, all of them. Held-out prompts' pairs by gold. An
epoch of TRL passes each completion three times, so accord also has three epochs: accuracy_equal_passes.

The last line is one JSON object: ratio_* and memory_ratio are of the small model, ratio_33m_* of the other.
--quick runs it all at sizes that prove nothing but that it runs; --no-peer leaves TRL out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from _desk_pairs import BASE, Desk, accuracy, desk, hard
from _figures import t_interval
from _real_models import say
from _reward_sizes import SIZES
from accord.judgements import Comparison
from accord.lm.classifier import SequenceClassifier
from reward_labels import (
    LEARNING_RATE,
    OURS,
    OURS_AT_EQUAL_PASSES,
    PROMPTS_A_STEP,
    SMALL,
    kept,
    one,
    prompts_of,
)

HERE = Path(__file__).parent
PEER = HERE.parent / ".venv-trl/bin/python"
ACCORD = Path(sys.executable)


def run(python: Path, script: str, options: list[str], threads: int) -> str:
    """The stdout of a fresh process."""
    set_threads = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    command = [str(python), str(HERE / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | set_threads)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-4000:]}")
    return done.stdout


def speed(size: str, given: argparse.Namespace) -> dict[str, Any]:
    """Both sides' turns at one size, and their ratios."""
    names = ("steps", "threads", "rows")
    options = [f"--size={size}", *(f"--{name}={getattr(given, name)}" for name in names)]
    accord: list[dict[str, float]] = []
    trl: list[dict[str, float]] = []
    for turn in range(given.pairs):
        for python, script, turns in (
            (ACCORD, "_accord_reward.py", accord),
            (PEER, "_trl_reward_steps.py", trl),
        ):
            if script.startswith("_trl") and given.no_peer:
                continue
            turns.append(json.loads(run(python, script, options, given.threads).splitlines()[-1]))
        rates = ", ".join(f"{turns[-1]['prompts_per_second']:.2f}" for turns in (accord, trl) if turns)
        say(f"{size}, pair {turn + 1}: {rates} prompts/s (accord, TRL)")
    ratios = [a["prompts_per_second"] / b["prompts_per_second"] for a, b in zip(accord, trl, strict=False)]
    found: dict[str, Any] = {"accord": summary(accord), "trl": summary(trl)}
    if ratios:
        found |= {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
        found["memory"] = found["accord"]["peak_rss_mb"] / found["trl"]["peak_rss_mb"]
    return found


def summary(turns: list[dict[str, float]]) -> dict[str, float]:
    """A side's medians over its turns; the peak is the highest."""
    if not turns:
        return {}
    found = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
    return found | {"peak_rss_mb": max(turn["peak_rss_mb"] for turn in turns)}


# -- accuracy ----------------------------------------------------------------------------------


def accuracies(given: argparse.Namespace) -> dict[str, Any]:
    """Both sides on each seed's judgements, with t-intervals over seeds."""
    ways = {"accuracy": OURS, "accuracy_equal_passes": OURS_AT_EQUAL_PASSES}
    if given.small_steps:
        ways = {"accuracy": SMALL[1]}
    ours: dict[str, list[float]] = {name: [] for name in ways}
    theirs: list[float] = []
    sizes = [given.ranked, given.tuned, given.held]
    for seed in range(given.seeds):
        data = desk(given.cache, seed, *sizes)
        for name, way in ways.items():
            ours[name].append(kept(given.cache, way, seed, sizes, partial(one, data, way, seed))["accuracy"])
        if not given.no_peer:
            name = "TRL, small steps" if given.small_steps else "TRL"
            peer = kept(given.cache, name, seed, sizes, partial(trl, data, seed, given))
            theirs.append(peer["accuracy"])
        say(f"seed {seed}: {[round(values[-1], 3) for values in ours.values()]} {theirs[-1:]}")
    found: dict[str, Any] = {}
    for name, values in ours.items():
        found |= {name: float(np.mean(values)), f"{name}_interval": t_interval(values)}
        if theirs:
            found[f"{name}_difference"] = t_interval(np.subtract(values, theirs))
    if theirs:
        found |= {"peer_accuracy": float(np.mean(theirs)), "peer_accuracy_interval": t_interval(theirs)}
    return found


def trl(data: Desk, seed: int, given: argparse.Namespace) -> dict[str, float]:
    """TRL's accuracy on the pairs by gold, from the same base and as many steps."""
    reader = SequenceClassifier.load(BASE, labels=1)

    def ids(pairs: list[Comparison]) -> list[list[tuple[int, ...]]]:
        return [[reader.encode(c.prompt, x.text).ids for x in (c.chosen, c.rejected)] for c in pairs]

    learn = hard(data.comparisons)
    batch = max(1, round(PROMPTS_A_STEP * len(learn) / prompts_of(learn) / (2 if given.small_steps else 1)))
    settings = {
        "epochs": 1, "learning_rate": LEARNING_RATE, "max_length": reader.max_length, "seed": seed,
        "threads": given.threads, "batch": batch, "centering": 0.01,
        "warmup_steps": max(1, -(-len(learn) // batch) // 20),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "question.json", Path(folder) / "answer.json"
        asked = {"base": str(BASE), "train": ids(learn), "test": ids(data.by_gold), "settings": settings}
        question.write_text(json.dumps(asked))
        run(PEER, "_trl_reward.py", [str(question), str(answer)], given.threads)
        found = json.loads(answer.read_text())
    d_P = np.array([chosen - rejected for chosen, rejected in found["scores"]])
    return {"accuracy": accuracy(d_P), "seconds": found["seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="measured steps a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=32, help="rows of one training forward, both sides")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ranked", type=int, default=600)
    parser.add_argument("--tuned", type=int, default=100)
    parser.add_argument("--held", type=int, default=200)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/accord-reward-benchmarks"))
    parser.add_argument("--only", choices=("speed", "accuracy"), help="one part")
    parser.add_argument(
        "--small-steps", action="store_true", help="accuracy with twice the steps, both sides"
    )
    parser.add_argument("--no-peer", action="store_true", help="accord alone")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    given = parser.parse_args()
    if given.quick:
        given.pairs, given.steps, given.seeds = 1, 1, 2
        given.ranked, given.tuned, given.held = 12, 4, 6
    if not (given.no_peer or PEER.exists()):
        raise SystemExit(f"{PEER} is missing: run scripts/setup-trl-env first, or pass --no-peer")
    sizes = ["small"] if given.quick else list(SIZES)
    speeds = {} if given.only == "accuracy" else {size: speed(size, given) for size in sizes}
    result: dict[str, Any] = {"benchmark": "reward_vs_trl", "quick": given.quick}
    if given.only != "speed":
        result |= accuracies(given)
    for size, found in speeds.items():
        if "median" in found:
            tail = "" if size == "small" else f"_{size}"
            result |= {f"ratio{tail}_{name}": found[name] for name in ("median", "min", "max")}
            result[f"memory_ratio{tail}"] = found["memory"]
    result |= {"pairs": given.pairs, "steps": given.steps, "threads": given.threads, "rows": given.rows}
    print(json.dumps(result | speeds))


if __name__ == "__main__":
    main()
