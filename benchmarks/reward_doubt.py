"""Do a reward model's probabilities hold, and does its doubt point at its mistakes?

    python benchmarks/reward_doubt.py --folder /tmp/overoptimisation

The reward models of overoptimisation.py (help desk; preferences are simulated, a quarter of them turned
around) on held-out prompts' pairs whose gold differs by more than 0.05. Calibration: each pair judged with
the temperature of the other half of the prompts, on labels of the kind they learned and on gold's.

Doubt: the AUROC for pairs ordered otherwise than gold orders them. Of an ensemble (full members, and heads on
one trunk) the spread of a pair's difference; that spread over the mean difference; the votes against the
majority; and how near a half the members' mean probability is. Of one model the last layer's Laplace
deviation, its probability so moderated, and, free of cost, how small the difference is. Beside them, how far
the spread grows with the difference itself (Spearman's correlation): what differs much is both surer and
more spread. Means over seeds with 95 % t-intervals; --quick runs everything at sizes that prove nothing. The
last line of stdout is one JSON object.
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
from scipy import special, stats

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
from accord.judgements import Comparison
from accord.recipes.helpdesk.demo import GOLD_MARGIN
from accord.recipes.helpdesk.world import make_prompts
from accord.reward.heads import Heads
from accord.reward.laplace import LaplaceReward
from accord.stats.calibration import calibration, ece, mistakes_found
from accord.types import score_groups

HEADS = 8


def doubts(
    models: Models, pool: Pool, ends: Sequence[tuple[int, int, int]], size: Size, seed: int
) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
    """(P,) rewards' differences by what they are of, and the doubts about each, larger where less sure."""
    learned = comparisons_of(models.desk, size.noise, seed)
    r_P, i_P, j_P = np.array(ends).T

    def differ(values_RN: Array) -> Array:
        return values_RN[r_P, i_P] - values_RN[r_P, j_P]

    single_P = differ(rewards(models.single, pool))
    members_EP = np.array([differ(rewards(member, pool)) for member in models.members])
    scales_E = [member.std for member in models.members]
    heads = Heads.fit(models.single, learned, HEADS, np.random.default_rng(seed))
    groups = list(zip(pool.prompts, pool.samples, strict=True))
    parts = [[s.parts for s in scores] for scores in score_groups(heads, groups)]
    heads_EP = np.array(
        [differ(np.array([[p[f"member {e + 1}"] for p in row] for row in parts])) for e in range(HEADS)]
    )
    laplace = LaplaceReward.fit(models.single, learned)
    compared = [Comparison(pool.prompts[r], pool.samples[r][i], pool.samples[r][j]) for r, i, j in ends]
    _, var_P = laplace.differences(compared)
    about = {"single": single_P, "ensemble": members_EP.mean(axis=0), "heads": heads_EP.mean(axis=0)}
    return about, {
        "single": {
            "small difference": -abs(single_P),
            "Laplace: deviation": np.sqrt(var_P),
            "Laplace: probability near a half": -abs(laplace.probabilities(compared) - 0.5),
        },
        "ensemble": member_doubts(members_EP, scales_E),
        "heads": member_doubts(heads_EP, [models.single.std] * HEADS),
    }


def member_doubts(d_EP: Array, logits_E: Sequence[float]) -> dict[str, Array]:
    """An ensemble's doubts about pairs; ``logits_E``: what a member's unit of reward is in log-odds."""
    mean_P, spread_P = d_EP.mean(axis=0), d_EP.std(axis=0)
    p_P = special.expit(d_EP * np.array(logits_E)[:, None]).mean(axis=0)
    return {
        "small mean difference": -abs(mean_P),
        "spread": spread_P,
        "spread over mean difference": spread_P / np.maximum(abs(mean_P), 1e-9),
        "votes against": np.minimum((d_EP > 0).sum(axis=0), (d_EP <= 0).sum(axis=0)).astype(float),
        "mean probability near a half": -abs(p_P - 0.5),
    }


def one_seed(models: Models, pool: Pool, size: Size, seed: int) -> dict[str, Any]:
    """Calibration of one model and of the ensemble, and what each kind of doubt finds."""
    ends = pairs(pool, 0.0, 0, GOLD_MARGIN)
    about, doubted = doubts(models, pool, ends, size, seed)
    prompts = [r for r, _, _ in ends]
    gold_P = np.ones(len(ends))
    turned_P = np.random.default_rng([seed, 1]).random(len(ends)) < size.noise
    labels = {"labels as learned": np.where(turned_P, 0.0, 1.0), "gold": gold_P}
    figures: dict[str, Any] = {"calibration": {}, "auroc": {}, "accuracy": {}, "spread_grows": {}}
    for kind in ("single", "ensemble"):
        for name, p_P in labels.items():
            fitted = calibration(about[kind], p_P, prompts, np.random.default_rng(seed))
            raw = about[kind] * (models.single.std if kind == "single" else 1.0)
            figures["calibration"][f"{kind}, {name}"] = {**asdict(fitted), "ece_raw": ece(raw, p_P)}
    for kind, d_P in about.items():
        figures["accuracy"][kind] = float(((np.sign(d_P) + 1) / 2).mean())
        figures["auroc"][kind] = {
            name: mistakes_found(doubt_P, d_P, gold_P, prompts, np.random.default_rng(0), draws=200).value
            for name, doubt_P in doubted[kind].items()
        }
        spread_P = doubted[kind].get("spread", doubted[kind].get("Laplace: deviation"))
        figures["spread_grows"][kind] = float(stats.spearmanr(spread_P, abs(d_P)).statistic)
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
    for kind, of_kind in figures["auroc"].items():
        for name, value in of_kind.items():
            say(f"AUROC for mistakes, {kind}, {name}: {words(value, 3)}")
    for kind, value in figures["calibration"].items():
        say(f"{kind}: ECE {words(value['ece'], 3)}, from noise alone {words(value['ece_floor'], 3)}")
    about = {"benchmark": "reward_doubt", "quick": given.quick, "seeds": seeds, "prompts": prompts}
    print(
        json.dumps({**about, "pairs": len(pairs(pool, 0.0, 0, GOLD_MARGIN)), "size": asdict(size), **figures})
    )


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
