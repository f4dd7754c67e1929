"""Train a reward model from comparisons.

One prompt with all its completions is one batch element: N forwards for N completions, and all its
pairs in one gradient, because pairs of a prompt shuffled apart over-fit within a single epoch
(Ouyang et al. 2022, arXiv:2203.02155, section 3.5). The loss is

    L = - [p log sigma(r_chosen - r_rejected) + (1 - p) log sigma(r_rejected - r_chosen)]
        + centering * (r_chosen + r_rejected)^2

in the mean over a prompt's pairs and then over prompts, with p the consensus probability (1 for a hard
label) and the centering of Eisenstein et al. 2023 (arXiv:2312.09244). Held-out prompts, never
held-out pairs, decide which epoch is kept.

Left out: ensembles, anchors from FAIL and thumbs, calibration by temperature.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from accord.config import Config
from accord.errors import DataError
from accord.lm.classifier import Encoded, SequenceClassifier
from accord.lm.fit import cosine, fit, mixed_precision
from accord.lm.render import Template
from accord.reward.model import RewardModel
from accord.rl.losses import centering_penalty, ranking_loss
from accord.stats.intervals import clustered_mean
from accord.types import Comparison, Completion, Prompt


class RewardConfig(Config):
    """How a reward model is trained."""

    base: str = ""
    """Folder or hub name of the model it starts from (a language model or an encoder)."""
    train: Literal["full", "lora", "head"] = "full"
    """What trains: all weights, LoRA adapters with the head, or the head alone."""
    epochs: int = Field(1, ge=1)
    """Passes over the comparisons; the best epoch on held-out prompts is kept."""
    batch_prompts: int = Field(16, ge=1)
    """Prompts an optimiser step, each with all its completions."""
    micro_rows: int = Field(64, ge=2)
    """Most completions in one forward; larger batches are split and their gradients summed."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak rate of AdamW, after 5 % warm-up and before a cosine to a tenth."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decoupled weight decay."""
    centering: float = Field(0.01, ge=0)
    """Weight of the pull of a pair's mean reward to zero."""
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


@dataclass(frozen=True)
class Reliability:
    """Pairs binned by predicted probability: mean prediction, observed share, count."""

    predicted: float
    observed: float
    count: int


@dataclass(frozen=True)
class RewardReport:
    """What is known of a reward model: figures on prompts it never saw in training."""

    pairs_train: int
    pairs_holdout: int
    prompts_train: int
    prompts_holdout: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    log_loss: float
    length_only_accuracy: float
    """Accuracy of "the longer one wins" on the same pairs."""
    length_correlation: float
    """Pearson correlation of reward with length in characters."""
    reliability: tuple[Reliability, ...]
    chosen_scores: tuple[float, ...]
    """Standardised rewards of the held-out pairs' chosen completions."""
    rejected_scores: tuple[float, ...]
    history: tuple[dict[str, float], ...]
    truncated: int
    """Inputs cut to the context."""


@dataclass
class _Group:
    """One prompt's completions in tokens, and its pairs as positions among them."""

    prompt: Prompt
    completions: list[Completion] = field(default_factory=list)
    inputs: list[Encoded] = field(default_factory=list)
    pairs: list[tuple[int, int, float]] = field(default_factory=list)


