"""All that a step of training changes: the policy, its critic, its reference, its optimiser and its beta."""

from __future__ import annotations

import random
from functools import cached_property

import torch
from torch import Tensor

from accord.align.settings import AlignConfig
from accord.errors import ConfigError
from accord.lm.engine import Engine, SamplingConfig, Support
from accord.lm.heads import ValueHead
from accord.lm.model import LanguageModel
from accord.lm.tokens import TokenBatch
from accord.rl.kl import Beta
from accord.types import digest

TRUNK_SHARE = 0.1
"""A critic's own trunk learns at this share of its head's rate: the head starts from nothing."""
KEPT_FLOATS = 2**27  # of states a step keeps for `credit`, at most: 512 MiB


class Learner:
    """A policy in training.

    ``critic`` is handed over where the settings ask for one with a trunk of its own (``lm.critic``).

    Raises:
        ConfigError: all weights are to train and the policy has adapters or coarse weights; or the critic is
            not the one the settings name.
    """

    def __init__(self, policy: LanguageModel, config: AlignConfig, critic: ValueHead | None = None) -> None:
        self.config = config
        self.policy = policy
        self.critic = _critic(policy, config, critic)
        # Adapters off is the reference only if they are fresh and it stays where training starts.
        shared = policy.make_trainable(config.lora_rank, config.seed) and config.reference == "start"
        self.reference = policy if shared else policy.frozen_copy()
        self.masker = policy.frozen_copy() if config.row.masked else None
        self.exact = policy.net.dtype is torch.float32 and not config.mixed_precision  # sampler = trainer
        self.beta = Beta(config.beta, config.kl_target, config.kl_horizon)
        groups = [{"params": policy.trainable(), "lr": config.learning_rate}]
        if self.critic is not None:
            head, rate = list(self.critic.linear.parameters()), config.critic_learning_rate
            groups.append({"params": head, "lr": rate})
            groups += [{"params": self.critic.trunk, "lr": TRUNK_SHARE * rate}] if self.critic.trunk else []
        self.optimiser = torch.optim.Adam(groups, eps=1e-5)
        for group in self.optimiser.param_groups:
            group["initial_lr"] = group["lr"]
        if config.reference != "start":
            _ = self.reference_hash  # taken before it moves

    @cached_property
    def reference_hash(self) -> str:
        """Digest of the reference's weights where training starts."""
        below = self.reference.weights_hash()
        return below if self.reference is self.policy else digest(below, self.reference.adapter_hash())

    def reference_hidden(self, tokens: TokenBatch) -> Tensor:
        """(B, T, D) states of the reference: adapters off, or the copy."""
        if self.reference is not self.policy:
            return self.reference.hidden(tokens)
        with self.policy.adapters_off():
            return self.policy.hidden(tokens)

    def schedule(self, step: int) -> None:
        """Set the rates of ``step``: they fall linearly to a tenth."""
        decay = 1 - 0.9 * step / max(1, self.config.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * decay

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Let what lags behind the policy (a moving reference, NLPO's masker) follow it after ``step``."""
        config = self.config
        if self.masker is not None and not (step + 1) % config.mask_every:
            self._towards_policy(self.masker, 1.0)
        if config.reference == "ema":
            self._towards_policy(self.reference, 1 - config.reference_decay)
        elif config.reference == "reset" and not (step + 1) % config.reference_every:
            self._towards_policy(self.reference, 1.0)

    def _towards_policy(self, model: LanguageModel, share: float) -> None:
        behind = dict(model.net.named_parameters())
        for name, tensor in self.policy.trained().items():
            behind[name].lerp_(tensor, share)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors a step changes, by name, sharing memory with the learner: what a checkpoint keeps."""
        trained = self.policy.trained()
        found = {f"policy.{name}": parameter for name, parameter in trained.items()}
        if self.critic is not None:
            found |= {f"critic.{name}": parameter for name, parameter in self.critic.named_parameters()}
        behind = {"reference": self.reference} if self.config.reference != "start" else {}
        behind |= {"masker": self.masker} if self.masker is not None else {}
        for kind, model in behind.items():
            theirs = dict(model.net.named_parameters())
            found |= {f"{kind}.{name}": theirs[name] for name in trained}
        return {name: parameter.detach() for name, parameter in found.items()}

    def engine(self, step: int) -> Engine:
        """The sampler of ``step``, on the policy's own weights; in mixed precision on a bfloat16 copy."""
        config = self.config
        keep = self.exact and config.row.learn is None and config.truncation != "bootstrap"
        floats = config.prompts_per_step * config.samples * config.max_new_tokens * self.policy.width
        sampling = SamplingConfig(
            max_new_tokens=config.max_new_tokens, min_new_limit=config.min_new_limit,
            temperature=config.temperature, seed=step_seed(config.seed, step),
        )  # fmt: skip
        support = None if self.masker is None else Support(self.masker, config.mask_top_p)
        return Engine(self.policy, sampling, support, keep and floats <= KEPT_FLOATS, config.mixed_precision)


def _critic(policy: LanguageModel, config: AlignConfig, given: ValueHead | None) -> ValueHead | None:
    """The critic of the settings: a fresh head unless one is given."""
    wanted = config.row.critic and config.critic != "head"
    if wanted is not (given is not None):
        raise ConfigError(
            f"algorithm {config.algorithm} with critic = {config.critic} "
            + ("needs a critic with a trunk of its own" if wanted else "takes no critic from outside")
            + "; hand Learner one (accord.lm.critic.OwnCritic) exactly where the settings name its own trunk"
        )
    if given is not None or not config.row.critic:
        return given
    return ValueHead(policy.width).to(policy.device)


def step_seed(seed: int, step: int) -> int:
    """A seed of its own for each step of a run."""
    return random.Random(f"{seed}:{step}").getrandbits(31)
