"""Learning from demonstrations, and from the best of one's own samples.

``supervise`` raises the log-prob of given completions: supervised fine-tuning, the loop of ``align.offline``.
``distil`` finds its demonstrations itself: it samples n completions a prompt, keeps the best by a scorer and
learns those, round after round. One round is best-of-n distillation (the policy that sampled n and picked is
at most log n - (n - 1) / n nats from the start), several are rejection-sampling fine-tuning, as Llama 2 was
aligned before PPO (Touvron et al. 2023, arXiv:2307.09288, section 3.2.3; RAFT: Dong et al. 2023,
arXiv:2304.06767). A sample that was cut by the length limit is never kept: it would teach not to end.

Left out: packing of several demonstrations into one row, losses on the prompt, distillation of the best-of-n
distribution itself (BOND).

Legend: N completions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from accord.align.answers import Group
from accord.align.learner import step_seed
from accord.align.offline import Metrics, OfflineConfig, Progress, Trainer, read
from accord.align.online import act, judge
from accord.errors import ConfigError, DataError
from accord.judgements import Anchor
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.grouped import Lost, marks_of
from accord.lm.hasten import hasten
from accord.lm.model import LanguageModel
from accord.types import Completion, Prompt, Rollout, Score, Scorer, Stop

Demonstration = tuple[Prompt, Completion]


@dataclass(frozen=True)
class SupervisedReport:
    """What a policy learned from demonstrations: figures on prompts it never saw, or NaN."""

    loss: float
    """Held out, nats a token, after training..."""
    loss_before: float
    """...and before it."""
    kl: float
    """Exact KL to the reference on the policy's own answers, nats a completion..."""
    kl_sampled: float
    """...and sampled."""
    prompts_train: int
    prompts_holdout: int
    demonstrations_train: int
    demonstrations_holdout: int
    lost: Lost
    history: tuple[Metrics, ...]
    held_out: tuple[str, ...]
    """Ids of the prompts that were not trained on."""


