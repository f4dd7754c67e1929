"""The main job end to end on the help desk: simulated people, a real consensus, reward model and PPO.

Every step is the one the command line runs, over a workspace of its own. Only the labelers are
simulated, and the gold judge, which knows the truth, is never shown to training: it measures.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from accord.config import Config
from accord.errors import StoreError
from accord.evaluate.record import Evaluation
from accord.evaluate.reportdata import Estimate
from accord.feedback.consensus import AgreeConfig, Consensus
from accord.judgements import Ranking
from accord.recipes.helpdesk.judge import GoldJudge
from accord.recipes.helpdesk.labelers import make_labelers, must_fail
from accord.recipes.helpdesk.world import make_prompts
from accord.recipes.judgements import agree
from accord.recipes.record import Progress, recorded
from accord.recipes.reporting import workspace_report
from accord.recipes.steps import (
    AlignStepConfig,
    EvaluateStepConfig,
    SampleConfig,
    align,
    evaluate,
    reward,
    sample,
)
from accord.reward.train import RewardConfig
from accord.stats.agreement import pair_accuracy
from accord.store.lineage import Run
from accord.types import Completion, Prompt, Score, Scorer, score_groups
from accord.workspace import Workspace

MODELS = Path(__file__).parent / "models"
Kind = Literal["decoder", "seq2seq"]
Bars = Callable[..., AbstractContextManager[Progress]]
Scores = dict[str, dict[str, float]]
MAX_NEW_TOKENS = 64
LABELS = {
    "gold": "Gold score (helpful, honest, harmless)",
    "gold.fluent": "Fluency",
    "reward": "Reward model",
}
SIMULATED = (
    "The customers, the orders and the seven labelers are simulated by the project; the models, the "
    "consensus, the reward model and the training are real."
)
CAVEAT = (
    "Agreement with gold orders completions as the guidelines do: what must FAIL is below everything else, "
    "and two FAILs have no order, for no labeler gave them one. Counting such pairs too by their gold "
    "score, the reward model agrees with gold on {:.0%}."
)
GOLD_MARGIN = 0.05
"""Pairs whose gold scores differ by less have no right answer and are left out of agreement with gold."""


class LearningConfig(Config):
    """How much a help desk learns from its comparisons."""

    seed: int = 0
    """Of everything."""
    reward_epochs: int = Field(2, ge=1)
    """Passes of the reward model over its comparisons."""
    steps: int = Field(64, ge=1)
    """PPO steps."""


class DemoConfig(LearningConfig):
    """How much of everything; the defaults fill some three minutes on two cores."""

    model: Kind = "decoder"
    """The starter model."""
    ranked: int = Field(1300, ge=2)
    """Prompts whose completions are ranked."""
    practised: int = Field(300, ge=1)
    """Further prompts the policy practises on."""
    held_out: int = Field(150, ge=1)
    """Prompts of the hold-out split, for evaluation only."""
    labelers_per_prompt: int = Field(5, ge=1, le=7)
    """Of the seven."""

    @property
    def starter(self) -> str:
        """The starter model's folder."""
        return str(MODELS / self.model)


