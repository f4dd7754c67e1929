"""Offline preference learning: comparisons or thumbs to a better policy, without reward model or sampling.

    dpo    raise the chosen over the rejected, on a leash to the reference   (Rafailov et al. 2023)
    ipo    the same to a fixed distance, which certainty does not overrun    (Azar et al. 2023)
    kto    from single completions, good or bad: thumbs, FAIL, or pairs      (Ethayarajh et al. 2024)
    orpo   supervised learning and an odds ratio at once, no reference       (Hong et al. 2024)
    simpo  log-probs a token with a margin, no reference                     (Meng et al. 2024)

The losses stand in ``rl.preference``, the loop in ``align.offline``. A completion passes the policy once a
step, however many pairs it stands in; a prompt's pairs weigh 1 together. The reference's log-probs are
computed once, before the first step.

Left out: a supervised term beside DPO (RPO), other divergences (f-DPO), reward models' margins.

Legend: N completions, P pairs, M completions put to another prompt.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from accord.align.answers import Answer, Group, Reader, measured
from accord.align.offline import Data, Metrics, OfflineConfig, Progress, Trainer, answers_of, read
from accord.errors import ConfigError, DataError
from accord.judgements import Anchor, Comparison
from accord.lm.grouped import Lost, Mark, marks_of, pairs_of
from accord.lm.model import LanguageModel
from accord.rl.preference import (
    dpo_loss,
    ipo_loss,
    kto_loss,
    kto_reference_point,
    orpo_loss,
    simpo_loss,
    smooth_labels,
)
from accord.stats.intervals import Interval, clustered_mean

BETAS = {"dpo": 0.1, "ipo": 0.1, "kto": 0.1, "orpo": 0.1, "simpo": 2.0}
"""Each loss's beta where none is given: that of its paper's first experiments."""
PER_TOKEN = ("ipo", "orpo", "simpo")
"""Losses of means over a completion's tokens."""


class PreferenceConfig(OfflineConfig):
    """How a policy learns from preferences."""

    algorithm: Literal["dpo", "ipo", "kto", "orpo", "simpo"] = "dpo"
    """What is minimised: docs/preference.md tells them apart."""
    beta: float | None = Field(None, gt=0)
    """The leash (dpo, ipo, kto), weight of the odds ratio (orpo) or scale (simpo); the loss's own if not set:
    0.1, and 2 for simpo."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Share of comparisons taken to be flipped (not kto); with dpo, conservative DPO."""
    margin: float = Field(1.0, ge=0)
    """simpo: how far the chosen is to lead, in units of beta times nats a token."""
    good_weight: float = Field(1.0, ge=0)
    """kto: how much a good completion counts..."""
    bad_weight: float = Field(1.0, ge=0)
    """...and a bad one."""
    source_weights: dict[str, float] = Field(default_factory=dict)
    """How much a source's judgements count, by its name; 1 where it is not named."""

    @model_validator(mode="after")
    def _idle(self) -> PreferenceConfig:
        readers = {
            "label_smoothing": ("dpo", "ipo", "orpo", "simpo"),
            "margin": ("simpo",),
            "good_weight": ("kto",),
            "bad_weight": ("kto",),
        }
        fields = type(self).model_fields
        for name, algorithms in readers.items():
            if getattr(self, name) != fields[name].default and self.algorithm not in algorithms:
                raise ConfigError(
                    f"{name} would do nothing with {self.algorithm}; it belongs to {', '.join(algorithms)}"
                )
        return self

    @property
    def strength(self) -> float:
        """Beta, or the loss's own."""
        return BETAS[self.algorithm] if self.beta is None else self.beta

    @property
    def needs_reference(self) -> bool:
        """Whether the loss is of log-ratios to the reference."""
        return self.algorithm in ("dpo", "ipo", "kto")


