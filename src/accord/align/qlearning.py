"""Token-level Q-learning: what a token is worth, learned from what comes after, and acted on by its softmax.

    rollouts = play(learner.engine(step), prompts, samples, step, environment=...)      # or act
    metrics = learn_q(learner, rollouts, scores, step)

Q(s, a) = tau (z(a) - z_ref(a)), z the model's own logits behind the text s and z_ref those it started with.
So softmax(z), which is how any language model is sampled, is the starting model's habit times exp(Q / tau):
values start at 0 for every token, what the model would never have said stays unsaid until it is found to pay,
and what was trained is saved and served as a language model (logits as values: Guo et al. 2021,
arXiv:2106.07704; with the starting model as a prior: Jaques et al. 2017, arXiv:1611.02796). tau is the leash,
as beta is elsewhere.

DQN (Mnih et al. 2015) with a target net, a memory of the latest steps, and double targets (arXiv:1509.06461):

    y_t = r_t + gamma Q'(s_{t+1}, argmax_a z(a));      L = mean (y - Q(s_t, a_t))^2 / 2

Targets may look further than one token by lambda (Peng and Williams 1996; nothing corrects them for what the
policy has become since, so keep the memory short). A cut episode is paid a fine and ends.

Left out: prioritised replay, duelling heads, epsilon-greedy acting (over a vocabulary it says noise), and
chunks of the vocabulary: a slice's tokens x vocabulary values exist as a whole, three times.

Legend: B rollouts, T completion tokens, N the policy's tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from pydantic import Field
from torch import Tensor

from accord.align.learner import step_seed
from accord.align.online import earned, tokens_of
from accord.config import Config
from accord.errors import DataError
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.fit import fit
from accord.lm.model import LanguageModel
from accord.lm.tokens import TokenBatch
from accord.rl.advantages import gae
from accord.rl.losses import Mean, token_weights
from accord.rl.qlearning import double_values, spread, value_loss
from accord.types import Rollout, Score, Stop

Sample = tuple[Rollout, float]
"""An episode and its score."""
Micro = tuple[list[Sample], float]
"""Episodes of one forward, and how many tokens of the policy their whole minibatch has."""


class QConfig(Config):
    """How values are learned."""

    steps: int = Field(100, ge=1)
    """Times that episodes are played and learned from."""
    prompts_per_step: int = Field(32, ge=1)
    """Prompts each time."""
    samples_per_prompt: int = Field(1, ge=1)
    """Episodes of each."""
    updates: int = Field(4, ge=1)
    """Optimiser steps each time."""
    minibatch: int = Field(64, ge=1)
    """Episodes in each, drawn from the memory."""
    micro_rows: int = Field(64, ge=1)
    """Most episodes in one forward."""
    memory: int = Field(4, ge=1)
    """Steps whose episodes are remembered."""
    learning_rate: float = Field(1e-3, gt=0)
    """Adam's; it falls linearly to a tenth."""
    temperature: float = Field(0.1, gt=0)
    """tau, in units of reward: tokens are sampled by the starting model's probability times exp(Q / tau)."""
    target_every: int = Field(16, ge=1)
    """Updates after which the target net is set to the learner."""
    gamma: float = Field(1.0, gt=0, le=1)
    """Discount a token."""
    lam: float = Field(0.0, ge=0, le=1)
    """How far targets look: 0 one token, 1 to the end of the episode."""
    lora_rank: int = Field(16, ge=0)
    """Rank of the adapters that train; 0 trains all weights."""
    max_new_tokens: int = Field(64, ge=1)
    """Length limit of a completion, or of a turn."""
    truncation_penalty: float = Field(1.0, ge=0)
    """The fine of a cut episode."""
    seed: int = 0
    """Of prompts, sampling, minibatches and adapters."""


class QLearner:
    """A model whose logits are values, where it started, its target net, its optimiser and its memory.

    Raises:
        ConfigError: all weights are to train and the model has adapters or coarse weights.
    """

    def __init__(self, policy: LanguageModel, config: QConfig) -> None:
        # Adapters off is where training starts only if they are fresh.
        self.shared = policy.make_trainable(config.lora_rank, config.seed)
        self.policy = policy
        self.reference = policy if self.shared else policy.frozen_copy()
        self.config = config
        self.target = policy.frozen_copy()
        self.optimiser = torch.optim.Adam(policy.trainable(), lr=config.learning_rate, eps=1e-5)
        self.memory: list[list[Sample]] = []
        self.updates = 0

    def engine(self, step: int) -> Engine:
        """The Boltzmann policy: the model as it samples."""
        config = self.config
        return Engine(
            self.policy,
            SamplingConfig(max_new_tokens=config.max_new_tokens, seed=step_seed(config.seed, step)),
        )

    def habit(self, tokens: TokenBatch) -> Tensor:
        """(N, V) the starting model's logits at each of the policy's tokens."""
        with torch.no_grad(), self.reference.adapters_off() if self.shared else nullcontext():
            return logits_behind(self.reference, tokens)

    @torch.no_grad()
    def values(self, tokens: TokenBatch) -> Tensor:
        """(N, V) Q of the whole vocabulary at each of the policy's tokens, in units of reward."""
        return self.config.temperature * (logits_behind(self.policy, tokens) - self.habit(tokens))

    @torch.no_grad()
    def follow(self) -> None:
        """Count an update; set the target net to the learner when it is time."""
        self.updates += 1
        if self.updates % self.config.target_every:
            return
        behind = dict(self.target.net.named_parameters())
        for name, tensor in self.policy.trained().items():
            behind[name].copy_(tensor)


