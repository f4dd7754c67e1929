"""Implicit language Q-learning: values from recorded episodes alone, and a policy that listens to them.

    learner = ILQLearner(policy, ILQLConfig())
    learner.run(rollouts, scores)
    advised = learner.advised(8.0)               # a LanguageModel; samples like any other

Snell et al. 2022, arXiv:2206.11871. The language model learns what the records say (pi_beta); two Q heads
and a V head on its trunk learn what it was worth. V is an expectile of Q over the tokens of the records, so
no token is valued that nobody took, and Q's target is the pay and the next V:

    L = -log pi(a) + E_tau(Q'(a) - V) + sum_i ((r + gamma V_next - Q_i(a))^2 + alpha (lse Q_i - Q_i(a)))
    E_tau(u) = |tau - 1(u < 0)| u^2;   Q' = min(Q1', Q2'), which lag;   sampled: pi(a) exp(weight (Q'(a) - V))

L is a mean over the tokens; lse is the log-sum-exp over the vocabulary. V_next is V before the policy's next
token, without gradient, and 0 behind its last one. A cut episode is fined and ends.

Left out: trunks of their own for pi_beta and for the lagging values (the heads alone lag), heads twice as
wide as the trunk, values of whole utterances, and a search over the weight: look at a few.

Legend: B rollouts, T completion tokens, N the policy's tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from accord.align.interrupt import interruptible
from accord.align.learner import step_seed
from accord.align.online import tokens_of
from accord.align.qlearning import Micro, Sample, draw_episodes, samples_of, targets
from accord.config import Config
from accord.errors import ConfigError, DataError, NumericsError
from accord.lm import checkpoints
from accord.lm.fit import fit
from accord.lm.hasten import hasten
from accord.lm.model import LanguageModel
from accord.lm.schedule import cosine
from accord.lm.score import log_softmax
from accord.lm.valueheads import AdvisedModel, ValueHeads
from accord.rl.qlearning import conservative_loss, expectile_loss, spread, value_loss
from accord.types import Rollout, Score, digest

Metrics = dict[str, float]


class ILQLConfig(Config):
    """How values are learned from records."""

    updates: int = Field(1000, ge=1)
    """Optimiser steps."""
    minibatch: int = Field(64, ge=1)
    """Episodes in each."""
    micro_rows: int = Field(64, ge=1)
    """Most episodes in one forward."""
    learning_rate: float = Field(1e-3, gt=0)
    """Adam's, at its highest; it warms up and falls by a cosine to a tenth."""
    lora_rank: int = Field(16, ge=0)
    """Rank of the adapters that train beside the heads; 0 trains all weights."""
    expectile: float = Field(0.9, gt=0, lt=1)
    """tau of V: 0.5 is the records' own mean, near 1 the best that was seen."""
    conservative: float = Field(0.1, ge=0)
    """alpha, the weight of the term that keeps Q low where the records never went."""
    follow: float = Field(0.02, gt=0, le=1)
    """Share by which the lagging Q heads move at each update."""
    gamma: float = Field(1.0, gt=0, le=1)
    """Discount a token."""
    truncation_penalty: float = Field(1.0, ge=0)
    """The fine of a cut episode."""
    seed: int = 0
    """Of the minibatches, the adapters and the heads."""


