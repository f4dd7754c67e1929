"""The steps that need weights: sample, reward, align, evaluate, over a workspace.

Only in recipes do stages meet: each step reads rows, calls one stage, and writes rows with lineage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from accord.align.guard import GuardConfig
from accord.align.run import AlignResult, End
from accord.align.run import align as run_align
from accord.align.settings import AlignConfig
from accord.config import Config
from accord.errors import ConfigError, StoreError
from accord.evaluate.compare import EvaluateConfig
from accord.evaluate.compare import evaluate as compare
from accord.evaluate.record import KL, Evaluation
from accord.lm.adapted import load_model
from accord.lm.classifier import Reads, SequenceClassifier
from accord.lm.divergence import completion_kl
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.hasten import hasten
from accord.lm.invariants import check_policy, require
from accord.lm.model import LanguageModel
from accord.lm.render import Template
from accord.recipes.anchors import anchors_of
from accord.recipes.composition import SUFFIX, read_composition
from accord.recipes.critic import critic_of
from accord.recipes.ensembles import RewardStepConfig, with_members
from accord.recipes.record import VERDICTS, Listener, Progress, comparisons_of, prompts_of, recorded
from accord.recipes.reward_report import STUDY, headlines, held_out_study
from accord.reward.classifier import ClassifierReward, Value
from accord.reward.measure import RewardReport
from accord.reward.saved import Reward, load_reward
from accord.reward.train import RewardConfig
from accord.reward.train import train as train_reward
from accord.store.lineage import Run, Status
from accord.types import Completion, Scorer, digest
from accord.workspace import Workspace

CHUNK = 64
"""Prompts sampled between two writes to the store."""
WITNESS = "witness"
"""What the second scorer is called in a run's history."""


class ModelConfig(Config):
    """Which language model, and how it is loaded."""

    model: str = ""
    """Folder or hub name of a causal or encoder-decoder language model."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights; log-probs are float32 always."""
    device: str | None = None
    """"cpu", "cuda"; the GPU where there is one."""
    template: Template | None = None
    """How prompts are written: chat, plain or hh; the tokenizer's chat template where it has one."""

    @property
    def loaded(self) -> dict[str, Any]:
        """How weights are loaded, whoever's they are."""
        return {"dtype": self.dtype, "template": self.template}

    def load(self) -> LanguageModel:
        """The model. Raises ConfigError where none is named."""
        if not self.model:
            raise ConfigError("no model is named: pass --model FOLDER, or set model in accord.toml")
        return load_model(self.model, device=self.device, **self.loaded)


class SampleConfig(SamplingConfig, ModelConfig):
    """`accord sample`: completions of the workspace's prompts."""

    n: int = Field(4, ge=1)
    """Completions of each prompt."""
    split: str | None = None
    """Only the prompts of this split; all of them if not given."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many of them."""


class AlignStepConfig(AlignConfig, ModelConfig):
    """`accord align`: reinforcement learning on the workspace's prompts."""

    reward: str = "reward"
    """"reward": the latest reward model; a folder; hf:NAME with a label: a ready-made classifier; FILE.toml:
    a composition of several."""
    label: str | None = None
    """The label of a ready-made classifier that is the reward..."""
    label_value: Literal["log-odds", "logit"] = "log-odds"
    """...by its log-odds, or by its raw logit."""
    split: str | None = None
    """Only the prompts of this split."""
    guard: Literal["off", "warn", "act"] = "warn"
    """Signs of reward hacking are: not looked for; said; or acted on, by raising beta and rolling back."""
    witness: str = ""
    """A second scorer that is watched and never optimised, named as ``reward`` is: the guard trusts it."""
    patience: int | None = Field(None, ge=1)
    """Steps without a gain of the witness after which the run goes back to its best step and ends."""
    peak_kl: float | None = Field(None, gt=0)
    """KL at which the true reward is expected to turn, in nats a completion; beyond it the guard doubts."""

    def watches(self) -> GuardConfig:
        """The guard's settings. Raises ConfigError where patience has no witness to wait for."""
        return GuardConfig(
            mode=self.guard,
            witness=WITNESS if self.witness else None,
            patience=self.patience,
            peak_kl=self.peak_kl,
        )


