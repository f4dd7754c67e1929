"""What a run of the consensus records. Labelers are simulated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accord.cli import main
from accord.errors import DataError
from accord.feedback.consensus import AgreeConfig
from accord.feedback.labeling.config import LabelConfig
from accord.judgements import Ranking
from accord.recipes.judgements import agree, export_feedback, import_feedback
from accord.stats.agreement import agreement
from accord.store.lineage import Run
from accord.types import Completion, Prompt
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


def _half_ranked(folder: Path, criterion: str) -> tuple[Workspace, Path]:
    """A workspace whose one prompt ann ranked in the app, and the sheet of it."""
    workspace = Workspace.create(folder / "w")
    prompt = Prompt.from_text("May I?")
    ((a, b),) = workspace.store.add_groups([(prompt, [Completion("Yes."), Completion("No.")])])
    workspace.store.add_rankings([Ranking(prompt.id, "ann", ((a,), (b,)), criterion=criterion)])
    sheet = folder / "sheet.jsonl"
    export_feedback(workspace, str(sheet), "tasks")
    return workspace, sheet


def _fill_in(sheet: Path, without: str = "") -> None:
    row = json.loads(sheet.read_text())
    row.pop(without, None)
    sheet.write_text(json.dumps(row | {"tiers": [[0], [1]], "labeler": "bob"}))


def test_a_filled_sheet_agrees_with_what_was_ranked_in_the_app(tmp_path: Path) -> None:
    workspace, sheet = _half_ranked(tmp_path, LabelConfig().criterion)
    _fill_in(sheet)
    import_feedback(workspace, str(sheet))
    run, _ = agree(workspace, FAST)
    assert run.metrics["labelers"] == 2
    bob = list(workspace.store.rankings())[-1]
    assert (bob.criterion, bob.guidelines) == (LabelConfig().criterion, workspace.guidelines()[0])


def test_rankings_without_a_criterion_are_named_on_the_way_in(tmp_path: Path) -> None:
    workspace, sheet = _half_ranked(tmp_path, "kind")
    _fill_in(sheet, without="criterion")
    with pytest.raises(SystemExit) as done:
        main(["import", str(sheet), "--criterion", "kind", "-w", str(workspace.path)])
    assert done.value.code == 0
    run, _ = agree(workspace, FAST)
    assert run.metrics["labelers"] == 2


def test_rankings_without_a_criterion_can_be_agreed_on_with_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, sheet = _half_ranked(tmp_path, "kind")
    _fill_in(sheet, without="criterion")
    import_feedback(workspace, str(sheet))
    said = r"1 rankings of criterion 'kind' and 1 rankings without a criterion \(''\).*--criterion 'kind' ''"
    with pytest.raises(DataError, match=said):
        agree(workspace, FAST)
    for names, labelers in ((["kind", ""], 2), (["kind"], 1), ([""], 1)):
        with pytest.raises(SystemExit) as done:
            main(["agree", "--json", "--bootstrap", "100", "-w", str(workspace.path), "--criterion", *names])
        assert done.value.code == 0
        assert json.loads(capsys.readouterr().out)["labelers"] == labelers, names
