"""The help desk aligned by its constitution: no labeler, two phases, and the truth shown beside.

Phase one: the starter responds, a model taught to criticise and mend (``helpdesk.critic``) follows a
principle a round, and the starter learns the last revisions. Phase two: the same critic chooses between two
answers of the new model, a reward model learns its choices, PPO follows the reward. Gold is shown to no
training: it measures. ``benchmarks/constitution.py`` sets the simulated labelers beside it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from accord.constitution.principles import Constitution, read
from accord.constitution.revise import Chain
from accord.evaluate.reportdata import ChainShown, ConstitutionSection, Estimate, PrincipleShown
from accord.judging import Asked, LikelihoodConfig, both_orders
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.hasten import hasten
from accord.lm.model import LanguageModel
from accord.recipes import constitution as steps
from accord.recipes.helpdesk.claims import read_claims
from accord.recipes.helpdesk.critic import CONSTITUTION, CRITIC, QUESTION
from accord.recipes.helpdesk.demo import (
    LABELS,
    MAX_NEW_TOKENS,
    MODELS,
    Bars,
    LearningConfig,
    evaluate_by_gold,
    fresh_workspace,
    learn_and_align,
)
from accord.recipes.helpdesk.judge import BLAME, INSULT, LEAK, RUDE, GoldJudge
from accord.recipes.helpdesk.world import facts_of, make_prompts
from accord.recipes.named import chooser_of
from accord.recipes.reporting import workspace_report
from accord.recipes.steps import SampleConfig, sample
from accord.stats.intervals import bootstrap_mean, clustered_mean
from accord.types import Completion, Prompt, Score
from accord.workspace import Workspace

SIMULATED = (
    "The customers and the orders are simulated by the project, and the critic was taught by the world that "
    "knows them; no person judged anything. The models and the training are real."
)
CAVEAT = (
    "A model of two million weights follows these principles because it was taught to; a capable model takes "
    "the critic's place elsewhere. Its choices are right in {:.0%} of the pairs that differ in gold."
)
PARTS = ("harmless", "helpful", "honest", "fluent")
SUMMARY_NAMES = {"start": "before", "revised": "after_supervised", "aligned": "after_rl"}
"""Stages as the report names them, and as the summary does."""
CHAINS_SHOWN = 4


class ConstitutionDemoConfig(LearningConfig):
    """How much of everything; the defaults fill some minutes on two cores."""

    revised: int = Field(700, ge=8)
    """Prompts whose responses are mended."""
    rounds: int = Field(3, ge=1)
    """Principles a response is mended by."""
    judged: int = Field(900, ge=8)
    """Further prompts with completions to choose between."""
    pairs: int = Field(3, ge=1)
    """Pairs of each."""
    held_out: int = Field(150, ge=8)
    """Prompts of the hold-out split, for evaluation only."""
    supervised_epochs: int = Field(2, ge=1)
    """Passes over the revisions."""
    steps: int = Field(40, ge=1)
    """PPO steps."""


def constitution_demo(folder: Path, config: ConstitutionDemoConfig, bars: Bars) -> dict[str, Any]:
    """Both phases in ``folder``; writes summary.json and report.html there and returns the summary.

    Raises:
        StoreError: ``folder`` holds something that is not an earlier demo.
    """
    started = time.monotonic()
    workspace = fresh_workspace(folder)
    store, start = workspace.store, str(MODELS / "decoder")
    prompts = make_prompts(config.revised + config.judged, config.seed, "train")
    store.add_prompts(prompts[: config.revised], "provoke")
    store.add_prompts(prompts[config.revised :], "train")
    store.add_prompts(make_prompts(config.held_out, config.seed, "holdout"), "holdout")
    chains, supervised = _phase_one(workspace, config, start, bars)
    chosen = _phase_two(workspace, config, supervised, bars)
    run, evaluation = evaluate_by_gold(workspace, start, config.seed, bars)
    models = {"start": start, "revised": supervised, "aligned": str(store.runs("align")[-1].metrics["model"])}
    answers = {name: answered(workspace, model, config) for name, model in models.items()}
    stages = {name: gold_parts(found) for name, found in answers.items()}
    against = {name: violation_shares(found) for name, found in answers.items()}
    right = judge_against_gold(workspace, config, supervised)
    workspace_report(
        workspace,
        evaluation,
        run,
        title="Help desk: before and after its constitution",
        labels=LABELS,
        fluency="gold.fluent",
        constitution=_section(read(CONSTITUTION), chains, chosen, stages, against, right, config.seed),
        simulated=(SIMULATED,),
        caveats=(CAVEAT.format(right["all"].value),),
        path=folder / "report.html",
    )
    summary = _summary(config, stages, evaluation.kl.exact if evaluation.kl else None, right)
    summary["seconds"] = round(time.monotonic() - started, 1)
    means = {
        SUMMARY_NAMES[stage]: {rule: float(shares.mean()) for rule, shares in found.items()}
        for stage, found in against.items()
    }
    (folder / "summary.json").write_text(json.dumps({**summary, "against": means}, indent=1) + "\n")
    return summary


def _phase_one(
    workspace: Workspace, config: ConstitutionDemoConfig, start: str, bars: Bars
) -> tuple[list[Chain], str]:
    """The chains, and the model that learned their ends."""
    with bars("revise") as bar:
        settings = steps.ReviseStepConfig(
            model=start, critic=str(CRITIC), constitution=str(CONSTITUTION), rounds=config.rounds,
            split="provoke", max_new_tokens=MAX_NEW_TOKENS, critic_temperature=0.0, seed=config.seed,
        )  # fmt: skip
        _, chains = steps.revise(workspace, settings, progress=bar)
    with bars("supervise", "loss") as bar:
        learned = steps.SuperviseStepConfig(
            model=start, lora_rank=0, epochs=config.supervised_epochs, batch_prompts=16, learning_rate=5e-4,
            holdout=0.05, kl_prompts=32, max_new_tokens=MAX_NEW_TOKENS, seed=config.seed,
        )  # fmt: skip
        run, _ = steps.supervise(workspace, learned, progress=bar)
    return chains, str(run.metrics["model"])


def _phase_two(workspace: Workspace, config: ConstitutionDemoConfig, model: str, bars: Bars) -> list[Any]:
    """Choices by the principles, a reward model of them, PPO; how the judge chose, by principle."""
    with bars("sample") as bar:
        sample(workspace, sampling(config, model, "train"), progress=bar)
    with bars("prefer") as bar:
        settings = steps.ConstitutePreferConfig(
            judge=str(CRITIC), constitution=str(CONSTITUTION), question=QUESTION, of=model, split="train",
            pairs=config.pairs, seed=config.seed,
        )  # fmt: skip
        _, chosen = steps.prefer(workspace, settings, progress=bar)
    learn_and_align(workspace, model, config, bars)
    return chosen


def sampling(config: ConstitutionDemoConfig, model: str, split: str) -> SampleConfig:
    """How completions are made to be compared."""
    return SampleConfig(model=model, split=split, n=4, max_new_tokens=MAX_NEW_TOKENS, seed=config.seed)


# -- measured by the truth -----------------------------------------------------------------------

Answers = list[tuple[Prompt, list[Completion]]]


def answered(workspace: Workspace, name: str, config: ConstitutionDemoConfig) -> Answers:
    """A model's answers to the hold-out prompts, two each, with the same seeds for every model."""
    prompts = workspace.store.prompts("holdout")
    model = LanguageModel.load(name)
    hasten(model)
    made = Engine(model, SamplingConfig(max_new_tokens=MAX_NEW_TOKENS, seed=config.seed)).sample(prompts, 2)
    return list(zip(prompts, made, strict=True))


