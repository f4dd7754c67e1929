"""`accord align` on judgements and on the best of its own: rows in, a plain model out, with lineage."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from accord.cli import main
from accord.errors import ConfigError, DataError, StoreError
from accord.feedback.consensus import AgreeConfig
from accord.judgements import Ranking, Thumb
from accord.lm.model import LanguageModel
from accord.lm.tiny import write_tiny
from accord.recipes.judgements import agree
from accord.recipes.offline import DistilStepConfig, PreferStepConfig, distil, prefer, way_of
from accord.recipes.steps import AlignStepConfig
from accord.store.lineage import Status
from accord.types import Completion, Prompt
from accord.workspace import Workspace

FAST = {"lora_rank": 2, "epochs": 2, "batch_prompts": 4, "learning_rate": 5e-3, "holdout": 0.25,
        "max_new_tokens": 4}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny(tmp_path_factory.mktemp("model"), "llama"))


@pytest.fixture
def ranked(tmp_path: Path) -> Workspace:
    """Twelve prompts, eight of them for training, each with a good, a fair and a bad completion."""
    workspace = Workspace.create(tmp_path / "work")
    prompts = [Prompt.from_text(f"question {i}") for i in range(12)]
    workspace.store.add_prompts(prompts[:8], "train")
    workspace.store.add_prompts(prompts[8:], "holdout")
    rankings = []
    for i, prompt in enumerate(prompts):
        names = [f"{kind}{i}" for kind in ("good", "fair", "bad")]
        workspace.store.add_groups([(prompt, [Completion(name, id=name) for name in names])])
        tiers = tuple((name,) for name in names[:2])
        rankings += [
            Ranking(prompt.id, who, tiers, (names[2],), source="simulated") for who in ("ada", "bob")
        ]
    workspace.store.add_rankings(rankings)
    agree(workspace, AgreeConfig(bootstrap=100))
    return workspace


def test_preferences_become_a_plain_model_with_lineage(ranked: Workspace, base: str) -> None:
    run, report = prefer(ranked, PreferStepConfig(model=base, split="train", **FAST))
    assert run.status is Status.DONE
    assert (run.kind, run.config["algorithm"]) == ("align", "dpo")
    assert run.metrics["comparisons"] == report.judgements_train + report.judgements_holdout == 24
    assert (report.prompts_train, report.prompts_holdout, run.metrics["anchors"]) == (6, 2, 0)
    assert report.loss < report.loss_before
    aligned = LanguageModel.load(run.metrics["model"])
    assert aligned.peft is None
    assert aligned.weights_hash() != LanguageModel.load(base).weights_hash()
    assert json.loads((run.path / "history.json").read_text())[-1]["step"] == len(report.history)
    assert ranked.store.runs("agree")[-1].id in run.inputs
    assert ranked.store.artefact(run.metrics["artefact"]).path == Path(run.metrics["model"])
    assert ranked.store.verify() == []


def test_kto_learns_from_fail_and_thumbs_beside_the_comparisons(ranked: Workspace, base: str) -> None:
    votes = [
        Thumb(p.id, f"good{p.text.split()[1]}", "user", up=True, source="simulated")
        for p in ranked.store.prompts()
    ]
    ranked.store.add_thumbs(votes)
    run, report = prefer(ranked, PreferStepConfig(model=base, algorithm="kto", **FAST))
    assert run.metrics["anchors"] == 36 + 12
    assert report.judgements_train + report.judgements_holdout == 2 * 36 + 36 + 12


def test_the_best_of_its_own_samples_by_a_reward(ranked: Workspace, base: str, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[length]\nrule = "length"\nlongest = 2\n')
    config = DistilStepConfig(
        model=base, reward=str(rules), rounds=2, samples=4, **FAST | {"max_new_tokens": 24}
    )
    run, report = distil(ranked, config)
    assert run.status is Status.DONE
    assert run.metrics["rounds"] == len(report.rounds) == 2
    assert run.metrics["reward"] == report.reward_after
    rows = json.loads((run.path / "history.json").read_text())
    assert [row["step"] for row in rows] == [1, 2]
    assert LanguageModel.load(run.metrics["model"]).peft is None


def test_a_run_that_stopped_goes_on_with_the_same_judgements_only(
    ranked: Workspace, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PreferStepConfig(model=base, **FAST)
    whole, _ = prefer(ranked, config)

    def stop(row: dict[str, float]) -> None:
        if row["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prefer(ranked, config, progress=stop)
    stopped = ranked.store.runs("align")[-1]
    assert stopped.status is Status.INTERRUPTED
    done, _ = prefer(ranked, config, resume=True)
    assert done.id == stopped.id
    models = [LanguageModel.load(run.metrics["model"]) for run in (whole, done)]
    assert models[0].weights_hash() == models[1].weights_hash()
    with pytest.raises(StoreError, match="no unfinished align run"):
        prefer(ranked, config, resume=True)
    with pytest.raises(KeyboardInterrupt):
        prefer(ranked, config, progress=stop)
    agree(ranked, AgreeConfig(bootstrap=100))
    with pytest.raises(StoreError, match="would go on with"):
        prefer(ranked, config, resume=True)


def test_nothing_to_learn_from_is_said(tmp_path: Path, ranked: Workspace, base: str) -> None:
    empty = Workspace.create(tmp_path / "empty")
    for algorithm in ("dpo", "kto"):
        with pytest.raises(DataError, match="accord agree"):
            prefer(empty, PreferStepConfig(model=base, algorithm=algorithm, **FAST))
    with pytest.raises(DataError, match="split 'elsewhere'"):
        prefer(ranked, PreferStepConfig(model=base, split="elsewhere", **FAST))


def test_the_command_line_chooses_the_way_by_the_algorithm(
    ranked: Workspace, base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert way_of("").config is way_of("grpo").config is AlignStepConfig
    with pytest.raises(ConfigError, match=r"no algorithm 'simp0'; did you mean simpo"):
        way_of("simp0")
    with pytest.raises(ConfigError, match=r"there are ppo, .*, dpo, .*, rft"):
        way_of("sorcery")
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in FAST.items()]
    with pytest.raises(SystemExit) as ended:
        main(["align", "--algorithm", "ipo", "--model", base, "-w", str(ranked.path), "--json", *flags])
    assert ended.value.code == 0
    figures = json.loads(capsys.readouterr().out)
    run = ranked.store.runs("align")[-1]
    assert (figures["run"], run.config["algorithm"]) == (run.id, "ipo")
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--model", base, "-w", str(ranked.path), "--json", "--split=holdout",
              "--reward", str(_rules(ranked)), "--max-new-tokens=4"])  # fmt: skip
    assert ended.value.code == 0
    page = Path(json.loads(capsys.readouterr().out)["report"])
    assert "The policy learned the judgements themselves, by IPO" in page.read_text()


def _rules(workspace: Workspace) -> Path:
    file = workspace.path / "rules.toml"
    file.write_text('[length]\nrule = "length"\nlongest = 2\n')
    return file


def test_torch_is_seeded_by_nobody(ranked: Workspace, base: str) -> None:
    """The global stream neither matters nor moves."""
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, _ = prefer(ranked, PreferStepConfig(model=base, **FAST))
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(5)
    again, _ = prefer(ranked, PreferStepConfig(model=base, **FAST))
    hashes = [LanguageModel.load(run.metrics["model"]).weights_hash() for run in (first, again)]
    assert hashes[0] == hashes[1]


def test_the_reference_of_a_model_with_an_adapter_is_that_model(
    ranked: Workspace, base: str, tmp_path: Path
) -> None:
    """Not the weights below its adapter: DPO starts at log 2."""
    model = LanguageModel.load(base)
    model.add_lora(2)
    with torch.no_grad():
        for parameter in model.trainable():
            parameter += 0.1
    model.save(tmp_path / "adapted")
    run, report = prefer(ranked, PreferStepConfig(model=str(tmp_path / "adapted"), **FAST))
    assert report.loss_before == pytest.approx(math.log(2), abs=1e-4)
    start = LanguageModel.load(tmp_path / "adapted")
    start.merge()
    assert run.inputs[0] == start.weights_hash()
