"""Train a reward model from comparisons and anchors.

One prompt with all its completions is one batch element: N forwards for N completions, and all its
pairs in one gradient, because pairs of a prompt shuffled apart over-fit within a single epoch
(Ouyang et al. 2022, arXiv:2203.02155, section 3.5). What is in a batch stands in ``lm.grouped``, the loss
in ``reward.loss``. Held-out prompts, never held-out pairs, are scored several times an epoch and decide
which weights are kept; training stops where a whole epoch of them brought nothing better.

Left out: a margin (Llama 3 dropped Llama 2's).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from accord.config import Config
from accord.errors import ConfigError, DataError
from accord.judgements import Anchor, Comparison
from accord.lm.best import Best, look_steps
from accord.lm.classifier import SequenceClassifier
from accord.lm.fit import fit
from accord.lm.grouped import OverLong, PromptGroup, batches, split_by_prompt
from accord.lm.packed import packed_logits, packing_agrees, worth_packing
from accord.lm.precision import mixed_precision
from accord.lm.render import Template
from accord.lm.schedule import cosine
from accord.reward.data import gather
from accord.reward.loss import Objective
from accord.reward.measure import RewardReport, held_out_loss, measure, report_on
from accord.reward.model import CLASSES, RewardModel, one_number

SCALARS_RATE = 0.02
"""Peak rate of the few numbers learned beside the weights (a, b, nu), which start near where they end."""

MOMENTS = 2048
"""Training completions, evenly spread, whose mean and deviation are taken (to about 2 %)."""


class RewardConfig(Config):
    """How a reward model is trained."""

    base: str = ""
    """Folder or hub name of the model it starts from (a language model or an encoder)."""
    head: Literal["logit", "two-class"] = "logit"
    """One logit; or a logit for each of the classes bad and good, whose log-odds are the reward."""
    train: Literal["full", "lora", "head"] = "full"
    """What trains: all weights, LoRA adapters with the head, or the head alone."""
    epochs: int = Field(1, ge=1)
    """Passes over the comparisons, at most: training stops where held-out prompts no longer gain."""
    evaluations: int = Field(4, ge=1)
    """How often an epoch the held-out prompts are scored; the best weights on them are kept."""
    batch_prompts: int = Field(8, ge=1)
    """Prompts an optimiser step, each with all its completions."""
    micro_rows: int = Field(64, ge=2)
    """Most completions in one forward; larger batches are split and their gradients summed."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak rate of AdamW, after 5 % warm-up and before a cosine to a tenth."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decoupled weight decay."""
    centering: float = Field(0.01, ge=0)
    """Weight of the pull of a pair's mean reward to zero."""
    anchor_weight: float = Field(0.1, ge=0)
    """Weight of the anchors (FAIL or not, thumbs) beside the comparisons; 0 leaves them out. Small: a reward
    that is mostly FAIL or not has little scale left for what is better among the acceptable."""
    ties: Literal["half", "davidson"] = "half"
    """A label of 1/2 is half a win for either; or a vote "equal" in Davidson's model, with nu learned."""
    source_weights: dict[str, float] = Field(default_factory=dict)
    """How much a source's judgements count, by its name; 1 where it is not named."""
    over_long: Literal["cut", "refuse", "leave_out"] = "cut"
    """Inputs beyond the context: cut (first the prompt's beginning), refuse, or leave_out; counted all."""
    holdout: float = Field(0.1, gt=0, lt=1)
    """Share of prompts kept for validation."""
    max_length: int | None = Field(None, ge=8)
    """Longest input in tokens; the model's context where not given."""
    template: Template | None = None
    """How prompts are written: chat, plain or hh; a base without a chat template reads plain."""
    mixed_precision: bool = False
    """bfloat16 products with float32 weights where the processor has them: faster, a little rougher."""
    lora_rank: int = Field(16, ge=1)
    """Rank of the adapters with train = "lora"."""
    seed: int = 0
    """Order of the prompts, split and head."""

    @property
    def labels(self) -> int:
        """Outputs of the head."""
        return 2 if self.head == "two-class" else 1


def train(
    comparisons: Sequence[Comparison],
    classifier: SequenceClassifier,
    config: RewardConfig,
    progress: Callable[[dict[str, float]], None] = lambda _: None,
    anchors: Sequence[Anchor] = (),
) -> tuple[RewardModel, RewardReport]:
    """Train ``classifier`` on ``comparisons`` and ``anchors``; figures come from held-out prompts.

    The classifier has one label, or two with ``config.head = "two-class"``.

    Raises:
        ConfigError: the classifier's head is not the config's, or a weighted source does not occur.
        DataError: fewer than two prompts, nothing but ties held out, or anchors alone that are all good
            or all bad; with ``over_long = refuse``, an input that does not fit.
        NumericsError: loss or gradient is not finite.
    """
    found = classifier.net.config.num_labels
    if found != config.labels:
        raise ConfigError(
            f"head = {config.head!r} needs a classifier of {config.labels} label(s), {classifier.name} has "
            f"{found}; load it with labels={config.labels}"
        )
    groups, lost = gather(
        comparisons,
        classifier,
        anchors=anchors,
        source_weights=config.source_weights,
        over_long=OverLong(config.over_long),
    )
    train_groups, held = split_by_prompt(groups, config.holdout, config.seed)
    objective = Objective(
        train_groups,
        centering=config.centering,
        anchor_weight=config.anchor_weight,
        davidson=config.ties == "davidson",
        fixed_zero=config.labels == 2,
    )
    _check_measurable(train_groups, held, objective)
    if classifier.fresh:
        classifier.start_head(config.seed)
        if config.labels == 2:
            classifier.name_labels(CLASSES)
    weights = classifier.prepare(config.train, config.lora_rank, config.seed)
    history = _optimise(
        classifier, objective.to(classifier.net.device), weights, train_groups, held, config, progress
    )
    classifier.merge()
    model = _standardised(classifier, objective, train_groups)
    return model, report_on(model, objective, (train_groups, held), lost, history)


