"""`accord constitute`: a constitution in place of people, over a workspace.

Phase one is `revise` (responses criticised and mended, the chains kept whole) and `supervise` (fine-tuning on
the last revisions); phase two is `prefer` (a judge compares the new model's answers by the principles), after
which `accord reward` and `accord align` go on as they do with people's rankings. `judge` measures a judge
against people before anything is spent on it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import Field

from accord.align.offline import OfflineConfig
from accord.align.supervised import SupervisedReport
from accord.align.supervised import supervise as learn
from accord.constitution import prefer as phase_two
from accord.constitution.prefer import PreferConfig, PrincipleChoices, by_principle
from accord.constitution.principles import read
from accord.constitution.revise import Chain, ReviseConfig, as_row, effects, from_row
from accord.constitution.revise import revise as mend
from accord.errors import ConfigError, DataError, StoreError
from accord.evaluate.judges import JudgeReport, judge_report
from accord.feedback.formats.transcript import parse_prompt
from accord.judging import Asked, Chooser, LikelihoodConfig, both_orders, flip_share
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.hasten import hasten
from accord.lm.invariants import check_policy, require
from accord.lm.model import LanguageModel
from accord.recipes.named import chooser_of, sampler_of
from accord.recipes.record import PREFER, Progress, agreed, plain, prompts_of, recorded
from accord.recipes.steps import ModelConfig, reopened, unfinished
from accord.store.lineage import Run, Status
from accord.types import Completion, Prompt, digest
from accord.workspace import Workspace

REVISE, SUPERVISE = "constitute_revise", "constitute_supervise"
JUDGE = "constitute_judge"
"""Kinds of runs."""
CHAINS = "chains.jsonl"
CHUNK = 128
"""Prompts whose chains are written at a time."""


class ReviseStepConfig(ReviseConfig, ModelConfig):
    """`accord constitute revise`: responses of the model, criticised and mended."""

    constitution: str = ""
    """A .toml file, or the published .jsonl; accord's own unless given."""
    critic: str = ""
    """Folder, hub name or URL#MODEL of who criticises and mends; the model itself unless given."""
    split: str | None = None
    """Only the prompts of this split."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many of them."""
    max_new_tokens: int = Field(256, ge=1)
    """Length limit of responses, critiques and revisions, in tokens."""
    temperature: float = Field(1.0, ge=0)
    """Of responses..."""
    critic_temperature: float = Field(0.7, ge=0)
    """...and of critiques and revisions; 0 takes the likeliest words."""


class SuperviseStepConfig(OfflineConfig, ModelConfig):
    """`accord constitute supervise`: fine-tuning on the last revisions of the latest chains."""

    helpful: str = ""
    """A split whose prompts the model answers before training, mixed in so that it stays helpful."""
    helpful_share: float = Field(0.5, gt=0, lt=1)
    """Share of what is learned that are such answers, at most."""


class ConstitutePreferConfig(PreferConfig):
    """`accord constitute prefer`: pairs of stored completions compared by the principles."""

    judge: str = ""
    """Folder, hub name or URL#MODEL of the judge."""
    constitution: str = ""
    """A .toml file, or the published .jsonl; accord's own unless given."""
    of: str = ""
    """Only completions of this model, by the name it was sampled with."""
    split: str | None = None
    """Only the prompts of this split."""
    question: str = phase_two.QUESTION
    """How the judge is asked; {prompt}, {first}, {second} and {criterion} are filled in."""
    reason: bool = False
    """The judge thinks in words before it chooses."""
    temperature: float = Field(1.0, gt=0)
    """The judge's log-odds are divided by it."""
    device: str | None = None
    """"cpu", "cuda"; the GPU where there is one."""


def named(config: ModelConfig) -> str:
    """The model's name. Raises ConfigError where none is given."""
    if not config.model:
        raise ConfigError("no model is named: pass --model FOLDER or URL#MODEL, or set model in accord.toml")
    return config.model


# -- phase one ---------------------------------------------------------------------------------


