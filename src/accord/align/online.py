"""PPO with a critic: prompts and a scorer in, a better policy out, on a KL leash to a reference.

One step is five verbs, and they are public so that a loop of one's own can be written with them:

    rollouts = act(engine, prompts, samples)          # sample
    scores = judge(scorer, rollouts)                  # reward
    batch = credit(learner, rollouts, scores)         # KL, values, advantages
    metrics = learn(learner, batch, step)             # fit
    verdict = distrust(history, ...)                  # go on or stop

The algorithm is that of Ziegler et al. 2019 (arXiv:1909.08593) with the details of Huang et al. 2024
(arXiv:2403.17031): reward r_t = -beta (log pi - log ref) with the score added at the last token, GAE,
clipped policy and value losses, advantages whitened over the real tokens of the whole batch.
What differs: the critic is a head on the policy's own trunk; the sampled KL (k1) is the reward's
leash and the exact KL over the vocabulary is measured beside it; a truncated completion is not a
finished one.

All randomness is a function of (seed, step), so a step done again gives the same bits.

Legend: B rollouts, T completion tokens, D width.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from accord.config import Config
from accord.errors import ConfigError, DataError, NumericsError
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.fit import fit
from accord.lm.heads import ValueHead
from accord.lm.model import LanguageModel
from accord.lm.score import score_hidden
from accord.lm.tokens import TokenBatch
from accord.rl.advantages import explained_variance, gae, masked_mean, whiten
from accord.rl.kl import MAX_STEP, AdaptiveBeta, FixedBeta, kl_rewards
from accord.rl.losses import clipped_policy_loss, clipped_value_loss
from accord.types import Adapts, Completion, Prompt, Rollout, Score, Scorer, Stop, score_groups

FIRST_RATIO_BOUND = 0.02
"""Mean over a minibatch; float32 stays below 1e-5, bfloat16 below 1e-2."""


class AlignConfig(Config):
    """How a policy is aligned by PPO."""

    steps: int = Field(100, ge=1)
    """Updates of the policy: each samples, scores and learns once."""
    prompts_per_step: int = Field(32, ge=1)
    """Prompts sampled each step."""
    samples_per_prompt: int = Field(1, ge=1)
    """Completions of each."""
    epochs: int = Field(4, ge=1)
    """Passes over a step's rollouts."""
    minibatch: int = Field(32, ge=1)
    """Rollouts an optimiser step; at most prompts_per_step x samples_per_prompt."""
    micro_rows: int = Field(64, ge=1)
    """Most rollouts in one forward; larger minibatches are split and their gradients summed."""
    learning_rate: float = Field(1e-4, gt=0)
    """Adam's rate for the policy; like the critic's it falls linearly, towards a tenth at the end."""
    critic_learning_rate: float = Field(1e-3, gt=0)
    """Adam's rate for the value head."""
    critic_warmup: int = Field(0, ge=0)
    """First steps in which only the value head learns."""
    lora_rank: int = Field(16, ge=0)
    """Rank of the adapters that train; 0 trains all weights against a frozen copy."""
    clip: float = Field(0.2, gt=0)
    """Importance ratios are clipped to [1 - clip, 1 + clip]."""
    value_clip: float = Field(0.2, gt=0)
    """Values may move this far from the rollout's before their loss is clipped."""
    value_coef: float = Field(0.1, ge=0)
    """Weight of the value loss on the shared trunk."""
    gamma: float = Field(1.0, gt=0, le=1)
    """Discount a token."""
    lam: float = Field(0.95, ge=0, le=1)
    """GAE's lambda."""
    beta: float = Field(0.05, ge=0)
    """Weight of the KL in the reward (its start, if kl_target is set)."""
    kl_target: float | None = Field(None, gt=0)
    """Adapt beta to hold this KL, in nats a completion; fixed beta if not set."""
    kl_horizon: float = Field(2000.0, gt=0)
    """Rollouts over which the adaptive beta acts."""
    temperature: float = Field(1.0, gt=0)
    """Of sampling and of every log-prob in training."""
    max_new_tokens: int = Field(64, ge=1)
    """Length limit of a completion."""
    min_new_limit: int | None = Field(None, ge=1)
    """Draw each completion's limit from [min_new_limit, max_new_tokens]."""
    truncation: Literal["bootstrap", "penalise", "mask"] = "penalise"
    """A cut completion is paid the value of the state it was cut in for its score, fined, or left out."""
    truncation_penalty: float = Field(1.0, ge=0)
    """The fine, in units of reward."""
    stop_reward: float | None = None
    """Stop when the mean reward of the last steps reaches it."""
    stop_kl: float | None = Field(None, gt=0)
    """Stop when the exact KL, in nats a completion, passes it."""
    seed: int = 0
    """Of prompts, sampling, minibatches and adapters."""

    @model_validator(mode="after")
    def _sizes(self) -> AlignConfig:
        rollouts = self.prompts_per_step * self.samples_per_prompt
        if self.minibatch > rollouts:
            raise ConfigError(
                f"minibatch {self.minibatch} is larger than the {rollouts} rollouts of a step "
                "(prompts_per_step x samples_per_prompt); lower one or raise the other"
            )
        if self.min_new_limit is not None and self.min_new_limit > self.max_new_tokens:
            raise ConfigError(
                f"min_new_limit {self.min_new_limit} is larger than max_new_tokens {self.max_new_tokens}"
            )
        if self.kl_target is not None and self.beta == 0:
            raise ConfigError(
                "kl_target cannot be held with beta 0: beta is adapted by factors and would stay 0; give "
                "beta a positive start"
            )
        if self.kl_target is not None and self.kl_horizon <= MAX_STEP * rollouts:
            raise ConfigError(
                f"kl_horizon {self.kl_horizon:g} is too short for {rollouts} rollouts a step: one step could "
                f"take beta to zero; it must exceed {MAX_STEP * rollouts:g}"
            )
        return self


