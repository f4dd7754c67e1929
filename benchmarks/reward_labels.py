"""What soft labels, FAIL and one batch element a prompt bring to a reward model, on the help desk.

Four ways to train the same starter model on the same judgements of simulated labelers (their consensus, with
probabilities), each with as many optimiser steps in its epoch:

    flat hard       the consensus's winners as certain, every pair by itself, shuffled
    grouped hard    the same labels, a prompt with all its completions in one batch
    grouped soft    the consensus's probabilities
    grouped soft + FAIL    and what the consensus says of FAIL, as an absolute anchor

Measured on other prompts: accuracy against gold, log-loss against the consensus of the same pool, and the
calibration error (ECE, bins of equal count) before and after a temperature fitted on further prompts. Every
figure is a mean over seeds with a 95 % t-interval; differences are of the same seed. The last line is one
JSON object. --quick runs it all at sizes that prove nothing but that it runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
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

WAYS = ("flat hard", "grouped hard", "grouped soft", "grouped soft + FAIL")
LEARNING_RATE = 1e-3  # the demo's


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ranked", type=int, default=400, help="prompts to train on")
    parser.add_argument("--held", type=int, default=200, help="prompts to measure on")
    parser.add_argument("--tuned", type=int, default=100, help="prompts for the temperature")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/accord-reward-benchmarks"))
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    given = parser.parse_args()
    if given.quick:
        given.seeds, given.ranked, given.held, given.tuned = 2, 12, 6, 4
    found: dict[str, dict[str, list[float]]] = {way: {} for way in WAYS}
    for seed in range(given.seeds):
        data = desk(given.cache, seed, given.ranked, given.tuned, given.held)
        for way in WAYS:
            sizes = [given.ranked, given.tuned, given.held]
            figures = kept(given.cache, way, seed, sizes, partial(one, data, way, seed))
            say(seed, way, {key: round(value, 4) for key, value in figures.items()})
            for key, value in figures.items():
                found[way].setdefault(key, []).append(value)
    best, plain = found[WAYS[-1]], found[WAYS[0]]
    result: dict[str, Any] = {
        "benchmark": "reward_labels",
        "quick": given.quick,
        "seeds": given.seeds,
        "ranked": given.ranked,
        "ways": {way: {key: t_interval(x) for key, x in figures.items()} for way, figures in found.items()},
        "difference": {key: t_interval(np.subtract(best[key], plain[key])) for key in best},
    }
    print(json.dumps(result))


def kept(
    cache: Path, way: str, seed: int, sizes: list[int], compute: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """A way's figures for one seed, from the cache where they were computed before."""
    return remembered(cache, f"labels-{way.replace(' ', '-')}-{seed}", [way, seed, *sizes], compute)


def judgements(data: Desk, way: str) -> tuple[Sequence[Comparison], Sequence[Anchor]]:
    """What a way is trained on."""
    comparisons = data.comparisons if "soft" in way else hard(data.comparisons)
    return flat(comparisons) if "flat" in way else comparisons, data.anchors if "FAIL" in way else ()


def one(data: Desk, way: str, seed: int) -> dict[str, float]:
    """A way's figures for one seed."""
    comparisons, anchors = judgements(data, way)
    prompts = len({c.prompt.id for c in data.comparisons})
    elements = len({c.prompt.id for c in comparisons})
    config = RewardConfig(
        learning_rate=LEARNING_RATE,
        batch_prompts=max(1, round(16 * elements / prompts)),  # as many steps, whatever an element is
        mixed_precision=True,
        seed=seed,
    )
    model, _ = train(comparisons, SequenceClassifier.load(BASE, labels=1), config, anchors=anchors)
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
    }


if __name__ == "__main__":
    main()
