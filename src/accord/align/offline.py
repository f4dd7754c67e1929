"""The loop of offline learning: a policy learns from completions that are there already.

Preferences (``align.preference``) and demonstrations (``align.supervised``) both run it. A prompt with all
its completions is one element of a batch; held-out prompts, never held-out pairs, are looked at several times
an epoch, decide which weights are kept, and end the run where a whole epoch of looks brought nothing better.

With ``lora_rank`` the adapters train and the reference is the same weights with adapters off; with 0 all
weights train, and a frozen copy is made only where the exact KL is to be measured.

A run given a folder can be resumed to the same bits: order and looks are functions of the seed, and a
checkpoint, renamed into place whole, holds weights, optimiser, the best weights so far and the history.

Legend: N completions, B rows, T tokens, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from accord.align.answers import Answer, Group, Reader, logprobs_of_groups, may_pack
from accord.align.interrupt import interruptible
from accord.config import Config
from accord.errors import DataError
from accord.judgements import Anchor, Comparison
from accord.lm import checkpoints
from accord.lm.best import Best, look_steps
from accord.lm.divergence import completion_kl
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.fit import fit
from accord.lm.grouped import Lost, OverLong, batches, gather, split_by_prompt
from accord.lm.hasten import hasten
from accord.lm.model import LanguageModel
from accord.lm.schedule import cosine
from accord.types import digest

Metrics = dict[str, float]
Progress = Callable[[Metrics], None]


class OfflineConfig(Config):
    """What every kind of offline learning has."""

    epochs: int = Field(1, ge=1)
    """Passes over the data, at most: training stops where held-out prompts no longer gain."""
    evaluations: int = Field(4, ge=1)
    """How often an epoch the held-out prompts are looked at; the best weights on them are kept."""
    batch_prompts: int = Field(16, ge=1)
    """Prompts an optimiser step, each with all its completions."""
    micro_rows: int = Field(32, ge=2)
    """Most completions in one forward; larger batches are split and their gradients summed."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak rate of AdamW, after 10 % warm-up and before a cosine to a tenth."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decoupled weight decay."""
    lora_rank: int = Field(16, ge=0)
    """Rank of the adapters that train; 0 trains all weights."""
    holdout: float = Field(0.1, ge=0, lt=1)
    """Share of prompts kept to measure on; 0 trains on all, keeps the last weights and measures nothing."""
    over_long: Literal["cut", "refuse", "leave_out"] = "leave_out"
    """Inputs beyond the context: cut (first the prompt's beginning), refuse, or leave_out; counted all."""
    max_length: int | None = Field(None, ge=2)
    """Longest input in tokens; the model's context where not given."""
    kl_prompts: int = Field(64, ge=0)
    """Held-out prompts answered at the end for the exact KL to the reference; 0 leaves it out."""
    max_new_tokens: int = Field(64, ge=1)
    """Length limit of those answers."""
    seed: int = 0
    """Of the split, the order of the prompts, and the adapters."""


class Objective(Protocol):
    """What a kind of offline learning asks of a policy."""

    def begin(self, groups: Sequence[Group]) -> None:
        """Take note of all the prompts that the next losses are of: an optimiser step's, or a look's."""
        ...

    def loss(
        self, logprobs_N: Tensor, tokens_N: Tensor, groups: Sequence[Group]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The share that ``groups`` have of the loss of what :meth:`begin` saw, and sums for the figures.

        ``logprobs_N`` are of the groups' whole completions in order, ``tokens_N`` their lengths.
        """
        ...

    def figures(self, sums: Metrics) -> Metrics:
        """A step's figures from the sums over its micro-batches."""
        ...


@dataclass(frozen=True)
class Data:
    """Groups trained on and held out, and what did not fit."""

    train: list[Group]
    held: list[Group]
    lost: Lost

    @property
    def groups(self) -> list[Group]:
        """All of them."""
        return [*self.train, *self.held]


def read(
    policy: LanguageModel,
    config: OfflineConfig,
    comparisons: Sequence[Comparison],
    anchors: Sequence[Anchor] = (),
    source_weights: dict[str, float] | None = None,
) -> Data:
    """Encode and split what a policy is to learn from.

    Raises:
        ConfigError: a source is named that nothing is of.
        DataError: nothing to train on, one prompt alone with something to hold out, or an input too long
            with the rule "refuse".
    """
    groups, lost = gather(
        comparisons,
        Reader(policy, config.max_length),
        anchors=anchors,
        source_weights=source_weights,
        over_long=OverLong(config.over_long),
    )
    if not groups:
        raise DataError(f"nothing to learn from: no judgement, or none that fits ({lost.inputs} too long)")
    if not config.holdout:
        return Data(groups, [], lost)
    return Data(*split_by_prompt(groups, config.holdout, config.seed), lost)


@dataclass
class Trainer:
    """A policy made ready to train on ``data``, with what its figures need.

    Raises:
        ConfigError: all weights are to train and the policy has adapters or coarse weights; or
            ``max_new_tokens`` is more than the model's positions.
    """

    policy: LanguageModel
    config: OfflineConfig
    data: Data
    reference: LanguageModel | None = None
    """What the KL is measured to, where it is not where this training starts."""
    engine: Engine | None = field(init=False, default=None)
    pack: bool = field(init=False, default=False)
    """Whether a prompt passes the policy once with all its completions."""

    def __post_init__(self) -> None:
        policy, config = self.policy, self.config
        fresh = policy.make_trainable(config.lora_rank, config.seed)
        self.pack = may_pack(policy, self.data.groups[: config.batch_prompts])
        if self.data.held and config.kl_prompts:
            sampling = SamplingConfig(max_new_tokens=config.max_new_tokens, seed=config.seed)
            hasten(policy)
            self.engine = Engine(policy, sampling)
            if self.reference is None:
                self.reference = policy if fresh else policy.frozen_copy()

    def run(
        self,
        objective: Objective,
        folder: Path | None = None,
        *,
        resume: bool = False,
        save_every: int = 50,
        progress: Progress = lambda _: None,
    ) -> list[Metrics]:
        """Train, leave the weights at their best on the held-out prompts, and return the history.

        Ctrl-C ends it after the step under way, with a checkpoint.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            ConfigError: ``folder`` holds a run and ``resume`` was not asked for.
            StoreError: the run to resume was made from another model, with other settings or data.
            NumericsError: loss or gradient is not finite; the last checkpoint stands.
        """
        config, data = self.config, self.data
        steps = config.epochs * math.ceil(len(data.train) / config.batch_prompts)
        state = _State(self, folder, resume)
        cut = batches(
            data.train,
            prompts=config.batch_prompts,
            rows=config.micro_rows,
            epochs=config.epochs,
            seed=config.seed,
        )
        rate = cosine(steps, max(1, steps // 10))
        looks = look_steps(steps, config.epochs * config.evaluations) if data.held else set()
        done = len(state.history)

        def begun() -> Iterator[list[tuple[list[Group], int]]]:
            for batch in islice(cut, done, None):
                objective.begin([group for micro, _ in batch for group in micro])
                yield batch

        def loss(micro: tuple[list[Group], int]) -> tuple[Tensor, dict[str, Tensor]]:
            return objective.loss(*logprobs_of_groups(self.policy, micro[0], self.pack), micro[0])

        with interruptible() as interrupted:
            # a run that had ended early before it was resumed has no step left
            left = begun() if state.best.waited < config.evaluations else iter(())
            loop = fit(left, loss, state.optimiser, schedule=lambda step: rate(done + step))
            for step, sums in enumerate(loop, start=done + 1):
                row = {"step": step, "steps": steps, **_figures(objective, sums)}
                if step in looks:
                    row["held_out_loss"] = self.held_out(objective)["loss"]
                    state.best.look(row["held_out_loss"], last=step == steps)
                state.history.append(row)
                progress(row)
                over = state.best.waited >= config.evaluations
                if over or step == steps or step % save_every == 0 or interrupted.is_set():
                    state.save()
                if interrupted.is_set():
                    raise KeyboardInterrupt
                if over:
                    break
        state.best.restore()
        return state.history

    @torch.no_grad()
    def measured(self) -> Tensor:
        """(N,) log-probs on the CPU of all groups' completions, in order, by the policy as it is."""
        groups, rows = self.data.groups, self.config.micro_rows
        at = {id(group): number for number, group in enumerate(groups)}
        found: list[Tensor] = [torch.zeros(0)] * len(groups)
        (whole,) = batches(groups, prompts=len(groups), rows=rows, epochs=1, seed=self.config.seed)
        for micro, _ in whole:
            logprobs_N, _ = logprobs_of_groups(self.policy, micro, self.pack)
            parts = logprobs_N.cpu().split([len(group.inputs) for group in micro])
            for group, part in zip(micro, parts, strict=True):
                found[at[id(group)]] = part
        return torch.cat(found)

    @torch.no_grad()
    def held_out(self, objective: Objective) -> Metrics:
        """The loss and its figures over all held-out prompts."""
        groups, config = self.data.held, self.config
        objective.begin(groups)
        sums: dict[str, Tensor] = {}
        (whole,) = batches(groups, prompts=len(groups), rows=config.micro_rows, epochs=1, seed=config.seed)
        for micro, _ in whole:
            value, metrics = objective.loss(*logprobs_of_groups(self.policy, micro, self.pack), micro)
            for key, number in {**metrics, "loss": value}.items():
                sums[key] = sums[key] + number if key in sums else number
        return _figures(objective, {key: float(number) for key, number in sums.items()})

    @torch.no_grad()
    def kl(self) -> tuple[float, float] | None:
        """KL(policy || reference) on the policy's own answers to held-out prompts, nats a completion.

        The exact one (at each prefix over the whole vocabulary) and the sampled one. ``None`` where there is
        nothing to measure on.
        """
        if self.engine is None or self.reference is None:
            return None
        room = self._room()
        first = [group.inputs[0] for group in self.data.held]
        asked = [a.ids[: a.start] for a in first if a.start <= room][: self.config.kl_prompts]
        if not asked:
            return None
        said = [group[0].ids for group in self.engine.generate(asked)]
        exact, sampled, _ = completion_kl(
            self.policy, self.reference, asked, said, rows=self.config.micro_rows
        )
        return exact, sampled

    def _room(self) -> int:
        """Longest prompt that leaves room for an answer."""
        context = self.policy.context
        if context is None:
            return 10**9
        return context if self.policy.net.config.is_encoder_decoder else context - self.config.max_new_tokens


def answers_of(groups: Sequence[Group]) -> list[Answer]:
    """The groups' completions, in order."""
    return [answer for group in groups for answer in group.inputs]


def _figures(objective: Objective, sums: Metrics) -> Metrics:
    """Loss and gradient as they are, the rest as the objective reads it."""
    plain: Metrics = {key: sums.pop(key) for key in ("loss", "grad_norm") if key in sums}
    return plain | objective.figures(sums)


# -- checkpoints -------------------------------------------------------------------------------


class _State:
    """What a step changes, and its checkpoints."""

    def __init__(self, trainer: Trainer, folder: Path | None, resume: bool) -> None:
        self.policy, self.folder = trainer.policy, folder
        self.optimiser = torch.optim.AdamW(
            self.policy.trainable(),
            lr=trainer.config.learning_rate,
            weight_decay=trainer.config.weight_decay,
            betas=(0.9, 0.95),
        )
        self.best = Best(self.policy.trainable())
        self.history: list[Metrics] = []
        if folder is None:
            return
        self.fingerprint = _fingerprint(trainer)
        saved = checkpoints.take_up(folder, self.fingerprint, resume)
        if saved is not None:
            saved.put_into(self.policy.trained())
            self.optimiser.load_state_dict(saved.optimiser["optimiser"])
            self.best.load_state_dict(saved.optimiser["best"])
            self.history = saved.state["history"]

    def save(self) -> None:
        """Write a checkpoint (``lm.checkpoints.write``); the best weights so far are in it."""
        if self.folder is None:
            return
        moments = {"optimiser": self.optimiser.state_dict(), "best": self.best.state_dict()}
        state = {"history": self.history, "fingerprint": self.fingerprint}
        checkpoints.write(self.folder, len(self.history), self.policy.trained(), moments, state)


def _fingerprint(trainer: Trainer) -> str:
    """Digest of what a resumed run must share with the one that was stopped: start, settings, data."""
    policy, groups = trainer.policy, trainer.data.groups
    data = [[g.prompt.id, [a.ids for a in g.inputs], g.pairs, g.marks] for g in groups]
    return digest(policy.weights_hash(), policy.adapter_hash(), trainer.config.model_dump(), data)