@dataclass(frozen=True)
class PreferenceReport:
    """What a policy learned from preferences: figures on prompts it never saw; NaN where there are none."""

    loss: float
    """Held out, after training..."""
    loss_before: float
    """...and before it."""
    accuracy: Interval
    """Share of decided held-out pairs that the implicit reward orders as people did; by prompts."""
    margin: float
    """Mean difference of implicit rewards, chosen less rejected (kto: good less bad)."""
    chosen_moved: float
    """Mean change of the log-prob of what was chosen (kto: good), nats a completion; often below 0."""
    rejected_moved: float
    """The same of what was rejected (kto: bad)."""
    kl: float
    """Exact KL to the reference on the policy's own answers, nats a completion..."""
    kl_sampled: float
    """...and sampled."""
    prompts_train: int
    prompts_holdout: int
    judgements_train: int
    """Pairs; for kto completions with a label."""
    judgements_holdout: int
    good_to_bad: float
    """kto: good_weight x good over bad_weight x bad of what is trained on; the paper advises 1 to 4/3."""
    lost: Lost
    history: tuple[Metrics, ...]
    held_out: tuple[str, ...]
    """Ids of the prompts that were not trained on."""

    def rows(self) -> list[tuple[str, str]]:
        """The figures as people read them, by name; what is undefined is left out."""
        shown = [("loss before", f"{self.loss_before:.4f}"), ("loss", f"{self.loss:.4f}")]
        if math.isfinite(self.accuracy.value):
            found = self.accuracy
            shown.append(
                ("pairs in people's order", f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})")
            )
        shown += [
            ("margin of implicit rewards", f"{self.margin:.3f}"),
            ("log-prob of the chosen moved by", f"{self.chosen_moved:+.2f}"),
            ("log-prob of the rejected moved by", f"{self.rejected_moved:+.2f}"),
            ("exact KL to the reference", f"{self.kl:.3f}"),
            ("good to bad, weighted", f"{self.good_to_bad:.2f}"),
        ]
        return [(name, figure) for name, figure in shown if "nan" not in figure]


def prefer(
    policy: LanguageModel,
    comparisons: Sequence[Comparison],
    config: PreferenceConfig,
    *,
    anchors: Sequence[Anchor] = (),
    folder: str | Path | None = None,
    resume: bool = False,
    save_every: int = 50,
    progress: Progress = lambda _: None,
) -> PreferenceReport:
    """Train ``policy`` in place on ``comparisons``, and with kto on ``anchors`` (thumbs, FAIL) beside them.

    For kto a comparison is two labels: the chosen is good with probability p_chosen, the rejected with one
    less it. With ``folder`` a checkpoint is written every ``save_every`` steps; ``resume`` goes on from it.

    Raises:
        ConfigError: anchors with a loss of pairs; all weights are to train and the policy has adapters; a
            weighted source does not occur; or ``folder`` holds a run and ``resume`` was not asked for.
        DataError: nothing to learn from, or too little to hold something out.
        StoreError: the run to resume was made from another model, with other settings or data.
        NumericsError: loss or gradient is not finite.
    """
    if anchors and config.algorithm != "kto":
        raise ConfigError(
            f"{config.algorithm} learns from comparisons alone, and {len(anchors)} anchors (thumbs, FAIL) "
            "were given; leave them out, or choose kto"
        )
    data = read(policy, config, comparisons, anchors, config.source_weights)
    if config.algorithm == "kto":
        label_both_sides(data.groups)
    counts = [sum(map(len, map(_judgements, side))) for side in (data.train, data.held)]
    if not counts[0]:
        raise DataError(f"{config.algorithm} found no judgement to learn from; collect comparisons")
    trainer = Trainer(policy, config, data)
    reference = Reference.of(trainer)
    objective = PreferenceLoss(config, policy, reference)
    before = trainer.held_out(objective)["loss"] if data.held else math.nan
    where = None if folder is None else Path(folder)
    history = trainer.run(objective, where, resume=resume, save_every=save_every, progress=progress)
    after = trainer.held_out(objective) if data.held else {"loss": math.nan}
    kl, sampled = trainer.kl() or (math.nan, math.nan)
    return PreferenceReport(
        loss=after["loss"],
        loss_before=before,
        accuracy=_accuracy(policy, data.held, config, reference),
        margin=after.get("margin", math.nan),
        chosen_moved=after.get("chosen_moved", math.nan),
        rejected_moved=after.get("rejected_moved", math.nan),
        kl=kl,
        kl_sampled=sampled,
        prompts_train=len(data.train),
        prompts_holdout=len(data.held),
        judgements_train=counts[0],
        judgements_holdout=counts[1],
        good_to_bad=_good_to_bad(data, config),
        lost=data.lost,
        history=tuple(history),
        held_out=tuple(group.prompt.id for group in data.held),
    )