def demo(folder: Path, config: DemoConfig, bars: Bars) -> dict[str, Any]:
    """Run the loop in ``folder``; writes summary.json and report.html there and returns the summary.

    Raises:
        StoreError: ``folder`` holds something that is not an earlier demo.
    """
    started = time.monotonic()
    workspace = fresh_workspace(folder)
    prompts = make_prompts(config.ranked + config.practised, config.seed, "train")
    workspace.store.add_prompts(prompts, "train")
    workspace.store.add_prompts(make_prompts(config.held_out, config.seed, "holdout"), "holdout")
    rankings = _collect(workspace, config, prompts[: config.ranked], bars)
    _, consensus = agree(workspace, AgreeConfig(seed=config.seed))
    scorer = learn_and_align(workspace, config.starter, config, bars)
    run, evaluation = evaluate_by_gold(workspace, config.starter, config.seed, bars)
    truth = _against_gold(workspace, config, consensus, rankings, scorer)
    workspace_report(
        workspace,
        evaluation,
        run,
        title="Help desk: before and after alignment",
        labels=LABELS,
        fluency="gold.fluent",
        gold=truth,
        simulated=(SIMULATED,),
        caveats=(CAVEAT.format(truth["reward_all"].value),),
        path=folder / "report.html",
    )
    summary = _summary(config, evaluation, truth, time.monotonic() - started)
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def _collect(
    workspace: Workspace, config: DemoConfig, prompts: Sequence[Prompt], bars: Bars
) -> list[Ranking]:
    """The starter's completions of ``prompts``, ranked by simulated labelers."""
    with bars("sample") as bar:
        settings = SampleConfig(
            model=config.starter,
            split="train",
            limit=len(prompts),
            max_new_tokens=MAX_NEW_TOKENS,
            seed=config.seed,
        )
        sample(workspace, settings, progress=bar)
    return label(workspace, prompts, config.labelers_per_prompt, config.seed)


def learn_and_align(workspace: Workspace, model: str, config: LearningConfig, bars: Bars) -> Scorer:
    """A reward model of the workspace's comparisons, returned, then PPO of ``model`` on it.

    The encoder-decoder's reward model is the decoder too: a scorer reads text and need not share the
    policy's architecture. Gold is logged beside both and trains neither.
    """
    gold = GoldJudge()
    with bars("reward", "loss", "accuracy") as bar:
        settings = RewardConfig(
            base=str(MODELS / "decoder"),
            learning_rate=1e-3,
            epochs=config.reward_epochs,
            batch_prompts=8,
            mixed_precision=True,
            seed=config.seed,
        )
        _, _, scorer = reward(workspace, settings, gold=gold, progress=bar)
    with bars("align", "reward", "kl", "length") as bar:
        align(
            workspace,
            AlignStepConfig(
                model=model,
                split="train",
                steps=config.steps,
                prompts_per_step=64,
                minibatch=64,
                epochs=2,
                learning_rate=1.2e-3,
                critic_learning_rate=5e-3,
                lam=1.0,
                beta=0.1,
                max_new_tokens=MAX_NEW_TOKENS,
                seed=config.seed,
            ),
            watch={"gold": gold},
            progress=bar,
        )
    return scorer


def evaluate_by_gold(workspace: Workspace, model: str, seed: int, bars: Bars) -> tuple[Run, Evaluation]:
    """``model`` beside what became of it, by gold, on two answers to each prompt of the hold-out split."""
    settings = EvaluateStepConfig(
        model=model,
        split="holdout",
        criterion="gold",
        samples=2,
        seed=seed,
        max_new_tokens=MAX_NEW_TOKENS,
    )
    with bars("evaluate") as bar:
        return evaluate(workspace, settings, scorers={"gold": GoldJudge()}, progress=bar)


