"""What to label next, over a workspace: features, the fit on the rankings so far, priorities in the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from accord.errors import DataError
from accord.feedback.active import Array, pool, votes
from accord.feedback.active_plan import ACTIVE, RANDOM, ActiveConfig, Plan, plan
from accord.feedback.active_savings import Savings, savings
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.queue import fill, set_priorities
from accord.judgements import Ranking
from accord.lm.classifier import SequenceClassifier
from accord.lm.features import features
from accord.recipes.record import Progress, recorded
from accord.recipes.steps import scorer_of
from accord.reward.model import SETTINGS, RewardModel
from accord.reward.saved import Reward, one_model
from accord.stats.rankings import levels
from accord.store import state
from accord.store.lineage import Run
from accord.types import digest
from accord.workspace import Workspace

CHUNK = 64
"""Prompts whose features are computed between two reports of progress."""
BEGUN = 2.0
"""Priority of tasks that somebody has begun: they are finished first."""


class ChooseConfig(ActiveConfig):
    """`accord choose`: which prompts labelers get next."""

    model: str = "reward"
    """Whose features: "reward" (the latest reward model), or the folder or hub name of a reward model or of
    an encoder such as all-MiniLM-L6-v2."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and what the labels so far say of choosing."""

    plan: Plan
    savings: Savings | None
    """None while the order is random: nothing was measured."""
    changed: int
    """Tasks that were given a new place in the queue."""


@dataclass
class _Work:
    """The tasks of the queue, and the rankings to learn from."""

    shown: dict[str, list[str]] = field(default_factory=dict)
    """The completion ids of each task, by prompt id."""
    arms: dict[str, str] = field(default_factory=dict)
    reserved: set[str] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    """Tasks that somebody holds or has answered."""
    rankings: list[Ranking] = field(default_factory=list)

    def completions(self) -> dict[str, list[str]]:
        """The ids of every completion that is shown or was ranked, by prompt id."""
        ids = {prompt_id: dict.fromkeys(shown) for prompt_id, shown in self.shown.items()}
        for ranking in self.rankings:
            ids.setdefault(ranking.prompt_id, {}).update(dict.fromkeys(levels(ranking)))
        return {prompt_id: list(found) for prompt_id, found in ids.items() if len(found) > 1}

    def asked_by(self) -> dict[str, str]:
        """The arm under which each prompt was first ranked, of those that were asked in the app."""
        first: dict[str, str] = {}
        for ranking in self.rankings:
            if ranking.arm in (RANDOM, ACTIVE):
                first.setdefault(ranking.prompt_id, ranking.arm)
        return first


def choose(
    workspace: Workspace, config: ChooseConfig, *, progress: Progress = lambda _: None
) -> tuple[Run, Choice]:
    """Put the tasks of the labelling queue in the order in which they tell most; makes missing tasks first.

    While fewer than ``config.start`` prompts are ranked, the queue's own random order stays and no model is
    needed. Tasks that are reserved for the random arm stay in it always.

    Raises:
        DataError: no prompt has two completions.
        StoreError: a reward model is asked for and there is none yet.
    """
    label = LabelConfig.build(workspace.section("label"), "accord.toml [label]")
    fill(workspace.store, label)
    work = _work(workspace, label)
    ids = work.completions()
    rng = np.random.default_rng(config.seed)
    inputs = [digest([ranking.id for ranking in work.rankings])]
    ranked = {ranking.prompt_id for ranking in work.rankings}
    reader = None
    if config.method != RANDOM and len(ranked) >= config.start:
        reader, made_from = _reader(workspace, config.model)
        inputs += made_from
    with recorded(workspace, "choose", config.model_dump(mode="json"), inputs) as record:
        whole = pool(_features(workspace, ids, reader, progress), config.dimensions)
        said = votes(whole, work.rankings, ids)
        places = [[ids[p].index(c) for c in work.shown.get(p, ids[p])] for p in whole.prompts]
        closed = work.reserved | work.begun | (ids.keys() - work.shown.keys())
        before = ACTIVE in work.arms.values()
        made = plan(whole, said, config, rng, shown=whole.only(places), closed=closed, chosen_before=before)
        told = None
        if made.method != RANDOM:
            asked = work.asked_by()
            told = savings(whole, said, [asked.get(p, "") for p in whole.prompts], rng)
        choice = Choice(made, told, _write(workspace, work, made))
        record.write("choice.json", choice, "choice")
        record.metrics |= _metrics(choice)
    return workspace.store.run(record.run.id), choice