class Learner:
    """The policy with its critic, its reference, its optimiser and its beta: all that a step changes.

    Raises:
        ConfigError: all weights are to train and the policy has adapters: its reference, the weights
            below them, would move with it.
    """

    def __init__(self, policy: LanguageModel, config: AlignConfig) -> None:
        if not config.lora_rank and policy.peft is not None:
            raise ConfigError(
                f"{policy.name} has adapters and lora_rank is 0: merge them first to train all weights, or "
                "set lora_rank to train the adapters"
            )
        self.config = config
        self.policy = policy
        if config.lora_rank and policy.peft is None:
            policy.add_lora(config.lora_rank, seed=config.seed)
        elif not config.lora_rank:
            policy.net.requires_grad_(True)
        self.reference = policy if policy.peft is not None else policy.frozen_copy()
        self.critic = ValueHead(policy.width).to(policy.device)
        self.beta: FixedBeta | AdaptiveBeta = FixedBeta(config.beta)
        if config.kl_target is not None:
            self.beta = AdaptiveBeta(config.beta, config.kl_target, config.kl_horizon)
        groups = [
            {"params": policy.trainable(), "lr": config.learning_rate},
            {"params": list(self.critic.parameters()), "lr": config.critic_learning_rate},
        ]
        self.optimiser = torch.optim.Adam(groups, eps=1e-5)

    @cached_property
    def reference_hash(self) -> str:
        """Digest of the reference's weights, which no step changes."""
        return self.reference.weights_hash()

    def reference_hidden(self, tokens: TokenBatch) -> Tensor:
        """(B, T, D) states of the reference: adapters off, or the frozen copy."""
        with self.reference.adapters_off():
            return self.reference.hidden(tokens)

    def engine(self, step: int) -> Engine:
        """The sampler of ``step``, on the policy's own weights."""
        config = self.config
        return Engine(
            self.policy,
            SamplingConfig(
                max_new_tokens=config.max_new_tokens,
                min_new_limit=config.min_new_limit,
                temperature=config.temperature,
                seed=step_seed(config.seed, step),
            ),
        )