# -- the reference -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """The reference's log-probs, computed once; by prompt id, in the order of the prompt's completions."""

    logprobs: Mapping[str, Tensor]
    strangers: Mapping[str, tuple[Answer, float]]
    """For kto: another prompt's completion behind this prompt, with its log-prob; empty otherwise."""

    @classmethod
    @torch.no_grad()
    def of(cls, trainer: Trainer) -> Reference:
        """Measure before training: fresh adapters change nothing, and those there are belong to the start."""
        policy, groups, rows = trainer.policy, trainer.data.groups, trainer.config.micro_rows
        strangers: dict[str, tuple[Answer, float]] = {}
        found = trainer.measured()
        if isinstance(trainer.config, PreferenceConfig) and trainer.config.algorithm == "kto":
            others = _strangers(policy, groups, trainer.config)
            theirs = measured(policy, others, rows).tolist()
            strangers = {g.prompt.id: (o, t) for g, o, t in zip(groups, others, theirs, strict=True)}
        parts = found.split([len(group.inputs) for group in groups])
        return cls({g.prompt.id: part for g, part in zip(groups, parts, strict=True)}, strangers)

    def of_groups(self, groups: Sequence[Group], like: Tensor) -> Tensor:
        """(N,) log-probs of the groups' completions, in order, where ``like`` is."""
        return torch.cat([self.logprobs[group.prompt.id] for group in groups]).to(like)


def _strangers(policy: LanguageModel, groups: Sequence[Group], config: PreferenceConfig) -> list[Answer]:
    """Behind each prompt a completion of another, drawn once: the next in a shuffled circle of prompts."""
    if len(groups) < 2:
        raise DataError("kto takes its reference point from other prompts' completions; there is one prompt")
    rng = random.Random(f"{config.seed}:strangers")
    order = list(range(len(groups)))
    rng.shuffle(order)
    reader = Reader(policy, config.max_length)
    found: dict[int, Answer] = {}
    for here, there in zip(order, [*order[1:], *order[:1]], strict=True):
        mine, other = groups[here].inputs[0], rng.choice(groups[there].inputs)
        found[here] = reader.behind(mine.ids[: mine.start], other.ids[other.start :])
    return [found[i] for i in range(len(groups))]


# -- the objective -----------------------------------------------------------------------------


