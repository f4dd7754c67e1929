"""What an evaluation finds, and how often it cries wolf: planted differences and null comparisons.

    python benchmarks/evaluation_power.py

Scores are simulated, so what is true is known. Where nothing differs, a claim is a false alarm: of one figure
(means of skewed and heavy-tailed scores, win rates with ties, prompts that come in five wordings), and of a
whole comparison of three models on two scorers, where any claim among its six counts and Holm's correction
is to hold the chance of one. Where something differs, the sizes come from ``stats.power`` for a promised
power of 0.8, and the share of comparisons that find it is held against that promise. A claim is what
``accord evaluate`` makes one: p at most 0.05, after Holm where several figures are asked, and an interval
that leaves out no difference.

1,000 simulations of each kind; progress goes to stderr, the last line of stdout is one JSON object.
``false_alarms`` is over all null simulations; each kind stands beside it with Wilson's 95 % interval.
--quick runs everything at sizes that prove nothing but that it runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from accord.stats.intervals import Array, wilson
from accord.stats.paired import Gain, holm, paired_gain, win_gain
from accord.stats.power import comparisons_for_wins, units_for_mean

LEVEL, POWER = 0.05, 0.8
DRAWS = 1000
Family = Callable[[np.random.Generator], list[tuple[Gain, float]]]
"""The comparisons of one simulation, each with the value of no difference."""


def claimed(family: Sequence[tuple[Gain, float]]) -> bool:
    """Whether anything is claimed of these comparisons."""
    adjusted = holm([gain.p for gain, _ in family])
    return any(
        p <= LEVEL and not gain.low <= null <= gain.high
        for p, (gain, null) in zip(adjusted, family, strict=True)
    )


def one_mean(before: Array, after: Array, rng: np.random.Generator, clusters: Any = None) -> Any:
    return [(paired_gain(before, after, rng, clusters, DRAWS), 0.0)]


def normal(n: int, shift: float = 0.0) -> Family:
    """Both sides share each prompt's difficulty; a paired difference has standard deviation 1."""

    def draw(rng: np.random.Generator) -> Any:
        prompt_N = rng.normal(0, 1, n)
        sides = prompt_N + rng.normal(0, np.sqrt(0.5), (2, n))
        return one_mean(sides[0], sides[1] + shift, rng)

    return draw


def skewed(n: int) -> Family:
    """Scores like toxicity: nearly all near zero, a few high."""
    return lambda rng: one_mean(*rng.beta(0.2, 2.0, (2, n)), rng)


def reworded(questions: int, wordings: int) -> Family:
    """Prompts that are one question in several wordings: what the model makes of it, all share."""

    def draw(rng: np.random.Generator) -> Any:
        shared = np.repeat(rng.normal(0, 1, (2, questions)), wordings, axis=1)
        sides = shared + rng.normal(0, 0.5, shared.shape)
        return one_mean(sides[0], sides[1], rng, np.repeat(np.arange(questions), wordings).tolist())

    return draw


def wins(n: int, ties: float, rate: float = 0.5) -> Family:
    """A blind A/B: each comparison won, tied or lost."""
    won = rate - ties / 2
    return lambda rng: [(win_gain(rng.choice([1.0, 0.5, 0.0], n, p=[won, ties, 1 - won - ties]), rng), 0.5)]


def three_models(n: int) -> Family:
    """Three equal models on two scorers that partly say the same: six claims to make."""

    def draw(rng: np.random.Generator) -> Any:
        scores = rng.normal(0, 1, (1, 3, n)) + rng.normal(0, 1, (2, 3, n)) + rng.normal(0, 1, n)
        return [
            (paired_gain(side[a], side[b], rng, None, DRAWS), 0.0)
            for side in scores
            for a, b in combinations(range(3), 2)
        ]

    return draw


def rate(name: str, family: Family, rounds: int, seed: int) -> dict[str, Any]:
    """How often something is claimed."""
    count = sum(claimed(family(np.random.default_rng([seed, i]))) for i in range(rounds))
    found = wilson(count, rounds)
    print(f"{name}: {found.value:.3f} ({found.low:.3f} to {found.high:.3f})", file=sys.stderr, flush=True)
    return {"share": found.value, "low": found.low, "high": found.high, "simulations": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="sizes that prove nothing but that it runs")
    quick = parser.parse_args().quick
    rounds = 20 if quick else 1000
    nulls = {
        "normal scores, 12 prompts": normal(12),
        "normal scores, 80 prompts": normal(80),
        "skewed scores, 60 prompts": skewed(60),
        "15 questions in 5 wordings": reworded(15, 5),
        "win rate, half ties, 100 comparisons": wins(100, 0.5),
        "3 models, 2 scorers, 60 prompts, any claim": three_models(60),
    }
    sizes = {"mean": units_for_mean(0.4, 1.0, POWER), "wins": comparisons_for_wins(0.62, 0.2, POWER)}
    planted = {
        f"mean +0.4 sd, {sizes['mean']} prompts": normal(sizes["mean"], 0.4),
        f"win rate 0.62, a fifth ties, {sizes['wins']} comparisons": wins(sizes["wins"], 0.2, 0.62),
    }
    alarms = {name: rate(name, family, rounds, 1) for name, family in nulls.items()}
    found = {name: rate(name, family, rounds, 2) for name, family in planted.items()}
    result = {
        "false_alarms": float(np.mean([kind["share"] for kind in alarms.values()])),
        "false_alarms_worst": max(kind["share"] for kind in alarms.values()),
        "power_promised": POWER,
        "power_found": min(kind["share"] for kind in found.values()),
        "null": alarms,
        "planted": found,
        "quick": quick,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
