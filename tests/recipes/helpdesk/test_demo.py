"""The demo on small sizes: every step runs for real, and what it writes hangs together.

That alignment reaches its target takes minutes; `make demo` shows it, and the slow test here.
"""

import json
import re
from contextlib import nullcontext

import pytest

from accord.errors import StoreError
from accord.evaluate.reportdata import ReportData
from accord.recipes.helpdesk.demo import MODELS, DemoConfig, demo
from accord.workspace import Workspace

SMALL = {"ranked": 24, "practised": 40, "held_out": 12, "steps": 2, "reward_epochs": 1}
KEYS = {
    "seconds", "gold_before", "gold_after", "fluency_before", "fluency_after", "exact_kl",
    "labeler_agreement_with_gold", "consensus_agreement_with_gold", "reward_accuracy", "model", "seed",
}  # fmt: skip


def silent(name, *figures):
    return nullcontext(lambda metrics: None)


@pytest.mark.parametrize("kind", ["decoder", "seq2seq"])
def test_small_demo_writes_what_it_promises(tmp_path, kind):
    folder = tmp_path / "demo"
    summary = demo(folder, DemoConfig(model=kind, **SMALL), silent)
    assert json.loads((folder / "summary.json").read_text()).keys() >= KEYS
    assert summary["model"] == kind
    assert summary["exact_kl"] >= 0
    for name in KEYS - {"seconds", "exact_kl", "model", "seed"}:
        assert 0 <= summary[name] <= 1, name

    workspace = Workspace.open(folder)
    assert workspace.store.verify() == []
    kinds = {run.kind for run in workspace.store.runs(status="done")}
    assert kinds == {"sample", "label", "agree", "reward", "align", "evaluate"}
    held_out = {prompt.id for prompt in workspace.store.prompts("holdout")}
    assert not held_out & {ranking.prompt_id for ranking in workspace.store.rankings()}
    assert {ranking.source for ranking in workspace.store.rankings()} == {"simulated"}

    page = (folder / "report.html").read_text()
    assert "simulated" in page
    assert not re.search(r'(src|href)="https?:', page)
    data = ReportData.from_json((folder / "report.json").read_text())
    row = data.evaluation.row("gold")
    assert (row.before_mean, row.after_mean) == (summary["gold_before"], summary["gold_after"])
    assert {step.name for step in data.steps} == kinds
    assert -1 <= data.labelers.agreement.low < data.labelers.agreement.value <= 1, "Krippendorff's alpha"
    notes = {labeler.name: labeler.note for labeler in data.labelers.labelers}
    assert notes["adversarial"].startswith("flagged")
    assert notes["careful"] == ""


def test_a_folder_of_ones_own_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="no demo made"):
        demo(tmp_path, DemoConfig(**SMALL), silent)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["decoder", "seq2seq"])
def test_the_demo_aligns(tmp_path, kind):
    summary = demo(tmp_path / "demo", DemoConfig(model=kind), silent)
    assert summary["gold_after"] - summary["gold_before"] >= 0.25
    assert summary["fluency_after"] >= summary["fluency_before"] - 0.02
    assert summary["consensus_agreement_with_gold"] > summary["labeler_agreement_with_gold"]
    assert summary["reward_accuracy"] >= 0.8


def test_the_starters_fit_in_the_package():
    starters = [MODELS / kind for kind in ("decoder", "seq2seq")]
    size = sum(path.stat().st_size for folder in starters for path in folder.iterdir())
    assert size <= 12 * 2**20, f"{size / 2**20:.1f} MiB"