class PreferenceLoss:
    """The objective of ``config.algorithm``; implements ``align.offline.Objective``."""

    def __init__(self, config: PreferenceConfig, policy: LanguageModel, reference: Reference) -> None:
        self.config = config
        self.policy = policy
        self.reference = reference
        self.prompts = 0
        self.point = torch.zeros((), device=policy.device)
        """KTO's reference point for the step under way."""

    def begin(self, groups: Sequence[Group]) -> None:
        """Count the prompts; for kto measure the reference point by the policy as it is."""
        self.prompts = len(groups)
        if self.config.algorithm == "kto":
            answers, theirs = zip(*(self.reference.strangers[g.prompt.id] for g in groups), strict=True)
            ours_M = measured(self.policy, answers, self.config.micro_rows)
            self.point = kto_reference_point(ours_M - torch.tensor(theirs)).to(self.policy.device)

    def loss(
        self, logprobs_N: Tensor, tokens_N: Tensor, groups: Sequence[Group]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The groups' share of the mean over prompts, each prompt's judgements weighing 1 together."""
        config = self.config
        moved_N = logprobs_N - self.reference.of_groups(groups, logprobs_N)
        x_N = moved_N if config.needs_reference else logprobs_N
        if config.algorithm in PER_TOKEN:
            x_N = x_N / tokens_N
        terms = self._marks if config.algorithm == "kto" else self._pairs
        value, sums = terms(x_N, moved_N.detach(), groups)
        return value / self.prompts, sums

    def _pairs(
        self, x_N: Tensor, moved_N: Tensor, groups: Sequence[Group]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        pairs = [pair for pair in pairs_of(groups) if pair.weight > 0]
        if not pairs:
            return 0.0 * x_N.sum(), {}
        chosen, rejected, p, weight = zip(*pairs, strict=True)
        p_P, weights_P = (torch.tensor(each, device=x_N.device, dtype=x_N.dtype) for each in (p, weight))
        labels_P = smooth_labels(p_P, self.config.label_smoothing)
        chosen_P, rejected_P = x_N[list(chosen)], x_N[list(rejected)]
        value, metrics = _pairwise(self.config, chosen_P, rejected_P, labels_P, weights_P)
        decided_P = p_P > 0.5
        sums = {
            "pairs": torch.tensor(float(len(pairs))),
            "decided": decided_P.sum(),
            "right": (0.5 + 0.5 * torch.sign(chosen_P - rejected_P))[decided_P].sum().detach(),
            "margin": metrics["margin"] * len(pairs),
            "chosen_moved": moved_N[list(chosen)].sum(),
            "rejected_moved": moved_N[list(rejected)].sum(),
        }
        return value * weights_P.sum(), sums

    def _marks(
        self, x_N: Tensor, moved_N: Tensor, groups: Sequence[Group]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        marks = [mark for mark in marks_of(groups) if mark.weight > 0]
        if not marks:
            return 0.0 * x_N.sum(), {}
        at, good, weight = zip(*marks, strict=True)
        good_M, weights_M = (
            torch.tensor(each, device=x_N.device, dtype=x_N.dtype) for each in (good, weight)
        )
        value, _ = kto_loss(
            x_N[list(at)],
            good_M,
            self.point,
            beta=self.config.strength,
            desirable=self.config.good_weight,
            undesirable=self.config.bad_weight,
            weights_N=weights_M,
        )
        moved_M = moved_N[list(at)]
        sums = {
            "good": good_M.sum(),
            "bad": (1 - good_M).sum(),
            "chosen_moved": (good_M * moved_M).sum(),
            "rejected_moved": ((1 - good_M) * moved_M).sum(),
            "reference_point": self.point * len(groups) / self.prompts,
        }
        return value * weights_M.sum(), sums

    def figures(self, sums: Metrics) -> Metrics:
        """Means from sums: margin and moves, with accuracy for pairs and the reference point for kto."""
        if "pairs" in sums:
            found = {key: sums[key] / sums["pairs"] for key in ("margin", "chosen_moved", "rejected_moved")}
            return found | ({"accuracy": sums["right"] / sums["decided"]} if sums["decided"] else {})
        found = {"reference_point": sums["reference_point"]} if "reference_point" in sums else {}
        for kind, name in (("good", "chosen_moved"), ("bad", "rejected_moved")):
            if sums.get(kind):
                found[name] = sums[name] / sums[kind]
        if "chosen_moved" in found and "rejected_moved" in found:
            found["margin"] = self.config.strength * (found["chosen_moved"] - found["rejected_moved"])
        return found


def _pairwise(
    config: PreferenceConfig, chosen_P: Tensor, rejected_P: Tensor, p_P: Tensor, weights_P: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    if config.algorithm == "simpo":
        return simpo_loss(
            chosen_P, rejected_P, p_P, beta=config.strength, margin=config.margin, weights_P=weights_P
        )
    loss_of = {"dpo": dpo_loss, "ipo": ipo_loss, "orpo": orpo_loss}[config.algorithm]
    return loss_of(chosen_P, rejected_P, p_P, beta=config.strength, weights_P=weights_P)


# -- data and figures --------------------------------------------------------------------------


def label_both_sides(groups: Sequence[Group]) -> None:
    """KTO's reading of pairs, beside the marks that are there (in place)."""
    for group in groups:
        for pair in group.pairs:
            group.marks.append(Mark(pair.chosen, pair.p_chosen, pair.weight))
            group.marks.append(Mark(pair.rejected, 1 - pair.p_chosen, pair.weight))


def _judgements(group: Group) -> Sequence[tuple[float, ...]]:
    """What the group's loss is of: marks where there are any (kto's), else pairs."""
    return group.marks or group.pairs


def _good_to_bad(data: Data, config: PreferenceConfig) -> float:
    marks = marks_of(data.train)  # as the loss weighs them: a prompt's together as one
    good = config.good_weight * sum(mark.weight * mark.p_good for mark in marks)
    bad = config.bad_weight * sum(mark.weight * (1 - mark.p_good) for mark in marks)
    return good / bad if bad else math.nan


def _accuracy(
    policy: LanguageModel, held: Sequence[Group], config: PreferenceConfig, reference: Reference
) -> Interval:
    """Over decided pairs: does the implicit reward order them as people did? Equal rewards count a half."""
    pairs = [pair for pair in pairs_of(held) if pair.p_chosen > 0.5]
    if not pairs:
        return Interval(math.nan, math.nan, math.nan, 0)
    answers = answers_of(held)
    x_N = measured(policy, answers, config.micro_rows)
    if config.needs_reference:
        x_N = x_N - reference.of_groups(held, x_N)
    if config.algorithm in PER_TOKEN:
        x_N = x_N / torch.tensor([len(a.ids) - a.start for a in answers])
    clusters = [group.cluster for group in held for pair in group.pairs if pair.p_chosen > 0.5]
    right = [(np.sign(float(x_N[p.chosen] - x_N[p.rejected])) + 1) / 2 for p in pairs]
    return clustered_mean(np.array(right), clusters, np.random.default_rng(0))
