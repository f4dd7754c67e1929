"""What soft labels, FAIL and one batch element a prompt bring to a reward model, on the help desk.

Ways to train the same starter model on the same judgements of simulated labelers (their consensus, with
probabilities). Of one epoch, each of as many optimiser steps:

    flat hard              the consensus's winners as certain, every pair by itself, shuffled
    grouped hard           the same labels, a prompt with all its completions in one batch
    grouped soft           the consensus's probabilities
    grouped soft + FAIL    and what the consensus says of FAIL, as an absolute anchor

An epoch of pairs passes each of four completions three times, an epoch of groups once. Of as many passes as
the first, and three times its steps:

    grouped soft + FAIL, three epochs
    flat hard, small steps                one epoch; with --small-steps only

Measured on other prompts: accuracy against gold, log-loss against the consensus of the same pool, and the
calibration error (ECE, bins of equal count) before and after a temperature fitted on further prompts; and
the seconds of processor time of the training. Every figure is a mean over seeds with a 95 % t-interval;
differences are of the same seed. The last line is one JSON object. --quick runs it all at sizes that prove
nothing but that it runs.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from _desk_pairs import BASE, Desk, accuracy, desk, differences, flat, hard
from _figures import t_interval
from _real_models import remembered, say
from accord.judgements import Anchor, Comparison
from accord.lm.classifier import SequenceClassifier
from accord.reward.train import RewardConfig, train
from accord.stats.calibration import ece, fit_temperature, log_loss

LEARNING_RATE = 1e-3  # the demo's
PROMPTS_A_STEP = 8


@dataclass(frozen=True)
class Way:
    """How a model is trained."""

    flat: bool = False
    soft: bool = True
    fail: bool = False
    epochs: int = 1
    steps: int = 1
    """Optimiser steps, as a multiple of those of one epoch of groups."""


WAYS = {
    "flat hard": Way(flat=True, soft=False),
    "grouped hard": Way(soft=False),
    "grouped soft": Way(),
    "grouped soft + FAIL": Way(fail=True),
    "grouped soft + FAIL, three epochs": Way(fail=True, epochs=3, steps=3),
    "flat hard, small steps": Way(flat=True, soft=False, steps=3),
    "grouped soft + FAIL, small steps": Way(fail=True, steps=2),
}
SMALL = ("flat hard, small steps", "grouped soft + FAIL, small steps")
OURS = "grouped soft + FAIL"
OURS_AT_EQUAL_PASSES = "grouped soft + FAIL, three epochs"
DIFFERENCES = {
    "grouping": ("grouped hard", "flat hard"),
    "soft labels": ("grouped soft", "grouped hard"),
    "FAIL": ("grouped soft + FAIL", "grouped soft"),
    "all, equal epochs and steps": ("grouped soft + FAIL", "flat hard"),
    "all, equal passes": ("grouped soft + FAIL, three epochs", "flat hard"),
    "all, equal passes and steps": ("grouped soft + FAIL, three epochs", "flat hard, small steps"),
}
"""The first less the second."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--small-steps", action="store_true", help="smaller steps too")
    parser.add_argument("--ranked", type=int, default=400, help="prompts to train on")
    parser.add_argument("--held", type=int, default=200, help="prompts to measure on")
    parser.add_argument("--tuned", type=int, default=100, help="prompts for the temperature")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/accord-reward-benchmarks"))
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    given = parser.parse_args()
    if given.quick:
        given.seeds, given.ranked, given.held, given.tuned = 2, 12, 6, 4
    ways = [way for way in WAYS if given.small_steps or way not in SMALL]
    found: dict[str, dict[str, list[float]]] = {way: {} for way in ways}
    for seed in range(given.seeds):
        data = desk(given.cache, seed, given.ranked, given.tuned, given.held)
        for way in ways:
            sizes = [given.ranked, given.tuned, given.held]
            figures = kept(given.cache, way, seed, sizes, partial(one, data, way, seed))
            say(seed, way, {key: round(value, 4) for key, value in figures.items()})
            for key, value in figures.items():
                found[way].setdefault(key, []).append(value)
    result: dict[str, Any] = {
        "benchmark": "reward_labels",
        "quick": given.quick,
        "seeds": given.seeds,
        "ranked": given.ranked,
        "ways": {way: {key: t_interval(x) for key, x in figures.items()} for way, figures in found.items()},
        "differences": {
            name: {key: t_interval(np.subtract(found[one][key], found[other][key])) for key in found[one]}
            for name, (one, other) in DIFFERENCES.items()
            if one in found and other in found
        },
    }
    print(json.dumps(result))


def kept(
    cache: Path, name: str, seed: int, sizes: list[int], compute: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """A way's figures for one seed, from the cache where they were computed before."""
    return remembered(
        cache, f"labels-{re.sub('[^a-z]+', '-', name.lower())}-{seed}", [name, seed, *sizes], compute
    )


def judgements(data: Desk, way: Way) -> tuple[Sequence[Comparison], Sequence[Anchor]]:
    """What a way is trained on."""
    comparisons = data.comparisons if way.soft else hard(data.comparisons)
    return flat(comparisons) if way.flat else comparisons, data.anchors if way.fail else ()


def prompts_of(comparisons: Sequence[Comparison]) -> int:
    """How many prompts there are, which are the elements of a batch."""
    return len({c.prompt.id for c in comparisons})


def one(data: Desk, name: str, seed: int) -> dict[str, float]:
    """A way's figures for one seed."""
    way = WAYS[name]
    comparisons, anchors = judgements(data, way)
    steps = way.steps * prompts_of(data.comparisons) / PROMPTS_A_STEP
    config = RewardConfig(
        learning_rate=LEARNING_RATE,
        epochs=way.epochs,
        batch_prompts=max(1, round(way.epochs * prompts_of(comparisons) / steps)),
        mixed_precision=True,
        seed=seed,
    )
    started = time.process_time()
    model, _ = train(comparisons, SequenceClassifier.load(BASE, labels=1), config, anchors=anchors)
    seconds = time.process_time() - started
    d_gold, d_people, d_tune = (differences(model, x) for x in (data.by_gold, data.by_people, data.tuning))
    p_people, p_tune = (np.array([c.p_chosen for c in x]) for x in (data.by_people, data.tuning))
    temperature = fit_temperature(d_tune, p_tune)
    return {
        "accuracy": accuracy(d_gold),
        "log_loss": log_loss(d_people, p_people),
        "ece": ece(d_people, p_people),
        "log_loss_after": log_loss(d_people, p_people, temperature),
        "ece_after": ece(d_people, p_people, temperature),
        "ece_gold_after": ece(d_gold, np.ones(len(d_gold)), temperature),
        "temperature": temperature,
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
