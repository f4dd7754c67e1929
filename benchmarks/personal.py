"""What personal rewards gain for each judgement: simulated people of opposite tastes, and real evaluators.

    python benchmarks/personal.py --data FOLDER

A new person starts at the shared reward and judges one pair after the other; after 0, 1, 2, 4, 8, 16 and 32
the person's reward is tried on pairs of theirs whose prompts they did not judge. Log-loss is in nats a pair,
accuracy of decided pairs. Simulated: help-desk customers who like short or long answers, offers of more help
or none, in five worlds (intervals over worlds). Real: Tulu's evaluators, each in turn new, the tastes learned
from the others; each figure is a person's mean over five splits, and intervals resample people. Tastes are
on eight directions of the last layer, or on ten counts of style.

Progress goes to stderr; the last line of stdout is one JSON object. --quick runs everything at sizes that
prove nothing but that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.utils import logging

from _figures import t_interval
from _real_models import say
from _tastes import KINDS, Crowd, simulated, tulu
from accord.reward.personal import PersonalReward
from accord.reward.taste import Opinion, Taste, fit_taste, posterior
from accord.stats.intervals import bootstrap_mean
from real_feedback import minilm_folder

Array = NDArray[np.float64]
ROOT = Path(__file__).resolve().parent.parent
COMMON = "style, over the style all like"
TAUGHT = (0, 1, 2, 4, 8, 16, 32)
QUICK = {"seeds": 2, "shared": 12, "prompts": 24, "people": 8, "test": 4, "limit": 40, "folds": 2}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Sizes and places; --quick overrides the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data = Path(os.environ.get("ACCORD_DATA", ROOT.parent / "shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    cache = Path(tempfile.gettempdir()) / "accord-real-feedback"
    parser.add_argument("--cache", type=Path, default=cache, help="of the shared reward's scores on Tulu")
    parser.add_argument("--only", choices=("simulated", "tulu"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--shared", type=int, default=300, help="prompts the shared reward learns from")
    parser.add_argument("--prompts", type=int, default=220, help="others of a simulated world, for tastes")
    parser.add_argument("--people", type=int, default=40, help="of a simulated world, half of them new")
    parser.add_argument("--test", type=int, default=60, help="pairs a simulated person is tried on")
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    given = parser.parse_args(argv)
    given.limit, given.folds, given.trl_folds, given.seed, given.decoder_steps = None, 5, 0, 0, 400
    given.accord_epochs = None
    if given.quick:
        vars(given).update(QUICK)
    return given


def losses(taste: Taste, taught: Sequence[Opinion], test: Sequence[Opinion]) -> tuple[float, float]:
    """Log-loss of ``test`` in nats a pair, and the share of its decided pairs foretold, a half if equal.

    A pair with a completion below the floor is foretold by the shared reward alone, as no taste turns it.
    """
    w_K = posterior(taste, taught).mean_K[:-1]
    d = np.array([taste.scale * o.gap + o.counts * (np.array(o.x_K) @ w_K) for o in test])
    p = np.array([o.p for o in test])
    loss = p * np.logaddexp(0, -d) + (1 - p) * np.logaddexp(0, d)
    decided = p != 0.5
    credit = 0.5 + 0.5 * np.sign(d) * np.sign(p - 0.5)
    return float(loss.mean()), float(credit[decided].mean()) if decided.any() else float("nan")


def curve(
    taste: Taste, said: Sequence[Opinion], prompt_of: Mapping[str, str], rng: np.random.Generator
) -> Array:
    """(taught, 2) of one person: their prompts shuffled, half (32 at most) to teach, the rest to try."""
    prompts = rng.permutation(sorted({prompt_of[o.key] for o in said})).tolist()
    place = {p: n for n, p in enumerate(prompts)}
    ordered = sorted(said, key=lambda o: place[prompt_of[o.key]])
    half = min(TAUGHT[-1], len(ordered) // 2)
    last = place[prompt_of[ordered[half - 1].key]]
    test = [o for o in ordered if place[prompt_of[o.key]] > last]
    taught = ordered[:half]
    return np.array([losses(taste, taught[:n], test) if n <= half else (np.nan, np.nan) for n in TAUGHT])


def in_worlds(given: argparse.Namespace) -> dict[str, Any]:
    """Simulated people: a curve a world, the mean over its new people."""
    curves: dict[str, list[Array]] = {kind: [] for kind in KINDS}
    gains: dict[str, list[float]] = {kind: [] for kind in KINDS}
    lifted = [0, 0]
    for seed in range(given.seeds):
        crowd = simulated(seed, given)
        for kind in KINDS:
            taste = fit_taste(crowd.population[kind])
            gains[kind].append(taste.gain)
            rng = np.random.default_rng(seed)
            curves[kind].append(
                np.mean(
                    [curve(taste, said, crowd.prompt_of, rng) for said in crowd.new[kind].values()], axis=0
                )
            )
        for n, count in enumerate(_lifted(crowd)):
            lifted[n] += count
        say(f"  {kind}: log-loss {curves[kind][-1][0, 0]:.3f} to {curves[kind][-1][-1, 0]:.3f}")
    return {
        "people_a_world": given.people, "worlds": given.seeds,
        "fails_above_acceptable": {"lifted": lifted[0], "chances": lifted[1]},
        **{kind: {"gain_of_spread_nats_a_judgement": t_interval(gains[kind]),
                  **_points(np.array(curves[kind]), t_interval)} for kind in KINDS},
    }  # fmt: skip


def _lifted(crowd: Crowd) -> tuple[int, int]:
    """How often a new person's reward puts what is unacceptable at or above what is not, and of how many."""
    assert crowd.fails is not None
    groups, shared = crowd.fails
    taste = fit_taste(crowd.population[KINDS[0]])
    looked = shared.look(groups)
    count, chances = 0, 0
    for said in list(crowd.new[KINDS[0]].values())[:2]:
        scores = PersonalReward(shared, taste, posterior(taste, said)).score_groups(groups)
        for group, found in zip(looked, scores, strict=True):
            fails = [s.value for seen, s in zip(group, found, strict=True) if not seen.sound]
            fine = [s.value for seen, s in zip(group, found, strict=True) if seen.sound]
            chances += len(fails) * len(fine)
            count += sum(bad >= good for bad in fails for good in fine)
    return count, chances


