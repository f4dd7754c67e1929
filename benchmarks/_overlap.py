"""Adaptive overlap against fixed overlap, on simulated pools with planted truth and on a crowd's ballots.

The rule is the labelling app's own (``accord.feedback.labeling.settle``): two labelers rank a prompt, and
another is asked, up to five, while some pair of its completions has a consensus below ``certain``. Fixed
overlap asks three of every prompt. Two questions: labels for the same accuracy of the consensus on the same
prompts, and labels for the same accuracy of a reward model, where what is saved goes to more prompts. The
crowd (MTurk workers who counted dots or judged puzzles, true order known) answers the first.

Legend: P prompts, N completions of a prompt, K labelers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from _figures import ratio, t_interval, words
from _people_data import mturk
from _real_models import say
from accord.feedback.active import Array, Pool, Votes, fit, pool
from accord.feedback.active_savings import foreseen, labels_needed
from accord.feedback.consensus import AgreeConfig
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.settle import Trust, least_certain
from accord.judgements import Ranking
from accord.stats.fitting import assume
from accord.stats.fitting import fit as fit_labelers
from accord.stats.rankings import ranking_table

FIXED, MOST = 3, 5
CERTAIN = (0.55, 0.65, 0.7, 0.75, 0.8, 0.9)
"""Thresholds whose curve is read where the consensus is as accurate as with fixed overlap."""
SHIPPED = LabelConfig()
AGREE = AgreeConfig()
N = 4
LABELERS, CARELESS = 12, 0.2
RELIABLE, POOR = 3.0, 0.5
"""Reliabilities: a good labeler tells completions one standard deviation apart 95 times in 100."""
WIDTH = 16


@dataclass(frozen=True)
class Planted:
    """Prompts with their true rewards, and five labelers' rankings of each in the order they came."""

    pool: Pool | None
    """Features; ``None`` where the completions have no texts."""
    reward_PN: Array
    rankings: tuple[tuple[Ranking, ...], ...]
    sure_PK: Array
    """``least_certain`` after 2, 3 and 4 rankings."""


def planted(seed: int, prompts: int) -> Planted:
    """Linear rewards of standard deviation 1; Plackett-Luce labelers, a fifth of them careless."""
    rng = np.random.default_rng([905, seed])
    made = pool({f"p{n}": rng.normal(size=(N, WIDTH)) for n in range(prompts)}, WIDTH)
    reward_PN = made.features_PND @ rng.normal(size=WIDTH)
    reward_PN /= reward_PN.std()
    reliability_K = np.where(rng.random(LABELERS) < CARELESS, POOR, RELIABLE)
    rankings, sure = [], []
    for n, reward_N in enumerate(reward_PN):
        group = []
        for k in rng.choice(LABELERS, MOST, replace=False):
            order = np.argsort(-(reliability_K[k] * reward_N + rng.gumbel(size=N)))
            group.append(Ranking(f"p{n}", f"w{k}", tuple((f"c{i}",) for i in order), source="simulated"))
        rankings.append(tuple(group))
        sure.append([least_certain(group[:k], [f"c{i}" for i in range(N)], Trust()) for k in (2, 3, 4)])
    return Planted(made, reward_PN, tuple(rankings), np.array(sure))


def crowd(data: Path, seed: int, prompts: int) -> Planted:
    """Real ballots: each of the eight tasks many times, five ballots a time, none used twice.

    The ballots have no names; each gets one of twelve at random.
    """
    rng = np.random.default_rng([906, seed])
    found = mturk(data)
    times = prompts // len(found.ballots)
    rankings, reward, sure = [], [], []
    for task, ballots in found.ballots.items():
        names = sorted(found.truth[task])
        number = {name: f"c{i}" for i, name in enumerate(names)}
        for at in rng.permutation(len(ballots))[: times * MOST].reshape(times, MOST).tolist():
            prompt = f"p{len(rankings)}"
            workers = rng.choice(LABELERS, MOST, replace=False)
            group = tuple(
                Ranking(prompt, f"w{k}", tuple((number[name],) for name in ballots[i]))
                for k, i in zip(workers, at, strict=True)
            )
            rankings.append(group)
            reward.append([found.truth[task][name] for name in names])
            sure.append([least_certain(group[:k], list(number.values()), Trust()) for k in (2, 3, 4)])
    return Planted(None, np.array(reward), tuple(rankings), np.array(sure))


def asked(world: Planted, certain: float) -> np.ndarray:
    """Labelers of each prompt under the rule (P)."""
    enough_PK = world.sure_PK >= certain
    return np.where(enough_PK.any(axis=1), 2 + enough_PK.argmax(axis=1), MOST)


def consensus(world: Planted, overlap_P: np.ndarray) -> dict[tuple[int, int, int], float]:
    """(prompt, first, second) -> p that the first is preferred, by the labelers' fitted consensus."""
    # of a plan that covers fewer prompts, the rest is not asked
    used = [r for group, k in zip(world.rankings, overlap_P.tolist(), strict=False) for r in group[:k]]
    table = ranking_table(used)
    shared = (
        table.votes.judges().max() > 1
    )  # as `accord agree` does: else nothing tells how reliable they are
    fitted = fit_labelers(table) if shared else assume(table, AGREE.assumed_reliability, AGREE.tie_mean)
    first_S, second_S = fitted.table.votes.pair_items()
    items = [(int(prompt[1:]), int(completion[1:])) for prompt, completion in fitted.table.items]
    return {
        (*items[a], items[b][1]): p
        for a, b, p in zip(first_S.tolist(), second_S.tolist(), fitted.p_first().tolist(), strict=True)
    }


