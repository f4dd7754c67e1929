"""The leash to the reference: sampled estimates of KL, the exact one, and beta's controllers.

k1, k2 and k3 (Schulman 2020, "Approximating KL divergence", joschu.net/blog/kl-approx.html) are per
token, for tokens sampled from the policy. As values k1 and k3 are unbiased for KL(policy ||
reference), k2 is not. As a loss on-policy only k2 has the exact gradient: k1's has mean zero, k3's is
that of the other direction (arXiv:2510.01555). k1 belongs in the reward: see :func:`kl_rewards`.

Legend: N tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from accord.errors import NumericsError
from accord.rl.shapes import as_bool, check_same_shape, check_shapes

MAX_STEP = 0.2
"""Largest relative error an adaptive controller reacts to (Ziegler et al. 2019)."""


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """log p - log q per token, nats. Unbiased; a single one may be negative.

    Raises:
        ValueError: shapes differ.
    """
    check_same_shape(logprobs=logprobs, ref_logprobs=ref_logprobs)
    return logprobs - ref_logprobs


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """(log p - log q)^2 / 2 per token, nats. Biased, never negative.

    Raises:
        ValueError: shapes differ.
    """
    return 0.5 * k1(logprobs, ref_logprobs).square()


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """q/p - 1 - log(q/p) per token, nats. Unbiased and never negative.

    Raises:
        ValueError: shapes differ.
    """
    log_ratio = -k1(logprobs, ref_logprobs)
    return torch.expm1(log_ratio) - log_ratio


def exact_kl(logits_NV: Tensor, ref_logits_NV: Tensor) -> Tensor:
    """KL(policy || reference) = sum_v p(v) (log p(v) - log q(v)) at each of N prefixes, nats.

    The plain form that fast ones are checked against. Log-softmax in float32 (float64 where given);
    never negative but for its rounding.

    Raises:
        ValueError: shapes differ.
    """
    check_shapes(logits_NV=logits_NV, ref_logits_NV=ref_logits_NV)
    dtype = torch.promote_types(logits_NV.dtype, torch.float32)
    logp_NV = torch.log_softmax(logits_NV.to(dtype), dim=-1)
    logq_NV = torch.log_softmax(ref_logits_NV.to(dtype), dim=-1)
    return (logp_NV.exp() * (logp_NV - logq_NV)).sum(dim=-1)


def kl_rewards(logprobs: Tensor, ref_logprobs: Tensor, beta: float, mask: Tensor) -> Tensor:
    """-beta k1 per token, zero where masked, without gradient: the KL term of the reward.

    Summed over a completion its expectation is -beta KL(policy || reference) of whole completions,
    and the policy gradient of it is exact (Ziegler et al. 2019, arXiv:1909.08593, eq. 2).

    Raises:
        ValueError: shapes differ, or the mask holds more than 0 and 1.
    """
    check_same_shape(logprobs=logprobs, ref_logprobs=ref_logprobs, mask=mask)
    return torch.where(as_bool(mask), -beta * k1(logprobs, ref_logprobs), 0.0).detach()


class FixedBeta:
    """A beta that stays."""

    def __init__(self, value: float) -> None:
        """Raises ValueError where ``value`` is negative."""
        self.value = _checked(value)

    def update(self, kl: float, n: int) -> None:
        """Nothing changes."""

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"value": self.value}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take up a checkpoint. Raises ValueError where it is not of this controller."""
        _check_keys(self, state, {"value"})
        self.value = _checked(state["value"])


class AdaptiveBeta:
    """A beta that steers the measured KL to a target.

    e = clip(kl / target - 1, -0.2, 0.2);  beta <- beta (1 + e n / horizon)
    (Ziegler et al. 2019, arXiv:1909.08593, section 2.2), n the rollouts since the last update.
    """

    def __init__(self, init: float, target: float, horizon: float) -> None:
        """Raises ValueError where ``init`` is negative, or ``target`` or ``horizon`` not positive."""
        if not (target > 0 and horizon > 0):
            raise ValueError(f"target is {target}, horizon {horizon}; both must be positive")
        self.value = _checked(init)
        self.target = target
        self.horizon = horizon

    def update(self, kl: float, n: int) -> None:
        """Move beta by the KL (nats, of the target's unit) measured over ``n`` rollouts.

        Raises:
            NumericsError: kl is not finite.
            ValueError: n is so large against the horizon that one update could take beta to zero.
        """
        if not math.isfinite(kl):
            raise NumericsError(f"KL is {kl}; beta cannot follow it: look for NaN in the policy's log-probs")
        if n * MAX_STEP >= self.horizon:
            raise ValueError(f"{n} rollouts with a horizon of {self.horizon}; it must exceed {MAX_STEP * n}")
        error = min(max(kl / self.target - 1, -MAX_STEP), MAX_STEP)
        self.value *= 1 + error * n / self.horizon

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {"value": self.value, "target": self.target, "horizon": self.horizon}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Take up a checkpoint. Raises ValueError where target or horizon are not this controller's."""
        _check_keys(self, state, {"value", "target", "horizon"})
        if (state["target"], state["horizon"]) != (self.target, self.horizon):
            raise ValueError(
                f"checkpoint has target {state['target']}, horizon {state['horizon']}; "
                f"this controller has {self.target}, {self.horizon}"
            )
        self.value = _checked(state["value"])


def _checked(beta: float) -> float:
    if not (beta >= 0 and math.isfinite(beta)):
        raise ValueError(f"beta is {beta}; it must be finite and not negative")
    return float(beta)


def _check_keys(controller: object, state: Mapping[str, float], keys: set[str]) -> None:
    if set(state) != keys:
        raise ValueError(
            f"state {sorted(state)} is not of a {type(controller).__name__}, which has {sorted(keys)}"
        )