def revise(
    workspace: Workspace,
    config: ReviseStepConfig,
    *,
    resume: bool = False,
    progress: Progress = lambda _: None,
) -> tuple[Run, list[Chain]]:
    """Respond, criticise, mend; the chains are written as they come, and kept whole.

    Raises:
        DataError: no prompts, or no principle that criticises.
        StoreError: ``resume`` without a run to go on with, or from another model or constitution.
    """
    constitution = read(config.constitution)
    prompts = prompts_of(workspace, config.split)[: config.limit]
    settings = config.model_dump(mode="json")
    run = unfinished(workspace, REVISE, settings) if resume else None
    shared = {"max_new_tokens": config.max_new_tokens, "seed": config.seed}
    writing = SamplingConfig(**shared, temperature=config.temperature)
    mending = SamplingConfig(**shared, temperature=config.critic_temperature)
    writer, written_by = sampler_of(named(config), writing, config.device, workspace, loaded=config.loaded)
    critic, mended_by = sampler_of(
        config.critic or config.model, mending, config.device, workspace, loaded=config.loaded
    )
    inputs = [
        written_by,
        digest([p.id for p in prompts]),
        f"constitution:{constitution.hash}",
        f"critic:{mended_by}",
    ]
    with recorded(workspace, REVISE, settings, inputs, reopened(workspace, run, inputs)) as record:
        path = record.run.path / CHAINS
        chains = _read_back(path, prompts) if resume else []
        for at in range(len(chains), len(prompts), CHUNK):
            part = prompts[at : at + CHUNK]
            made = mend(writer, critic, constitution, part, config)
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(as_row(chain), ensure_ascii=False) + "\n" for chain in made)
            chains += made
            progress({"step": len(chains), "steps": len(prompts)})
        record.metrics["artefact"] = workspace.store.add_artefact(record.run.id, "chains", path).id
        record.write("constitution.json", constitution.model_dump(mode="json"), "constitution")
        found = effects(chains)
        record.write("principles.json", [asdict(row) for row in found], "principles")
        record.metrics |= {
            "chains": len(chains),
            "changed": sum(chain.revision != chain.response for chain in chains),
            "unusable": sum(row.unusable for row in found),
            "refused": sum(row.refused for row in found),
            "cut": sum(chain.cut for chain in chains),
            "constitution": f"{constitution.name} {constitution.version} ({constitution.hash})",
        }
    return workspace.store.run(record.run.id), chains


def _read_back(path: Path, prompts: Sequence[Prompt]) -> list[Chain]:
    """Whole lines of a run that broke off; a torn last one is dropped from the file."""
    written = path.read_bytes() if path.exists() else b""
    whole = written[: written.rfind(b"\n") + 1]
    if len(whole) < len(written):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    lines = whole.split(b"\n")[:-1]
    chains = [from_row(json.loads(line), f"{path}, line {i}") for i, line in enumerate(lines, 1)]
    if [c.prompt.id for c in chains] != [p.id for p in prompts[: len(chains)]]:
        raise StoreError(f"{path} holds chains of other prompts; start a new run without --resume")
    return [replace(c, prompt=prompt) for prompt, c in zip(prompts, chains, strict=False)]


def read_chains(path: Path) -> Iterator[Chain]:
    """Chains from JSON lines: those written here, or the published ones, whose prompts are HH transcripts.

    Raises:
        DataError: a line that is no chain; file and line are named.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{where}: not JSON ({error})") from None
        if isinstance(row, dict) and isinstance(row.get("prompt"), str):
            row["messages"] = [{"role": m.role, "content": m.content} for m in parse_prompt(row["prompt"])]
        yield from_row(row, where)


def supervise(
    workspace: Workspace,
    config: SuperviseStepConfig,
    *,
    chains: Sequence[Chain] | None = None,
    progress: Progress = lambda _: None,
) -> tuple[Run, SupervisedReport]:
    """Fine-tune the model on each chain's last revision, beside answers of its own to ``config.helpful``.

    ``chains`` are those of the latest `accord constitute revise` unless given.

    Raises:
        StoreError: no chains were made here yet.
        DataError: nothing to learn from.
    """
    sources: list[str] = []
    if chains is None:
        sources, chains = _latest_chains(workspace)
    policy = config.load()
    policy.merge()
    require(check_policy(policy, config.seed))
    # a response that was cut and never mended would teach not to end
    learned = [(chain.prompt, Completion(chain.revision)) for chain in chains if chain.whole]
    helpful = _helpful(workspace, policy, config, len(learned))
    inputs = [policy.weights_hash(), digest([(p.id, c.text) for p, c in [*learned, *helpful]]), *sources]
    with recorded(workspace, SUPERVISE, config.model_dump(mode="json"), inputs) as record:
        report = learn(
            policy, [*learned, *helpful], config, folder=record.run.path / "training", progress=progress
        )
        path = workspace.models / record.run.id
        policy.save(path, merge=True)
        record.write("report.json", asdict(report), "supervised-report")
        record.metrics |= {
            "artefact": workspace.store.add_artefact(record.run.id, "policy", path).id,
            "model": str(path),
            "revisions": len(learned),
            "helpful": len(helpful),
            "loss_before": report.loss_before,
            "loss": report.loss,
            "kl": report.kl,
        }
    return workspace.store.run(record.run.id), report


def _latest_chains(workspace: Workspace) -> tuple[list[str], list[Chain]]:
    runs = workspace.store.runs(REVISE, Status.DONE)
    if not runs:
        raise StoreError("no chains were made here yet; make some with: accord constitute revise")
    made = workspace.store.artefact(runs[-1].metrics["artefact"])
    stored = {p.id: p for p in workspace.store.prompts()}
    chains = [replace(c, prompt=stored.get(c.prompt.id, c.prompt)) for c in read_chains(made.path)]
    return [made.id], chains


def _helpful(
    workspace: Workspace, policy: LanguageModel, config: SuperviseStepConfig, revisions: int
) -> list[tuple[Prompt, Completion]]:
    """The start model's own finished answers to the helpful split."""
    if not config.helpful:
        return []
    most = int(revisions * config.helpful_share / (1 - config.helpful_share))
    prompts = prompts_of(workspace, config.helpful)[:most]
    hasten(policy)
    sampling = SamplingConfig(max_new_tokens=config.max_new_tokens, seed=config.seed)
    answers = Engine(policy, sampling).sample(prompts)
    return [(p, group[0]) for p, group in zip(prompts, answers, strict=True) if group[0].stop != "length"]