@dataclass(frozen=True)
class Batch:
    """A step's rollouts with what the update needs; every (B, T) is zero where no token is."""

    tokens: TokenBatch
    mask_BT: Tensor
    logprobs_BT: Tensor
    values_BT: Tensor
    advantages_BT: Tensor
    returns_BT: Tensor
    metrics: dict[str, float]

    def rows(self, index: Tensor) -> Batch:
        """The chosen rollouts, trimmed to the longest of them."""
        tokens = self.tokens.rows(index)
        width = tokens.ids_BT.shape[1]
        cut = {
            name: getattr(self, name)[index, :width]
            for name in ("mask_BT", "logprobs_BT", "values_BT", "advantages_BT", "returns_BT")
        }
        return Batch(tokens, metrics=self.metrics, **cut)


# -- act, judge --------------------------------------------------------------------------------


def act(engine: Engine, prompts: Sequence[Prompt], samples: int = 1, version: int = 0) -> list[Rollout]:
    """``samples`` rollouts a prompt, with the tokens and log-probs they were sampled with.

    Raises:
        ConfigError: the engine truncates its support (top-k, top-p): the importance ratios would
            be taken against probabilities the tokens were not drawn from.
    """
    if engine.config.top_k is not None or engine.config.top_p is not None or not engine.config.temperature:
        raise ConfigError(
            "reinforcement learning samples from the whole distribution: remove top_k and top_p, and "
            "set a temperature above 0"
        )
    encoded = [engine.encode(prompt) for prompt in prompts]
    return [
        Rollout(
            prompt, tuple(ids), s.ids, s.logprobs, (1,) * len(s.ids), s.stop, engine.decode(s.ids), version
        )
        for prompt, ids, group in zip(prompts, encoded, engine.generate(encoded, samples), strict=True)
        for s in group
    ]


def judge(scorer: Scorer, rollouts: Sequence[Rollout]) -> list[Score]:
    """A score a rollout; completions of one prompt are judged as a group.

    Raises:
        NumericsError: a score is missing or not finite; the rollout is shown.
    """
    groups: dict[str, tuple[Prompt, list[int], list[Completion]]] = {}
    for i, rollout in enumerate(rollouts):
        _, places, completions = groups.setdefault(rollout.prompt.id, (rollout.prompt, [], []))
        places.append(i)
        completions.append(rollout.completion)
    found: dict[int, Score] = {}
    scored = score_groups(scorer, [(prompt, completions) for prompt, _, completions in groups.values()])
    for (prompt, places, _), scores in zip(groups.values(), scored, strict=True):
        if len(scores) != len(places):
            raise NumericsError(
                f"{len(scores)} scores for the {len(places)} completions of prompt {prompt.id!r}, the first "
                f"{rollouts[places[0]].text[:120]!r}; a scorer returns one for each. Mend the scorer"
            )
        found.update(zip(places, scores, strict=True))
    for i, rollout in enumerate(rollouts):
        if not torch.isfinite(torch.tensor(float(found[i].value))):
            raise NumericsError(
                f"reward {found[i].value} for the completion {rollout.text[:120]!r} to prompt "
                f"{rollout.prompt.id!r}; a reward must be a finite number. Mend the scorer"
            )
    return [found[i] for i in range(len(rollouts))]


# -- credit ------------------------------------------------------------------------------------


