"""`accord choose` over a workspace: what it puts where in the queue, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from accord.errors import DataError, StoreError
from accord.feedback.consensus import AgreeConfig
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.queue import claim, fill
from accord.feedback.labeling.submit import Answer, submit
from accord.judgements import Ranking
from accord.lm.tiny import write_tiny
from accord.recipes.choose import ChooseConfig, choose
from accord.recipes.judgements import agree
from accord.recipes.steps import reward
from accord.reward.train import RewardConfig
from accord.store import state
from accord.types import Completion, Prompt
from accord.workspace import Workspace

LABEL = LabelConfig()
WORDS = ["left on friday", "no idea", "go away", "please wait a little", "we will look", "it is lost"]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny(tmp_path_factory.mktemp("encoder"), "bert"))


@pytest.fixture
def desk(tmp_path: Path) -> Workspace:
    """Sixty prompts of three completions each, and their tasks."""
    workspace = Workspace.create(tmp_path / "desk")
    add(workspace, 60)
    fill(workspace.store, LABEL)
    return workspace


def add(workspace: Workspace, prompts: int, completions: int = 3) -> None:
    rng = np.random.default_rng(0)
    for n in range(prompts):
        prompt = Prompt.from_text(f"question {n}", id=f"p{n}")
        texts = [" ".join(rng.choice(WORDS, size=2)) + f" {n} {k}" for k in range(completions)]
        group = [Completion(text, id=f"p{n}c{k}") for k, text in enumerate(texts)]
        workspace.store.add_groups([(prompt, group)])


def rank(workspace: Workspace, prompts: range, arm: str = "random", best: int = 0) -> None:
    """One simulated labeler's rankings of three completions each."""
    order = [best, *(k for k in range(3) if k != best)]
    workspace.store.add_rankings(
        [
            Ranking(f"p{n}", "sim", tuple((f"p{n}c{k}",) for k in order), criterion=LABEL.criterion, arm=arm,
                    source="simulated")
            for n in prompts
        ]
    )  # fmt: skip


def tasks(workspace: Workspace) -> dict:
    with workspace.store.database.read() as connection:
        return {row.prompt_id: row for row in connection.execute(select(state.queue))}


def test_the_queue_keeps_its_own_order_until_enough_is_labelled(desk: Workspace) -> None:
    rank(desk, range(9))
    before = tasks(desk)
    run, choice = choose(desk, ChooseConfig(start=10))  # and there is no model to be had
    assert tasks(desk) == before
    assert (choice.plan.method, choice.plan.labelled, choice.changed) == ("random", 9, 0)
    assert choice.savings is None
    assert run.metrics["method"] == "random"


def test_the_chosen_come_first_and_the_reserved_are_left_alone(desk: Workspace, encoder: str) -> None:
    rank(desk, range(10))
    before = tasks(desk)
    run, choice = choose(desk, ChooseConfig(start=10, model=encoder))
    after = tasks(desk)
    reserved = {p for p, task in before.items() if task.reserved}
    assert len(reserved) > 2
    assert all(after[p] == before[p] for p in reserved)
    assert set(choice.plan.order) == {f"p{n}" for n in range(10, 60)} - reserved
    best_first = sorted(choice.plan.order, key=lambda p: -after[p].priority)
    assert tuple(best_first) == choice.plan.order
    assert {after[p].arm for p in choice.plan.order} == {"active"}
    assert all(after[f"p{n}"] == before[f"p{n}"] for n in range(10))  # ranked, and held by nobody
    assert choice.changed == len(choice.plan.order)
    scores = [choice.plan.scores[p] for p in choice.plan.order]
    assert scores == sorted(scores, reverse=True)
    assert any(name.startswith("features:") for name in run.inputs)
    written = json.loads((run.path / "choice.json").read_text())
    assert written["plan"]["order"] == list(choice.plan.order)
    assert desk.store.verify() == []