class EvaluateStepConfig(EvaluateConfig, ModelConfig):
    """`accord evaluate`: the model before (``model``) and after, on the same prompts and seeds."""

    after: str = ""
    """The aligned model; the latest of `accord align` if not given."""
    reward: str = "reward"
    """The scorer beside any others: as for `accord align`."""
    label: str | None = None
    """The label of a ready-made classifier..."""
    label_value: Literal["log-odds", "logit"] = "log-odds"
    """...by its log-odds, or by its raw logit."""
    split: str | None = None
    """Only the prompts of this split (hold some out of training: import them with --split holdout)."""
    max_new_tokens: int = Field(128, ge=1)
    """Length limit in tokens."""
    temperature: float = Field(1.0, gt=0)
    """Of sampling, on both sides."""


def sample(workspace: Workspace, config: SampleConfig, *, progress: Progress = lambda _: None) -> Run:
    """``config.n`` completions of every prompt, stored chunk by chunk; goes on where it stopped.

    Raises:
        DataError: there are no prompts.
    """
    store = workspace.store
    prompts, n = prompts_of(workspace, config.split)[: config.limit], config.n
    model = config.load()
    hasten(model)
    engine = Engine(model, config)
    made_by = (*engine.hashes, config.seed, engine.settings)
    asked = [
        run.config["n"]
        for run in store.runs("sample")
        if run.inputs[:1] == (made_by[0],) and run.config["seed"] == config.seed
    ]
    # a prompt's samples are stored together; where they coincide, fewer than n are there and no more to come
    enough = 1 if asked and min(asked) >= n else n
    with recorded(workspace, "sample", config.model_dump(mode="json"), [made_by[0]]) as record:
        known = store.completions([prompt.id for prompt in prompts])
        todo = [p for p in prompts if _count_from(known[p.id], made_by) < enough]
        done = stored = tokens = 0
        for at in range(0, len(todo), CHUNK):
            part = todo[at : at + CHUNK]
            groups = engine.sample(part, n)
            ids = store.add_groups(list(zip(part, groups, strict=True)))
            for prompt, group in zip(part, ids, strict=True):  # equal samples of a prompt are one record
                stored += len(set(group) - {completion.id for completion in known[prompt.id]})
            done += len(part)
            tokens += sum(len(c.ids) for group in groups for c in group)
            progress({"step": done, "steps": len(todo), "completions": stored, "tokens": tokens})
        record.metrics |= {"prompts": len(prompts), "completions": stored, "tokens": tokens}
    return store.run(record.run.id)


def _count_from(completions: Sequence[Completion], made_by: tuple[Any, ...]) -> int:
    """How many came from these weights, adapter, seed and sampling settings."""
    origins = [c.origin for c in completions if c.origin is not None]
    return sum((o.model_hash, o.adapter_hash, o.seed, dict(o.sampling)) == made_by for o in origins)


def reward(
    workspace: Workspace,
    config: RewardConfig,
    *,
    gold: Scorer | None = None,
    progress: Progress = lambda _: None,
) -> tuple[Run, RewardReport, Reward]:
    """Train a reward model on the latest comparisons, FAILs and thumbs; it is saved under ``models/``.

    A ``RewardStepConfig`` may ask for several that score together; the report of training is then the first
    one's, which learns every prompt but those held out. ``study.json`` is of what is saved, on prompts held
    out by all, and of ``gold`` where a world knows the truth.

    Raises:
        ConfigError: no base model is named.
        DataError: there are neither comparisons nor thumbs.
    """
    store = workspace.store
    if not config.base:
        raise ConfigError(
            "no base model is named: pass --base FOLDER (the policy's own model, or an encoder such as "
            "all-MiniLM-L6-v2), or set base in accord.toml"
        )
    anchored, anchors = anchors_of(workspace)
    sources, comparisons = comparisons_of(workspace, needed=not anchors)
    sources = list(
        dict.fromkeys([*sources, *anchored, digest([[a.completion.id, a.p_good] for a in anchors])])
    )
    step = RewardStepConfig.model_validate(config.model_dump())
    with recorded(workspace, "reward", step.model_dump(mode="json"), sources) as record:
        classifier = SequenceClassifier.load(
            config.base, labels=config.labels, max_length=config.max_length, template=config.template
        )
        first, report = train_reward(comparisons, classifier, config, progress, anchors)
        model = with_members(first, comparisons, anchors, step, held_out=report.held_out, progress=progress)
        path = workspace.models / record.run.id
        model.save(path)
        artefact = store.add_artefact(record.run.id, "reward-model", path)
        record.write("report.json", asdict(report), "reward-report")
        studied = held_out_study(workspace, model, comparisons, report.held_out, gold=gold, seed=config.seed)
        if studied is not None:
            record.write(STUDY, studied, "study")
            record.metrics |= headlines(studied)
        record.metrics |= {
            "model": str(path),
            "artefact": artefact.id,
            "comparisons": len(comparisons),
            "anchors": len(anchors),
            "members": step.members,
            "accuracy": report.accuracy,
            "log_loss": report.log_loss,
            "length_only_accuracy": report.length_only_accuracy,
        }
    return store.run(record.run.id), report, model


