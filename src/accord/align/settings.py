"""The settings of a run of alignment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from accord.align.algorithms import Algorithm, find
from accord.config import Config
from accord.errors import ConfigError
from accord.rl.kl import MAX_STEP


class AlignConfig(Config):
    """How a policy is aligned by reinforcement learning. What is not set is the algorithm's own."""

    algorithm: Literal[
        "ppo", "a2c", "reinforce", "reinforce-baseline", "reinforce++", "rloo", "grpo", "dr-grpo", "gspo",
        "trpo", "nlpo", "cispo",
    ] = "ppo"  # fmt: skip
    """How credit is given and what is minimised: docs/algorithms.md."""
    steps: int = Field(100, ge=1)
    """Updates of the policy: each samples, scores and learns once."""
    prompts_per_step: int = Field(32, ge=1)
    """Prompts sampled each step."""
    samples_per_prompt: int | None = Field(None, ge=1)
    """Completions of each: 1, or 4 where the algorithm compares them."""
    epochs: int | None = Field(None, ge=1)
    """Passes over a step's rollouts: 4 of PPO's, else 1."""
    minibatch: int = Field(32, ge=1)
    """Rollouts an optimiser step; at most prompts_per_step x samples_per_prompt."""
    micro_rows: int = Field(64, ge=1)
    """Most rollouts in one forward, and on a CPU some 1,024 tokens; larger minibatches are split."""
    mixed_precision: bool = False
    """bfloat16 products, and lean decoding from a bfloat16 copy, where the processor has them: rougher."""
    learning_rate: float = Field(1e-4, gt=0)
    """Adam's rate for the policy; like the critic's it falls linearly, towards a tenth at the end."""
    critic: Literal["head", "own", "reward"] = "head"
    """A head on the policy's trunk; a model of its own, begun as the policy; or as the reward model."""
    critic_learning_rate: float = Field(1e-3, gt=0)
    """Adam's rate for the value head; a critic's own trunk learns at a tenth of it."""
    critic_warmup: int = Field(0, ge=0)
    """First steps in which only the critic learns."""
    critic_lam: float | None = Field(None, ge=0, le=1)
    """Lambda of the critic's targets, where it is not the advantages'."""
    lora_rank: int = Field(16, ge=0)
    """Rank of the adapters that train; 0 trains all weights against a frozen copy."""
    clip: float | None = Field(None, gt=0)
    """How far importance ratios may go: 0.2 (GSPO 3e-4, CISPO 4); TRPO's KL of a step, nats a token: 0.01."""
    value_clip: float = Field(0.2, gt=0)
    """Values may move this far from the rollout's before their loss is clipped."""
    value_coef: float = Field(0.1, ge=0)
    """Weight of the value loss beside the policy's."""
    gamma: float = Field(1.0, gt=0, le=1)
    """Discount a token."""
    lam: float = Field(0.95, ge=0, le=1)
    """GAE's lambda."""
    beta: float = Field(0.05, ge=0)
    """Weight of the KL to the reference (its start, if kl_target is set)."""
    kl_in: Literal["reward", "loss"] | None = None
    """Where the KL stands: in the reward; in the loss with GRPO and its kin."""
    kl: Literal["k1", "k2", "k3", "exact"] | None = None
    """How it is taken: an estimate of the sampled token, or over the whole vocabulary. docs/align.md."""
    kl_target: float | None = Field(None, gt=0)
    """Adapt beta to hold this KL, in nats a completion; fixed beta if not set."""
    kl_horizon: float = Field(2000.0, gt=0)
    """Rollouts over which the adaptive beta acts."""
    reference: Literal["start", "reset", "ema"] = "start"
    """The reference: where training started; set to the policy now and then; or a slow average of it."""
    reference_every: int = Field(50, ge=1)
    """Steps between two resets..."""
    reference_decay: float = Field(0.99, ge=0, lt=1)
    """...or what a step leaves of the average."""
    mask_top_p: float = Field(0.9, gt=0, le=1)
    """NLPO: tokens are chosen among this much of the mass of a lagging copy of the policy..."""
    mask_every: int = Field(20, ge=1)
    """...that is set to the policy every so many steps."""
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

    @property
    def row(self) -> Algorithm:
        """The algorithm."""
        return find(self.algorithm)

    @property
    def samples(self) -> int:
        """Completions of a prompt."""
        return self.row.samples if self.samples_per_prompt is None else self.samples_per_prompt

    @property
    def passes(self) -> int:
        """Passes over a step's rollouts."""
        return self.row.epochs if self.epochs is None else self.epochs

    @property
    def ratio_clip(self) -> float:
        """How far importance ratios may go."""
        return self.row.clip if self.clip is None else self.clip

    @property
    def leash(self) -> tuple[str, str]:
        """Where the KL stands and how it is taken."""
        return self.kl_in or self.row.kl_in, self.kl or self.row.kl

    @model_validator(mode="after")
    def _sizes(self) -> AlignConfig:
        rollouts = self.prompts_per_step * self.samples
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
                "kl_target cannot be held with beta 0: beta is adapted by factors; give it a positive start"
            )
        if self.kl_target is not None and self.kl_horizon <= MAX_STEP * rollouts:
            raise ConfigError(
                f"kl_horizon {self.kl_horizon:g} is too short for {rollouts} rollouts a step: one step could "
                f"take beta to zero; it must exceed {MAX_STEP * rollouts:g}"
            )
        return self

    @model_validator(mode="after")
    def _algorithm(self) -> AlignConfig:
        if self.row.samples > 1 and self.samples < 2:
            raise ConfigError(
                f"{self.algorithm} compares the completions of a prompt and samples_per_prompt is "
                f"{self.samples}; it needs 2 or more"
            )
        if self.algorithm == "reinforce-baseline" and self.prompts_per_step * self.samples < 2:
            raise ConfigError("reinforce-baseline compares a step's rollouts; sample 2 or more a step, not 1")
        if self.truncation == "bootstrap" and not self.row.critic:
            raise ConfigError(
                f"truncation = bootstrap pays the critic's value and {self.algorithm} has no critic; "
                "penalise or mask cut completions"
            )
        idle = self._idle()
        if idle:
            raise ConfigError(
                f"{', '.join(idle)} would do nothing with algorithm {self.algorithm}, reference "
                f"{self.reference}, truncation {self.truncation}, kl_target {self.kl_target}; leave out "
                "what was meant for another"
            )
        if self.reference != "start" and self.stop_kl is not None:
            raise ConfigError(
                f"stop_kl is a budget from where training starts, and with reference = {self.reference} the "
                "KL is to a reference that follows; leave one out"
            )
        if self.leash == ("reward", "exact") and self.row.samples > 1:
            raise ConfigError(
                f"the exact KL in the reward is credit for each token and {self.algorithm} credits whole "
                'completions; take kl = "k1", or kl_in = "loss"'
            )
        return self

    def _idle(self) -> list[str]:
        """Settings that are not at their default and that this run would never read."""
        unread = {
            **dict.fromkeys(("critic", "critic_warmup", "critic_lam", "lam"), not self.row.critic),
            **dict.fromkeys(("critic_learning_rate", "value_clip", "value_coef"), not self.row.critic),
            "truncation_penalty": self.truncation != "penalise",
            "kl_horizon": self.kl_target is None,
            **dict.fromkeys(("mask_top_p", "mask_every"), not self.row.masked),
            "gamma": self.row.samples > 1,
            "reference_every": self.reference != "reset",
            "reference_decay": self.reference != "ema",
        }
        fields = type(self).model_fields
        return [name for name, idle in unread.items() if idle and getattr(self, name) != fields[name].default]
