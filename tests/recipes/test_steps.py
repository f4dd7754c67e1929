"""Steps over a workspace: what their settings promise."""

from __future__ import annotations

from pathlib import Path

from accord.lm.render import Template
from accord.lm.tiny import write_tiny
from accord.recipes.steps import reward
from accord.reward.model import RewardModel
from accord.reward.train import RewardConfig
from accord.store.lineage import Status
from accord.types import Comparison, Completion, Prompt
from accord.workspace import Workspace


def test_a_reward_model_reads_and_keeps_the_template_it_is_given(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "work")
    prompts = [Prompt.from_text(f"question {i}") for i in range(6)]
    run = workspace.store.start_run("import", {})
    workspace.store.add_prompts(prompts)
    sides = [(Completion(f"good {i}", id=f"g{i}"), Completion(f"bad {i}", id=f"b{i}")) for i in range(6)]
    workspace.store.add_groups(list(zip(prompts, sides, strict=True)))
    known = workspace.store.completions()
    pairs = [Comparison(prompt, *known[prompt.id]) for prompt in prompts]
    workspace.store.add_comparisons(pairs, run.id)
    workspace.store.finish_run(run.id, Status.DONE, {})
    config = RewardConfig(base=str(write_tiny(tmp_path / "base", "llama")), template=Template.HH)
    done, _, model = reward(workspace, config)
    text = model.classifier.tokenizer.decode(model.classifier.encode(prompts[0], "good 0").ids)
    assert "\n\nHuman: question 0\n\nAssistant: good 0" in text
    loaded = RewardModel.load(done.metrics["model"])
    assert loaded.classifier.template is Template.HH
    assert loaded.score(prompts[0], sides[0]) == model.score(prompts[0], sides[0])
