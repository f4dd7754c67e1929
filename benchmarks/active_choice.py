"""Labels saved by choosing what to label, and by adaptive overlap, against random and against fixed overlap.

    python benchmarks/active_choice.py --data FOLDER

Simulated pools with a planted reward, and two human sets (kept outside of the repository, default
$ACCORD_DATA, else ../shared/data; left out where absent). Each method runs as `accord choose` does: some
prompts at random, then by the method, with an arm left to chance throughout. Five seeds: of the planted
world, or of the split of the human pairs. Figures are labels needed for the accuracy that random has at its
end and after half of its labels, as a ratio to random's: below 1 saves labels. Progress goes to stderr; the
last line of stdout is one JSON object. --quick runs everything at sizes that prove nothing but that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from _active_worlds import Budget, World, people, simulated
from _figures import ratio, t_interval, words
from _overlap import overlap
from _real_models import say
from accord.feedback.active import Array, fit
from accord.feedback.active_plan import ActiveConfig, plan
from accord.feedback.active_savings import foreseen

ROOT = Path(__file__).resolve().parent.parent
METHODS = ("random", "dopt", "bald", "thompson", "gap")
RANDOM_SHARE = 0.15
Curves = dict[str, Array]
"""Accuracy by seed and size (S, G) of each method."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data = Path(os.environ.get("ACCORD_DATA", ROOT.parent / "shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--only", choices=("even", "uneven", "tulu", "hh", "overlap"), help="one part alone")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--max-length", type=int, default=96, help="of an embedding's input, in tokens")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    started, cpu = time.monotonic(), time.process_time()
    seeds = range(2 if given.quick else given.seeds)
    result: dict[str, Any] = {"benchmark": "active_choice", "quick": given.quick, "seeds": len(seeds)}
    for name in (given.only,) if given.only else ("even", "uneven", "tulu", "hh", "overlap"):
        clock = time.process_time()
        if name == "overlap":
            result[name] = overlap(seeds, given.quick, given.data)
        elif name in ("even", "uneven"):
            budget = Budget(20, 20, 60) if given.quick else Budget(50, 25, 400)
            result[name] = compare(
                name, lambda s, uneven=name == "uneven": simulated(s, uneven), budget, seeds
            )
        elif given.data.is_dir():
            limit = 80 if given.quick else None
            found = people(given.data, name, limit, given.max_length)
            budget = (
                Budget(10, 10, 20)
                if given.quick
                else {"tulu": Budget(50, 25, 250), "hh": Budget(100, 50, 700)}[name]
            )
            result[name] = compare(name, found.world, budget, seeds)
        else:
            say(f"{name}: left out, no data at {given.data}")
            continue
        say(f"{name}: {time.process_time() - clock:.0f} s of CPU")
    result |= {
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }
    print(json.dumps(result, allow_nan=False))


def compare(
    name: str, world_of: Callable[[int], World], budget: Budget, seeds: Sequence[int]
) -> dict[str, Any]:
    """Learning curves of every method, and what each needs against random."""
    worlds = [world_of(seed) for seed in seeds]
    curves: Curves = {
        method: np.array([curve(w, method, budget, s) for s, w in zip(seeds, worlds, strict=True)])
        for method in METHODS
    }
    out: dict[str, Any] = {
        "prompts": len(worlds[0].pool.prompts) - len(worlds[0].test),
        "test_prompts": len(worlds[0].test),
        "start": budget.start,
        "end": budget.end,
        "labels": budget.sizes,
        "methods": {},
    }
    for method, found in curves.items():
        at_end = found[:, budget.sizes.index(budget.end)]
        row: dict[str, Any] = {
            "accuracy": [round(float(x), 4) for x in found.mean(axis=0)],
            "accuracy_at_end": t_interval(at_end),
            "gain_at_end": t_interval(at_end - curves["random"][:, budget.sizes.index(budget.end)]),
        }
        for key, part in (("ratio_at_end", 1.0), ("ratio_at_half", 0.5)):
            row[key] = ratio(curves["random"], found, budget.sizes, part * budget.end)
        out["methods"][method] = row
        said = "  ".join(f"{key} {words(row[key])}" for key in ("ratio_at_half", "ratio_at_end"))
        gain = row["gain_at_end"]
        gained = words(gain, 3)
        say(f"  {name:<7} {method:<9} {at_end.mean():.3f} at {budget.end} labels  gain {gained}  {said}")
    return out


def curve(world: World, method: str, budget: Budget, seed: int) -> Array:
    """Accuracy on the test prompts after each number of labels (G)."""
    rng = np.random.default_rng([seed, 1])  # the same start and random arm for every method
    names = world.pool.prompts
    place = {name: n for n, name in enumerate(names)}
    test = {names[n] for n in world.test}
    order = [names[n] for n in rng.permutation(len(names)) if n not in world.test]
    asked, rest = order[: budget.start], order[budget.start :]
    reserve = [name for name in rest if rng.random() < RANDOM_SHARE]
    rng = np.random.default_rng([seed, 2 + METHODS.index(method)])
    config = ActiveConfig(method=method, start=budget.start, batch=budget.step, dimensions=10_000)
    test_at = np.array(sorted(world.test))
    weight_T = np.bincount(world.truth.prompt_V, world.truth.weight_V, len(names))[test_at]
    accuracy: list[float] = []
    seen = world.answers.of(np.zeros(0, np.int64))
    for size in budget.sizes:
        if size > budget.start:
            made = plan(world.pool, seen, config, rng, closed=test.union(reserve))
            best = [name for name in made.order if name not in asked]
            for _ in range(budget.step):
                source = reserve if reserve and rng.random() < RANDOM_SHARE else best
                asked.append(source.pop(0))
        asked_at = [place[name] for name in asked]
        seen = world.answers.of(np.isin(world.answers.prompt_V, asked_at))
        belief = fit(world.pool, seen)
        config = config.model_copy(update={"precision": belief.precision})
        right_T = foreseen(world.pool, world.truth, belief.mean_D)[test_at]
        accuracy.append(float(right_T @ weight_T / weight_T.sum()))
    return np.array(accuracy)


if __name__ == "__main__":
    main()
