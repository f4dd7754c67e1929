"""What optimising a reward model does to the truth: gold against sqrt(KL), one reward model and an ensemble.

    python benchmarks/overoptimisation.py --folder /tmp/overoptimisation --plot
    docs/figures/overoptimisation.svg

On the help desk, whose gold judge knows the truth (the customers and the preferences are simulated, a quarter
of the preferences turned around): best of n from 1 to 512 samples of the starter on held-out prompts, and
accord's own PPO on a loose leash with its exact KL. Each seed has prompts, comparisons, heads and runs of its
own; the pool of best of n is the same for all. The single reward model learns all comparisons; each member of
the ensemble learns prompts drawn with replacement.

Figures are means over seeds with 95 % t-intervals; gains of the ensemble are paired by seed. Laws of gold are
fitted to all seeds, resampled (five are few: their intervals are rough). What was made is kept in --folder,
so a run that was stopped goes on. --quick runs everything at sizes that prove nothing but that it runs. The
last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _desk_rewards import Array, Models, Pool, Size, kept, models_of, ppo, rewards, sample_pool
from _figures import Bounds, t_interval, words
from _overoptimisation_plot import draw
from accord.recipes.helpdesk.world import make_prompts
from accord.reward.ensemble import Rule, combine
from accord.stats.overoptimisation import Fit, Form, best_of_n, fit_curve, kl_best_of_n
from accord.types import digest

CAUTION = 0.5
KINDS = ("single", "mean", "variance", "worst")
"""One reward model, and the ensemble's three rules."""


@dataclass(frozen=True)
class Study:
    """How much of everything."""

    seeds: int = 5
    prompts: int = 16
    """Hold-out prompts of the pool for best of n."""
    samples: int = 512
    """Of each."""
    steps: int = 16
    """Of PPO."""
    rollouts: int = 32
    """A step."""
    beta: float = 0.01
    """PPO's leash."""
    ppo_seeds: int = 5
    """How many of the seeds go through PPO too."""


QUICK = (Study(2, 3, 16, 3, 8, 0.01, 2), Size(ranked=12, members=2))


def sizes_of(study: Study) -> list[int]:
    """1, 2, 4, ... up to the samples: about even in sqrt(KL)."""
    return [2**k for k in range(study.samples.bit_length()) if 2**k <= study.samples]


def proxies(models: Models, pool: Pool, folder: Path, name: str) -> dict[str, Array]:
    """(R, N) rewards of the pool by the single model and by each rule of the ensemble."""
    own = kept(folder, f"single-{name}", name, lambda: rewards(models.single, pool))
    values_ERN = np.array(
        [
            kept(folder, f"member-{i}-{name}", name, lambda m=member: rewards(m, pool))
            for i, member in enumerate(models.members)
        ]
    )
    flat_EM = values_ERN.reshape(len(values_ERN), -1)
    rules = {rule.value: combine(flat_EM, rule, CAUTION).reshape(own.shape) for rule in Rule}
    return {"single": own, **rules}


def best_of(study: Study, proxy: Mapping[str, Array], pool: Pool) -> dict[str, dict[str, list[float]]]:
    """Each kind's proxy and gold of best of n, means over the pool's prompts."""
    sizes = sizes_of(study)
    return {
        kind: {
            "gold": best_of_n(values_RN, pool.gold_RN, sizes).mean(axis=0).tolist(),
            "proxy": best_of_n(values_RN, values_RN, sizes).mean(axis=0).tolist(),
        }
        for kind, values_RN in proxy.items()
    }


def runs_of(models: Models, study: Study, seed: int, folder: Path, name: str) -> dict[str, Any]:
    """PPO against the single model and against the ensemble's variance rule."""
    settings = [study.steps, study.rollouts, study.beta, CAUTION, name]
    found = {}
    for kind, scorer in (("single", models.single), ("variance", models.ensemble(CAUTION))):
        found[kind] = kept(
            folder, f"ppo-{kind}-{name}", settings,
            lambda s=scorer: ppo(
                s, models.desk, steps=study.steps, rollouts=study.rollouts, beta=study.beta, seed=seed
            ),
        )  # fmt: skip
    return found


# -- figures -----------------------------------------------------------------------------------


def law(units: Sequence[tuple[Sequence[float], Sequence[float]]], form: Form) -> dict[str, Any]:
    """A fitted law as JSON; undefined numbers are null."""
    found: Fit = fit_curve(units, form, np.random.default_rng(0))
    return {
        "form": f"d (alpha - beta {'d' if form is Form.BEST_OF_N else 'log d'})",
        "alpha": _bounds(asdict(found.alpha)),
        "beta": _bounds(asdict(found.beta)),
        "rmse": found.rmse,
        "farthest_kl": found.farthest,
        "peak": _bounds(asdict(found.peak)),
    }


def _bounds(figures: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in figures.items()}


