"""The losses of policies and critics. Pure tensors; metrics are detached scalars.

A loss is a mean over the policy's tokens. What kind of mean, :func:`token_weights` says: its weights add up
to one over an optimiser step, so the losses and metrics of its micro-batches, each with its rows of the
weights, add up to those of the whole. Without weights each real token of the call counts alike.

Legend: B rows of the batch, T tokens.
"""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

from accord.rl.advantages import masked_mean, masked_sum
from accord.rl.kl import k3
from accord.rl.shapes import as_bool, check_shapes

Metrics = dict[str, Tensor]


class Mean(StrEnum):
    """What counts alike in a mean over tokens."""

    TOKEN = "token"
    """Every token (DAPO, arXiv:2503.14476): a long completion weighs more than a short one."""
    SEQUENCE = "sequence"
    """Every completion (GRPO, arXiv:2402.03300): a token of a long one weighs less."""
    CONSTANT = "constant"
    """Every token, over rows x length limit (Dr. GRPO, arXiv:2503.20783): the scale does not move with
    the lengths that happened to be sampled."""


def token_weights(mask_BT: Tensor, mean: Mean, limit: int) -> Tensor:
    """(B, T) share of each token in an optimiser step's mean, zero where masked.

    ``limit`` is the longest a completion may be, in tokens; only the constant mean reads it.

    Raises:
        ValueError: no token is real.
    """
    real_BT = as_bool(mask_BT)
    if not real_BT.any():
        raise ValueError(f"no token is real in mask {tuple(mask_BT.shape)}; there is no mean to take")
    weights_BT = real_BT.to(torch.float32)
    if mean is Mean.TOKEN:
        return weights_BT / weights_BT.sum()
    rows = int(real_BT.any(dim=1).sum())
    if mean is Mean.CONSTANT:
        return weights_BT / (rows * limit)
    return weights_BT / (rows * weights_BT.sum(dim=1, keepdim=True).clamp(min=1))


def clipped_policy_loss(
    logprobs_BT: Tensor, old_logprobs_BT: Tensor, advantages_BT: Tensor, mask_BT: Tensor, *, clip: float,
    weights_BT: Tensor | None = None,
) -> tuple[Tensor, Metrics]:  # fmt: skip
    """-mean min(rho A, clip(rho, 1 - c, 1 + c) A), rho = exp(log p - log p_old).

    Schulman et al. 2017, arXiv:1707.06347, eq. 7. Gradients flow into ``logprobs_BT`` alone.
    Metrics: ``ratio_mean``, ``ratio_max``, ``clipped_share`` (tokens whose gradient the clip cuts) and
    ``approx_kl`` (k3 of the old policy to the new, nats a token).

    Raises:
        ValueError: shapes differ, clip is not positive, or no token is real.
    """
    log_ratio_BT = log_ratio(logprobs_BT, old_logprobs_BT, advantages_BT, mask_BT, clip)
    return clipped(log_ratio_BT, advantages_BT, mask_BT, clip, weights_BT)


def clipped_value_loss(
    values_BT: Tensor,
    old_values_BT: Tensor,
    returns_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip: float,
    weights_BT: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """0.5 mean max((v - R)^2, (clip(v, v_old - c, v_old + c) - R)^2).

    The value clipping of OpenAI's PPO (Huang et al. 2024, arXiv:2403.17031). Gradients flow into
    ``values_BT`` alone. Metrics: ``value_clipped_share``.

    Raises:
        ValueError: shapes differ, clip is not positive, or no token is real.
    """
    check_shapes(values_BT=values_BT, old_values_BT=old_values_BT, returns_BT=returns_BT, mask_BT=mask_BT)
    _check_positive(clip=clip)
    old_BT, returns_BT = old_values_BT.detach(), returns_BT.detach()
    free_BT = (values_BT - returns_BT).square()
    held_BT = (values_BT.clamp(old_BT - clip, old_BT + clip) - returns_BT).square()
    loss = 0.5 * weighted_mean(torch.maximum(free_BT, held_BT), mask_BT, weights_BT)
    clipped_BT = (held_BT > free_BT).to(values_BT.dtype)
    return loss, {"value_clipped_share": weighted_mean(clipped_BT, mask_BT, weights_BT)}


def log_ratio(
    logprobs_BT: Tensor, old_logprobs_BT: Tensor, advantages_BT: Tensor, mask_BT: Tensor, clip: float
) -> Tensor:
    """log p - log p_old; zero where masked, or an overflow there would make 0 * inf = NaN in the gradient."""
    check_shapes(
        logprobs_BT=logprobs_BT, old_logprobs_BT=old_logprobs_BT, advantages_BT=advantages_BT, mask_BT=mask_BT
    )
    _check_positive(clip=clip)
    return torch.where(as_bool(mask_BT), logprobs_BT - old_logprobs_BT.detach(), 0.0)


def clipped(
    log_ratio_BT: Tensor, advantages_BT: Tensor, mask_BT: Tensor, clip: float, weights_BT: Tensor | None
) -> tuple[Tensor, Metrics]:
    advantages_BT, ratio_BT = advantages_BT.detach(), log_ratio_BT.exp()
    free_BT = -ratio_BT * advantages_BT
    held_BT = -ratio_BT.clamp(1 - clip, 1 + clip) * advantages_BT
    loss = weighted_mean(torch.maximum(free_BT, held_BT), mask_BT, weights_BT)
    return loss, ratio_metrics(log_ratio_BT, held_BT > free_BT, mask_BT, weights_BT)


@torch.no_grad()
def ratio_metrics(
    log_ratio_BT: Tensor, cut_BT: Tensor, mask_BT: Tensor, weights_BT: Tensor | None
) -> Metrics:
    ratio_BT = log_ratio_BT.exp()
    return {
        "ratio_mean": weighted_mean(ratio_BT, mask_BT, weights_BT),
        "ratio_max": ratio_BT[as_bool(mask_BT)].max(),
        "clipped_share": weighted_mean(cut_BT.to(ratio_BT.dtype), mask_BT, weights_BT),
        "approx_kl": weighted_mean(k3(torch.zeros_like(log_ratio_BT), log_ratio_BT), mask_BT, weights_BT),
    }


def weighted_mean(x_BT: Tensor, mask_BT: Tensor, weights_BT: Tensor | None) -> Tensor:
    if weights_BT is None:
        return masked_mean(x_BT, mask_BT)
    check_shapes(x_BT=x_BT, weights_BT=weights_BT)
    return masked_sum(torch.where(as_bool(mask_BT), x_BT, 0.0) * weights_BT, mask_BT)


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be positive")