def _work(workspace: Workspace, label: LabelConfig) -> _Work:
    work, q = _Work(), state.queue.c
    with workspace.store.database.read() as connection:
        for task in connection.execute(select(state.queue).where(q.criterion == label.criterion)):
            work.shown[task.prompt_id] = task.completions
            work.arms[task.prompt_id] = task.arm
            if task.reserved:
                work.reserved.add(task.prompt_id)
            if task.taken:
                work.begun.add(task.prompt_id)
    if not work.shown:
        raise DataError(
            "there is nothing to choose from: no prompt has two different completions; make some with: "
            "accord sample"
        )
    work.rankings = [
        ranking
        for ranking in workspace.store.rankings()
        if ranking.criterion in ("", label.criterion) and ranking.arm not in ("repeat", "gold", "quiz")
    ]
    return work


def _reader(workspace: Workspace, name: str) -> tuple[SequenceClassifier, list[str]]:
    """The model whose features are used, and the ids of what it came from."""
    if name in ("", "reward"):
        scorer, made_from = scorer_of(workspace, "reward")
        assert isinstance(scorer, Reward)
        return one_model(scorer).classifier, made_from
    if (Path(name) / SETTINGS).exists():
        classifier = RewardModel.load(name).classifier
    else:
        classifier = SequenceClassifier.load(name, labels=1)
    return classifier, [f"features:{Path(name).name}:{classifier.weights_hash()}"]


def _features(
    workspace: Workspace,
    ids: Mapping[str, Sequence[str]],
    reader: SequenceClassifier | None,
    progress: Progress,
) -> dict[str, Array]:
    """The features (completions, D) of each prompt, as in ``ids``; zeros while no reader is needed."""
    if reader is None:
        return {prompt_id: np.zeros((len(wanted), 1)) for prompt_id, wanted in ids.items()}
    found: dict[str, Array] = {}
    names = list(ids)
    for at in range(0, len(names), CHUNK):
        part = names[at : at + CHUNK]
        prompts = workspace.store.prompts(ids=part)
        texts = {c.id: c.text for group in workspace.store.completions(part).values() for c in group}
        inputs = [reader.encode(prompt, texts[id]) for prompt in prompts for id in ids[prompt.id]]
        rows = iter(features(reader, inputs).double().numpy())
        found |= {prompt_id: np.stack([next(rows) for _ in ids[prompt_id]]) for prompt_id in part}
        progress({"step": at + len(part), "steps": len(names)})
    return found


def _write(workspace: Workspace, work: _Work, made: Plan) -> int:
    """Set the queue's priorities; what was begun comes first, in the arm that it was begun in."""
    if made.arm == RANDOM:  # the queue's own order is random
        return 0
    store = workspace.store
    for arm in (RANDOM, ACTIVE):
        set_priorities(store, {p: BEGUN for p in sorted(work.begun) if work.arms[p] == arm}, arm)
    return set_priorities(store, made.priorities(), ACTIVE)


def _metrics(choice: Choice) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "method": choice.plan.method,
        "labelled": choice.plan.labelled,
        "open": len(choice.plan.order),
        "changed": choice.changed,
    }
    if choice.savings is not None:
        saved = choice.savings.saved
        if saved is not None:
            metrics |= {"saved": saved.value, "saved_low": saved.low, "saved_high": saved.high}
        metrics["verdict"] = choice.savings.verdict
    return metrics