@torch.no_grad()
def credit(learner: Learner, rollouts: Sequence[Rollout], scores: Sequence[Score]) -> Batch:
    """Old log-probs, values, KL to the reference, rewards and advantages of a step's rollouts."""
    config, device = learner.config, learner.policy.device
    tokens = TokenBatch.of(
        [r.prompt_ids for r in rollouts], [r.ids for r in rollouts], learner.policy.pad_id
    ).to(device)
    old, ref, kl, entropy, values_BU = _measure(learner, tokens)
    mask_BT = tokens.mask_BT
    cut_B = torch.tensor([r.stop is Stop.LENGTH for r in rollouts], device=device)
    score_B = torch.tensor([s.value for s in scores], dtype=torch.float32, device=device)
    last_B = tokens.lens_B - 1
    at = torch.arange(len(rollouts), device=device)
    paid_B = score_B - config.truncation_penalty * cut_B if config.truncation == "penalise" else score_B
    if config.truncation == "bootstrap":
        # The value of the state it was cut in stands for all that was to come, the score too.
        paid_B = score_B * ~cut_B
    rewards_BT = kl_rewards(old, ref, learner.beta.value, mask_BT)
    rewards_BT[at, last_B] += paid_B
    bootstrap_B = torch.zeros_like(score_B)
    if config.truncation == "bootstrap":
        bootstrap_B = values_BU[at, last_B + 1] * cut_B
    values_BT = values_BU[:, :-1] * mask_BT
    advantages_BT, returns_BT = gae(
        rewards_BT, values_BT, mask_BT, bootstrap_B, gamma=config.gamma, lam=config.lam
    )
    sampled = torch.zeros_like(old)
    sampled[tokens.mask_BT] = torch.tensor([x for r in rollouts for x in r.logprobs], device=device)
    metrics = {
        "reward": float(score_B.mean()),
        "reward_std": float(score_B.std(unbiased=False)),
        "kl": float(kl.sum(1).mean()),
        "kl_sampled": float((old - ref).sum(1).mean()),
        "entropy": float(masked_mean(entropy, tokens.mask_BT)),
        "length": float(tokens.lens_B.float().mean()),
        "truncated": float(cut_B.float().mean()),
        "beta": learner.beta.value,
        "sampler_gap": float((sampled - old).abs().max()),
    }
    explained = float(explained_variance(values_BT, returns_BT, mask_BT))
    if math.isfinite(explained):  # undefined where all returns are equal
        metrics["value_explained"] = explained
    batch = Batch(tokens, mask_BT, old, values_BT, advantages_BT, returns_BT, metrics)
    if config.truncation == "mask":
        if int(tokens.lens_B[~cut_B].sum()) < 2:
            raise DataError(
                f"{int(cut_B.sum())} of {len(rollouts)} completions were cut by max_new_tokens and masked; "
                "too little is left to learn from: raise the limit, or choose another truncation"
            )
        batch = batch.rows((~cut_B).nonzero()[:, 0])
    return replace(batch, advantages_BT=whiten(batch.advantages_BT, batch.mask_BT))


def _measure(learner: Learner, tokens: TokenBatch) -> tuple[Tensor, ...]:
    """Old and reference log-probs, exact KL, entropy (B, T) and values (B, T+1), by slices of rows."""
    shape = tokens.ids_BT.shape
    out = [torch.zeros(shape, device=tokens.ids_BT.device) for _ in range(4)]
    values_BU = torch.zeros((shape[0], shape[1] + 1), device=tokens.ids_BT.device)
    for index in _slices(tokens, learner.config.micro_rows):
        part = tokens.rows(index)
        hidden = learner.policy.hidden(part, after=True)
        scores = score_hidden(
            learner.policy,
            hidden[:, :-1],
            part,
            learner.config.temperature,
            reference=learner.reference,
            ref_hidden_BTD=learner.reference_hidden(part),
        )
        width = part.ids_BT.shape[1]
        assert scores.ref_logprobs is not None
        assert scores.kl is not None
        columns = (scores.logprobs, scores.ref_logprobs, scores.kl, scores.entropy)
        for whole, column in zip(out, columns, strict=True):
            whole[index, :width] = column
        values_BU[index, : width + 1] = learner.critic(hidden)
    return (*out, values_BU)


def _slices(tokens: TokenBatch, rows: int) -> Iterator[Tensor]:
    """Row indices in slices of alike length, so that little is padded."""
    order = torch.argsort(tokens.prompt_lens_B + tokens.lens_B, stable=True)
    yield from order.split(rows)


# -- learn -------------------------------------------------------------------------------------


