"""Judges measured by suites, from the command line: a folder, a server, and people's own comparisons."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accord.cli import main
from accord.errors import ConfigError, DataError
from accord.evaluate.standings import Leaderboard
from accord.evaluate.suite import built_in
from accord.judgements import Comparison
from accord.lm.tiny import write_tiny
from accord.recipes.contestants import MOST, prompts_for
from accord.recipes.record import agreed, recorded
from accord.recipes.steps import EvaluateStepConfig
from accord.recipes.suites import Asked, compare_models, read_suites
from accord.types import Completion, Prompt
from accord.workspace import Workspace
from realdata import real_file, real_folder

BETTER = [json.loads(line) for line in built_in()["hhh"].with_suffix(".jsonl").read_text().splitlines()]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "desk")


def people(workspace: Workspace, shares: list[float]) -> None:
    """Comparisons of an import, agreed on by so large shares of people."""
    made = [
        Comparison(Prompt.from_text(f"q{i}"), Completion("yes"), Completion("no"), p, "people")
        for i, p in enumerate(shares)
    ]
    with recorded(workspace, "import", {}, []) as record:
        workspace.store.add_comparisons(made, record.run.id)


def cli(*argv: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in argv])
    return int(ended.value.code or 0)


def test_a_folder_is_measured_as_judge(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = write_tiny(tmp_path / "judge", chat=True)
    assert cli("evaluate", "-w", workspace.path, "--suite", "hhh", "--judge", judge) == 0
    shown = capsys.readouterr().out
    for figure in ("right *", "right in one order", "orders disagree", "took the first", "unusable"):
        assert figure in shown
    run = workspace.store.runs("evaluate")[-1]
    section = Leaderboard.from_json((run.path / "leaderboard.json").read_text()).section("hhh")
    assert section.prompts == 12
    assert section.row("unusable").cells[0].value == 0.0
    assert 0 <= section.row("orders disagree").cells[0].value <= 1


def test_a_server_is_measured_as_judge_beside_a_folder_and_its_answers_are_paid_once(
    workspace: Workspace, tmp_path: Path
) -> None:
    pytest.importorskip("openai", reason="openai is not installed: pip install 'accord[test]'")
    from chatting import chat_server, choose, completion

    def should(said: str) -> str:
        """Right, but for the eggs, where it takes the first, and the zip, where it says nothing."""
        row = next(row for row in BETTER if row["text"] in said)
        if "zip" in said:
            return completion("Neither.")
        right = said.index(row["better"]) < said.index(row["worse"])
        return choose(0.8) if right or "eggs need" in said else choose(0.1, "B")

    with chat_server(should) as server:
        models = [str(write_tiny(tmp_path / "tiny", chat=True)), f"{server.url}#wise"]
        for _ in range(2):
            _, board, _ = compare_models(workspace, EvaluateStepConfig(), Asked(models, ["hhh"]))
        assert len(server.asked) == 24
    row = board.section("hhh").row
    assert board.models[1].name == "v1#wise"
    assert board.models[1].hash.startswith(server.url)
    assert row("right").cells[1].value == pytest.approx((10 + 0.5 + 0.5) / 12)
    assert row("right in one order").cells[1].value == pytest.approx((10 + 0.5 + 0.5) / 12)
    assert row("orders disagree").cells[1].value == pytest.approx(2 / 12)
    assert row("took the first").cells[1].value == pytest.approx((11 * 0.5 + 1) / 12)
    assert row("unusable").cells[1].value == pytest.approx(1 / 12)


def test_it_says_how_far_it_is_and_never_goes_back(workspace: Workspace, tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="openai is not installed: pip install 'accord[test]'")
    from chatting import chat_server, choose, completion

    steps: list[float] = []
    with chat_server(lambda said: choose(0.8) if "Answer A" in said else completion("No.")) as server:
        models = [f"{server.url}#one", f"{server.url}#two"]
        asked = Asked(models, ["hhh", "refusal"])
        compare_models(
            workspace, EvaluateStepConfig(rounds=100), asked, progress=lambda m: steps.append(m["step"])
        )
    assert steps == [250, 500, 750, 1000]


def test_a_judge_is_held_against_what_people_agree_on(workspace: Workspace, tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="openai is not installed: pip install 'accord[test]'")
    from chatting import chat_server, choose

    people(workspace, [0.8, 1.0, 0.75, 0.6, 0.9])
    suite = read_suites(["people"])[0]
    asked = prompts_for(suite, workspace, None)
    assert sorted(p.text for p in asked) == ["q0", "q1", "q2", "q4"]
    assert {(p.meta["better"], p.meta["worse"]) for p in asked} == {("yes", "no")}
    with chat_server(lambda said: choose(0.9 if "Answer A:\nyes" in said else 0.2)) as server:
        judge = f"{server.url}#wise"
        _, board, _ = compare_models(workspace, EvaluateStepConfig(), Asked((), ["people"], judge=judge))
    assert board.section("people").row("right").cells[0].value == 1.0
    assert MOST >= 100


def test_without_people_there_is_nothing_to_hold_it_against(workspace: Workspace) -> None:
    people(workspace, [0.6])
    with pytest.raises(DataError, match="no pair on which people agree to 75%"):
        prompts_for(read_suites(["people"])[0], workspace, None)


def test_what_people_agree_on_is_of_the_split_named_of_different_texts_and_of_no_constitution(
    workspace: Workspace,
) -> None:
    prompts = [Prompt.from_text(f"q{i}") for i in range(4)]
    workspace.store.add_prompts(prompts[:1], "holdout")
    workspace.store.add_prompts(prompts[1:], "train")
    yes, no = Completion("yes"), Completion("no")
    made = [Comparison(p, yes, no, 0.9, "people") for p in prompts[:2]]
    made.append(Comparison(prompts[2], yes, Completion("yes"), 0.9, "people"))
    made.append(Comparison(prompts[3], yes, no, 0.9, "constitution"))
    with recorded(workspace, "import", {}, []) as record:
        workspace.store.add_comparisons(made, record.run.id)
    suite = read_suites(["people"])[0]

    def asked(split: str | None) -> list[str]:
        said = sorted(one.prompt.text for one in agreed(workspace, split)[1])
        assert sorted(p.text for p in prompts_for(suite, workspace, split)) == said
        return said

    assert asked(None) == ["q0", "q1"]
    assert asked("holdout") == ["q0"]
    with pytest.raises(DataError, match="no pair of split 'other' on which"):
        agreed(workspace, "other")


@pytest.mark.parametrize(
    ("models", "suites", "judge", "said"),
    [
        (["a"], ["hhh"], "b", "name it with the models"),
        ([], ["hhh", "refusal"], "b", "ask for suites of judges alone"),
        (["https://x.example.org/v1#m"], ["hhh-likelier"], "", "asks how likely texts are"),
        (["https://x.example.org/v1"], ["hhh"], "", "which model"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    workspace: Workspace, models: list, suites: list, judge: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        compare_models(workspace, EvaluateStepConfig(), Asked(models, suites, judge=judge))


def test_the_published_comparisons_are_read_whole() -> None:
    real_file("constitutional/evals")
    (suite,) = read_suites(["hhh-published"], str(real_folder()))
    assert len(suite.prompts) == 433
    assert len({p.text for p in suite.prompts}) == 187
    for prompt in suite.prompts:
        better, worse = prompt.meta["better"], prompt.meta["worse"]
        options = prompt.meta["prompt"]
        first = options.index(f"[[[{better}]]]") < options.index(f"[[[{worse}]]]")
        assert prompt.meta["correct"] == ["(A)" if first else "(B)"]
        assert prompt.text.startswith("Human:")
