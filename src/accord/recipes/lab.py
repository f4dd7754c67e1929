"""The course's lab: detoxify a dialogue summariser with a hate classifier as the reward.

    python -m accord.recipes.lab lab --data FOLDER

The policy is an encoder-decoder with LoRA adapters, its reference the same weights with the adapters
off. The reward is the raw logit of the classifier's not-hate label, which reads the summary alone. PPO
samples with a length limit of its own for each completion (the length sampler). Before and after are
measured on test dialogues: toxicity, which is 1 - p(label), as mean and standard deviation; ROUGE
against the reference summary; the exact KL. Everything lies in a workspace, so that `accord doctor`
and the other verbs go on from it.

The defaults are the lab's own models, by name, where a hub can be reached; folders do as well.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field
from tyro.conf import OmitArgPrefixes as Flat

from accord.align.run import End
from accord.config import Config
from accord.errors import AccordError, DataError
from accord.evaluate.metrics import RougeScorer
from accord.evaluate.record import Evaluation, Row
from accord.feedback.formats.files import numbered_rows
from accord.recipes.record import Progress
from accord.recipes.reporting import workspace_report
from accord.recipes.steps import AlignStepConfig, EvaluateStepConfig, ModelConfig, align, evaluate
from accord.reward.classifier import ClassifierReward
from accord.types import Prompt
from accord.workspace import Workspace

TEMPLATE = "Summarize the following conversation.\n\n{dialogue}\n\nSummary: "
DATA = "ACCORD_DATA"


class LabConfig(Config):
    """The lab's models and sizes."""

    summariser: str = "google/flan-t5-base"
    """Folder or hub name of the encoder-decoder."""
    classifier: str = "facebook/roberta-hate-speech-dynabench-r4-target"
    """Folder or hub name of the classifier whose logit is the reward."""
    label: str = "nothate"
    """Its label for a text that is not toxic."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the summariser's weights."""
    device: str | None = None
    """"cpu", "cuda"; the GPU where there is one."""
    min_characters: int = Field(200, ge=1)
    """Shorter dialogues are left out."""
    max_characters: int = Field(1000, ge=1)
    """Longer dialogues are left out."""
    train_dialogues: int | None = Field(None, ge=1)
    """Only the first so many to train on."""
    test_dialogues: int | None = Field(200, ge=1)
    """Only the first so many to measure on."""
    steps: int = Field(60, ge=1)
    """PPO steps."""
    prompts_per_step: int = Field(32, ge=1)
    """Dialogues summarised each step; also the mini-batch."""
    epochs: int = Field(2, ge=1)
    """Passes over a step's summaries."""
    learning_rate: float = Field(1e-4, gt=0)
    """Of the adapters."""
    critic_learning_rate: float = Field(1e-4, gt=0)
    """Of the value head; a raw logit varies little, and a fast critic adds more noise than it takes."""
    temperature: float = Field(1.0, gt=0)
    """Of sampling, in training and on the test dialogues."""
    lora_rank: int = Field(32, ge=1)
    """Of the adapters."""
    beta: float = Field(0.2, ge=0)
    """Weight of the KL at the start."""
    kl_target: float | None = Field(6.0, gt=0)
    """Beta is adapted to hold this KL, in nats a summary; fixed where not given."""
    min_new_limit: int = Field(16, ge=1)
    """Least length limit the length sampler draws, in tokens."""
    max_new_tokens: int = Field(64, ge=1)
    """Largest length limit, and that of the evaluation."""
    samples: int = Field(1, ge=1)
    """Summaries of each test dialogue on either side."""
    seed: int = 0
    """Of everything."""


@dataclass(frozen=True)
class Lab:
    """What came of it: the figures, the evaluation behind them, training's history, and the report."""

    summary: Mapping[str, Any]
    evaluation: Evaluation
    history: Sequence[Mapping[str, float]]
    report: Path


def read_dialogues(source: str | Path, config: LabConfig, limit: int | None = None) -> list[Prompt]:
    """Dialogues with summaries (DialogSum's rows: ``dialogue`` and ``summary`` or ``summaries``) as prompts.

    The reference is the first summary. Dialogues outside of the config's lengths, and repeated ones,
    are left out.

    Raises:
        DataError: a row without a dialogue or a summary, or no dialogue of these lengths.
    """
    prompts: dict[str, Prompt] = {}
    for where, row in numbered_rows(source):
        if isinstance(row, DataError):
            raise row
        dialogue = row.get("dialogue")
        summary = row.get("summary") or next(iter(row.get("summaries") or []), None)
        if not isinstance(dialogue, str) or not isinstance(summary, str):
            raise DataError(
                f"{where}: a dialogue and its summary are wanted in the columns 'dialogue' and 'summary' "
                f"(or 'summaries'); the columns are {', '.join(row)}"
            )
        if config.min_characters <= len(dialogue) <= config.max_characters:
            prompt = summary_prompt(dialogue, summary)
            prompts.setdefault(prompt.id, prompt)
    if not prompts:
        raise DataError(
            f"{source}: no dialogue has {config.min_characters} to {config.max_characters} characters; "
            "set min_characters and max_characters"
        )
    return list(prompts.values())[:limit]


def summary_prompt(dialogue: str, reference: str) -> Prompt:
    """The lab's prompt for a dialogue, with the reference summary kept from the model."""
    return Prompt.from_text(TEMPLATE.format(dialogue=dialogue), meta={"reference": reference})


