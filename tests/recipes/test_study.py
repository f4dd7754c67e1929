"""The report is made with each reward model, leaves out what was trained on, and reaches the page."""

from __future__ import annotations

import json

import pytest

from accord.errors import DataError
from accord.evaluate.reportdata import Estimate, RewardSection
from accord.feedback.consensus import AgreeConfig
from accord.lm.tiny import write_tiny
from accord.recipes.judgements import agree, import_feedback
from accord.recipes.reward_report import rows, with_study
from accord.recipes.steps import reward
from accord.recipes.study import StudyConfig, study
from accord.reward.train import RewardConfig
from accord.types import Score
from accord.workspace import Workspace

ANSWERS = ["It left on Friday, I am sorry.", "No idea!", "Go away."]


class Words:
    """The gold of a made-up world: words."""

    def score(self, prompt, completions):
        return [Score(float(len(c.text.split()))) for c in completions]


def rank_rows(first: int, count: int, labelers: int = 3) -> str:
    return "".join(
        json.dumps({"prompt": f"Question {i}?", "completions": ANSWERS, "labeler": f"labeler-{k}",
                    "tiers": [[0], [1], [2]] if (i + k) % 5 else [[1], [0], [2]]}) + "\n"
        for i in range(first, first + count) for k in range(labelers)
    )  # fmt: skip


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A workspace with a reward model trained on 12 prompts; three are held out."""
    folder = tmp_path_factory.mktemp("study")
    workspace = Workspace.create(folder / "desk")
    (folder / "rankings.jsonl").write_text(rank_rows(0, 12))
    import_feedback(workspace, str(folder / "rankings.jsonl"), split="train")
    agree(workspace, AgreeConfig(bootstrap=100))
    config = RewardConfig(base=str(write_tiny(folder / "base", "llama")), holdout=0.25)
    return workspace, *reward(workspace, config, gold=Words())


def test_a_new_reward_model_has_its_report(desk):
    workspace, run, report, _ = desk
    found = json.loads((run.path / "study.json").read_text())
    assert len(report.held_out) == 3
    assert found["prompts"] == 3
    assert found["pairs"] == run.metrics["studied_pairs"] == report.pairs_holdout
    assert found["accuracy"]["interval"]["value"] == pytest.approx(report.accuracy)
    assert run.metrics["human"] == found["ceiling"]["human"]["interval"]["value"]
    assert found["by_split"]["train"]["interval"]["n"] == 3
    assert found["best_of"]["n"] == [1, 2, 3]
    assert found["best_of"]["gold"][0]["interval"]["value"] == pytest.approx((7 + 2 + 2) / 3)
    artefacts = [a.kind for a in workspace.store.artefacts(run.id)]
    assert "study" in artefacts


def test_what_was_trained_on_is_left_out_and_counted(desk):
    workspace, run, report, _ = desk
    done, found = study(workspace, StudyConfig())
    assert found.prompts == 3
    assert done.metrics["left_out_as_trained"] == report.pairs_train
    assert found.accuracy.interval.value == pytest.approx(report.accuracy)
    assert run.metrics["artefact"] in done.inputs
    assert json.loads((done.path / "study.json").read_text())["pairs"] == found.pairs


def test_a_file_is_studied_and_not_stored(desk, tmp_path):
    workspace, _, report, _ = desk
    before = workspace.store.counts()
    (tmp_path / "more.jsonl").write_text(rank_rows(8, 6))
    done, found = study(workspace, StudyConfig(on=str(tmp_path / "more.jsonl")))
    trained = {f"Question {i}?" for i in range(12)} - {
        p.text for p in workspace.store.prompts(ids=report.held_out)
    }
    new = [i for i in range(8, 14) if f"Question {i}?" not in trained]
    assert found.prompts == len(new)
    assert done.metrics["left_out_as_trained"] == 3 * (6 - len(new))
    assert found.ceiling.human.interval is not None
    after = workspace.store.counts()
    assert {k: after[k] - before[k] for k in ("prompts", "completions", "comparisons")} == {
        "prompts": 0, "completions": 0, "comparisons": 0,
    }  # fmt: skip


def test_a_ready_made_classifier_is_studied_on_everything(desk, tmp_path):
    workspace, *_ = desk
    name = str(write_tiny(tmp_path / "judge", "bert", labels=2))
    _, found = study(workspace, StudyConfig(reward=name, label="LABEL_1"))
    assert found.prompts == 12
    assert found.baselines.style.interval.value == 1.0
    assert next(name for name, _ in rows(found)) == "accuracy"


def test_nothing_left_is_an_error_that_says_so(desk, tmp_path):
    workspace, _, report, _ = desk
    trained = next(i for i in range(12) if f"Question {i}?" not in {
        p.text for p in workspace.store.prompts(ids=report.held_out)})  # fmt: skip
    (tmp_path / "old.jsonl").write_text(rank_rows(trained, 1).replace("Question", "QUESTION  "))
    with pytest.raises(DataError, match="3 are of prompts it was trained on"):
        study(workspace, StudyConfig(on=str(tmp_path / "old.jsonl")))
    with pytest.raises(DataError, match="split 'holdout'"):
        study(workspace, StudyConfig(split="holdout"))


def test_the_report_s_section_holds_what_was_found_and_says_what_was_not(desk):
    _, run, report, _ = desk
    found = json.loads((run.path / "study.json").read_text())
    section = with_study(RewardSection("rm", report.pairs_holdout, Estimate(report.accuracy)), found)
    assert section.human.value == run.metrics["human"]
    assert section.style_baseline.value == run.metrics["style_only"]
    assert [p.n for p in section.best_of] == [1, 2, 3]
    assert all(0.5 < m.sure <= 1 for m in section.mistakes)
    assert set(section.unknown) == {
        words for words, figure in (
            ("How well people foretell one another", section.human),
            ("What style alone reaches", section.style_baseline),
            ("Accuracy where the shorter one won", section.shorter_won),
            ("Correlation with length", section.length_correlation),
        ) if figure is None
    }  # fmt: skip