def train(
    comparisons: Sequence[Comparison],
    classifier: SequenceClassifier,
    config: RewardConfig,
    progress: Callable[[dict[str, float]], None] = lambda _: None,
) -> tuple[RewardModel, RewardReport]:
    """Train ``classifier`` (one label) on ``comparisons``; figures come from held-out prompts.

    Raises:
        DataError: fewer than two prompts with a comparison, or nothing but ties held out.
        NumericsError: loss or gradient is not finite.
    """
    groups = group_by_prompt(comparisons, classifier)
    train_groups, held = split_by_prompt(groups, config.holdout, config.seed)
    if not any(p_chosen > 0.5 for group in held for _, _, p_chosen in group.pairs):
        raise DataError(
            f"all comparisons of the {len(held)} held-out prompts are ties, so there is nothing to measure "
            "accuracy on; collect decided comparisons, hold out more prompts, or change the seed"
        )
    if classifier.fresh:
        classifier.start_head(config.seed)
    parameters = classifier.prepare(config.train, config.lora_rank, config.seed)
    optimiser = torch.optim.AdamW(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.95)
    )
    steps = config.epochs * math.ceil(len(train_groups) / config.batch_prompts)
    batches = _batches(train_groups, config)
    history: list[dict[str, float]] = []
    best: tuple[float, dict[str, Tensor]] | None = None
    per_epoch = steps // config.epochs
    loop = fit(batches, _loss(classifier, config), optimiser, schedule=cosine(steps, max(1, steps // 20)))
    for step, metrics in enumerate(loop, start=1):
        classifier.fresh = False
        right, decided = metrics.pop("right"), metrics.pop("decided")
        row = {"step": step, "steps": steps, **metrics}
        if decided:
            row["accuracy"] = right / decided
        if step % per_epoch == 0:
            row["held_out_log_loss"] = _log_loss(*_differences(classifier, held)[:2])
            if best is None or row["held_out_log_loss"] < best[0]:
                best = row["held_out_log_loss"], copy.deepcopy(classifier.net.state_dict())
        history.append(row)
        progress(row)
    assert best is not None
    classifier.net.load_state_dict(best[1])
    classifier.merge()
    model = RewardModel(classifier, *_moments(classifier, train_groups))
    return model, _report(model, train_groups, held, tuple(history))


def group_by_prompt(comparisons: Sequence[Comparison], classifier: SequenceClassifier) -> list[_Group]:
    """Comparisons as groups; each completion of a prompt is encoded once."""
    groups: dict[str, _Group] = {}
    places: dict[tuple[str, str], int] = {}
    for comparison in comparisons:
        group = groups.setdefault(comparison.prompt.id, _Group(comparison.prompt))
        at = []
        for completion in (comparison.chosen, comparison.rejected):
            key = comparison.prompt.id, completion.id or completion.text
            if key not in places:
                places[key] = len(group.completions)
                group.completions.append(completion)
                group.inputs.append(classifier.encode(comparison.prompt, completion.text))
            at.append(places[key])
        if at[0] != at[1]:
            group.pairs.append((at[0], at[1], comparison.p_chosen))
    return [group for group in groups.values() if group.pairs]


def split_by_prompt(groups: list[_Group], share: float, seed: int) -> tuple[list[_Group], list[_Group]]:
    """Training and held-out groups; at least one of each.

    Raises:
        DataError: fewer than two prompts.
    """
    if len(groups) < 2:
        raise DataError(
            f"{len(groups)} prompt(s) with comparisons; a reward model needs at least 2 (one is held out) "
            "and some hundreds to be of use. Collect more rankings"
        )
    shuffled = sorted(groups, key=lambda group: group.prompt.id)
    random.Random(seed).shuffle(shuffled)
    count = min(max(1, round(share * len(groups))), len(groups) - 1)
    return shuffled[count:], shuffled[:count]


def _batches(groups: list[_Group], config: RewardConfig) -> Iterator[list[tuple[list[_Group], int]]]:
    """Per optimiser step: micro-batches of whole prompts, each with the step's number of prompts."""
    order = list(groups)
    rng = random.Random(config.seed + 1)
    for _ in range(config.epochs):
        rng.shuffle(order)
        for at in range(0, len(order), config.batch_prompts):
            batch = order[at : at + config.batch_prompts]
            micros: list[list[_Group]] = [[]]
            for group in sorted(batch, key=lambda g: max(len(x.ids) for x in g.inputs)):
                if micros[-1] and sum(len(g.inputs) for g in [*micros[-1], group]) > config.micro_rows:
                    micros.append([])
                micros[-1].append(group)
            yield [(micro, len(batch)) for micro in micros]


def _loss(
    classifier: SequenceClassifier, config: RewardConfig
) -> Callable[[tuple[list[_Group], int]], tuple[Tensor, dict[str, Tensor]]]:
    def loss(micro: tuple[list[_Group], int]) -> tuple[Tensor, dict[str, Tensor]]:
        groups, prompts = micro
        with mixed_precision(classifier.net.device, config.mixed_precision):
            rewards_N = classifier.logits([x for group in groups for x in group.inputs])[:, 0]
        chosen, rejected, p, weights, offset = [], [], [], [], 0
        for group in groups:
            for i, j, p_chosen in group.pairs:
                chosen.append(offset + i)
                rejected.append(offset + j)
                p.append(p_chosen)
                weights.append(1 / len(group.pairs))  # a prompt counts once, however many pairs
            offset += len(group.inputs)
        chosen_P, rejected_P = rewards_N[chosen], rewards_N[rejected]
        p_P = torch.tensor(p, device=rewards_N.device)
        weights_P = torch.tensor(weights, device=rewards_N.device)
        value, _ = ranking_loss(chosen_P, rejected_P, p_P, weights_P=weights_P)
        sizes = [len(group.pairs) for group in groups]
        centre = torch.stack(
            [
                centering_penalty(*sides)
                for sides in zip(chosen_P.split(sizes), rejected_P.split(sizes), strict=True)
            ]
        ).mean()
        with torch.no_grad():
            decided_P = p_P > 0.5
            right = (0.5 + 0.5 * torch.sign(chosen_P - rejected_P))[decided_P].sum()
        share = len(groups) / prompts
        return share * (value + config.centering * centre), {"right": right, "decided": decided_P.sum()}

    return loss


def _differences(
    classifier: SequenceClassifier, groups: list[_Group]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per pair of ``groups``: reward difference, p_chosen, length difference; and per completion rewards."""
    rewards = classifier.score_inputs([x for g in groups for x in g.inputs])[:, 0].double().numpy()
    d, p, longer, offset = [], [], [], 0
    for group in groups:
        for i, j, p_chosen in group.pairs:
            d.append(rewards[offset + i] - rewards[offset + j])
            p.append(p_chosen)
            longer.append(len(group.completions[i].text) - len(group.completions[j].text))
        offset += len(group.inputs)
    return np.array(d), np.array(p), np.array(longer), rewards


def _log_loss(d_P: np.ndarray, p_P: np.ndarray) -> float:
    """Mean of -[p log sigma(d) + (1 - p) log sigma(-d)]."""
    return float((p_P * np.logaddexp(0, -d_P) + (1 - p_P) * np.logaddexp(0, d_P)).mean())


def _moments(classifier: SequenceClassifier, groups: list[_Group]) -> tuple[float, float]:
    rewards = classifier.score_inputs([x for g in groups for x in g.inputs])[:, 0]
    return float(rewards.mean()), max(float(rewards.std()), 1e-6)


def _report(
    model: RewardModel,
    train_groups: list[_Group],
    held: list[_Group],
    history: tuple[dict[str, float], ...],
) -> RewardReport:
    d, p, longer, rewards = _differences(model.classifier, held)
    decided = p > 0.5
    right = (np.sign(d[decided]) + 1) / 2  # equal rewards count half
    clusters = np.array([g.prompt.id for g in held for _ in g.pairs])[decided]
    accuracy = clustered_mean(right, list(clusters), np.random.default_rng(0))
    lengths = np.array([len(c.text) for g in held for c in g.completions], dtype=float)
    correlation = 0.0
    if len(rewards) > 1 and rewards.std() > 0 and lengths.std() > 0:
        correlation = float(np.corrcoef(rewards, lengths)[0, 1])
    return RewardReport(
        pairs_train=sum(len(g.pairs) for g in train_groups),
        pairs_holdout=len(d),
        prompts_train=len(train_groups),
        prompts_holdout=len(held),
        accuracy=accuracy.value,
        accuracy_low=accuracy.low,
        accuracy_high=accuracy.high,
        log_loss=_log_loss(d, p),
        length_only_accuracy=float(((np.sign(longer[decided]) + 1) / 2).mean()),
        length_correlation=correlation,
        reliability=reliability(d, p),
        chosen_scores=tuple(_paired(model, held, rewards, 0)),
        rejected_scores=tuple(_paired(model, held, rewards, 1)),
        history=history,
        truncated=model.classifier.truncated,
    )


def _paired(
    model: RewardModel, groups: list[_Group], logits: np.ndarray, side: Literal[0, 1]
) -> Iterator[float]:
    """The standardised reward of one side (0 chosen, 1 rejected) of every pair."""
    offset = 0
    for group in groups:
        for pair in group.pairs:
            yield (float(logits[offset + pair[side]]) - model.mean) / model.std
        offset += len(group.inputs)


def reliability(d_P: np.ndarray, p_P: np.ndarray, bins: int = 10) -> tuple[Reliability, ...]:
    """Calibration of sigma(d) over [0.5, 1]: each pair is turned so that the model prefers its first."""
    predicted = 1 / (1 + np.exp(-np.abs(d_P)))
    observed = np.where(d_P >= 0, p_P, 1 - p_P)
    index = np.minimum(((predicted - 0.5) * 2 * bins).astype(int), bins - 1)
    return tuple(
        Reliability(
            float(predicted[index == b].mean()), float(observed[index == b].mean()), int((index == b).sum())
        )
        for b in range(bins)
        if (index == b).any()
    )
