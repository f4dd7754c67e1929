"""Steps over a workspace: what their settings promise."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from accord.align.run import End
from accord.errors import ConfigError, DataError, StoreError
from accord.feedback.consensus import AgreeConfig
from accord.judgements import Comparison, Ranking, Thumb
from accord.lm.render import Template
from accord.lm.tiny import write_tiny
from accord.recipes.anchors import anchors_of
from accord.recipes.judgements import agree
from accord.recipes.reporting import _training
from accord.recipes.steps import AlignStepConfig, align, reward
from accord.reward.model import RewardModel
from accord.reward.train import RewardConfig
from accord.store.lineage import Status
from accord.types import Completion, Prompt
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


def _ranked(folder: Path, fails: bool) -> Workspace:
    """Sixteen prompts, each with a good, a fair and a bad completion, ranked by two labelers."""
    workspace = Workspace.create(folder)
    prompts = [Prompt.from_text(f"question {i}") for i in range(16)]
    workspace.store.add_prompts(prompts)
    rankings = []
    for i, prompt in enumerate(prompts):
        names = [f"{kind}{i}" for kind in ("good", "fair", "bad")]
        workspace.store.add_groups([(prompt, [Completion(name, id=name) for name in names])])
        tiers = tuple((name,) for name in names[: 2 if fails else 3])
        bad = tuple(names[2:]) if fails else ()
        rankings += [
            Ranking(prompt.id, labeler, tiers, bad, source="simulated") for labeler in ("ada", "bob")
        ]
    workspace.store.add_rankings(rankings)
    agree(workspace, AgreeConfig(bootstrap=100))
    return workspace


def test_fail_reaches_the_reward_model_as_anchors(tmp_path: Path) -> None:
    workspace = _ranked(tmp_path / "work", fails=True)
    runs, anchors = anchors_of(workspace)
    assert runs == [workspace.store.runs("agree")[-1].id]
    assert len(anchors) == 48
    assert all((a.p_good < 0.2) == a.completion.text.startswith("bad") for a in anchors)
    assert {a.source for a in anchors} == {"fail"}
    config = RewardConfig(base=str(write_tiny(tmp_path / "base", "llama")), holdout=0.25)
    done, report, model = reward(workspace, config)
    assert report.anchors is not None
    assert report.anchors.used
    assert (report.anchors.train, report.anchors.holdout) == (36, 12)
    assert done.metrics["anchors"] == 48
    assert model.acceptable is not None
    assert RewardModel.load(done.metrics["model"]).acceptable == model.acceptable
    assert set(runs) <= set(done.inputs)


def test_where_nobody_said_fail_nothing_is_said_of_it(tmp_path: Path) -> None:
    assert anchors_of(_ranked(tmp_path / "work", fails=False)) == ([], [])


def test_thumbs_train_a_reward_model_without_rankings(tmp_path: Path) -> None:
    """A vote taken back counts as what it was changed to."""
    workspace = Workspace.create(tmp_path / "work")
    for i in range(16):
        prompt = Prompt.from_text(f"question {i}")
        workspace.store.add_prompts([prompt])
        workspace.store.add_groups(
            [(prompt, [Completion(f"{k} {i}", id=f"{k}{i}") for k in ("good", "bad")])]
        )
        workspace.store.add_thumbs([Thumb(prompt.id, f"bad{i}", "user", up=True, source="simulated")])
        votes = [
            Thumb(prompt.id, f"{k}{i}", "user", up=k == "good", source="simulated") for k in ("good", "bad")
        ]
        workspace.store.add_thumbs(votes)
    _, anchors = anchors_of(workspace)
    assert sorted((a.completion.text[:3], a.p_good, a.source) for a in anchors) == (
        [("bad", 0.0, "thumbs")] * 16 + [("goo", 1.0, "thumbs")] * 16
    )
    config = RewardConfig(base=str(write_tiny(tmp_path / "base", "llama")), holdout=0.25)
    done, report, _ = reward(workspace, config)
    assert done.metrics["accuracy"] is None
    assert report.anchors is not None
    assert report.anchors.used
    with pytest.raises(DataError, match="accord agree"):
        reward(Workspace.create(tmp_path / "empty"), config)


def test_a_resumed_run_keeps_the_reward_model_it_began_with(tmp_path: Path) -> None:
    """One trained meanwhile is the latest, and not what the run was begun with."""
    workspace = _ranked(tmp_path / "work", fails=False)
    base = str(write_tiny(tmp_path / "base", "llama"))
    reward(workspace, RewardConfig(base=base))
    config = AlignStepConfig(model=base, steps=4, prompts_per_step=4, minibatch=4, max_new_tokens=4)
    _, unbroken = align(workspace, config)

    def interrupt(row: Mapping[str, float]) -> None:
        if row["step"] == 2:
            signal.raise_signal(signal.SIGINT)  # Ctrl-C: the step under way is finished and kept

    align(workspace, config, progress=interrupt)
    reward(workspace, RewardConfig(base=base, seed=1, learning_rate=1e-2))
    run, resumed = align(workspace, config, resume=True)
    assert len(resumed.history) == 4
    assert [row["reward"] for row in resumed.history] == [row["reward"] for row in unbroken.history]
    assert run.inputs == workspace.store.runs("align")[0].inputs

    align(workspace, config, progress=interrupt)
    workspace.store.add_prompts([Prompt.from_text("one more")])
    with pytest.raises(StoreError, match="began with"):
        align(workspace, config, resume=True)


def test_a_guarded_run_keeps_its_verdicts_and_the_report_tells_them(tmp_path: Path) -> None:
    """The witness is the reward model itself: it agrees with the reward always, and patience ends the run."""
    workspace = _ranked(tmp_path / "work", fails=False)
    base = str(write_tiny(tmp_path / "base", "llama"))
    made, _, _ = reward(workspace, RewardConfig(base=base))
    config = AlignStepConfig(
        model=base, steps=9, prompts_per_step=4, minibatch=4, max_new_tokens=4, learning_rate=1e-9,
        witness=made.metrics["model"], patience=2, guard="off",
    )  # fmt: skip
    run, result = align(workspace, config)
    assert result.end is End.ROLLED_BACK
    assert result.kept == len(result.history) - 3  # two steps without a gain after the best one's rollouts
    assert [row["witness"] for row in result.history] == pytest.approx([r["reward"] for r in result.history])
    assert (run.metrics["kept"], run.metrics["warnings"]) == (result.kept, 1)
    (event,) = _training(run).events
    assert event.step == len(result.history)
    assert event.text.startswith("roll back: witness has not gained for 2 steps")
    with pytest.raises(ConfigError, match="name the witness"):
        align(workspace, config.model_copy(update={"witness": ""}))