def learn(learner: Learner, batch: Batch, step: int) -> dict[str, float]:
    """The inner epochs of one step; metrics are means over its updates.

    Raises:
        NumericsError: loss or gradient is not finite, or the first importance ratio is not 1.
    """
    config = learner.config
    generator = torch.Generator().manual_seed(step_seed(config.seed, step))
    decay = 1 - 0.9 * step / max(1, config.steps)
    warm = step < config.critic_warmup
    for group, rate in zip(
        learner.optimiser.param_groups, (config.learning_rate, config.critic_learning_rate), strict=True
    ):
        group["lr"] = rate * decay

    def loss(micro: tuple[Batch, int, float]) -> tuple[Tensor, dict[str, Tensor]]:
        part, total, share = micro
        hidden = learner.policy.hidden(part.tokens)
        logprobs = score_hidden(learner.policy, hidden, part.tokens, config.temperature).logprobs
        values = learner.critic(hidden.detach() if warm else hidden) * part.mask_BT
        policy_loss, policy_metrics = clipped_policy_loss(
            logprobs, part.logprobs_BT, part.advantages_BT, part.mask_BT, clip=config.clip, total_tokens=total
        )
        value_loss, _ = clipped_value_loss(
            values, part.values_BT, part.returns_BT, part.mask_BT, clip=config.value_clip, total_tokens=total
        )
        metrics = {key: policy_metrics[key] * share for key in ("ratio_mean", "clipped_share", "approx_kl")}
        metrics |= {"policy_loss": policy_loss.detach(), "value_loss": value_loss.detach()}
        # Without a gradient Adam leaves the policy alone, its moments and their step count too.
        return config.value_coef * value_loss + (0.0 if warm else policy_loss), metrics

    rows = [dict(metrics) for metrics in fit(_minibatches(batch, config, generator), loss, learner.optimiser)]
    means = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    means["first_ratio"] = rows[0]["ratio_mean"]
    if not warm and abs(means["first_ratio"] - 1) > FIRST_RATIO_BOUND:
        raise NumericsError(
            f"step {step}: the first importance ratio is {means['first_ratio']:.5f}, it must be 1: the "
            "policy that is trained is not the one that sampled. Run `accord doctor` on the model"
        )
    if not warm:
        learner.beta.update(batch.metrics["kl"], len(batch.tokens))
    return means


def _minibatches(
    batch: Batch, config: AlignConfig, generator: torch.Generator
) -> Iterator[list[tuple[Batch, int, float]]]:
    """Optimiser steps as lists of (micro-batch, real tokens of the whole step, this part's share)."""
    for _ in range(config.epochs):
        order = torch.randperm(len(batch.tokens), generator=generator)
        for index in order.split(config.minibatch):
            total = int(batch.mask_BT[index].sum())
            whole = batch.rows(index)
            micros = [whole.rows(part.cpu()) for part in _slices(whole.tokens, config.micro_rows)]
            yield [(micro, total, float(micro.mask_BT.sum()) / total) for micro in micros]


# -- the run -----------------------------------------------------------------------------------


def step_seed(seed: int, step: int) -> int:
    """A seed of its own for each step of a run."""
    return random.Random(f"{seed}:{step}").getrandbits(31)


def draw(prompts: Sequence[Prompt], step: int, config: AlignConfig) -> list[Prompt]:
    """The prompts of ``step``: epochs of the shuffled set, one after another, as a function of the seed."""
    first = step * config.prompts_per_step
    out = []
    orders: dict[int, list[int]] = {}
    for at in range(first, first + config.prompts_per_step):
        epoch, place = divmod(at, len(prompts))
        if epoch not in orders:
            order = list(range(len(prompts)))
            random.Random(f"{config.seed}:prompts:{epoch}").shuffle(order)
            orders[epoch] = order
        out.append(prompts[orders[epoch][place]])
    return out


def run_step(
    learner: Learner,
    scorer: Scorer,
    prompts: Sequence[Prompt],
    step: int,
    watch: Mapping[str, Scorer] | None = None,
) -> tuple[dict[str, float], list[Rollout], list[Score]]:
    """One whole step; ``watch`` are scorers that are shown beside the reward and never optimised."""
    rollouts = act(learner.engine(step), draw(prompts, step, learner.config),
                   learner.config.samples_per_prompt, step)  # fmt: skip
    scores = judge(scorer, rollouts)
    batch = credit(learner, rollouts, scores)
    metrics = batch.metrics | learn(learner, batch, step)
    if isinstance(scorer, Adapts):
        metrics |= scorer.adapt(scores)
    for name, watcher in (watch or {}).items():
        watched = judge(watcher, rollouts)
        metrics[name] = sum(s.value for s in watched) / len(watched)
    return metrics, rollouts, scores
