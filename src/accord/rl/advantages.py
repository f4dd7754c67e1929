"""Advantages, whitening, and the masked statistics every loss is made of. Pure tensors.

A mask is 1 where the policy chose the token. Zeros are padding, or words of an environment in the
middle of a row; whatever stands in them (NaN too) never reaches a result.

Legend: B rows of the batch, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accord.rl.shapes import as_bool, check_shapes

EPSILON = 1e-8
"""Added to a variance before its root, so that equal values whiten to zero."""


def gae(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, bootstrap_B: Tensor, *, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and returns, each (B, T), zero where masked.

    delta_t = r_t + gamma V(s_{t+1}) - V(s_t);  A_t = delta_t + gamma lam A_{t+1};  R_t = A_t + V(s_t)
    (Schulman et al. 2016, arXiv:1506.02438, eq. 16). ``values_BT`` is V(s_t), before token t. Time
    runs over the policy's tokens only: t + 1 is the next unmasked column. ``bootstrap_B`` is the
    value after a row's last token: 0 where the episode ended, V(s_T) where it was cut off.

    Raises:
        ValueError: shapes differ, gamma or lam lies outside [0, 1], a row has no token, or a reward
            stands on a masked token, where it would be lost.
    """
    check_shapes(rewards_BT=rewards_BT, values_BT=values_BT, mask_BT=mask_BT, bootstrap_B=bootstrap_B)
    for name, value in (("gamma", gamma), ("lam", lam)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; it must lie in [0, 1]")
    real_BT = as_bool(mask_BT)
    empty_B = ~real_BT.any(dim=1)
    if empty_B.any():
        raise ValueError(f"rows {empty_B.nonzero().flatten().tolist()[:8]} have no token of the policy")
    lost_BT = ~real_BT & (rewards_BT != 0)
    if lost_BT.any():
        raise ValueError(
            f"rewards stand on masked tokens (row, column) {lost_BT.nonzero().tolist()[:8]}; "
            "put each on the last token of the policy before it"
        )
    advantages_BT = torch.zeros_like(values_BT)
    next_value_B, next_advantage_B = bootstrap_B, torch.zeros_like(bootstrap_B)
    for t in reversed(range(values_BT.shape[1])):
        real_B = real_BT[:, t]
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        next_advantage_B = torch.where(real_B, delta_B + gamma * lam * next_advantage_B, next_advantage_B)
        next_value_B = torch.where(real_B, values_BT[:, t], next_value_B)
        advantages_BT[:, t] = torch.where(real_B, next_advantage_B, 0.0)
    returns_BT = torch.where(real_BT, advantages_BT + values_BT, 0.0)
    return advantages_BT, returns_BT


def whiten(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(x - mean) / sqrt(var + 1e-8) over the real tokens of the whole batch; zero where masked.

    Whiten the whole batch of rollouts, not a micro-batch (Huang et al. 2024, arXiv:2403.17031).

    Raises:
        ValueError: shapes differ, or fewer than two tokens are real.
    """
    mean = masked_mean(x_BT, mask_BT)
    white_BT = (x_BT - mean) * torch.rsqrt(masked_var(x_BT, mask_BT) + EPSILON)
    return torch.where(as_bool(mask_BT), white_BT, 0.0)


def masked_mean(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the real tokens of the whole batch, a scalar. Raises ValueError where there are none."""
    return masked_sum(x_BT, mask_BT) / _count(mask_BT, at_least=1)


def masked_var(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Unbiased variance (divisor n - 1) over the real tokens; ValueError where there are fewer than two."""
    count = _count(mask_BT, at_least=2)
    return masked_sum((x_BT - masked_mean(x_BT, mask_BT)).square(), mask_BT) / (count - 1)


def masked_sum(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Sum over the real tokens of the whole batch, a scalar. Raises ValueError if shapes differ."""
    check_shapes(x_BT=x_BT, mask_BT=mask_BT)
    return torch.where(as_bool(mask_BT), x_BT, 0.0).sum()


def explained_variance(values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """1 - var(returns - values) / var(returns): 1 is a perfect critic, 0 no better than a constant.

    NaN where every return is the same, since there is then nothing to explain.

    Raises:
        ValueError: shapes differ, or fewer than two tokens are real.
    """
    check_shapes(values_BT=values_BT, returns_BT=returns_BT, mask_BT=mask_BT)
    total = masked_var(returns_BT, mask_BT)
    share = 1 - masked_var(returns_BT - values_BT, mask_BT) / total
    return torch.where(total > 0, share, torch.nan)


def _count(mask_BT: Tensor, *, at_least: int) -> int:
    count = int(as_bool(mask_BT).sum())
    if count < at_least:
        raise ValueError(
            f"{count} real tokens in mask {tuple(mask_BT.shape)}; at least {at_least} are needed"
        )
    return count
