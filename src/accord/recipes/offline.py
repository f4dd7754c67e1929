"""`accord align` without reinforcement learning: from preferences, or the best of the model's own samples.

Both read the workspace, train, and leave what `accord evaluate` compares: a plain model under ``models/``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from accord.align.preference import PreferenceConfig, PreferenceReport
from accord.align.preference import prefer as learn_preferences
from accord.align.supervised import DistilConfig, DistilReport
from accord.align.supervised import distil as learn_best
from accord.config import Config
from accord.errors import ConfigError, DataError
from accord.judgements import Anchor, Comparison
from accord.lm.invariants import check_policy, require
from accord.lm.model import LanguageModel
from accord.recipes.anchors import anchors_of
from accord.recipes.record import Listener, Progress, Record, comparisons_of, prompts_of, recorded
from accord.recipes.steps import AlignStepConfig, ModelConfig, align, reopened, scorer_of, unfinished
from accord.store.lineage import Run
from accord.types import digest
from accord.workspace import Workspace


class PreferStepConfig(PreferenceConfig, ModelConfig):
    """`accord align` with dpo, ipo, kto, orpo or simpo: the workspace's judgements."""

    split: str | None = None
    """Only judgements of this split's prompts."""


class DistilStepConfig(DistilConfig, ModelConfig):
    """`accord align` with rft: the best of the model's own samples by the reward."""

    reward: str = "reward"
    """"reward": the latest reward model; a folder; hf:NAME with a label: a ready-made classifier; FILE.toml:
    a composition of several."""
    label: str | None = None
    """The label of a ready-made classifier that is the reward..."""
    label_value: Literal["log-odds", "logit"] = "log-odds"
    """...by its log-odds, or by its raw logit."""
    split: str | None = None
    """Only the prompts of this split."""


@dataclass(frozen=True)
class Way:
    """How `accord align` goes about an algorithm."""

    section: str
    """Of accord.toml."""
    config: type[Config]
    run: Callable[..., tuple[Run, Any]]
    figures: tuple[str, ...]
    """Shown while it runs."""


ONLINE = Way("align", AlignStepConfig, align, ("reward", "kl", "length"))


