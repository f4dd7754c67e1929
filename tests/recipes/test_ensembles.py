"""Members for `accord reward`: as many as asked for, none of which learns what was held out."""

from __future__ import annotations

from pathlib import Path

import pytest

from accord.judgements import Anchor, Comparison
from accord.lm.classifier import SequenceClassifier
from accord.lm.tiny import write_tiny
from accord.recipes import ensembles
from accord.recipes.ensembles import RewardStepConfig, with_members
from accord.recipes.steps import reward, scorer_of
from accord.reward.ensemble import Ensemble, Rule
from accord.reward.heads import Heads
from accord.reward.model import RewardModel
from accord.reward.saved import one_model
from accord.reward.train import RewardConfig, train
from accord.store.lineage import Status
from accord.types import Completion, Prompt
from accord.workspace import Workspace

PROMPTS = [Prompt.from_text(f"question {i}") for i in range(16)]
PAIRS = [Comparison(p, Completion(f"good {i}"), Completion(f"bad {i}")) for i, p in enumerate(PROMPTS)]
GROUP = PROMPTS[0], [Completion("good 0"), Completion("bad 0")]


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(write_tiny(tmp_path / "base", "llama"))


def first(config: RewardStepConfig):
    return train(PAIRS, SequenceClassifier.load(config.base, labels=1), config)[0]


def test_one_member_is_the_model_itself(base: str) -> None:
    config = RewardStepConfig(base=base)
    model = first(config)
    assert with_members(model, PAIRS, (), config) is model


def test_members_are_models_of_their_own_by_the_rule_asked_for(base: str) -> None:
    config = RewardStepConfig(base=base, members=3, combine="worst", caution=0.2)
    model = first(config)
    found = with_members(model, PAIRS, (), config)
    assert isinstance(found, Ensemble)
    assert found.members[0] is model
    assert len({m.classifier.weights_hash() for m in found.members}) == 3
    assert (found.rule, found.caution) == (Rule.WORST, 0.2)
    assert found.score(*GROUP) == with_members(model, PAIRS, (), config).score(*GROUP)


def test_heads_share_the_model(base: str) -> None:
    config = RewardStepConfig(base=base, members=5, member="head")
    model = first(config)
    found = with_members(model, PAIRS, (), config)
    assert isinstance(found, Heads)
    assert found.model is model
    assert len(found.weight_ED) == 5


def test_no_member_learns_what_was_held_out(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []

    def watched(comparisons, classifier, config, progress, anchors):
        seen.append({x.prompt.text for x in (*comparisons, *anchors)})
        return train(comparisons, classifier, config, progress, anchors)

    monkeypatch.setattr(ensembles, "train", watched)
    held = {p.id for p in PROMPTS[:6]}
    anchors = [Anchor(p, Completion("good"), 1.0) for p in PROMPTS]
    config = RewardStepConfig(base=base, members=3)
    with_members(first(config), PAIRS, anchors, config, held_out=held)
    assert len(seen) == 2
    assert not set.union(*seen) & {p.text for p in PROMPTS[:6]}


def test_the_step_saves_an_ensemble_that_other_steps_load(tmp_path: Path, base: str) -> None:
    workspace = Workspace.create(tmp_path / "work")
    run = workspace.store.start_run("import", {})
    workspace.store.add_prompts(PROMPTS)
    workspace.store.add_groups([(c.prompt, [c.chosen, c.rejected]) for c in PAIRS])
    known = workspace.store.completions()
    found = {p.id: {c.text: c for c in known[p.id]} for p in PROMPTS}
    pairs = [
        Comparison(c.prompt, found[c.prompt.id][c.chosen.text], found[c.prompt.id][c.rejected.text])
        for c in PAIRS
    ]
    workspace.store.add_comparisons(pairs, run.id)
    workspace.store.finish_run(run.id, Status.DONE, {})
    plain, _, one = reward(workspace, RewardConfig(base=base))
    assert isinstance(one, RewardModel)
    for member, kind in (("model", Ensemble), ("head", Heads)):
        config = RewardStepConfig(base=base, members=2, member=member)
        done, report, model = reward(workspace, config)
        scorer, made_from = scorer_of(workspace, "reward")
        assert type(scorer) is type(model) is kind
        assert scorer.score(*GROUP) == model.score(*GROUP)
        assert made_from == [done.metrics["artefact"]]
        assert (plain.metrics["members"], done.metrics["members"]) == (1, 2)
        assert done.config["combine"] == "variance"
        assert report.accuracy is not None
        assert one_model(scorer).score(*GROUP) == one.score(*GROUP)