class ILQLearner:
    """A model that learns what the records say, with the heads that learn what it was worth.

    Raises:
        ConfigError: all weights are to train and the model has adapters or coarse weights.
    """

    def __init__(self, policy: LanguageModel, config: ILQLConfig) -> None:
        policy.make_trainable(config.lora_rank, config.seed)
        self.policy = policy
        self.config = config
        self.start = digest(policy.weights_hash(), policy.adapter_hash())
        self.heads = ValueHeads.on(policy, config.seed)
        trained = [*policy.trainable(), *(p for p in self.heads.parameters() if p.requires_grad)]
        self.optimiser = torch.optim.Adam(trained, lr=config.learning_rate, eps=1e-5)

    def advised(self, weight: float) -> AdvisedModel:
        """The policy pi_beta exp(weight (Q - V)); 0 does as the records do."""
        hasten(self.policy)
        return AdvisedModel(self.policy, self.heads, weight)

    def run(
        self,
        rollouts: Sequence[Rollout],
        scores: Sequence[Score],
        folder: str | Path | None = None,
        *,
        resume: bool = False,
        save_every: int = 100,
        progress: Callable[[Metrics], None] = lambda _: None,
    ) -> list[Metrics]:
        """Learn from recorded episodes and what they scored, beside what an environment ``paid`` in them.

        Figures of each update: ``log_loss`` (nats a token), ``v_mean``, of the first Q head ``q_mean`` and
        ``q_error`` (mean squared), ``loss`` and ``grad_norm``. With ``folder`` there are checkpoints, and a
        run that was killed goes on to the same bits with ``resume``. Ctrl-C ends it after an update.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            DataError: no rollouts, or not a score for each.
            ConfigError: ``folder`` holds a run and ``resume`` was not asked for.
            StoreError: the run to resume was made from another model, with other settings or records.
            NumericsError: a score, what was paid, a loss or a gradient is not finite; the last checkpoint
                stands.
        """
        if save_every < 1:
            raise ConfigError(f"save_every is {save_every}; a checkpoint is written every 1 or more updates")
        known, where = _checked(rollouts, scores), None if folder is None else Path(folder)
        mark = self._fingerprint(known) if where is not None else ""
        history = [] if where is None else self._begin(where, mark, resume)
        config, done = self.config, len(history)
        rate = cosine(config.updates, warmup=min(20, config.updates // 10))
        with interruptible() as interrupted:
            loop = fit(
                self._batches(known, done),
                self._loss,
                self.optimiser,
                schedule=lambda step: rate(done + step),
            )
            for update, metrics in enumerate(loop, start=done + 1):
                self.heads.follow(config.follow)
                history.append({"step": update, "steps": config.updates, **metrics})
                progress(history[-1])
                last = interrupted.is_set() or update == config.updates
                if where is not None and (last or update % save_every == 0):
                    state = {"history": history, "fingerprint": mark}
                    checkpoints.write(where, update, self._tensors(), self.optimiser.state_dict(), state)
                if interrupted.is_set():
                    raise KeyboardInterrupt
        return history

    def _batches(self, known: Sequence[Sample], done: int) -> Iterator[list[Micro]]:
        """The minibatches left; each is a function of the seed and its number."""
        config = self.config
        for update in range(done, config.updates):
            generator = torch.Generator().manual_seed(step_seed(config.seed, update))
            yield draw_episodes(known, config.minibatch, config.micro_rows, generator)

    def _loss(self, micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
        (samples, total), config, heads = micro, self.config, self.heads
        tokens = tokens_of([r for r, _ in samples], self.policy.pad_id).to(self.policy.device)
        mask_BT = tokens.chosen_BT
        ids_N1 = tokens.ids_BT[mask_BT][:, None]
        hidden_ND = self.policy.hidden(tokens)[mask_BT]
        v_BT = spread(heads.value(hidden_ND), mask_BT)
        with torch.no_grad():
            seen_BT = spread(heads.lagging(hidden_ND).gather(1, ids_N1)[:, 0], mask_BT)
            targets_BT = targets(
                samples, tokens, v_BT, config.truncation_penalty, gamma=config.gamma, lam=0.0
            )
        log_loss = -log_softmax(self.policy.logits(hidden_ND), 1.0).gather(1, ids_N1).mean()
        loss = log_loss + expectile_loss(v_BT, seen_BT, mask_BT, expectile=config.expectile)
        metrics = {"log_loss": log_loss.detach(), "v_mean": v_BT.detach()[mask_BT].mean()}
        for q_NV in heads.learned(hidden_ND):
            q_BT = spread(q_NV.gather(1, ids_N1)[:, 0], mask_BT)
            half, found = value_loss(q_BT, targets_BT, mask_BT)
            loss = loss + 2 * half + config.conservative * conservative_loss(q_NV, ids_N1[:, 0])
            metrics = found | metrics
        share = float(mask_BT.sum()) / total
        return share * loss, {name: share * value for name, value in metrics.items()}

    # -- checkpoints ---------------------------------------------------------------------------

    def _fingerprint(self, known: Sequence[Sample]) -> str:
        data = [[r.prompt_ids, r.ids, r.mask, r.paid, r.stop, score] for r, score in known]
        return digest(self.start, self.config.model_dump(), data)

    def _begin(self, folder: Path, mark: str, resume: bool) -> list[Metrics]:
        saved = checkpoints.take_up(folder, mark, resume, "records")
        if saved is None:
            return []
        saved.put_into(self._tensors())
        self.optimiser.load_state_dict(saved.optimiser)
        return saved.state["history"]

    def _tensors(self) -> dict[str, Tensor]:
        """What an update changes, sharing memory with the learner."""
        heads = {f"heads.{name}": tensor for name, tensor in self.heads.state_dict().items()}
        return {f"policy.{name}": tensor for name, tensor in self.policy.trained().items()} | heads


def _checked(rollouts: Sequence[Rollout], scores: Sequence[Score]) -> list[Sample]:
    """The episodes with their scores, all of which can be learned from."""
    if not rollouts:
        raise DataError("no recorded episodes to learn from; give some, with what they were paid")
    if len(scores) != len(rollouts):
        raise DataError(f"{len(rollouts)} episodes and {len(scores)} scores; give a score for each")
    known = samples_of(rollouts, scores)
    for number, (rollout, score) in enumerate(known):
        if not math.isfinite(score + sum(rollout.paid)):
            raise NumericsError(
                f"episode {number} ({rollout.text[:60]!r}) scored {score} and was paid {sum(rollout.paid)}; "
                "give it a number, or leave it out"
            )
    return known