def gold_parts(answers: Answers) -> dict[str, np.ndarray]:
    """Each criterion's mean by prompt, in the prompts' order."""
    judged: list[list[Score]] = [GoldJudge().score(prompt, made) for prompt, made in answers]
    return {part: np.array([np.mean([s.parts[part] for s in row]) for row in judged]) for part in PARTS}


def violations(prompt: Prompt, text: str) -> dict[str, bool]:
    """Which of the principles that criticise a reply goes against, by the world's rules."""
    lowered, claims = text.lower().replace("’", "'"), read_claims(text, facts_of(prompt), LEAK)
    promised = [claim for claim in claims.false if claim.startswith("promises")]
    return {
        "respect": bool(INSULT.search(lowered) or RUDE.search(lowered)),
        "privacy": bool(LEAK.search(lowered)),
        "blame": bool(BLAME.search(lowered)),
        "promise": bool(promised),
        "truth": len(claims.false) > len(promised),
        "answer": not claims.true,
    }


def violation_shares(answers: Answers) -> dict[str, np.ndarray]:
    """Each principle's share of answers that go against it by prompt, in the prompts' order."""
    found = [[violations(prompt, completion.text) for completion in made] for prompt, made in answers]
    return {rule: np.array([np.mean([each[rule] for each in row]) for row in found]) for rule in found[0][0]}


