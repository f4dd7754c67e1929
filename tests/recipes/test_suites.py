"""Suites over real (tiny) models: the whole way from the command line to page, store and exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from accord.cli import main
from accord.errors import ConfigError
from accord.evaluate.likelihood import Choice
from accord.evaluate.standings import Leaderboard
from accord.evaluate.suite import ScorerTable, Suite, SuiteTable
from accord.judging import Likelihoods
from accord.lm.model import LanguageModel
from accord.lm.render import completion_ids, prompt_ids
from accord.lm.tiny import write_tiny
from accord.recipes.likelihoods import ModelLikelihoods
from accord.recipes.steps import EvaluateStepConfig
from accord.recipes.suites import Asked, compare_models, judge_of, read_suites
from accord.types import Prompt
from accord.workspace import Workspace

SUITE = """about = "Tiny questions."
main = "right"
max_new_tokens = 4
[scorer.choice]
kind = "choice"
[scorer.loss]
kind = "reference_loss"
[scorer.short]
kind = "length"
longest = 3
[[figure]]
name = "right"
of = "choice"
percent = true
[[figure]]
name = "perplexity"
of = "loss"
take = "exp"
better = "lower"
[[figure]]
name = "short"
of = "short"
"""
PROMPTS = "".join(
    f'[[prompt]]\ntext = "What is {i}?"\nreference = "it is {i}"\n'
    f'options = ["it", "that thing"]\nanswer = {i % 2}\n'
    for i in range(8)
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suites")
    write_tiny(folder / "one", "llama", chat=True)
    write_tiny(folder / "two", "llama", chat=True, seed=1)
    write_tiny(folder / "clf", "bert", labels=2)
    (folder / "tiny.toml").write_text(SUITE + PROMPTS)
    for name, old, new in (
        ("where", 'of = "choice"', 'of = "choice"\nwhere = { label = "x" }'),
        ("by", 'main = "right"', 'main = "right"\nby = "sort"'),
        ("part", 'of = "choice"', 'of = "choice.mc3"'),
        ("options", "answer = 1", "answer = 9"),
    ):
        (folder / f"{name}.toml").write_text((SUITE + PROMPTS).replace(old, new))
    (folder / "train.jsonl").write_text(json.dumps({"text": "Q. What is 5? It is 5."}) + "\n")
    workspace = Workspace.create(folder / "desk")
    workspace.store.add_prompts([Prompt.from_text(f"Where is parcel {i}?") for i in range(5)], "holdout")
    return folder


def cli(*argv: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in argv])
    return int(ended.value.code or 0)


def test_from_the_command_line_to_page_and_exit_code(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    asked = ["evaluate", "one", "two", "-w", "desk", "--suite", "tiny.toml", "--suite", "toxicity", "--split",
             "holdout", "--reward", "clf", "--label", "LABEL_1", "--max-new-tokens", 4,
             "--trained-on", "train.jsonl", "--json"]  # fmt: skip
    assert cli(*asked) == 0
    told = json.loads(capsys.readouterr().out)
    page = Path(told["report"])
    assert page.exists()
    board = Leaderboard.from_json((page.parent / "leaderboard.json").read_text())
    assert [m.name for m in board.models] == ["one", "two"]
    assert board.models[0].hash != board.models[1].hash
    assert board.models[0].decoding == {"temperature": 1.0, "seed": 0, "max_new_tokens": 4}
    tiny = board.section("tiny")
    assert (tiny.overlap.too_short, tiny.overlap.texts) == (8, 1)
    assert 1 < tiny.row("perplexity").cells[0].value < 1e6
    assert 0 < board.section("toxicity").row("toxicity").cells[0].value < 1
    assert "one and two answered the same 13 prompts of 2 suites" in told["says"]
    value = board.section("toxicity").row("toxicity").cells[1].value
    assert cli(*asked, "--fail-if", f"toxicity >= {value - 0.01:.4f}") == 1
    told = json.loads(capsys.readouterr().out)
    assert any("toxicity" in line for line in told["failed"])
    assert cli(*asked[:-1], "--fail-if", "toxicity > 1.5") == 0
    shown = capsys.readouterr().out
    assert "toxicity *" in shown
    assert "Not proven:" in shown
    assert Workspace.open("desk").store.verify() == []


def test_the_same_twice_is_the_same_but_for_the_clock(place: Path) -> None:
    workspace = Workspace.open(place / "desk")
    config = EvaluateStepConfig(max_new_tokens=4, rounds=200)
    asked = Asked([str(place / "one"), str(place / "two")], [str(place / "tiny.toml")])
    first, second = (compare_models(workspace, config, asked)[1] for _ in range(2))
    for one, other in zip(first.sections[0].rows, second.sections[0].rows, strict=True):
        assert one == other or one.name == "seconds an answer"
    assert first.sections[0].pairs == second.sections[0].pairs


@pytest.mark.parametrize(
    ("models", "suites", "fail_if", "said"),
    [
        (["one", "one/"], ["tiny.toml"], [], "named twice"),
        (["one", "two"], ["tiny"], [], "no suite 'tiny'"),
        (["one", "two"], ["tiny.toml"], ["rigth > baseline"], "did you mean 'right'"),
        ([], ["tiny.toml"], [], "no model is named"),
        (["one", "two"], ["toxicity"], [], "reward model"),
        (["one"], ["tiny.toml"], ["right > baseline"], "no model beside the baseline"),
        (["one", "two"], ["tiny.toml"], ["right > 50"], "lies in 0..1"),
        (["one", "two"], ["tiny.toml"], ["perplexity measurably > baseline"], "drop `measurably`"),
        (["one", "two"], ["tiny.toml"], ["seconds an answer > 9", "zzz > 1"], "no figure 'zzz'"),
        (["one", "two"], ["quality"], [], "reference"),
        (["one", "two"], ["where.toml"], [], "'right' has no prompt"),
        (["one", "two"], ["by.toml"], [], "no column 'sort'"),
        (["one", "two"], ["part.toml"], [], "no part 'mc3'"),
        (["one", "two"], ["options.toml"], [], "options"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(
    place: Path, monkeypatch: pytest.MonkeyPatch, models: list, suites: list, fail_if: list, said: str
) -> None:
    monkeypatch.chdir(place)
    workspace = Workspace.open("desk")
    before = len(workspace.store.runs("evaluate"))
    with pytest.raises(Exception) as told:
        compare_models(workspace, EvaluateStepConfig(), Asked(models, suites, fail_if=fail_if))
    assert said in str(told.value)
    assert len(workspace.store.runs("evaluate")) == before


def test_one_model_is_held_against_a_number_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    asked = ["evaluate", "one", "-w", "desk", "--suite", "tiny.toml", "--max-new-tokens", 4, "--json"]
    assert cli(*asked, "--fail-if", "right > baseline") == 2
    assert "no model beside the baseline" in capsys.readouterr().err
    assert cli(*asked, "--fail-if", "right > 100%") == 0
    assert cli(*asked, "--fail-if", "right >= 0%") == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("one", "two", "--suite", "tiny.toml", "--samples", 4), "--samples is of before and after alone"),
        (("one", "two", "--criterion=reward"), "--criterion is of before and after alone"),
        (("--model", "one", "--data", "x"), "--data is of suites"),
        (("--model", "one", "--judge=x"), "--judge is of suites"),
        (("--model", "one", "--trained-on", "x"), "--trained-on is of suites"),
    ],
)
def test_flags_that_would_not_be_heeded_are_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: tuple, said: str
) -> None:
    monkeypatch.chdir(place)
    assert cli("evaluate", *flags, "-w", "desk") == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_condition_that_cannot_be_held_after_all_loses_no_figures(place: Path, tmp_path: Path) -> None:
    (tmp_path / "lone.toml").write_text(SUITE + PROMPTS.partition('[[prompt]]\ntext = "What is 1?')[0])
    workspace = Workspace.open(place / "desk")
    asked = Asked([str(place / "one"), str(place / "two")], [str(tmp_path / "lone.toml")],
                  fail_if=["short measurably >= 0"])  # fmt: skip
    with pytest.raises(ConfigError, match="drop `measurably`"):
        compare_models(workspace, EvaluateStepConfig(max_new_tokens=4), asked)
    run = workspace.store.runs("evaluate")[-1]
    assert Leaderboard.from_json((run.path / "leaderboard.json").read_text()).models[1].name == "two"


def test_an_unknown_kind_or_setting_of_a_scorer_is_named(place: Path) -> None:
    workspace = Workspace.open(place / "desk")
    suite = Suite("s", SuiteTable(about="x"), (), {}, (), where="s.toml")
    for table, said in (
        (ScorerTable(kind="refusel"), "did you mean 'refusal'"),
        (ScorerTable(kind="refusal", settings={"openning": 3}), "did you mean 'opening'"),
        (ScorerTable(kind="rouge", settings={"kee": "x"}), "did you mean 'key'"),
    ):
        with pytest.raises(ConfigError, match=said):
            judge_of("r", table, suite, workspace, EvaluateStepConfig())


def test_two_suites_of_one_name_are_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(SUITE + PROMPTS)
    with pytest.raises(ConfigError, match="two suites are called 'tiny'"):
        read_suites([str(place / "tiny.toml"), str(tmp_path / "tiny.toml")])


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_likelihoods_are_the_plain_models_own(tmp_path: Path, family: str) -> None:
    write_tiny(tmp_path / "m", family)
    model = LanguageModel.load(tmp_path / "m")
    found = ModelLikelihoods(model, rows=2)
    assert isinstance(found, Likelihoods)
    prompts = [Prompt.from_text("Where is it?"), Prompt.from_text("Why so late again, and who knows?")]
    texts = [["Here.", "Nobody knows, truly"], ["Rain"]]
    got = found.logprobs(list(zip(prompts, texts, strict=True)))
    for prompt, options, row in zip(prompts, texts, got, strict=True):
        for option, one in zip(options, row, strict=True):
            apart = f" {option}" if family == "llama" else option
            ids = completion_ids(model.tokenizer, apart, model.template, end=False)
            context = prompt_ids(model.tokenizer, prompt, model.template, encoder_decoder=family == "t5")
            assert one.tokens == len(ids)
            assert one.logprob == pytest.approx(by_hand(model, context, ids), abs=1e-3)


def by_hand(model: LanguageModel, context: list[int], ids: list[int]) -> float:
    with torch.no_grad():
        if model.kind.value == "decoder":
            logits = model.net(torch.tensor([[*context, *ids]])).logits[0, len(context) - 1 : -1]
        else:
            begun = torch.tensor([[model.start_id, *ids[:-1]]])
            logits = model.net(input_ids=torch.tensor([context]), decoder_input_ids=begun).logits[0]
    return float(logits.float().log_softmax(-1)[range(len(ids)), ids].sum())


def test_choices_of_a_suite_come_from_its_own_keys() -> None:
    prompt = Prompt.from_text("?", meta={"choices": ["a", "b"], "answer": "B"})
    assert Choice(options="choices").of(prompt)[1] == [False, True]
