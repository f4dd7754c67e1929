"""DPO's training beside TRL 1.12's DPOTrainer: prompts a second and peak memory, all weights training.

    scripts/setup-trl-env && python benchmarks/dpo_vs_trl.py --model S

The two sides take turns (accord, TRL, accord, TRL, ...), each turn a process of its own with a warm-up step
left out, so that a slow spell of the machine falls on both. S is the random Llama of ppo_vs_trl.py, M one of
33 million weights. Once rankings of four completions (six pairs), and once single pairs, where a prompt has
nothing to share. TRL reads every pair by policy and reference at each step: a ranking of four passes each
twelve times. Here it passes each four times, the reference before the first step; that time is counted.

The last line is one JSON object: ratio_median and memory_ratio are of rankings, pair_* of single pairs;
cpu_ratio is TRL's processor time over accord's, which other work on the machine touches less.
--quick runs it all at sizes that prove nothing but that it runs; --no-peer leaves TRL out.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

from _real_models import say
from reward_vs_trl import ACCORD, PEER, run, summary

MODELS = {"S": "small", "M": "33m"}


def speed(completions: int, given: argparse.Namespace) -> dict[str, Any]:
    """Both sides' turns on rankings of so many completions, and their ratios."""
    options = [f"--size={MODELS[given.model]}", f"--completions={completions}"]
    options += [f"--{name}={getattr(given, name)}" for name in ("steps", "threads", "rows")]
    accord: list[dict[str, float]] = []
    trl: list[dict[str, float]] = []
    for turn in range(given.pairs):
        accord.append(json.loads(run(ACCORD, "_accord_dpo.py", options, given.threads).splitlines()[-1]))
        if not given.no_peer:
            trl.append(json.loads(run(PEER, "_trl_dpo_steps.py", options, given.threads).splitlines()[-1]))
        rates = ", ".join(f"{turns[-1]['prompts_per_second']:.2f}" for turns in (accord, trl) if turns)
        say(f"{completions} completions, turn {turn + 1}: {rates} prompts/s (accord, TRL)")
    found: dict[str, Any] = {"accord": summary(accord), "trl": summary(trl)}
    ratios = [a["prompts_per_second"] / b["prompts_per_second"] for a, b in zip(accord, trl, strict=False)]
    if ratios:
        spent = [
            b["cpu_seconds_per_step"] / a["cpu_seconds_per_step"] for a, b in zip(accord, trl, strict=True)
        ]
        found["cpu"] = statistics.median(spent)
        found |= {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
        found["memory"] = found["accord"]["peak_rss_mb"] / found["trl"]["peak_rss_mb"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=list(MODELS), default="S")
    parser.add_argument(
        "--rank", type=int, default=0, help="train LoRA adapters of this rank; 0: all weights"
    )
    parser.add_argument("--pairs", type=int, default=5, help="pairs of turns")
    parser.add_argument("--steps", type=int, default=3, help="measured steps a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=32, help="rows of one training forward, both sides")
    parser.add_argument("--no-peer", action="store_true", help="accord alone")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    given = parser.parse_args()
    if given.quick:
        given.pairs, given.steps = 1, 1
    if not (given.no_peer or PEER.exists()):
        raise SystemExit(f"{PEER} is missing: run scripts/setup-trl-env first, or pass --no-peer")
    result: dict[str, Any] = {"benchmark": "dpo_vs_trl", "quick": given.quick, "model": given.model}
    sides = {"rankings": speed(4, given), "single_pairs": speed(2, given)}
    for found, start in ((sides["rankings"], ""), (sides["single_pairs"], "pair_")):
        if "median" in found:
            result |= {f"{start}ratio_{name}": found[name] for name in ("median", "min", "max")}
            result |= {f"{start}cpu_ratio": found["cpu"], f"{start}memory_ratio": found["memory"]}
    result |= {name: getattr(given, name) for name in ("pairs", "steps", "threads", "rows")}
    print(json.dumps(result | sides))


if __name__ == "__main__":
    main()
