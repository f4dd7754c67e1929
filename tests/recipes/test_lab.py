"""The lab on tiny models and made-up dialogues: the reward rises, the figures are the evaluation's own."""

from __future__ import annotations

import gzip
import json
import random
import string
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from accord.errors import ConfigError, DataError, StoreError
from accord.evaluate.record import KL, Evaluation, Kind, Row
from accord.lm.classifier import Reads, SequenceClassifier
from accord.lm.fit import fit
from accord.lm.tiny import write_tiny
from accord.recipes.lab import LabConfig, detoxify, figures, read_dialogues, summary_prompt
from accord.types import Prompt
from accord.workspace import Workspace

PROMPT = Prompt.from_text("-")
SIZES = {
    "steps": 30, "prompts_per_step": 24, "epochs": 2, "learning_rate": 1e-2, "lora_rank": 4, "beta": 0.01,
    "kl_target": None, "min_new_limit": 4, "max_new_tokens": 12, "device": "cpu",
}  # fmt: skip


def plant(folder: Path) -> Path:
    """A tiny classifier that calls a text ``nothate`` the more lower-case letters it has."""
    write_tiny(folder, "bert", labels=2)
    classifier = SequenceClassifier.load(folder, reads=Reads.COMPLETION, device="cpu")
    rng, optimiser = random.Random(0), torch.optim.Adam(classifier.prepare("full"), lr=2e-3)

    def text(kind: int) -> str:
        share = rng.uniform(0.0, 0.2) if kind else rng.uniform(0.4, 1.0)
        return "".join(
            rng.choice(string.ascii_lowercase if rng.random() < share else string.ascii_uppercase + "0#�ñ")
            for _ in range(rng.randint(3, 12))
        )

    def loss(kinds: list[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits = classifier.logits([classifier.encode(PROMPT, text(kind)) for kind in kinds])
        return F.cross_entropy(logits, torch.tensor(kinds)), {}

    last = [m["loss"] for m in fit(([[i % 2 for i in range(32)]] for _ in range(120)), loss, optimiser)]
    assert sum(last[-10:]) / 10 < 0.3, "the plant was not learned"
    classifier.net.config.id2label = {0: "nothate", 1: "hate"}
    classifier.net.config.label2id = {"nothate": 0, "hate": 1}
    classifier.save(folder)
    return folder


def dialogues(n: int, start: int = 0) -> list[Prompt]:
    return [
        summary_prompt(f"#Person1#: Have you {i} apples?\n#Person2#: No, {i + 1}.", f"They count {i} apples.")
        for i in range(start, start + n)
    ]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "summariser": str(write_tiny(folder / "t5", "t5")),
        "classifier": str(plant(folder / "bert")),
        "label": "nothate",
    }


def test_the_label_s_logit_rises_and_toxicity_falls(models: dict[str, str], tmp_path: Path) -> None:
    rows: list[float] = []
    done = detoxify(tmp_path / "lab", dialogues(40), dialogues(24, 100), LabConfig(**models, **SIZES),
                    lambda row: rows.append(row["step"]))  # fmt: skip
    table = done.summary
    assert table["logit"]["low"] > 0.5  # the interval of the difference lies wholly above
    assert table["toxicity"]["high"] < 0
    assert table["toxicity"]["after_mean"] < table["toxicity"]["before_mean"]
    assert 0 <= table["toxicity"]["after_mean"] <= 1
    assert table["toxicity"]["before_sd"] > 0
    assert table["kl_exact"] > 0.1
    assert table["prompts"] == 24
    assert {"rouge_1", "rouge_2", "rouge_l"} <= table.keys()
    assert len(done.history) == SIZES["steps"]
    assert rows
    assert json.loads((tmp_path / "lab/summary.json").read_text()) == table
    assert "Judged by the very reward that training optimised" in done.report.read_text(encoding="utf-8")
    workspace = Workspace.open(tmp_path / "lab")
    assert workspace.store.verify() == []
    assert len(workspace.store.prompts("train")) == 40
    assert {run.kind for run in workspace.store.runs()} == {"align", "evaluate"}
    with pytest.raises(StoreError, match="overwrites nothing"):
        detoxify(tmp_path / "lab", dialogues(4), dialogues(2, 100), LabConfig(**models, **SIZES))


def test_an_unknown_label_is_refused_with_those_there_are(models: dict[str, str], tmp_path: Path) -> None:
    config = LabConfig(**{**models, "label": "kind"}, **SIZES)
    with pytest.raises(ConfigError, match="nothate, hate"):
        detoxify(tmp_path / "lab", dialogues(40), dialogues(4, 100), config)
    assert not (tmp_path / "lab").exists(), "a wrong name leaves no half a workspace behind"


def test_the_prompt_is_the_lab_s_and_never_holds_the_reference() -> None:
    prompt = summary_prompt("#Person1#: {Hi}!", "A greeting.")
    assert prompt.text == "Summarize the following conversation.\n\n#Person1#: {Hi}!\n\nSummary: "
    assert prompt.meta["reference"] == "A greeting."


def write_rows(path: Path, rows: list[dict]) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def test_dialogues_of_the_wrong_length_and_repeated_ones_are_left_out(tmp_path: Path) -> None:
    file = write_rows(
        tmp_path / "test.jsonl.gz",
        [
            {"dialogue": "a" * 9, "summary": "short"},
            {"dialogue": "b" * 10, "summaries": ["first", "second", "third"]},
            {"dialogue": "c" * 20, "summary": "fits"},
            {"dialogue": "c" * 20, "summary": "again"},
            {"dialogue": "d" * 21, "summary": "long"},
        ],
    )
    config = LabConfig(min_characters=10, max_characters=20)
    assert [p.meta["reference"] for p in read_dialogues(file, config)] == ["first", "fits"]
    assert [p.meta["reference"] for p in read_dialogues(file, config, 1)] == ["first"]
    with pytest.raises(DataError, match="no dialogue has 100 to 200 characters"):
        read_dialogues(file, LabConfig(min_characters=100, max_characters=200))


@pytest.mark.parametrize("row", [{"text": "a"}, {"dialogue": "a"}, {"dialogue": "a", "summaries": []}])
def test_a_row_without_dialogue_or_summary_names_its_place(tmp_path: Path, row: dict) -> None:
    file = write_rows(tmp_path / "rows.jsonl.gz", [{"dialogue": "b" * 300, "summary": "c"}, row])
    with pytest.raises(DataError, match=r"rows.jsonl.gz.*2.*'dialogue' and 'summary'"):
        read_dialogues(file, LabConfig())


def test_toxicity_is_one_minus_p_with_its_interval_turned_round() -> None:
    def row(name: str, *values: float) -> Row:
        return Row(name, Kind.PART, "higher", *values)

    names = ("reward", "rouge.rouge_1", "rouge.rouge_2", "rouge.rouge_l", "words", "truncated")
    others = [row(name, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0) for name in names]
    p = row("reward.NotHate p", 0.9, 0.2, 0.95, 0.1, 0.05, 0.01, 0.08)
    evaluation = Evaluation(7, 1, "reward", 0.95, 100, 0, (p, *others), (), "", KL(1.5, 1.4))
    table = figures(evaluation, "nothate")
    expected = {"before_mean": 0.1, "before_sd": 0.2, "after_mean": 0.05, "after_sd": 0.1,
                "difference": -0.05, "low": -0.08, "high": -0.01}  # fmt: skip
    assert table["toxicity"] == pytest.approx(expected)
    assert (table["prompts"], table["kl_exact"], table["kl_sampled"]) == (7, 1.5, 1.4)