def test_a_labeler_gets_the_chosen_and_the_answer_says_so(desk: Workspace, encoder: str) -> None:
    rank(desk, range(10))
    _, choice = choose(desk, ChooseConfig(start=10, model=encoder))
    config = LabelConfig(random_share=0.0)  # none from the random arm, to see the order alone
    for number in range(3):
        task = claim(desk.store, "ana", config, now=float(number))
        assert task is not None
        assert (task.prompt.id, task.arm) == (choice.plan.order[number], "active")
        answer = Answer(tuple((c.id,) for c in task.completions))
        submit(desk.store, "ana", task.id, answer, f"key {number}", "", config, now=float(number))
    assert [r.arm for r in desk.store.rankings() if r.labeler == "ana"] == ["active"] * 3


def test_what_was_begun_is_finished_first_in_its_arm(desk: Workspace, encoder: str) -> None:
    rank(desk, range(10))
    config = LabelConfig(random_share=0.0)
    held = claim(desk.store, "ana", config, now=0.0)
    assert held is not None
    _, choice = choose(desk, ChooseConfig(start=10, model=encoder))
    assert held.prompt.id not in choice.plan.order
    task = tasks(desk)[held.prompt.id]
    assert (task.priority, task.arm) == (2.0, "random")
    second = claim(desk.store, "bo", config, now=1.0)
    assert second is not None
    assert second.prompt.id == held.prompt.id


def test_choosing_again_learns_and_keeps_arms(desk: Workspace, encoder: str) -> None:
    rank(desk, range(10))
    config = ChooseConfig(start=10, model=encoder)
    _, first = choose(desk, config)
    assert choose(desk, config)[1].plan == first.plan  # nothing new, nothing changed
    rank(desk, range(10, 30), best=1)
    _, second = choose(desk, config)
    assert second.plan.labelled == 30
    left = [p for p in first.plan.order if p in second.plan.order]
    assert left != list(second.plan.order)
    _, random = choose(desk, ChooseConfig(start=10, method="random"))
    assert random.plan.method == "random"
    assert random.plan.arm == "active"  # what the choice left over is no random sample
    assert tasks(desk)[random.plan.order[0]].priority == 1.0


def test_only_the_completions_shown_are_scored_and_all_the_ranked_are_learned(
    tmp_path: Path, encoder: str
) -> None:
    workspace = Workspace.create(tmp_path / "desk")
    settings = workspace.path / "accord.toml"
    settings.write_text(settings.read_text().replace("[label]", "[label]\ncompletions = 2"))
    workspace = Workspace.open(workspace.path)
    add(workspace, 20, completions=4)
    workspace.store.add_rankings(
        [Ranking(f"p{n}", "sim", tuple((f"p{n}c{k}",) for k in range(4))) for n in range(5)]
    )
    _, choice = choose(workspace, ChooseConfig(start=5, model=encoder, method="gap"))
    assert choice.plan.labelled == 5
    assert {len(task.completions) for task in tasks(workspace).values()} == {2}
    assert not {f"p{n}" for n in range(5)} & set(choice.plan.order)


def test_the_latest_reward_model_is_used_and_kept_as_lineage(desk: Workspace, encoder: str) -> None:
    rank(desk, range(12))
    with pytest.raises(StoreError, match="no reward model yet"):
        choose(desk, ChooseConfig(start=10))
    agree(desk, AgreeConfig(bootstrap=100))
    trained, _, _ = reward(desk, RewardConfig(base=encoder))
    run, choice = choose(desk, ChooseConfig(start=10))
    assert choice.plan.method == "dopt"
    assert trained.metrics["artefact"] in run.inputs


def test_savings_need_labels_of_both_arms(tmp_path: Path, encoder: str) -> None:
    workspace = Workspace.create(tmp_path / "desk")
    add(workspace, 130)
    fill(workspace.store, LABEL)
    rank(workspace, range(60))
    config = ChooseConfig(start=10, model=encoder)
    _, choice = choose(workspace, config)
    assert choice.savings is not None
    assert "60 prompts of the random arm and 0 of the active arm" in choice.savings.verdict
    rank(workspace, range(60, 120), arm="active")
    run, choice = choose(workspace, config)
    assert choice.savings is not None
    assert choice.savings.saved is not None
    assert choice.savings.saved.n == 60
    assert run.metrics["verdict"] == choice.savings.verdict


def test_nothing_to_choose_from_is_said(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "desk")
    workspace.store.add_prompts([Prompt.from_text("alone")])
    with pytest.raises(DataError, match="accord sample"):
        choose(workspace, ChooseConfig())