def learn_q(
    learner: QLearner, rollouts: Sequence[Rollout], scores: Sequence[Score], step: int
) -> dict[str, float]:
    """Remember the rollouts of ``step`` and learn from the memory; metrics are means over the updates.

    ``q_mean`` and ``q_error`` (mean squared error of the values, in squared units of reward), ``loss``,
    ``grad_norm``.

    Raises:
        DataError: no rollouts.
        NumericsError: loss or gradient is not finite.
    """
    if not rollouts:
        raise DataError("no rollouts to learn from; play or sample some first")
    config = learner.config
    learner.memory = [*learner.memory, samples_of(rollouts, scores)][-config.memory :]
    for group in learner.optimiser.param_groups:
        group["lr"] = config.learning_rate * (1 - 0.9 * step / config.steps)
    generator = torch.Generator().manual_seed(step_seed(config.seed, step))
    known = [sample for remembered in learner.memory for sample in remembered]
    batches = (
        draw_episodes(known, config.minibatch, config.micro_rows, generator) for _ in range(config.updates)
    )
    rows = []
    for metrics in fit(batches, lambda micro: _loss(learner, micro), learner.optimiser):
        rows.append(metrics)
        learner.follow()
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


def _loss(learner: QLearner, micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
    (samples, total), config = micro, learner.config
    tokens = tokens_of([rollout for rollout, _ in samples], learner.policy.pad_id).to(learner.policy.device)
    mask_BT = tokens.chosen_BT
    logits_NV = logits_behind(learner.policy, tokens)
    with torch.no_grad():
        habit_NV = learner.habit(tokens)
        behind_NV = config.temperature * (logits_behind(learner.target, tokens) - habit_NV)
        ahead_BT = spread(double_values(logits_NV, behind_NV), mask_BT)
        targets_BT = targets(
            samples, tokens, ahead_BT, config.truncation_penalty, gamma=config.gamma, lam=config.lam
        )
    q_NV = config.temperature * (logits_NV - habit_NV)
    q_BT = spread(q_NV.gather(1, tokens.ids_BT[mask_BT][:, None])[:, 0], mask_BT)
    return value_loss(q_BT, targets_BT, mask_BT, weights_BT=share_of(mask_BT, total))


def logits_behind(model: LanguageModel, tokens: TokenBatch) -> Tensor:
    """(N, V) logits at each of the policy's tokens."""
    return model.logits(model.hidden(tokens)[tokens.chosen_BT.to(model.device)])


# -- episodes ----------------------------------------------------------------------------------


def samples_of(rollouts: Sequence[Rollout], scores: Sequence[Score]) -> list[Sample]:
    """Each rollout with its score."""
    return [(rollout, score.value) for rollout, score in zip(rollouts, scores, strict=True)]


def draw_episodes(
    known: Sequence[Sample], minibatch: int, micro_rows: int, generator: torch.Generator
) -> list[Micro]:
    """A minibatch of different episodes, in parts of alike length."""
    order = torch.randperm(len(known), generator=generator)[:minibatch].tolist()
    drawn = sorted((known[i] for i in order), key=lambda s: len(s[0].prompt_ids) + len(s[0].ids))
    tokens = float(sum(sum(rollout.mask) for rollout, _ in drawn))
    return [(drawn[at : at + micro_rows], tokens) for at in range(0, len(drawn), micro_rows)]


def share_of(mask_BT: Tensor, total: float) -> Tensor:
    """(B, T) weights of the tokens in the mean over the ``total`` tokens of the whole minibatch."""
    return token_weights(mask_BT, Mean.TOKEN, 1) * float(mask_BT.sum()) / total


def targets(
    samples: Sequence[Sample], tokens: TokenBatch, values_BT: Tensor, fine: float, *, gamma: float, lam: float
) -> Tensor:
    """(B, T) what each token turned out to be worth: the pay and what is ahead; a cut episode is fined.

    y_t = r_t + gamma ((1 - lam) V(s_{t+1}) + lam y_{t+1}), over the policy's tokens, 0 behind the last.
    """
    fined = [score - fine * (rollout.stop is Stop.LENGTH) for rollout, score in samples]
    score_B = torch.tensor(fined, dtype=torch.float32, device=values_BT.device)
    rewards_BT = earned([rollout for rollout, _ in samples], score_B, tokens)
    nothing_B = torch.zeros_like(score_B)
    return gae(rewards_BT, values_BT, tokens.chosen_BT, nothing_B, gamma=gamma, lam=lam)[1]
