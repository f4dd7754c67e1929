"""What a judge is worth, measured on planted judges: accuracy and position bias within their intervals?

    python benchmarks/judge_quality.py

A planted judge goes by position with a known chance (it takes what stands first), and else names the better
answer with a known accuracy; it is simulated, so the truth is known. Each judge of the grid (accuracy 60 to
95 %, position bias 0 to 30 %) judges 400 pairs in both orders, again and again; counted is how often the 95 %
intervals of ``evaluate.judges.judge_report`` hold its accuracy and its bias, with Wilson's interval over the
whole grid, and by cell the least often. Beside it stands what both orders are for: on pairs of equal answers,
the share in which the one listed first is preferred, asked once and asked in both orders.

Progress goes to stderr, the last line of stdout is one JSON object. --quick runs everything at sizes that
prove nothing but that it runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from accord.evaluate.judges import judge_report
from accord.judging import Asked, Choice, both_orders
from accord.stats.intervals import wilson
from accord.types import Prompt

ACCURACIES = (0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95)
BIASES = (0.0, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30)
SURE = 0.9
"""The probability a planted judge states; what counts is which side it is on."""


class Planted:
    """Takes the first with chance ``bias``, else the better one with chance ``accuracy``; of equals any."""

    def __init__(self, accuracy: float, bias: float, rng: np.random.Generator) -> None:
        self.accuracy, self.bias, self.rng = accuracy, bias, rng

    def choose(self, asked: Sequence[Asked]) -> list[Choice]:
        position, right, coin = self.rng.random((3, len(asked)))
        return [
            Choice(SURE if self._first(one, *draws) else 1 - SURE)
            for one, *draws in zip(asked, position, right, coin, strict=True)
        ]

    def _first(self, one: Asked, position: float, right: float, coin: float) -> bool:
        if position < self.bias:
            return True
        if one.first == one.second:
            return coin < 0.5
        return (one.first == "better") == (right < self.accuracy)


def pairs(n: int) -> tuple[list[Asked], list[bool]]:
    """Pairs of which every other lists the better answer first."""
    first = [i % 2 == 0 for i in range(n)]
    sides = [("better", "worse") if f else ("worse", "better") for f in first]
    return [Asked(Prompt.from_text(f"q{i}"), *side) for i, side in enumerate(sides)], first


def cell(accuracy: float, bias: float, n: int, rounds: int, draws: int, seed: int) -> dict[str, Any]:
    """How often the intervals of one judge hold what it is."""
    asked, first = pairs(n)
    held = np.zeros(2, int)
    found = []
    for r in range(rounds):
        rng = np.random.default_rng([seed, r])
        report = judge_report(both_orders(Planted(accuracy, bias, rng), asked), first, range(n), rng, draws)
        held += [
            report.accuracy.low <= accuracy <= report.accuracy.high,
            report.position_bias.low <= bias <= report.position_bias.high,
        ]
        found.append((report.accuracy.value, report.position_bias.value))
    off_accuracy, off_bias = np.mean(found, axis=0) - (accuracy, bias)
    return {"accuracy": accuracy, "bias": bias, "held": held.tolist(),
            "off": [float(off_accuracy), float(off_bias)]}  # fmt: skip


def equal_pairs(bias: float, n: int, seed: int) -> dict[str, Any]:
    """How often the listed first of two equal answers is preferred, asked once and in both orders."""
    asked = [Asked(Prompt.from_text(f"q{i}"), "same", "same") for i in range(n)]
    judged = both_orders(Planted(0.8, bias, np.random.default_rng(seed)), asked)
    once = [(one.as_listed.p_first or 0.0) > 0.5 for one in judged]
    open_ = [abs((one.p or 0.5) - 0.5) < 1e-9 for one in judged]
    both = [(one.p or 0.5) > 0.5 for one, o in zip(judged, open_, strict=True) if not o]
    return {"bias": bias, "once": _share(once), "both": _share(both), "left_open": float(np.mean(open_))}


def _share(hits: Sequence[bool]) -> dict[str, float]:
    found = wilson(sum(hits), len(hits))
    return {"value": found.value, "low": found.low, "high": found.high}


def run(
    n: int, rounds: int, draws: int, equals: int, accuracies: Sequence[float], biases: Sequence[float]
) -> Any:
    """The figures of the whole grid."""
    cells = []
    for accuracy in accuracies:
        cells += [cell(accuracy, bias, n, rounds, draws, len(cells) + i) for i, bias in enumerate(biases)]
        print(f"accuracy {accuracy:.0%} done", file=sys.stderr)
    figures: dict[str, Any] = {"pairs": n, "rounds": rounds, "cells": len(cells)}
    for i, name in enumerate(("accuracy", "position_bias")):
        hits = [each["held"][i] for each in cells]
        least = cells[int(np.argmin(hits))]
        total = wilson(sum(hits), rounds * len(cells))
        figures[name] = {
            "held": {"value": total.value, "low": total.low, "high": total.high},
            "least_in_a_cell": min(hits) / rounds,
            "least_at": {"accuracy": least["accuracy"], "bias": least["bias"]},
            "most_off_on_average": max(abs(each["off"][i]) for each in cells),
        }
    unbiased = [each["held"][0] for each in cells if each["bias"] == 0.0]
    figures["accuracy_held_without_bias"] = sum(unbiased) / max(1, rounds * len(unbiased))
    figures["equal_answers"] = [equal_pairs(bias, equals, 7) for bias in biases]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    if quick:
        figures = run(40, 3, 50, 100, ACCURACIES[::7], BIASES[::6])
    else:
        figures = run(400, 200, 1000, 4000, ACCURACIES, BIASES)
    print(json.dumps({"quick": quick, **figures}))


if __name__ == "__main__":
    main()
