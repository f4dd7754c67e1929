"""lm-eval on an accord folder: its figures reach the store, and agree with a suite of the same choices."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from accord.errors import ConfigError
from accord.evaluate.likelihood import Choice, choice
from accord.lm.model import LanguageModel
from accord.lm.tiny import write_tiny
from accord.recipes.likelihoods import ModelLikelihoods
from accord.recipes.lm_eval import RESULTS, run_lm_eval
from accord.types import Prompt
from accord.workspace import Workspace

TASK = """task: tiny_choice
dataset_path: json
dataset_kwargs:
  data_files: {test: DATA}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{options}}"
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""
CASES = [{"question": f"What is {i}?", "options": ["it", "that", "six"], "answer": i % 3} for i in range(12)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_tiny(tmp_path / "model", "llama")
    (tmp_path / "tasks").mkdir()
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(case) + "\n" for case in CASES))
    (tmp_path / "tasks" / "tiny.yaml").write_text(TASK.replace("DATA", str(rows)))
    Workspace.create(tmp_path / "desk")
    return tmp_path


def test_without_the_package_the_extra_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ConfigError, match=r"accord\[lm-eval\]"):
        run_lm_eval(Workspace.open(place / "desk"), str(place / "model"), ["tiny_choice"])


def test_its_figures_reach_the_store_and_agree_with_ours(place: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (pip install 'accord[lm-eval]')")
    workspace, model = Workspace.open(place / "desk"), str(place / "model")
    with pytest.raises(ConfigError, match="no task 'tiny_choices'"):
        run_lm_eval(workspace, model, ["tiny_choices"], include=str(place / "tasks"))
    run, found = run_lm_eval(workspace, model, ["tiny_choice"], include=str(place / "tasks"))
    prompts = [Prompt.from_text(case["question"], meta=case) for case in CASES]
    asked = [Choice().of(prompt) for prompt in prompts]
    likely = ModelLikelihoods(LanguageModel.load(model))
    told = likely.logprobs([(p, options) for p, (options, _) in zip(prompts, asked, strict=True)])
    ours = [choice(row, right).value for row, (_, right) in zip(told, asked, strict=True)]
    assert found["tiny_choice"]["acc,none"] == pytest.approx(sum(ours) / len(ours))
    assert run.metrics["tiny_choice.acc,none"] == found["tiny_choice"]["acc,none"]
    assert json.loads((run.path / RESULTS).read_text())["results"] == found
    assert workspace.store.verify() == []
