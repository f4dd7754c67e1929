"""What a run of the consensus records. Labelers are simulated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accord.feedback.consensus import AgreeConfig
from accord.recipes.judgements import agree
from accord.stats.agreement import agreement
from accord.store.lineage import Run
from accord.types import Completion, Ranking
from accord.workspace import Workspace
from pool import simulate

FAST = AgreeConfig(bootstrap=100)


def _agreed(
    folder: Path, reliability: list[float], prompts: int, config: AgreeConfig = FAST
) -> tuple[Run, Any, list[Ranking]]:
    pool = simulate(np.random.default_rng(1), reliability, prompts, 4, min(3, len(reliability)))
    workspace = Workspace.create(folder)
    for p, group in pool.completions.items():
        workspace.store.add_groups([(pool.prompts[p], [Completion(c.text, id=p + c.id) for c in group])])
    rankings = [
        Ranking(r.prompt_id, r.labeler, tuple(tuple(r.prompt_id + c for c in tier) for tier in r.tiers))
        for r in pool.rankings
    ]
    workspace.store.add_rankings(rankings)
    run, _ = agree(workspace, config)
    return run, json.loads((run.path / "consensus.json").read_text()), rankings


def test_metrics_hold_alpha_and_the_prior(tmp_path: Path) -> None:
    run, shown, rankings = _agreed(tmp_path / "w", [3.0, 3.0, 2.5, 2.0, 0.0, -2.0], 20)
    expected = agreement(rankings, np.random.default_rng(0), 100).alpha_ordinal.interval
    assert expected is not None
    assert run.metrics["alpha"] == pytest.approx(expected.value)
    prior = run.metrics["prior"]
    assert prior["alike"] is False
    assert prior["gain"] > 3
    assert 0 < prior["mean"] < 6
    assert shown["prior"]["prior"]["reliability_sd"] == pytest.approx(prior["sd"])
    assert shown["prior"]["gain"] == pytest.approx(prior["gain"])


def test_a_fixed_prior_is_recorded_as_such(tmp_path: Path) -> None:
    config = AgreeConfig(bootstrap=100, reliability_mean=1.0, reliability_sd=2.0)
    run, _, _ = _agreed(tmp_path / "w", [2.0, 1.0, 1.0], 6, config)
    assert run.metrics["prior"] == {"mean": 1.0, "sd": 2.0, "gain": None, "alike": False}


def test_one_labeler_has_neither_alpha_nor_prior(tmp_path: Path) -> None:
    run, shown, _ = _agreed(tmp_path / "w", [2.0], 4)
    assert (run.metrics["alpha"], run.metrics["prior"], shown["prior"]) == (None, None, None)