def accuracy(world: Planted, p: Mapping[tuple[int, int, int], float]) -> float:
    """Share of pairs whose consensus is the planted order."""
    right = [
        (value > 0.5) == (world.reward_PN[n, a] > world.reward_PN[n, b]) for (n, a, b), value in p.items()
    ]
    return float(np.mean(right))


# -- the two questions -------------------------------------------------------------------------


def same_consensus(world: Planted) -> dict[str, float]:
    """Labels a prompt of the rule for the accuracy of fixed overlap, and both at the threshold that ships."""
    prompts = len(world.rankings)
    fixed = accuracy(world, consensus(world, np.full(prompts, FIXED)))
    labels, right = [], []
    for certain in CERTAIN:
        overlap_P = asked(world, certain)
        labels.append(float(overlap_P.mean()))
        right.append(accuracy(world, consensus(world, overlap_P)))
    at = CERTAIN.index(SHIPPED.certain)
    return {
        "fixed_accuracy": fixed,
        "ratio": labels_needed(labels, right, fixed) / FIXED,
        "shipped_labels": labels[at],
        "shipped_accuracy": right[at],
        "shipped_gain": right[at] - fixed,
    }


def same_model(world: Planted, train: int, budgets: Sequence[int]) -> dict[str, Array]:
    """Accuracy of the linear reward model after so many labels (G), by how they were spent."""
    overlaps = {
        "fixed_3": np.full(train, FIXED),
        "fixed_1": np.ones(train, int),
        "adaptive": asked(world, SHIPPED.certain)[:train],
    }
    curves = {}
    for name, overlap_P in overlaps.items():
        ends = np.searchsorted(np.cumsum(overlap_P), budgets, side="right")
        curves[name] = np.array([_model(world, overlap_P[:end], train) for end in ends.tolist()])
    return curves


def _model(world: Planted, overlap_P: np.ndarray, train: int) -> float:
    """Trained as `accord reward` is: a prompt counts once, with the consensus as soft labels."""
    rows = [(*key, p) for key, p in consensus(world, overlap_P).items()]
    n_V, a_V, b_V, p_V = np.array(rows).T
    said = Votes(n_V.astype(int), a_V.astype(int), b_V.astype(int), p_V, np.full(len(rows), np.sqrt(2 / N)))
    assert world.pool is not None
    w_D = fit(world.pool, said).mean_D
    held = np.arange(train, len(world.rankings))
    first, second = np.tile(np.array(list(combinations(range(N), 2))), (len(held), 1)).T
    at = np.repeat(held, N * (N - 1) // 2)
    won = (world.reward_PN[at, first] > world.reward_PN[at, second]).astype(float)
    truth = Votes(at, first, second, won, np.ones(len(at)))
    return float(foreseen(world.pool, truth, w_D)[held].mean())


def overlap(seeds: Sequence[int], quick: bool, data: Path) -> dict[str, Any]:
    """Both questions over the seeds, with 95 % t-intervals; the crowd's part where ``data`` is."""
    prompts, held = (40, 20) if quick else (300, 150)
    budgets = [30, 60] if quick else [60, 90, 120, 180, 240, 300]
    worlds = [planted(seed, prompts + held) for seed in seeds]
    found = [same_consensus(world) for world in worlds]
    out: dict[str, Any] = {
        "prompts": prompts + held,
        "labelers": LABELERS,
        "fixed": FIXED,
        "most": MOST,
        "certain": SHIPPED.certain,
        "same_consensus": {key: t_interval([each[key] for each in found]) for key in found[0]},
    }
    if data.is_dir():
        found = [same_consensus(crowd(data, seed, 80 if quick else 800)) for seed in seeds]
        out["crowd"] = {key: t_interval([each[key] for each in found]) for key in found[0]}
    curves = [same_model(world, prompts, budgets) for world in worlds]
    models = {name: np.array([each[name] for each in curves]) for name in curves[0]}
    out["same_model"] = {"labels": budgets, "end": budgets[-2]}
    for name, curves_SG in models.items():
        out["same_model"][name] = {
            "accuracy": [round(float(x), 4) for x in curves_SG.mean(axis=0)],
            "gain_at_end": t_interval(curves_SG[:, -2] - models["fixed_3"][:, -2]),
            "ratio_at_end": ratio(models["fixed_3"], curves_SG, budgets, budgets[-2]),
        }
    _tell(out)
    return out


def _tell(out: dict[str, Any]) -> None:
    for whose in ("same_consensus", "crowd"):
        for key, figures in out.get(whose, {}).items():
            say(f"  overlap {whose:<14} {key:<17} {words(figures, 3)}")
    for name in ("fixed_1", "fixed_3", "adaptive"):
        row = out["same_model"][name]
        say(f"  overlap model {name:<9} {row['accuracy']}  ratio {words(row['ratio_at_end'])}")
