"""Do a reward model's probabilities hold, and does its doubt point at its mistakes?

    python benchmarks/reward_doubt.py --folder /tmp/overoptimisation

The reward models of overoptimisation.py (help desk; preferences are simulated, a quarter of them turned
around) on held-out prompts. Calibration: each pair judged with the temperature of the other half of the
prompts, on labels of the kind they learned and on gold's. Doubt: the AUROC for pairs ordered otherwise than
gold orders them, of the members' spread of a pair's difference, the spread of heads on one trunk, the last
layer's Laplace deviation, and, free of cost, of the difference itself being small. Means over seeds with
95 % t-intervals; --quick runs everything at sizes that prove nothing. The last line of stdout is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _desk_rewards import (
    Array,
    Models,
    Pool,
    Size,
    comparisons_of,
    kept,
    models_of,
    pairs,
    rewards,
    sample_pool,
)
from _figures import t_interval, words
from accord.recipes.helpdesk.world import make_prompts
from accord.reward.heads import Heads
from accord.reward.laplace import LaplaceReward
from accord.stats.calibration import calibration, ece, mistakes_found
from accord.types import score_groups

HEADS = 8


def doubts(
    models: Models, pool: Pool, ends: Sequence[tuple[int, int, int]], size: Size, seed: int
) -> dict[str, Array]:
    """(P,) of each kind, larger where less sure; and the rewards' differences they are about."""
    learned = comparisons_of(models.desk, size.noise, seed)
    r_P, i_P, j_P = np.array(ends).T

    def differ(values_RN: Array) -> Array:
        return values_RN[r_P, i_P] - values_RN[r_P, j_P]

    single_P = differ(rewards(models.single, pool))
    members_EP = np.array([differ(rewards(member, pool)) for member in models.members])
    heads = Heads.fit(models.single, learned, HEADS, np.random.default_rng(seed))
    groups = list(zip(pool.prompts, pool.samples, strict=True))
    parts = [[s.parts for s in scores] for scores in score_groups(heads, groups)]
    heads_EP = np.array(
        [differ(np.array([[p[f"member {e + 1}"] for p in row] for row in parts])) for e in range(HEADS)]
    )
    laplace = LaplaceReward.fit(models.single, learned)
    _, var_P = laplace.differences(comparisons_of(pool, 0.0, 0))
    return {
        "single": single_P,
        "ensemble": members_EP.mean(axis=0),
        "spread of members": members_EP.std(axis=0),
        "small difference of the members' mean": -abs(members_EP.mean(axis=0)),
        "spread over difference": members_EP.std(axis=0) / np.maximum(abs(members_EP.mean(axis=0)), 1e-9),
        "spread of heads": heads_EP.std(axis=0),
        "Laplace": np.sqrt(var_P),
        "small difference": -abs(single_P),
    }


def one_seed(models: Models, pool: Pool, size: Size, seed: int) -> dict[str, Any]:
    """Calibration of one model and of the ensemble, and what each kind of doubt finds."""
    ends = pairs(pool, 0.0, 0)
    found = doubts(models, pool, ends, size, seed)
    prompts = [r for r, _, _ in ends]
    turned_P = np.random.default_rng([seed, 1]).random(len(ends)) < size.noise
    labels = {"labels as learned": np.where(turned_P, 0.0, 1.0), "gold": np.ones(len(ends))}
    figures: dict[str, Any] = {"calibration": {}, "auroc": {}, "accuracy": {}}
    for kind in ("single", "ensemble"):
        d_P = found[kind]
        figures["accuracy"][kind] = float(((np.sign(d_P) + 1) / 2).mean())
        for name, p_P in labels.items():
            fitted = calibration(d_P, p_P, prompts, np.random.default_rng(seed))
            raw = d_P * (models.single.std if kind == "single" else 1.0)
            figures["calibration"][f"{kind}, {name}"] = {**asdict(fitted), "ece_raw": ece(raw, p_P)}
    about = {"Laplace": "single", "small difference": "single", "spread of heads": "single"}
    for kind in list(found)[2:]:
        right_way = found[about.get(kind, "ensemble")]
        figures["auroc"][kind] = mistakes_found(
            found[kind], right_way, labels["gold"], prompts, np.random.default_rng(0), draws=200
        ).value
    return figures


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Means with t-intervals of the same figure of every seed."""
    if isinstance(rows[0], Mapping):
        return {key: over_seeds([row[key] for row in rows]) for key in rows[0]}
    return t_interval([float(row) for row in rows])  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where models and samples are kept")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=160, help="held-out prompts, four samples each")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    seeds, prompts, size = given.seeds, given.prompts, Size()
    if given.quick:
        seeds, prompts, size = 2, 12, Size(ranked=12, members=2)
    pool = kept(
        given.folder, "judged", [prompts, 4], lambda: sample_pool(make_prompts(prompts, 1, "holdout"), 4, 1)
    )
    rows = []
    for seed in range(seeds):
        rows.append(
            kept(
                given.folder, f"doubt-{seed}", [asdict(size), prompts],
                lambda s=seed: one_seed(models_of(s, size, given.folder, say), pool, size, s),
            )
        )  # fmt: skip
        say(f"seed {seed}: accuracy {rows[-1]['accuracy']}, AUROC {rows[-1]['auroc']}")
    figures = over_seeds(rows)
    for kind, value in figures["auroc"].items():
        say(f"AUROC for mistakes, {kind}: {words(value, 3)}")
    for kind, value in figures["calibration"].items():
        say(f"{kind}: ECE {words(value['ece'], 3)}, from noise alone {words(value['ece_floor'], 3)}")
    about = {"benchmark": "reward_doubt", "quick": given.quick, "seeds": seeds, "prompts": prompts}
    print(json.dumps({**about, "pairs": len(pairs(pool, 0.0, 0)), "size": asdict(size), **figures}))


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