class SupervisedLoss:
    """-log p of the demonstrations, in the mean over the tokens of an optimiser step.

    Implements ``align.offline.Objective``.
    """

    def __init__(self) -> None:
        self.tokens = 0.0

    def begin(self, groups: Sequence[Group]) -> None:
        """Count the tokens of the step's demonstrations; one that stands twice counts twice."""
        answers = [(g.inputs[m.completion], m.weight) for g in groups for m in g.marks]
        self.tokens = sum(weight * (len(a.ids) - a.start) for a, weight in answers)

    def loss(
        self, logprobs_N: Tensor, tokens_N: Tensor, groups: Sequence[Group]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The groups' share of the mean."""
        weights = [mark.weight for group in groups for mark in group.marks]
        at = [mark.completion for mark in marks_of(groups)]
        weights_M = torch.tensor(weights, device=logprobs_N.device, dtype=logprobs_N.dtype)
        return -(weights_M * logprobs_N[at]).sum() / self.tokens, {}

    def figures(self, sums: Metrics) -> Metrics:
        """None beside the loss."""
        return {}


def supervise(
    policy: LanguageModel,
    demonstrations: Sequence[Demonstration],
    config: OfflineConfig,
    *,
    reference: LanguageModel | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    save_every: int = 50,
    progress: Progress = lambda _: None,
) -> SupervisedReport:
    """Fine-tune ``policy`` in place on what is to be said; with ``folder`` it can be resumed exactly.

    ``reference`` is what the KL is measured to; without it, where training starts.

    Raises:
        ConfigError: all weights are to train and the policy has adapters; or ``folder`` holds a run and
            ``resume`` was not asked for.
        DataError: nothing to learn from, or too little to hold something out.
        StoreError: the run to resume was made from another model, with other settings or data.
        NumericsError: loss or gradient is not finite.
    """
    data = read(
        policy, config, [], [Anchor(prompt, completion, 1.0) for prompt, completion in demonstrations]
    )
    trainer, objective = Trainer(policy, config, data, reference), SupervisedLoss()
    before = trainer.held_out(objective)["loss"] if data.held else math.nan
    where = None if folder is None else Path(folder)
    history = trainer.run(objective, where, resume=resume, save_every=save_every, progress=progress)
    kl, sampled = trainer.kl() or (math.nan, math.nan)
    return SupervisedReport(
        loss=trainer.held_out(objective)["loss"] if data.held else math.nan,
        loss_before=before,
        kl=kl,
        kl_sampled=sampled,
        prompts_train=len(data.train),
        prompts_holdout=len(data.held),
        demonstrations_train=sum(len(group.marks) for group in data.train),
        demonstrations_holdout=sum(len(group.marks) for group in data.held),
        lost=data.lost,
        history=tuple(history),
        held_out=tuple(group.prompt.id for group in data.held),
    )


# -- the best of one's own ---------------------------------------------------------------------


class DistilConfig(OfflineConfig):
    """How a policy learns from the best of its own samples."""

    algorithm: Literal["rft"] = "rft"
    """Rejection-sampling fine-tuning; with one round, best-of-n distillation."""
    rounds: int = Field(1, ge=1)
    """Times it samples and learns."""
    samples: int = Field(8, ge=2)
    """Completions of each prompt a round..."""
    keep: int = Field(1, ge=1)
    """...of which so many different ones are kept, the best."""
    at_least: float | None = None
    """Only those that score this or more (a verifier's 1, say)."""
    temperature: float = Field(1.0, gt=0)
    """Of sampling."""

    @model_validator(mode="after")
    def _fewer(self) -> DistilConfig:
        if self.keep >= self.samples:
            raise ConfigError(
                f"keep {self.keep} of {self.samples} samples leaves nothing to choose; lower keep"
            )
        return self


@dataclass(frozen=True)
class DistilReport:
    """What a policy learned from the best of its own samples."""

    rounds: tuple[Metrics, ...]
    """Of each: mean ``reward`` of all samples and ``kept_reward`` of those learned, how many were ``kept``,
    the share ``cut`` by the length limit, and held-out ``loss`` and ``kl`` after it."""
    reward_after: float
    """Mean of one sample a prompt after the last round."""
    last: SupervisedReport


def distil(
    policy: LanguageModel,
    scorer: Scorer,
    prompts: Sequence[Prompt],
    config: DistilConfig,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: Progress = lambda _: None,
) -> DistilReport:
    """Sample, keep the best by ``scorer``, learn them; ``config.rounds`` times, in place.

    Everything drawn is a function of the seed and the round, so a run that is resumed samples the same again.

    Raises:
        ConfigError: all weights are to train and the policy has adapters.
        DataError: no prompt; one that does not fit the context; or nothing worth keeping.
        NumericsError: a score, a loss or a gradient is not finite.
    """
    if not prompts:
        raise DataError("no prompts to sample for; import some, or choose another split")
    hasten(policy)
    # all rounds are measured to where the first one starts: below the adapters it makes, or a copy
    reference = policy if config.lora_rank and policy.peft is None else policy.frozen_copy()
    rounds: list[Metrics] = []
    for number in range(config.rounds):
        rollouts, scores = _sampled(policy, scorer, prompts, config, number, config.samples)
        best = chosen(rollouts, scores, config)
        row = {
            "round": number + 1,
            "reward": _mean(scores),
            "kept_reward": _mean([score for _, score in best]),
            "kept": len(best),
            "cut": sum(r.stop is Stop.LENGTH for r in rollouts) / len(rollouts),
        }
        report = supervise(
            policy,
            [(rollout.prompt, rollout.completion) for rollout, _ in best],
            config,
            reference=reference,
            folder=None if folder is None else Path(folder) / f"round-{number + 1}",
            resume=resume,
            progress=lambda step, row=row: progress({**row, **step}),  # type: ignore[misc]
        )
        rounds.append({**row, "loss": report.loss, "kl": report.kl})
    _, scores = _sampled(policy, scorer, prompts, config, config.rounds, 1)
    return DistilReport(tuple(rounds), _mean(scores), report)


def chosen(
    rollouts: Sequence[Rollout], scores: Sequence[Score], config: DistilConfig
) -> list[tuple[Rollout, Score]]:
    """Of each prompt the best ``config.keep`` finished rollouts that differ in their text and score enough.

    Raises:
        DataError: there is none of any prompt.
    """
    by_prompt: dict[str, dict[str, tuple[Rollout, Score]]] = {}
    for rollout, score in zip(rollouts, scores, strict=True):
        enough = config.at_least is None or score.value >= config.at_least
        if rollout.stop is not Stop.LENGTH and enough:
            texts = by_prompt.setdefault(rollout.prompt.id, {})
            if rollout.text not in texts or score.value > texts[rollout.text][1].value:
                texts[rollout.text] = rollout, score
    found = [
        pair
        for texts in by_prompt.values()
        for pair in sorted(texts.values(), key=lambda pair: -pair[1].value)[: config.keep]
    ]
    if not found:
        cut = sum(r.stop is Stop.LENGTH for r in rollouts)
        raise DataError(
            f"nothing worth keeping among {len(rollouts)} samples: {cut} were cut by max_new_tokens "
            f"{config.max_new_tokens}, the best score is {max(s.value for s in scores):.4g}; raise "
            "max_new_tokens or samples, or lower at_least"
        )
    return found


def _sampled(
    policy: LanguageModel,
    scorer: Scorer,
    prompts: Sequence[Prompt],
    config: DistilConfig,
    number: int,
    samples: int,
) -> tuple[list[Rollout], list[Score]]:
    sampling = SamplingConfig(
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        seed=step_seed(config.seed, number),
    )
    rollouts = act(Engine(policy, sampling), prompts, samples, number)
    return rollouts, judge(scorer, rollouts)


def _mean(scores: Sequence[Score]) -> float:
    return sum(score.value for score in scores) / len(scores)