def common_first(
    said: Sequence[Opinion], others: Mapping[str, Sequence[Opinion]]
) -> tuple[Any, list[Opinion]]:
    """What the others like in common joined to the shared reward: (that for anybody's opinions, ``said`` so).

    Sigma is around zero, so a taste that everybody shares and the shared reward misses would pass for a
    personal one.
    """
    every = [o for opinions in others.values() for o in opinions]
    scale = fit_taste(others).scale
    w_K = posterior(Taste(np.eye(len(every[0].x_K)), scale), every).mean_K[:-1]

    def joined(opinions: Sequence[Opinion]) -> list[Opinion]:
        return [replace(o, gap=o.gap + float(np.array(o.x_K) @ w_K) / scale) for o in opinions]

    return joined, joined(said)


def of_people(given: argparse.Namespace) -> dict[str, Any]:
    """Tulu's evaluators: a curve a person, the mean over splits."""
    crowd = tulu(given, minilm_folder())
    out: dict[str, Any] = {}
    for kind in (*KINDS, COMMON):
        people = crowd.new[KINDS[1] if kind == COMMON else kind]
        curves, gains = [], []
        for name in sorted(people):
            if len(people[name]) < (4 if given.quick else 20):
                continue
            others = {other: said for other, said in people.items() if other != name}
            said = people[name]
            if kind == COMMON:
                joined, said = common_first(said, others)
                others = {other: joined(opinions) for other, opinions in others.items()}
            taste = fit_taste(others)
            gains.append(taste.gain)
            drawn = [
                curve(taste, said, crowd.prompt_of, np.random.default_rng(s)) for s in range(given.seeds)
            ]
            curves.append(
                np.array(
                    [
                        column[np.isfinite(column)].mean() if np.isfinite(column).any() else np.nan
                        for column in np.array(drawn).reshape(len(drawn), -1).T
                    ]
                ).reshape(-1, 2)
            )
        out[kind] = {
            "gain_of_spread_nats_a_judgement": {"least": min(gains), "greatest": max(gains)},
            **_points(np.array(curves), _of_people),
        }
        say(f"tulu, {kind}: spread gains {min(gains):.4f} to {max(gains):.4f} nats a judgement")
    return {"people": len(curves), "judgements": sum(map(len, people.values())), "splits": given.seeds, **out}


def _of_people(values: Array) -> dict[str, float]:
    found = bootstrap_mean(values, np.random.default_rng(0))
    return {"value": found.value, "low": found.low, "high": found.high}


def _points(curves: Array, interval: Any) -> dict[str, Any]:
    """Per number of judgements: level and gain over none, of those with so many (units, taught, 2)."""
    points = []
    for at, taught in enumerate(TAUGHT):
        held = curves[np.isfinite(curves[:, at]).all(axis=1)]
        if len(held) < 2:
            continue
        log_loss, accuracy = held[:, at].T
        points.append(
            {
                "judgements": taught, "units": len(held),
                "log_loss": interval(log_loss), "accuracy": interval(accuracy),
                "log_loss_gain": interval(held[:, 0, 0] - log_loss),
                "accuracy_gain": interval(accuracy - held[:, 0, 1]),
            }
        )  # fmt: skip
    return {"curve": points}


def update_ms(features: int) -> dict[str, float]:
    """Median milliseconds of one more opinion, by the number of opinions before it."""
    taste, rng = Taste(np.eye(features), 1.0), np.random.default_rng(0)
    said = [
        Opinion(f"{i}", tuple(rng.normal(size=features).tolist()), rng.normal(), float(i % 2))
        for i in range(1000)
    ]
    found = {}
    for n in (1, 32, 100, 1000):
        took = []
        for _ in range(15):
            clock = time.perf_counter()
            posterior(taste, said[:n])
            took.append(1000 * (time.perf_counter() - clock))
        found[str(n)] = round(statistics.median(took), 3)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    torch.set_num_threads(given.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    result: dict[str, Any] = {"benchmark": "personal", "quick": given.quick}
    if given.only != "tulu":
        result["simulated"] = in_worlds(given)
    if given.only != "simulated":
        if not given.data.is_dir():
            raise SystemExit(f"no data at {given.data}; set ACCORD_DATA or --data to its folder")
        result["tulu"] = of_people(given)
    result["update_ms"] = update_ms(given.features)
    print(json.dumps(result, allow_nan=False))


if __name__ == "__main__":
    main()
