"""What offline learning does on the help desk: gold, exact KL and length before and after, by algorithm.

    python benchmarks/offline_desk.py

The packaged starter answers prompts four times, three of seven simulated labelers rank the answers, and the
consensus with its probabilities (kto: with FAIL too) trains the starter anew by each algorithm, at the same
rate and number of epochs. rft samples eight of its own for the same prompts, judged by a reward model of the
same consensus. Gold is the world's own judgement of two answers to each held-out prompt; nobody optimises it.

The last line is one JSON object: for each algorithm means over seeds with 95 % t-intervals.
--quick runs it all at sizes that prove nothing but that it runs.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from _desk_pairs import BASE, Desk, desk
from _figures import t_interval
from _real_models import remembered, say
from accord.align.preference import PreferenceConfig, prefer
from accord.align.supervised import DistilConfig, distil
from accord.lm.classifier import SequenceClassifier
from accord.lm.divergence import completion_kl
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.model import LanguageModel
from accord.recipes.helpdesk.judge import GoldJudge
from accord.recipes.helpdesk.world import make_prompts
from accord.reward.train import RewardConfig, train
from accord.types import Prompt, score_groups

PREFERRING = ("dpo", "ipo", "kto", "orpo", "simpo")
NEW_TOKENS = 64
REWARD_RATE = 1e-3
"""That of the demo's reward model: the starter is small."""


def trained(way: str, data: Desk, seed: int, given: argparse.Namespace) -> LanguageModel:
    """The starter after learning by ``way``."""
    policy = LanguageModel.load(BASE)
    common: dict[str, Any] = {
        "learning_rate": given.rate,
        "epochs": given.epochs,
        "seed": seed,
        "kl_prompts": 0,
    }
    if way in PREFERRING:
        config = PreferenceConfig(algorithm=way, **common)
        prefer(policy, data.comparisons, config, anchors=data.anchors if way == "kto" else ())
    elif way == "rft":
        classifier = SequenceClassifier.load(BASE, labels=1)
        reward, _ = train(
            data.comparisons,
            classifier,
            RewardConfig(learning_rate=REWARD_RATE, epochs=2, seed=seed),
            anchors=data.anchors,
        )
        prompts = list({c.prompt.id: c.prompt for c in data.comparisons}.values())
        distil(policy, reward, prompts, DistilConfig(samples=8, max_new_tokens=NEW_TOKENS, **common))
    return policy


def measured(
    way: str, data: Desk, prompts: list[Prompt], seed: int, given: argparse.Namespace
) -> dict[str, float]:
    """Gold of two answers a prompt, KL to the starter on them, their length, and the seconds of training."""
    started = time.perf_counter()
    policy = trained(way, data, seed, given)
    seconds = time.perf_counter() - started
    groups = Engine(policy, SamplingConfig(max_new_tokens=NEW_TOKENS, seed=1000 + seed)).sample(prompts, 2)
    gold = score_groups(GoldJudge(), list(zip(prompts, groups, strict=True)))
    said = [c for group in groups for c in group]
    asked = [c.origin.prompt_ids for c in said if c.origin is not None]
    kl, _, _ = completion_kl(policy, LanguageModel.load(BASE), asked, [c.ids for c in said])
    return {
        "gold": float(np.mean([score.value for scores in gold for score in scores])),
        "kl": kl,
        "tokens": float(np.mean([len(c.ids) for c in said])),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ranked", type=int, default=300, help="prompts whose answers are ranked")
    parser.add_argument("--held", type=int, default=100, help="prompts that are answered before and after")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate of every algorithm")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--ways", default="starter,dpo,ipo,kto,orpo,simpo,rft")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/accord-offline-desk"))
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    given = parser.parse_args()
    if given.quick:
        given.seeds, given.ranked, given.held, given.epochs = 2, 8, 4, 1
    ways = given.ways.split(",")
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for seed in range(given.seeds):
        data = desk(given.cache, seed, given.ranked, 2, 2)
        prompts = make_prompts(given.held, seed, "holdout")
        for way in ways:
            key = [way, seed, given.ranked, given.held, given.rate, given.epochs]
            work = partial(measured, way, data, prompts, seed, given)
            figures = remembered(given.cache, f"offline-{way}-{seed}", key, work)
            found[way].append(figures)
            say(f"seed {seed}, {way}: " + ", ".join(f"{name} {x:.3f}" for name, x in figures.items()))
    result: dict[str, Any] = {"benchmark": "offline_desk", "quick": given.quick}
    for way, rows in found.items():
        result[way] = {name: t_interval([row[name] for row in rows]) for name in rows[0]}
        if way != "starter" and "starter" in found:
            gains = [row["gold"] - start["gold"] for row, start in zip(rows, found["starter"], strict=True)]
            result[way]["gain"] = t_interval(gains)
    settings = {name: getattr(given, name) for name in ("seeds", "ranked", "held", "rate", "epochs")}
    print(json.dumps(result | settings))


if __name__ == "__main__":
    main()
