"""A blind A/B: pairs that tell nobody whose is whose, and a win rate that is the one people gave."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accord.cli import main
from accord.errors import ConfigError, DataError, StoreError
from accord.feedback.labeling import people
from accord.feedback.labeling.answers import Answer
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.people import Role
from accord.feedback.labeling.queue import Assignment, claim, fill
from accord.feedback.labeling.submit import submit
from accord.lm.tiny import write_tiny
from accord.recipes.blind import PAIRS, BlindConfig, read, start
from accord.stats.paired import win_gain
from accord.stats.power import comparisons_for_wins, detectable_wins
from accord.types import Completion, Prompt
from accord.workspace import Workspace

pytest.importorskip("openai", reason="openai is not installed: pip install 'accord[test]'")
from chatting import chat_server, completion

PROMPTS = 20


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace.create(tmp_path / "desk")
    prompts = [Prompt.from_text(f"q{i}") for i in range(PROMPTS)]
    made.store.add_prompts(prompts, "holdout")
    made.store.add_completions(prompts[0].id, [Completion("an older answer"), Completion("and another")])
    return made


@pytest.fixture
def servers():
    """Two models; they say the same to q3."""
    with (
        chat_server(lambda said: completion("same" if said == "q3" else f"plain {said}")) as one,
        chat_server(lambda said: completion("same" if said == "q3" else f"kind {said}")) as other,
    ):
        yield f"{one.url}#one", f"{other.url}#two"


def label(workspace: Workspace, split: str, say: Callable[[Assignment], list[list[str]]], *names: str) -> int:
    """Everybody labels all there is; returns how many tasks were answered."""
    config = LabelConfig(split=split, overlap=len(names), adaptive=False, gold_share=0, repeat_share=0)
    fill(workspace.store, config)
    version = workspace.guidelines()[0]
    done = 0
    for name in names:
        people.add_person(workspace.store, name, Role.LABELER, 0.0)
        while (task := claim(workspace.store, name, config, 1.0)) is not None:
            answer = Answer(tiers=tuple(map(tuple, say(task))))
            submit(workspace.store, name, task.id, answer, f"{name}-{done}", version, config, 2.0)
            done += 1
    return done


def test_people_see_two_texts_and_the_win_rate_is_what_they_said(workspace, servers) -> None:
    run, begun = start(workspace, servers, BlindConfig(split="holdout", win_rate=0.7, ties=0.1))
    assert (begun.pairs, begun.same, begun.split) == (PROMPTS - 1, 1, run.id)
    assert begun.needed == comparisons_for_wins(0.7, 0.1)
    assert begun.detectable == detectable_wins(PROMPTS - 1, 0.1)
    with pytest.raises(DataError, match="nobody judged a pair"):
        read(workspace)
    seen = []

    def say(task: Assignment) -> list[list[str]]:
        """Ties q5, takes the plain one of q7, and the kind one else."""
        seen.append(task)
        text = {c.text.split()[0]: c.id for c in task.completions}
        if task.prompt.text == "q5":
            return [[text["plain"], text["kind"]]]
        return (
            [[text["plain"]], [text["kind"]]]
            if task.prompt.text == "q7"
            else [[text["kind"]], [text["plain"]]]
        )

    assert label(workspace, begun.split, say, "ann", "bea") == 2 * (PROMPTS - 1)
    assert all(len(task.completions) == 2 and task.completions[0].origin is None for task in seen)
    kind_first = sum(task.completions[0].text.startswith("kind") for task in seen)
    assert 0 < kind_first < len(seen)  # neither model stands in one place
    told = read(workspace)
    wins = [0.5, 0.5, 0.0] + [1.0] * (PROMPTS - 3)
    gain = win_gain(wins, np.random.default_rng(0))
    assert (told.first, told.second) == servers
    assert told.win_rate == pytest.approx((2 * 17 + 2 * 0.5 + 0.5) / (2 * 19 + 1))
    assert told.low < gain.value < told.high
    assert told.low > 0.5
    assert told.p < 0.05
    assert (told.judgements, told.labelers, told.pairs, told.unjudged) == (38, 2, PROMPTS, 0)
    assert told.ties == pytest.approx(3 / 39)


def test_a_new_one_asks_anew_and_an_older_one_can_be_read(workspace, servers) -> None:
    first, one = start(workspace, servers, BlindConfig(split="holdout", limit=5))
    label(workspace, one.split, lambda task: [[c.id for c in task.completions]], "ann")
    second, two = start(workspace, servers[::-1], BlindConfig(split="holdout", limit=5))
    assert one.split != two.split
    assert read(workspace, first.id).win_rate == 0.5
    with pytest.raises(DataError, match=f"nobody judged a pair of {second.id}"):
        read(workspace)
    kept = [json.loads((run.path / PAIRS).read_text()) for run in (first, second)]
    assert kept[0]["models"] == kept[1]["models"][::-1]
    assert not set(kept[0]["pairs"]) & set(kept[1]["pairs"])
    assert workspace.store.verify() == []


def test_a_pair_that_labelers_are_measured_by_counts_for_nothing(workspace, servers) -> None:
    run, begun = start(workspace, servers, BlindConfig(split="holdout", limit=3))
    label(workspace, begun.split, lambda task: [[c.id for c in task.completions]], "ann")
    for ranking in list(workspace.store.rankings()):
        again = replace(ranking, id="", labeler="bea", arm="repeat", assignment="", supersedes=None)
        workspace.store.add_rankings([again])
    assert read(workspace, run.id).judgements == 3


def test_what_cannot_be_blind_is_refused(workspace, servers, tmp_path) -> None:
    with pytest.raises(ConfigError, match="name two"):
        start(workspace, (servers[0], servers[0]), BlindConfig())
    with pytest.raises(DataError, match="cannot be with"):
        start(workspace, servers, BlindConfig(win_rate=0.95, ties=0.5))
    with pytest.raises(StoreError, match="no blind A/B was started"):
        read(workspace)
    with (
        chat_server(lambda said: completion("x")) as one,
        chat_server(lambda said: completion("x")) as other,
        pytest.raises(DataError, match="same answers to all"),
    ):
        start(workspace, (f"{one.url}#m", f"{other.url}#m"), BlindConfig(limit=2))


def test_from_the_command_line_with_folders(workspace, tmp_path, capsys) -> None:
    folders = [str(write_tiny(tmp_path / name, seed=seed)) for seed, name in enumerate(("a", "b"))]
    asked = ["blind", *folders, "-w", str(workspace.path), "--limit", "4", "--max-new-tokens", "4", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(asked)
    assert not ended.value.code
    found = json.loads(capsys.readouterr().out)
    assert found["pairs"] + found["same"] == 4
    assert found["needed"] == comparisons_for_wins(0.6, 0.2)
    label(workspace, found["split"], lambda task: [[c.id] for c in task.completions], "ann")
    with pytest.raises(SystemExit) as ended:
        main(["blind", "-w", str(workspace.path), "--json"])
    assert not ended.value.code
    told = json.loads(capsys.readouterr().out)
    assert told["judgements"] == found["pairs"]
    assert told["first"] == folders[0]
    with pytest.raises(SystemExit) as ended:
        main(["blind", folders[0], "-w", str(workspace.path)])
    assert ended.value.code == 2
    assert "between two models" in capsys.readouterr().err
