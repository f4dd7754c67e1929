"""Sampling beside transformers' generate and its continuous batching: tokens a second and peak memory.

    python benchmarks/sampling.py --model S

The sides take turns (accord, generate, generate_batch, accord, ...), each turn a process of its own with a
warm-up left out, so that a slow spell of the machine falls on all. All sample at temperature 1 over the whole
vocabulary of the same random Llama (_sizes.py), its weights in float32 or --dtype, with the same threads;
prompts of 32 tokens; no token ends a row, each has a length given. Once 32 rows of 64 new tokens; once 192
rows, 32 at a time, whose lengths are geometric with mean 32, cut at 256: generate then decodes each batch
until its longest row ends, while rows join accord's batch and generate_batch's. Only tokens asked for are
counted. accord gives the log-prob of each token besides, the peers do not.

The last line is one JSON object. ratio_median is accord over generate at equal lengths, geometric_* at
geometric ones, batch_* over generate_batch; low and high are the least and the largest of the turns' ratios,
which with five turns hold the median with 94 % confidence. cpu_* are ratios of processor time, which other
work on the machine touches less. --quick runs it all at sizes that prove nothing but that it runs.
"""

from __future__ import annotations

import argparse
import json
import statistics

from _beside import ACCORD, run
from _real_models import say
from _sizes import MODELS

PEERS = {"generate": "", "batch": "batch_"}
WORK = {"equal": "", "geometric": "geometric_"}
CLOCKS = {"per_s": "", "per_cpu_s": "cpu_"}


def turns(given: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Every side's figures, turn by turn."""
    asked = ("model", "dtype", "steps", "threads", "rows", "batches", "tokens")
    options = [f"--{name}={getattr(given, name)}" for name in asked]
    sides: dict[str, list[dict[str, float]]] = {side: [] for side in ("accord", *PEERS)}
    for turn in range(given.pairs):
        for side, found in sides.items():
            said = run(ACCORD, "_sampling_side.py", [f"--side={side}", *options], given.threads)
            found.append(json.loads(said.splitlines()[-1]))
        rates = ", ".join(f"{side} {found[-1]['equal_per_s']:.0f}" for side, found in sides.items())
        say(f"turn {turn + 1}: {rates} tokens/s")
    return sides


def ratios(sides: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Medians of the turns' ratios with the least and the largest, by peer, work and clock."""
    found = {}
    for peer, first in PEERS.items():
        for name, second in WORK.items():
            for clock, third in CLOCKS.items():
                key = f"{name}_{clock}"
                each = [a[key] / b[key] for a, b in zip(sides["accord"], sides[peer], strict=True)]
                start = f"{first}{second}{third}ratio_"
                found |= {f"{start}median": statistics.median(each)}
                found |= {f"{start}low": min(each), f"{start}high": max(each)}
        peaks = [max(turn["peak_rss_mb"] for turn in sides[side]) for side in ("accord", peer)]
        found[f"{first}memory_ratio"] = peaks[0] / peaks[1]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=list(MODELS), default="S")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], default="float32", help="of the weights, on every side"
    )
    parser.add_argument("--pairs", type=int, default=5, help="turns of each side")
    parser.add_argument("--steps", type=int, default=3, help="measured calls a turn and kind of work")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=32, help="rows decoded at a time")
    parser.add_argument("--batches", type=int, default=6, help="so many times the rows, of geometric lengths")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of a row at equal lengths")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    given = parser.parse_args()
    if given.quick:
        given.pairs, given.steps, given.rows, given.batches, given.tokens = 1, 1, 4, 2, 4
    sides = turns(given)
    medians = {
        side: {key: statistics.median(turn[key] for turn in found) for key in found[0]}
        for side, found in sides.items()
    }
    result = {"benchmark": "sampling", **vars(given), **ratios(sides)}
    result["accord_tokens_per_s"] = medians["accord"]["equal_per_s"]
    result["accord_geometric_tokens_per_s"] = medians["accord"]["geometric_per_s"]
    print(json.dumps(result | {"sides": medians}))


if __name__ == "__main__":
    main()