def _summary(
    config: DemoConfig, evaluation: Evaluation, truth: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    main, fluent = evaluation.row("gold"), evaluation.row("gold.fluent")
    return {
        "model": config.model,
        "seed": config.seed,
        "seconds": round(seconds, 1),
        "gold_before": main.before_mean,
        "gold_after": main.after_mean,
        "fluency_before": fluent.before_mean,
        "fluency_after": fluent.after_mean,
        "exact_kl": evaluation.kl.exact if evaluation.kl else None,
        "labeler_agreement_with_gold": truth["average"].value,
        "consensus_agreement_with_gold": truth["consensus"].value,
        "reward_accuracy": truth["reward"].value,
        "reward_accuracy_with_fail_pairs": truth["reward_all"].value,
    }


def fresh_workspace(folder: Path) -> Workspace:
    """A new workspace; an earlier demo there (it holds .accord-demo) is replaced, nothing else is."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / ".accord-demo").exists():
            raise StoreError(
                f"{folder} holds files that no demo made; name another folder: accord demo FOLDER"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".accord-demo").write_text("made by `accord demo`, which may replace this folder\n")
    return Workspace.create(folder)


def label(workspace: Workspace, prompts: Sequence[Prompt], labelers: int, seed: int) -> list[Ranking]:
    """Each prompt's completions ranked by so many of the simulated labelers, drawn anew for each."""
    rng, people = random.Random(f"labels:{seed}"), make_labelers(seed)
    completions = workspace.store.completions([prompt.id for prompt in prompts])
    with recorded(workspace, "label", {"labelers": len(people), "seed": seed}) as record:
        scores = {prompt.id: GoldJudge().score(prompt, completions[prompt.id]) for prompt in prompts}
        rankings = [
            labeler.rank(prompt, completions[prompt.id], rng, scores[prompt.id])
            for prompt in prompts
            for labeler in rng.sample(people, labelers)
        ]
        workspace.store.add_rankings(rankings)
        record.metrics |= {"rankings": len(rankings), "labelers": len(people)}
    return rankings


def _against_gold(
    workspace: Workspace,
    config: DemoConfig,
    consensus: Consensus,
    rankings: Sequence[Ranking],
    scorer: Scorer,
) -> dict[str, Any]:
    """Agreement with gold of each labeler, their average, the consensus, and the reward model.

    Gold orders as the guidelines do: what must FAIL is below every other completion, and two of them
    have no order. The reward model is measured on the starter's completions of hold-out prompts;
    ``reward_all`` counts every pair by its plain gold score, two FAILs too, which no labeler ranks.
    """
    rng, store = np.random.default_rng(config.seed), workspace.store
    truth = _scores(workspace, store.completions(consensus.scores), _ByGuidelines())
    labelers = {}
    for name in sorted({ranking.labeler for ranking in rankings}):
        own = {r.prompt_id: _levels(r) for r in rankings if r.labeler == name}
        labelers[name] = Estimate.of(pair_accuracy(own, truth, rng, GOLD_MARGIN))
    pooled = {p: {c: s.value for c, s in group.items()} for p, group in consensus.scores.items()}
    settings = SampleConfig(
        model=config.starter, split="holdout", max_new_tokens=MAX_NEW_TOKENS, seed=config.seed + 1
    )
    sample(workspace, settings)
    answered = store.completions([prompt.id for prompt in store.prompts("holdout")])
    predicted, ordered, plain = (
        _scores(workspace, answered, judge) for judge in (scorer, _ByGuidelines(), GoldJudge())
    )
    return {
        "labelers": labelers,
        "average": Estimate(sum(e.value for e in labelers.values()) / len(labelers)),
        "consensus": Estimate.of(pair_accuracy(pooled, truth, rng, GOLD_MARGIN)),
        "reward": Estimate.of(pair_accuracy(predicted, ordered, rng, GOLD_MARGIN)),
        "reward_all": Estimate.of(pair_accuracy(predicted, plain, rng, GOLD_MARGIN)),
    }


class _ByGuidelines:
    """The gold score, with every completion that must FAIL at one level below the others."""

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        return [Score(-1.0) if must_fail(s) else s for s in GoldJudge().score(prompt, completions)]


def _scores(workspace: Workspace, answered: Mapping[str, list[Completion]], scorer: Scorer) -> Scores:
    """Prompt id -> completion id -> value."""
    prompts = workspace.store.prompts(ids=list(answered))
    groups = [(prompt, answered[prompt.id]) for prompt in prompts]
    return {
        prompt.id: {c.id: s.value for c, s in zip(group, scores, strict=True)}
        for (prompt, group), scores in zip(groups, score_groups(scorer, groups), strict=True)
    }


def _levels(ranking: Ranking) -> dict[str, float]:
    """A ranking as numbers: higher is better, FAIL lowest."""
    levels = {c: -float(place) for place, tier in enumerate(ranking.tiers) for c in tier}
    return levels | {c: -float(len(ranking.tiers)) for c in ranking.fails}