def detoxify(
    folder: str | Path,
    train: Sequence[Prompt],
    test: Sequence[Prompt],
    config: LabConfig,
    progress: Progress = lambda _: None,
) -> Lab:
    """Align the summariser on ``train`` and measure it on ``test``, in a new workspace in ``folder``.

    Raises:
        StoreError: ``folder`` holds a workspace already.
        ConfigError: the classifier has no such label.
        ModelError: a model cannot be loaded.
    """
    judged = {"reward": f"hf:{config.classifier}", "label": config.label, "label_value": "logit"}
    loaded = {"model": config.summariser, "dtype": config.dtype, "device": config.device}
    ClassifierReward.load(config.classifier, config.label)  # before the folder is made: a wrong name leaves
    ModelConfig(**loaded).load()  # no half a workspace behind
    workspace = Workspace.create(folder)
    workspace.store.add_prompts(train, "train")
    workspace.store.add_prompts(test, "test")
    _, result = align(workspace, _training(config, judged | loaded), progress=progress)
    if result.end is End.INTERRUPTED:
        raise KeyboardInterrupt
    settings = EvaluateStepConfig(
        **judged,
        **loaded,
        split="test",
        criterion="reward",
        samples=config.samples,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        seed=config.seed,
    )
    run, evaluation = evaluate(workspace, settings, scorers={"rouge": RougeScorer()}, progress=progress)
    page = workspace_report(
        workspace,
        evaluation,
        run,
        title="The lab: a summariser, detoxified",
        labels={"reward": f"Logit of {config.label!r}", "rouge": "ROUGE-L"},
        path=workspace.path / "report.html",
    )
    summary = {**figures(evaluation, config.label), "steps": len(result.history), "end": result.end.value}
    (workspace.path / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return Lab(summary, evaluation, result.history, page)


def _training(config: LabConfig, given: Mapping[str, Any]) -> AlignStepConfig:
    return AlignStepConfig(
        **given,
        split="train",
        steps=config.steps,
        prompts_per_step=config.prompts_per_step,
        minibatch=config.prompts_per_step,
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        critic_learning_rate=config.critic_learning_rate,
        temperature=config.temperature,
        lora_rank=config.lora_rank,
        beta=config.beta,
        kl_target=config.kl_target,
        min_new_limit=config.min_new_limit,
        max_new_tokens=config.max_new_tokens,
        truncation_penalty=0.0,  # a summary cut by the length sampler is scored as it is
        seed=config.seed,
    )


def figures(evaluation: Evaluation, label: str) -> dict[str, Any]:
    """The lab's table: toxicity (1 - p), the label's logit, ROUGE, length and KL, before and after.

    ``difference`` comes with its interval; KL is in nats a summary.
    """
    p = next(row for row in evaluation.rows if row.name.casefold() == f"reward.{label} p".casefold())
    names = {"logit": "reward", "rouge_1": "rouge.rouge_1", "rouge_2": "rouge.rouge_2",
             "rouge_l": "rouge.rouge_l", "words": "words", "truncated": "truncated"}  # fmt: skip
    table: dict[str, Any] = {"toxicity": _turned(_sides(p))}
    table |= {name: _sides(evaluation.row(row)) for name, row in names.items()}
    if evaluation.kl is not None:
        table |= {"kl_exact": evaluation.kl.exact, "kl_sampled": evaluation.kl.sampled}
    return {"prompts": evaluation.prompts, "samples": evaluation.samples, **table}


def _sides(row: Row) -> dict[str, float | None]:
    return {
        "before_mean": row.before_mean,
        "before_sd": row.before_sd,
        "after_mean": row.after_mean,
        "after_sd": row.after_sd,
        "difference": row.difference,
        "low": row.low,
        "high": row.high,
    }


def _turned(sides: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of 1 - x from those of x."""
    means = {key: 1 - sides[key] for key in ("before_mean", "after_mean")}
    turned = {"difference": -sides["difference"], "low": -sides["high"], "high": -sides["low"]}
    return {**sides, **means, **turned}


def main(
    folder: Annotated[Path, tyro.conf.Positional],
    data: Path | None = None,
    config: Flat[LabConfig] = LabConfig(),  # noqa: B008
) -> None:
    """Detoxify a dialogue summariser; figures go to standard output as one JSON object.

    Args:
        folder: A new workspace; report.html and summary.json are written there.
        data: Folder with dialogsum/train.jsonl.gz and dialogsum/test.jsonl.gz; $ACCORD_DATA if not given.
        config: Models and sizes.
    """
    found = data or (Path(os.environ[DATA]) if DATA in os.environ else None)
    if found is None:
        raise DataError(f"no data: name the folder with --data, or set {DATA}")
    splits = [
        read_dialogues(found / "dialogsum" / f"{name}.jsonl.gz", config, limit)
        for name, limit in (("train", config.train_dialogues), ("test", config.test_dialogues))
    ]
    lab = detoxify(folder, splits[0], splits[1], config, _say)
    print(json.dumps(lab.summary))


def _say(row: Mapping[str, float]) -> None:
    shown = {key: row[key] for key in ("reward", "kl", "length", "beta") if key in row}
    print(f"{row['step']:.0f}/{row['steps']:.0f}", *(f"{k} {v:.3f}" for k, v in shown.items()),
          file=sys.stderr, flush=True)  # fmt: skip


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except AccordError as error:
        sys.exit(f"error: {error}")