# -- phase two ---------------------------------------------------------------------------------


def prefer(
    workspace: Workspace, config: ConstitutePreferConfig, *, progress: Progress = lambda _: None
) -> tuple[Run, list[PrincipleChoices]]:
    """Compare stored completions by the constitution; the comparisons join those of people in `accord
    reward`.

    Raises:
        ConfigError: no judge is named.
        DataError: no prompt with two completions, no principle that chooses, or a judge of no use.
    """
    constitution = read(config.constitution)
    groups = _groups(workspace, config)
    chooser, judged_by = _judge(workspace, config)
    ids = digest([[c.id for c in completions] for _, completions in groups])
    inputs = [judged_by, ids, f"constitution:{constitution.hash}"]
    with recorded(workspace, PREFER, config.model_dump(mode="json"), inputs) as record:
        found = phase_two.prefer(chooser, constitution, groups, config, progress)
        made = phase_two.comparisons(found)
        workspace.store.add_comparisons(made, record.run.id)
        record.write("constitution.json", constitution.model_dump(mode="json"), "constitution")
        rows = by_principle(found)
        record.write("principles.json", [asdict(row) for row in rows], "principles")
        record.metrics |= {
            "comparisons": len(made),
            "pairs": len(found),
            "flipped": flip_share([one.judged for one in found]),
            "unusable": len(found) - len(made),
            "constitution": f"{constitution.name} {constitution.version} ({constitution.hash})",
        }
    return workspace.store.run(record.run.id), rows


def _judge(workspace: Workspace, config: ConstitutePreferConfig) -> tuple[Chooser, str]:
    asked = LikelihoodConfig(question=config.question, temperature=config.temperature, skip_long=True)
    return chooser_of(config.judge, asked, config.device, workspace, reason=config.reason)


def _groups(workspace: Workspace, config: ConstitutePreferConfig) -> list[tuple[Prompt, list[Completion]]]:
    prompts = prompts_of(workspace, config.split)
    stored = workspace.store.completions([p.id for p in prompts])
    groups = [
        (
            p,
            [
                c
                for c in stored[p.id]
                if not config.of or (c.origin is not None and c.origin.model == config.of)
            ],
        )
        for p in prompts
    ]
    if config.of and not any(completions for _, completions in groups):
        known = sorted({c.origin.model for group in stored.values() for c in group if c.origin is not None})
        raise DataError(
            f"no completion is of the model {config.of!r}; stored are those of {', '.join(known) or 'none'}"
        )
    return groups


# -- what a judge is worth ---------------------------------------------------------------------


@dataclass(frozen=True)
class JudgeCheck:
    """A judge held against what people (or a world's truth) said of the same pairs."""

    pairs: int
    principles: Mapping[str, JudgeReport]
    """By principle: agreement with them, position bias, flips, unusable answers."""
    pull_apart: tuple[phase_two.Disagreement, ...]
    """Every two principles on the same pairs."""


def check_judge(
    workspace: Workspace, config: ConstitutePreferConfig, *, limit: int = 100
) -> tuple[Run, JudgeCheck]:
    """Measure a judge, principle by principle, on pairs people agree on (``record.agreed``).

    Raises:
        DataError: people compared no such pair here.
    """
    constitution = read(config.constitution)
    if not constitution.choosers:
        raise DataError(f"{constitution.name!r} has no principle that chooses; give one a choose request")
    sources, known = agreed(workspace, config.split)
    rng = np.random.default_rng(config.seed)
    taken = [known[i] for i in sorted(rng.permutation(len(known))[:limit])]
    turned = rng.random(len(taken)) < 0.5  # so that a judge of the first answer is not right by the order
    pairs = [
        Asked(c.prompt, *((c.rejected.text, c.chosen.text) if t else (c.chosen.text, c.rejected.text)))
        for c, t in zip(taken, turned, strict=True)
    ]
    chooser, judged_by = _judge(workspace, config)
    inputs = [judged_by, f"constitution:{constitution.hash}", *sources]
    with recorded(workspace, JUDGE, config.model_dump(mode="json"), inputs) as record:
        judged = {
            rule.name: both_orders(chooser, [replace(pair, criterion=rule.choose) for pair in pairs])
            for rule in constitution.choosers
        }
        clusters = [pair.prompt.id for pair in pairs]
        reports = {k: judge_report(rows, list(~turned), clusters, rng) for k, rows in judged.items()}
        found = JudgeCheck(len(pairs), reports, tuple(phase_two.disagreements(judged)))
        record.write("judge.json", plain(found), "judge")
        record.metrics |= {"pairs": len(pairs)} | {f"agreement.{k}": v.both.value for k, v in reports.items()}
    return workspace.store.run(record.run.id), found