def way_of(algorithm: str) -> Way:
    """The way of an algorithm by its name; reinforcement learning's where none is named.

    Raises:
        ConfigError: there is no such algorithm.
    """
    if algorithm in _names(PreferenceConfig):
        return Way("prefer", PreferStepConfig, prefer, ("loss", "accuracy", "margin"))
    if algorithm in _names(DistilConfig):
        return Way("distil", DistilStepConfig, distil, ("round", "reward", "loss"))
    if algorithm in ("", *_names(AlignStepConfig)):
        return ONLINE
    known = [name for config in (AlignStepConfig, PreferenceConfig, DistilConfig) for name in _names(config)]
    near = difflib.get_close_matches(algorithm, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise ConfigError(f"there is no algorithm {algorithm!r}; {hint}")


def _names(config: type[Config]) -> tuple[str, ...]:
    return get_args(config.model_fields["algorithm"].annotation)


def prefer(
    workspace: Workspace,
    config: PreferStepConfig,
    *,
    resume: bool = False,
    progress: Progress = lambda _: None,
    listeners: Sequence[Listener] = (),
) -> tuple[Run, PreferenceReport]:
    """Train the model on the latest comparisons (kto: on FAIL and thumbs too) and save it under ``models/``.

    Raises:
        DataError: there is nothing to learn from.
        StoreError: ``resume`` without a run to go on with, or with other judgements than it began with.
        NumericsError: an invariant fails, or a number in training is wrong.
    """
    sources, comparisons, anchors = _judgements(workspace, config)
    settings = config.model_dump(mode="json")
    run = unfinished(workspace, "align", settings) if resume else None
    policy = _ready(config, config.seed)
    said = [[c.prompt.id, c.chosen.id, c.rejected.id, c.p_chosen] for c in comparisons]
    given = digest(said, [[a.completion.id, a.p_good, a.weight] for a in anchors])
    inputs = [policy.weights_hash(), given, *sources]
    run = reopened(workspace, run, inputs)
    with recorded(workspace, "align", settings, inputs, run, listeners) as record:
        report = learn_preferences(
            policy,
            comparisons,
            config,
            anchors=anchors,
            folder=record.run.path / "training",
            resume=resume,
            progress=record.told(progress),
        )
        _save(record, policy)
        record.write("history.json", report.history, "history")
        record.write("report.json", asdict(report), "preference-report")
        record.metrics |= {
            "steps": len(report.history),
            "comparisons": len(comparisons),
            "anchors": len(anchors),
            "prompts_holdout": report.prompts_holdout,
            "too_long": report.lost.inputs,
            "loss_before": report.loss_before,
            "loss": report.loss,
            "accuracy": report.accuracy.value,
            "chosen_moved": report.chosen_moved,
            "kl": report.kl,
            "kl_sampled": report.kl_sampled,
        }
    return workspace.store.run(record.run.id), report


def distil(
    workspace: Workspace,
    config: DistilStepConfig,
    *,
    resume: bool = False,
    progress: Progress = lambda _: None,
    listeners: Sequence[Listener] = (),
) -> tuple[Run, DistilReport]:
    """Sample, keep the best by the reward, learn them; the model is saved under ``models/``.

    Raises:
        DataError: no prompts, or nothing worth keeping.
        StoreError: ``resume`` without a run to go on with; or no reward model yet.
        NumericsError: an invariant fails, or a reward or a number in training is wrong.
    """
    prompts = prompts_of(workspace, config.split)
    settings = config.model_dump(mode="json")
    run = unfinished(workspace, "align", settings) if resume else None
    begun = run.inputs if run else ()
    scorer, made_from = scorer_of(workspace, config.reward, config.label, config.label_value, begun)
    policy = _ready(config, config.seed)
    inputs = [policy.weights_hash(), digest([prompt.id for prompt in prompts]), *made_from]
    run = reopened(workspace, run, inputs)
    with recorded(workspace, "align", settings, inputs, run, listeners) as record:
        folder = record.run.path / "training"
        report = learn_best(
            policy, scorer, prompts, config, folder=folder, resume=resume, progress=record.told(progress)
        )
        _save(record, policy)
        rounds = [{"step": row["round"], **row} for row in report.rounds]
        record.write("history.json", rounds, "history")
        record.metrics |= {
            "rounds": len(rounds),
            "prompts": len(prompts),
            "kept": rounds[-1]["kept"],
            "reward_before": rounds[0]["reward"],
            "reward": report.reward_after,
            "kl": report.last.kl,
            "kl_sampled": report.last.kl_sampled,
        }
    return workspace.store.run(record.run.id), report


def _judgements(
    workspace: Workspace, config: PreferStepConfig
) -> tuple[list[str], list[Comparison], list[Anchor]]:
    """The runs they are of, comparisons, and for kto anchors; of the split's prompts."""
    anchored: list[str] = []
    anchors: list[Anchor] = []
    if config.algorithm == "kto":
        anchored, anchors = anchors_of(workspace)
    sources, comparisons = comparisons_of(workspace, needed=not anchors)
    if config.split is not None:
        splits = workspace.store.splits()
        comparisons = [c for c in comparisons if splits.get(c.prompt.id) == config.split]
        anchors = [a for a in anchors if splits.get(a.prompt.id) == config.split]
        if not comparisons and not anchors:
            raise DataError(
                f"no judgement is of a prompt of split {config.split!r}; name another, or leave it out to "
                "learn from all"
            )
    return list(dict.fromkeys([*sources, *anchored])), comparisons, anchors


def _ready(config: ModelConfig, seed: int) -> LanguageModel:
    """The model, its adapters folded in (the reference is where training starts), its invariants checked."""
    policy = config.load()
    policy.merge()
    require(check_policy(policy, seed))
    return policy


def _save(record: Record, policy: LanguageModel) -> None:
    path = record.workspace.models / record.run.id
    policy.save(path, merge=True)
    record.metrics["artefact"] = record.workspace.store.add_artefact(record.run.id, "policy", path).id
    record.metrics["model"] = str(path)