def judge_against_gold(
    workspace: Workspace, config: ConstitutionDemoConfig, model: str, pairs: int = 200, margin: float = 0.05
) -> dict[str, Estimate]:
    """How often the judge takes what gold takes on answers of ``model``: by choosing principle, and over all.

    The truth of "harmless" is gold's harmless, and so on; pairs that differ by less than ``margin`` are left
    out.
    """
    rng = np.random.default_rng(config.seed)
    prompts = {prompt.id: prompt for prompt in workspace.store.prompts("train")}
    stored = workspace.store.completions(list(prompts))
    chooser, _ = chooser_of(str(CRITIC), LikelihoodConfig(question=QUESTION))
    right: dict[str, list[tuple[float, str]]] = {}
    for rule in read(CONSTITUTION).choosers:
        asked: list[Asked] = []
        better: list[bool] = []
        for id, completions in stored.items():
            found = [c for c in completions if c.origin is not None and c.origin.model == model][:2]
            if len(found) < 2 or len(asked) == pairs:
                continue
            one, other = (s.parts[rule.name] for s in GoldJudge().score(prompts[id], found))
            if abs(one - other) >= margin:
                asked.append(Asked(prompts[id], found[0].text, found[1].text, rule.choose))
                better.append(one > other)
        judged = both_orders(chooser, asked)
        right[rule.name] = [
            (float((said.p > 0.5) == first if said.p is not None and said.p != 0.5 else 0.5), pair.prompt.id)
            for said, first, pair in zip(judged, better, asked, strict=True)
        ]
    right["all"] = [row for rows in right.values() for row in rows]
    return {
        name: Estimate.of(clustered_mean([v for v, _ in rows], [k for _, k in rows], rng))
        for name, rows in right.items()
    }


def _section(
    constitution: Constitution,
    chains: Sequence[Chain],
    chosen: Sequence[Any],
    stages: Mapping[str, Mapping[str, np.ndarray]],
    broken: Mapping[str, Mapping[str, np.ndarray]],
    right: Mapping[str, Estimate],
    seed: int,
) -> ConstitutionSection:
    rng = np.random.default_rng(seed)
    mended = {row.principle: row for row in steps.effects(chains)}
    judged = {row.principle: row for row in chosen}
    principles = []
    for rule in constitution.principle:
        row, choice = mended.get(rule.name), judged.get(rule.name)
        against = tuple(
            Estimate.of(bootstrap_mean(found[rule.name], rng)) for found in broken.values() if rule.critique
        )
        principles.append(
            PrincipleShown(
                name=rule.name,
                request=rule.critique or rule.choose,
                rounds=row.drawn if row else None,
                changed=row.changed if row else None,
                pairs=choice.pairs if choice else None,
                flipped=choice.flipped if choice else None,
                right=right.get(rule.name),
                against=against,
            )
        )
    changed = [c for c in chains if c.revision != c.response][:CHAINS_SHOWN]
    return ConstitutionSection(
        f"{constitution.name}, version {constitution.version}, {constitution.hash}",
        tuple(principles),
        tuple(stages),
        {part: tuple(Estimate.of(bootstrap_mean(s[part], rng)) for s in stages.values()) for part in PARTS},
        tuple(
            ChainShown(
                c.prompt.text, c.response, tuple((s.principle, s.critique, s.revision) for s in c.steps)
            )
            for c in changed
        ),
    )


def _summary(
    config: ConstitutionDemoConfig,
    stages: Mapping[str, Mapping[str, np.ndarray]],
    kl: float | None,
    right: Mapping[str, Estimate],
) -> dict[str, Any]:
    figures = {
        f"{part}_{name}": float(stages[stage][part].mean())
        for part in PARTS
        for stage, name in SUMMARY_NAMES.items()
    }
    return {"seed": config.seed, **figures, "exact_kl": kl, "judge_accuracy": right["all"].value}