def curve_figures(study: Study, seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Best of n over seeds: curves, laws and what the ensemble gains over the single model."""
    sizes = sizes_of(study)
    kl = kl_best_of_n(sizes).tolist()
    gold = {kind: np.array([s["best_of_n"][kind]["gold"] for s in seeds]) for kind in KINDS}
    proxy = {kind: np.array([s["best_of_n"][kind]["proxy"] for s in seeds]) for kind in KINDS}
    start = float(gold["single"][0, 0])
    return {
        "n": sizes,
        "kl": kl,
        "start_gold": start,
        "gold": {kind: [t_interval(column) for column in gold[kind].T] for kind in KINDS},
        "proxy": {kind: [t_interval(column) for column in proxy[kind].T] for kind in KINDS},
        "laws": {
            kind: law([(kl, (row - row[0]).tolist()) for row in gold[kind]], Form.BEST_OF_N) for kind in KINDS
        },
        "gain_at_most": {
            kind: t_interval(gold[kind][:, -1] - gold["single"][:, -1]) for kind in KINDS if kind != "single"
        },
    }


def run_figures(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """PPO over seeds: every step's KL and gold, laws, and gold at the end and at its best."""
    done = [s for s in seeds if s["ppo"]]
    found: dict[str, Any] = {"seeds": len(done)}
    last: dict[str, Array] = {}
    for kind in ("single", "variance"):
        runs = [s["ppo"][kind] for s in done]
        columns = {key: np.array([[row[key] for row in run] for run in runs]) for key in runs[0][0]}
        start_S = np.array([s["start_gold"] for s in done])
        units = [
            (kl.tolist(), (gold - start).tolist())
            for kl, gold, start in zip(columns["kl"], columns["gold"], start_S, strict=True)
        ]
        tail = max(1, columns["gold"].shape[1] // 5)
        last[kind] = columns["gold"][:, -tail:].mean(axis=1)
        found[kind] = {
            **{key: [t_interval(column) for column in value.T] for key, value in columns.items()},
            "law": law(units, Form.RL),
            "gold_of_last_fifth": t_interval(last[kind]),
            "kl_of_last_fifth": t_interval(columns["kl"][:, -tail:].mean(axis=1)),
        }
    found["start_gold"] = t_interval([s["start_gold"] for s in done])
    found["gain_of_last_fifth"] = t_interval(last["variance"] - last["single"])
    return found


# -- the run -----------------------------------------------------------------------------------


def run(study: Study, size: Size, folder: Path) -> dict[str, Any]:
    """All seeds: best of n first, then PPO, each kept as soon as it is made."""
    prompts = make_prompts(study.prompts, 0, "holdout")
    pool = kept(
        folder, "pool", [study.prompts, study.samples], lambda: sample_pool(prompts, study.samples, 0)
    )
    say(f"pool of {pool.gold_RN.size} samples, gold {pool.gold_RN.mean():.3f}")
    seeds: list[dict[str, Any]] = []
    every: list[Models] = []
    names = [f"{seed}-{study.prompts}-{study.samples}-{size}" for seed in range(study.seeds)]
    for seed, name in enumerate(names):
        every.append(models_of(seed, size, folder, say))
        curves = best_of(study, proxies(every[-1], pool, folder, _short(seed, name)), pool)
        seeds.append({"start_gold": float(every[-1].desk.gold_RN.mean()), "best_of_n": curves, "ppo": None})
        ends = ", ".join(f"{kind} {curves[kind]['gold'][-1]:.3f}" for kind in KINDS)
        say(f"seed {seed}: gold of best of {study.samples}: {ends}")
    for seed in range(min(study.ppo_seeds, study.seeds)):
        seeds[seed]["ppo"] = runs_of(every[seed], study, seed, folder, _short(seed, names[seed]))
        for kind, history in seeds[seed]["ppo"].items():
            row = history[-1]
            say(f"seed {seed}: PPO against {kind}: KL {row['kl']:.1f}, gold {row['gold']:.3f}")
    figures: dict[str, Any] = {"best_of_n": curve_figures(study, seeds)}
    if any(s["ppo"] for s in seeds):
        figures["ppo"] = run_figures(seeds)
    return {"benchmark": "overoptimisation", "study": asdict(study), "size": asdict(size), **figures}


def _short(seed: int, name: str) -> str:
    return f"{seed}-{digest(name)}"


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def turning(law: Mapping[str, Any]) -> str:
    """Where a law says gold turns."""
    peak = law["peak"]
    return peak["why"] if peak["kl"] is None else f"turns at KL {peak['kl']:.1f}"


def told(figures: Mapping[str, Any]) -> list[str]:
    """What came out, in words."""
    curves = figures["best_of_n"]
    lines = [f"gold at the start {curves['start_gold']:.3f}"]
    for kind in KINDS:
        most: Bounds = curves["gold"][kind][-1]
        turn = turning(curves["laws"][kind])
        lines.append(f"best of {curves['n'][-1]}, {kind}: gold {words(most, 3)}; {turn}")
    for kind in ("single", "variance") if "ppo" in figures else ():
        part = figures["ppo"][kind]
        gold, kl = words(part["gold_of_last_fifth"], 3), words(part["kl_of_last_fifth"], 1)
        lines.append(f"PPO, {kind}: gold {gold} at KL {kl}; {turning(part['law'])}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where models and rewards are kept")
    parser.add_argument("--plot", type=Path, help="draw the curves to this SVG")
    parser.add_argument("--seeds", type=int, default=Study.seeds)
    parser.add_argument("--ppo-seeds", type=int, default=Study.ppo_seeds)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    study, size = QUICK if given.quick else (Study(given.seeds, ppo_seeds=given.ppo_seeds), Size())
    figures = run(study, size, given.folder)
    for line in told(figures):
        say(line)
    if given.plot:
        given.plot.write_text(draw(figures))
    print(json.dumps({**figures, "quick": given.quick}))


if __name__ == "__main__":
    main()