def align(
    workspace: Workspace,
    config: AlignStepConfig,
    *,
    watch: Mapping[str, Scorer] | None = None,
    resume: bool = False,
    progress: Progress = lambda _: None,
    listeners: Sequence[Listener] = (),
) -> tuple[Run, AlignResult]:
    """Align the model against the reward and save it, adapters merged, under ``models/``.

    The numeric invariants are checked first. ``watch`` names scorers to log and not to optimise;
    ``listeners`` follow the run (``recipes.watching``, ``recipes.tracking``).

    Raises:
        NumericsError: an invariant fails, or a number in training is wrong.
        StoreError: ``resume`` without a run to go on with.
    """
    store = workspace.store
    prompts = prompts_of(workspace, config.split)
    settings = config.model_dump(mode="json")
    run = unfinished(workspace, "align", settings) if resume else None
    # what the run was begun with, though a newer reward model may have been trained meanwhile
    begun = run.inputs if run else ()
    scorer, inputs = scorer_of(workspace, config.reward, config.label, config.label_value, begun)
    guard = config.watches()
    if config.witness:
        witness, of_witness = scorer_of(workspace, config.witness, begun=begun)
        if of_witness == inputs:
            raise ConfigError(
                f"the witness {config.witness!r} is the reward itself, which it could never contradict; name "
                "a scorer of other judgements"
            )
        watch, inputs = {**(watch or {}), WITNESS: witness}, [*inputs, *of_witness]
    policy = config.load()
    policy.merge()  # the leash is to where training starts, not to what lay below a loaded adapter
    require(check_policy(policy, config.seed))
    sources = [policy.weights_hash(), digest([prompt.id for prompt in prompts]), *inputs]
    run = reopened(workspace, run, sources)
    with recorded(workspace, "align", settings, sources, run, listeners) as record:
        result = run_align(
            policy, scorer, prompts, config, record.run.path / "training",
            watch=watch, guard=guard, critic=critic_of(policy, scorer, config),
            resume=resume, progress=record.told(progress),
        )  # fmt: skip
        if result.end is End.INTERRUPTED:
            record.status = Status.INTERRUPTED
        else:
            path = workspace.models / record.run.id
            result.learner.policy.save(path, merge=True)
            record.metrics["artefact"] = store.add_artefact(record.run.id, "policy", path).id
            record.metrics["model"] = str(path)
        record.write("history.json", result.history, "history")
        record.write(VERDICTS, [asdict(told) for told in result.verdicts], "verdicts")
        last = result.history[min(result.kept, len(result.history) - 1)]  # of the weights that are saved
        record.metrics |= {"steps": len(result.history), "end": result.end.value, "reason": result.reason}
        record.metrics |= {"kept": result.kept, "warnings": len(result.verdicts)}
        record.metrics |= {key: last[key] for key in ("reward", "kl", "kl_sampled", "length")}
    return store.run(record.run.id), result


def reopened(workspace: Workspace, run: Run | None, inputs: Sequence[str]) -> Run | None:
    """``run`` (if any) opened again, if it began with these ``inputs``: model, data, and what they are of.

    Raises:
        StoreError: it began with others.
    """
    if run is None:
        return None
    if list(inputs) != list(run.inputs):
        raise StoreError(
            f"{run.id} began with {', '.join(run.inputs)} (model, data, what they come from) and would go on "
            f"with {', '.join(inputs)}; bring those back, or start a new run without --resume"
        )
    return workspace.store.resume_run(run.id)


def unfinished(workspace: Workspace, kind: str, settings: Mapping[str, Any]) -> Run:
    """The latest run of ``kind`` with these settings that did not finish."""
    found = [
        run
        for run in workspace.store.runs(kind)
        if run.status is not Status.DONE and dict(run.config) == dict(settings)
    ]
    if not found:
        raise StoreError(
            f"no unfinished {kind} run with these settings to resume; start one without --resume"
        )
    return found[-1]


# -- evaluation --------------------------------------------------------------------------------