def _check_measurable(
    train_groups: Sequence[PromptGroup], held: Sequence[PromptGroup], objective: Objective
) -> None:
    """Refuse, before anything is trained, data on which nothing can be learned or measured."""
    if any(pair.p_chosen > 0.5 for group in held for pair in group.pairs):
        return
    if any(group.pairs for group in (*train_groups, *held)):
        raise DataError(
            f"all comparisons of the {len(held)} held-out prompts are ties, or there are none, so there is "
            "nothing to measure accuracy on; collect decided comparisons, hold out more prompts, or change "
            "the seed"
        )
    if not objective.anchored or not any(group.marks for group in held):
        raise DataError(
            "there are no comparisons, and anchors alone teach nothing while hardly any is bad, hardly any "
            "is good, or anchor_weight is 0; collect rankings, or thumbs of both kinds"
        )


def _optimise(
    classifier: SequenceClassifier,
    objective: Objective,
    weights: list[nn.Parameter],
    train_groups: list[PromptGroup],
    held: list[PromptGroup],
    config: RewardConfig,
    progress: Callable[[dict[str, float]], None],
) -> tuple[dict[str, float], ...]:
    """Train, leave the weights at their best on ``held``, and return the history."""
    groups: list[dict[str, object]] = [{"params": weights}]
    if learned := objective.learned():
        groups.append({"params": learned, "lr": SCALARS_RATE, "weight_decay": 0.0})
    optimiser = torch.optim.AdamW(
        groups, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.95)
    )
    steps = config.epochs * math.ceil(len(train_groups) / config.batch_prompts)
    looks = look_steps(steps, config.epochs * config.evaluations)
    cut = batches(
        train_groups,
        prompts=config.batch_prompts,
        rows=config.micro_rows,
        epochs=config.epochs,
        seed=config.seed,
    )
    best = Best([*weights, *learned])
    history: list[dict[str, float]] = []
    first = [group.inputs for group in train_groups[: config.batch_prompts]]
    pack = worth_packing(classifier, first) and packing_agrees(classifier, first)
    loop = fit(
        cut,
        _loss(classifier, objective, config, pack),
        optimiser,
        schedule=cosine(steps, max(1, steps // 20)),
    )
    for step, metrics in enumerate(loop, start=1):
        classifier.fresh = False
        right, decided = metrics.pop("right"), metrics.pop("decided")
        row = {"step": step, "steps": steps, **metrics}
        if decided:
            row["accuracy"] = right / decided
        if step in looks:
            row["held_out_log_loss"] = held_out_loss(measure(classifier, held), objective, held)
            best.look(row["held_out_log_loss"], last=step == steps)
        history.append(row)
        progress(row)
        if best.waited >= config.evaluations:
            break
    best.restore()
    return tuple(history)


def _loss(
    classifier: SequenceClassifier, objective: Objective, config: RewardConfig, pack: bool
) -> Callable[[tuple[list[PromptGroup], int]], tuple[Tensor, dict[str, Tensor]]]:
    """The loss of a micro-batch; ``pack``: what a prompt's completions begin with passes the weights once."""

    def loss(micro: tuple[list[PromptGroup], int]) -> tuple[Tensor, dict[str, Tensor]]:
        groups, prompts = micro
        inputs = [group.inputs for group in groups]
        with mixed_precision(classifier.net.device, config.mixed_precision):
            if pack and worth_packing(classifier, inputs):
                logits_NL = packed_logits(classifier, inputs)
            else:
                logits_NL = classifier.logits([x for group in inputs for x in group])
        return objective(one_number(logits_NL), groups, prompts)

    return loss


def _standardised(
    classifier: SequenceClassifier, objective: Objective, groups: Sequence[PromptGroup]
) -> RewardModel:
    """The reward model whose zero the anchors fix, where they do, and else the mean of the training texts."""
    inputs = [x for g in groups for x in g.inputs]
    inputs = inputs[:: -(-len(inputs) // MOMENTS)]
    rewards_N = one_number(classifier.score_inputs(inputs))
    mean, std = float(rewards_N.mean()), max(float(rewards_N.std()), 1e-6)
    if not objective.anchored:
        return RewardModel(classifier, mean, std)
    a, b = objective.a, objective.offset
    return RewardModel(classifier, -b / a, std, acceptable=(a, b))
