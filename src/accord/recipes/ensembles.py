"""More than one reward model for `accord reward`: members that learn drawn prompts, or heads on one trunk."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from accord.judgements import Anchor, Comparison
from accord.lm.classifier import SequenceClassifier
from accord.recipes.record import Progress
from accord.reward.ensemble import CAUTION, Ensemble, Rule, train_members
from accord.reward.heads import Heads
from accord.reward.model import RewardModel
from accord.reward.train import RewardConfig, train


class RewardStepConfig(RewardConfig):
    """`accord reward`: one reward model, or several that score together."""

    members: int = Field(1, ge=1)
    """Reward models that score together; the first learns every prompt, the others prompts drawn anew."""
    member: Literal["model", "head"] = "model"
    """What a member is: a model of its own, or a head on one trunk, all as cheap as one model."""
    combine: Literal["mean", "variance", "worst"] = "variance"
    """Of several: their mean, mean - caution x variance, or the worst."""
    caution: float = Field(CAUTION, ge=0)
    """How much the members' variance takes away."""


def with_members(
    model: RewardModel,
    comparisons: Sequence[Comparison],
    anchors: Sequence[Anchor],
    config: RewardStepConfig,
    *,
    held_out: Collection[str] = (),
    progress: Progress = lambda _: None,
) -> RewardModel | Ensemble | Heads:
    """``model`` with as many members as ``config`` asks for; none learns of the prompts ``held_out`` (ids).

    Raises:
        DataError: heads are asked for and there are no comparisons.
    """
    if config.members == 1:
        return model
    comparisons = [c for c in comparisons if c.prompt.id not in held_out]
    anchors = [a for a in anchors if a.prompt.id not in held_out]
    rule, caution = Rule(config.combine), config.caution
    if config.member == "head":
        rng = np.random.default_rng(config.seed)
        return Heads.fit(model, comparisons, config.members, rng, rule=rule, caution=caution)

    def one(comparisons: Sequence[Comparison], anchors: Sequence[Anchor], seed: int) -> RewardModel:
        classifier = SequenceClassifier.load(
            config.base, labels=config.labels, max_length=config.max_length, template=config.template
        )
        drawn = {c.source for c in comparisons} | {a.source for a in anchors}  # a rare source may be missed
        weights = {source: weight for source, weight in config.source_weights.items() if source in drawn}
        own = config.model_copy(update={"seed": seed, "source_weights": weights})
        return train(comparisons, classifier, own, progress, anchors)[0]

    others = train_members(one, comparisons, config.members - 1, config.seed, anchors)
    return Ensemble([model, *others], rule, caution)