def evaluate(
    workspace: Workspace,
    config: EvaluateStepConfig,
    *,
    scorers: Mapping[str, Scorer] | None = None,
    progress: Progress = lambda _: None,
) -> tuple[Run, Evaluation]:
    """Both models on the same prompts and seeds, judged by the reward and by ``scorers``; exact KL.

    Raises:
        StoreError: no aligned model is named and none was made here.
        ConfigError: the two models do not share a vocabulary.
    """
    prompts = prompts_of(workspace, config.split)
    after, inputs = aligned_model(workspace, config.after)
    models = [config.load(), config.model_copy(update={"model": after}).load()]
    reward_scorer, made_from = scorer_of(workspace, config.reward, config.label, config.label_value)
    every = {**(scorers or {}), "reward": reward_scorer}
    sampling = SamplingConfig(
        max_new_tokens=config.max_new_tokens, temperature=config.temperature, seed=config.seed
    )
    settings = config.model_dump(mode="json")
    for model in models:
        hasten(model)
    engines = [Engine(model, sampling) for model in models]
    sources = [*(engine.hashes[0] for engine in engines), *inputs, *made_from]
    with recorded(workspace, "evaluate", settings, sources) as record:
        sides: list[dict[str, list[Completion]]] = []
        for number, engine in enumerate(engines):
            side: dict[str, list[Completion]] = {}
            for at in range(0, len(prompts), CHUNK):
                part = prompts[at : at + CHUNK]
                groups = engine.sample(part, config.samples)
                side |= {p.id: group for p, group in zip(part, groups, strict=True)}
                progress({"step": number * len(prompts) + at + len(part), "steps": 2 * len(prompts)})
            sides.append(side)
        answers = [c for prompt in prompts for c in sides[1][prompt.id]]
        asked = [c.origin.prompt_ids for c in answers if c.origin is not None]
        kl = completion_kl(models[1], models[0], asked, [c.ids for c in answers], config.temperature)
        evaluation = compare(sides[0], sides[1], prompts, every, config, KL(*kl))
        record.write("evaluation.json", evaluation, "evaluation")
        main = evaluation.row(evaluation.criterion)
        record.metrics |= {"criterion": main.name, "before": main.before_mean, "after": main.after_mean}
        record.metrics |= {"kl": kl[0], "prompts": len(prompts)}
    return workspace.store.run(record.run.id), evaluation


def aligned_model(workspace: Workspace, name: str) -> tuple[str, list[str]]:
    """The model called ``name``, else the latest of `accord align`, and the id of what was made here."""
    if name:
        return name, []
    runs = workspace.store.runs("align", Status.DONE)
    if not runs:
        raise StoreError(
            "no aligned model was made here yet; run `accord align`, or name one: --after FOLDER"
        )
    made = workspace.store.artefact(runs[-1].metrics["artefact"])
    return str(made.path), [made.id]


def scorer_of(
    workspace: Workspace,
    name: str,
    label: str | None = None,
    value: Value | str = Value.LOG_ODDS,
    begun: Sequence[str] = (),
) -> tuple[Scorer, list[str]]:
    """A scorer by name, and the ids of what it came from.

    "" or "reward": the reward model whose id is in ``begun``, else the latest one; a folder: a reward
    model; ``hf:NAME`` or any folder with ``label``: a ready-made classifier, whose ``value`` of the label
    is the reward; FILE.toml, here or in the workspace: a composition (``recipes.composition``), whose
    classifiers give ``value`` too.

    Raises:
        StoreError: there is no reward model yet.
        ConfigError: a composition that cannot be read or names what is not there.
    """
    if name.endswith(SUFFIX):
        if label is not None:
            raise ConfigError(f"{name} is a composition, whose parts have labels of their own; drop --label")
        file = Path(name) if Path(name).exists() else workspace.path / name
        return read_composition(file, lambda part, its: scorer_of(workspace, part, its, value, begun))
    if label is not None:
        scorer = ClassifierReward.load(name, label, value, reads=Reads.COMPLETION)
        return scorer, [f"classifier:{name}#{label}:{value}"]
    if name in ("", "reward"):
        runs = workspace.store.runs("reward", Status.DONE)
        if not runs:
            raise StoreError(
                "there is no reward model yet; train one with `accord reward`, or name one with "
                "--reward FOLDER or --reward hf:NAME --label LABEL"
            )
        named = [run for run in runs if run.metrics["artefact"] in begun]
        made = workspace.store.artefact((named or runs)[-1].metrics["artefact"])
        return load_reward(made.path), [made.id]
    name = name.removeprefix("hf:")
    return load_reward(name), [f"reward-model:{Path(name).name}"]
