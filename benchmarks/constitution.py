"""The help desk by its constitution beside the help desk by simulated people, from the same start.

    python benchmarks/constitution.py --folder runs/constitution [--seeds 3] [--quick]

Each seed runs `accord demo --constitution` (phase one, choices, reward model, PPO), and beside it the other
way: the start's own completions of as many prompts, ranked by simulated labelers, the same number of
comparisons, the same reward training and PPO with the same settings, from the start itself. All are measured
by gold, which trains nothing, on the same hold-out prompts with the same seeds. The constitution's way has
also learned its revisions, for which no comparison was spent; `after_supervised` says what that alone is
worth.

Of each seed: gold's harmless, helpful and honest at each stage, and the share of answers that go against each
principle. Over seeds: means and gains over the start with 95 % t-intervals. Each seed's figures are kept in
--folder, so one that was stopped goes on with the next. --quick runs sizes that prove nothing but that it
runs. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _figures import t_interval, words
from accord.feedback.consensus import AgreeConfig
from accord.recipes.helpdesk.constitutional import (
    ConstitutionDemoConfig,
    answered,
    constitution_demo,
    gold_parts,
    sampling,
    violation_shares,
)
from accord.recipes.helpdesk.demo import MODELS, fresh_workspace, label, learn_and_align
from accord.recipes.helpdesk.world import make_prompts
from accord.recipes.judgements import agree
from accord.recipes.record import Progress, recorded
from accord.recipes.steps import sample
from accord.workspace import Workspace

Figures = dict[str, Any]
STAGES = ("before", "after_supervised", "after_rl", "after_people")
PARTS = ("harmless", "helpful", "honest", "fluent")
LABELERS = 3
"""Of the seven, for each prompt."""
QUICK = {"revised": 16, "judged": 24, "held_out": 8, "rounds": 1, "pairs": 2, "reward_epochs": 1, "steps": 1,
         "supervised_epochs": 1}  # fmt: skip


@contextmanager
def quiet(name: str, *_: str) -> Iterator[Progress]:
    """A bar that says only what begins."""
    print(f"  {name}", file=sys.stderr, flush=True)
    yield lambda metrics: None


def by_people(folder: Path, config: ConstitutionDemoConfig, comparisons: int) -> Figures:
    """RLHF from simulated people with so many comparisons; gold's parts after it."""
    workspace, start = fresh_workspace(folder), str(MODELS / "decoder")
    prompts = make_prompts(config.revised + config.judged, config.seed, "train")[config.revised :]
    workspace.store.add_prompts(prompts, "train")
    workspace.store.add_prompts(make_prompts(config.held_out, config.seed, "holdout"), "holdout")
    sample(workspace, sampling(config, start, "train"))
    label(workspace, workspace.store.prompts("train"), LABELERS, config.seed)
    _keep(workspace, comparisons, config.seed)
    learn_and_align(workspace, start, config, quiet)
    model = str(workspace.store.runs("align")[-1].metrics["model"])
    made = answered(workspace, model, config)
    return {
        "parts": {k: float(v.mean()) for k, v in gold_parts(made).items()},
        "against": {rule: float(v.mean()) for rule, v in violation_shares(made).items()},
    }


def _keep(workspace: Workspace, comparisons: int, seed: int) -> None:
    """The consensus, and of its comparisons as many as the constitution made, drawn by chance."""
    _, consensus = agree(workspace, AgreeConfig(seed=seed))
    found = list(consensus.comparisons)
    if len(found) < comparisons:
        print(f"  people gave {len(found)} comparisons, wanted {comparisons}", file=sys.stderr)
    kept = random.Random(f"kept:{seed}").sample(found, min(len(found), comparisons))
    with recorded(workspace, "agree", {"kept": len(kept)}) as record:
        workspace.store.add_comparisons(kept, record.run.id)


def run(folder: Path, config: ConstitutionDemoConfig) -> Figures:
    """One seed, both ways."""
    constitution_demo(folder / "constitution", config, quiet)
    summary = json.loads((folder / "constitution" / "summary.json").read_text())
    workspace = Workspace.open(folder / "constitution")
    made = workspace.store.runs("constitute_prefer")[-1].metrics["comparisons"]
    people = by_people(folder / "people", config, int(made))
    settings = config.model_dump(mode="json")
    return {"settings": settings, "summary": summary, "comparisons": made, "people": people}


def over_seeds(found: Sequence[Figures]) -> Figures:
    """Means and gains with intervals, by stage and part; violations by principle and stage."""

    def interval(values: list[float]) -> dict[str, float | None]:
        return t_interval(values) if len(values) > 1 else {"value": values[0], "low": None, "high": None}

    def part(one: Figures, name: str, stage: str) -> float:
        return one["people"]["parts"][name] if stage == "after_people" else one["summary"][f"{name}_{stage}"]

    def share(one: Figures, rule: str, stage: str) -> float:
        by_stage = {**one["summary"]["against"], "after_people": one["people"]["against"]}
        return by_stage[stage][rule]

    gains = {
        name: {
            stage: interval([part(one, name, stage) - part(one, name, "before") for one in found])
            for stage in STAGES[1:]
        }
        for name in PARTS
    }
    rules = found[0]["people"]["against"]
    return {
        "figures": {n: {s: interval([part(one, n, s) for one in found]) for s in STAGES} for n in PARTS},
        "gains": gains,
        "against": {r: {s: interval([share(one, r, s) for one in found]) for s in STAGES} for r in rules},
        "judge_accuracy": interval([one["summary"]["judge_accuracy"] for one in found]),
        "comparisons": [one["comparisons"] for one in found],
        "seconds": [one["summary"]["seconds"] for one in found],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="what is kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="sizes that prove nothing but that it runs")
    given = parser.parse_args()
    found: list[Figures] = []
    for seed in range(1 if given.quick else given.seeds):
        folder = given.folder / f"seed-{seed}"
        kept = folder / "figures.json"
        print(f"seed {seed}", file=sys.stderr, flush=True)
        config = ConstitutionDemoConfig(seed=seed, **(QUICK if given.quick else {}))
        figures = json.loads(kept.read_text()) if kept.exists() else {}
        if figures.get("settings") != config.model_dump(mode="json"):
            folder.mkdir(parents=True, exist_ok=True)
            figures = run(folder, config)
            kept.write_text(json.dumps(figures))
        found.append(figures)
    whole = over_seeds(found)
    for part, row in whole["gains"].items():
        for stage, gain in row.items():
            shown = words(gain, 3) if len(found) > 1 else f"{gain['value']:.3f}"
            print(f"{part} {stage}: {shown} over the start", file=sys.stderr)
    print(json.dumps({"benchmark": "constitution", "seeds": len(found), **whole, "quick": given.quick}))


if __name__ == "__main__":
    main()
