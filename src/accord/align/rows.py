"""The online algorithms besides PPO, a row each. ``docs/algorithms.md`` has formulas and sources.

Legend: B rollouts, T completion tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from accord.align.algorithms import PPO, Algorithm, Paid, by_critic
from accord.align.trpo import learn_in_trust_region
from accord.rl.groups import group_advantages, leave_one_out
from accord.rl.losses import Mean, Metrics, clipped_policy_loss
from accord.rl.ratios import policy_gradient_loss, sequence_policy_loss, weighted_policy_loss


def to_go(paid: Paid) -> Tensor:
    """The discounted reward from each token on."""
    nothing = torch.zeros_like(paid.values_BT)
    return by_critic(
        replace(paid, values_BT=nothing, bootstrap_B=torch.zeros_like(paid.bootstrap_B), lam=1.0)
    )


def to_go_less_others(paid: Paid) -> Tensor:
    """The reward from each token on, less what the step's other rollouts were paid on average."""
    totals_B = _totals(paid)
    baseline_B = totals_B - leave_one_out(totals_B, torch.zeros_like(paid.groups_B))
    return (to_go(paid) - baseline_B[:, None]) * paid.mask_BT


def less_others_of_the_prompt(paid: Paid) -> Tensor:
    """A completion's whole reward less the mean of the prompt's others, on each of its tokens."""
    return _spread(leave_one_out(_totals(paid), paid.groups_B), paid)


def scaled_in_the_group(paid: Paid) -> Tensor:
    """A completion's whole reward, centred and scaled in its prompt's group, on each of its tokens."""
    return _spread(group_advantages(_totals(paid), paid.groups_B, scale=True), paid)


def centred_in_the_group(paid: Paid) -> Tensor:
    """A completion's whole reward less its prompt's mean, on each of its tokens."""
    return _spread(group_advantages(_totals(paid), paid.groups_B, scale=False), paid)


def _totals(paid: Paid) -> Tensor:
    return paid.rewards_BT.sum(dim=1)


def _spread(advantages_B: Tensor, paid: Paid) -> Tensor:
    return advantages_B[:, None] * paid.mask_BT


def _grouped(
    credit: Callable[[Paid], Tensor],
    loss: Callable[..., tuple[Tensor, Metrics]],
    mean: Mean = Mean.SEQUENCE,
    clip: float = 0.2,
) -> Algorithm:
    return Algorithm(credit, loss, mean=mean, clip=clip, samples=4, kl_in="loss", kl="k3")


ROWS: Mapping[str, Algorithm] = {
    "a2c": Algorithm(by_critic, policy_gradient_loss, critic=True),
    "reinforce": Algorithm(to_go, policy_gradient_loss, mean=Mean.CONSTANT),
    "reinforce-baseline": Algorithm(to_go_less_others, policy_gradient_loss, mean=Mean.CONSTANT),
    "reinforce++": Algorithm(to_go, clipped_policy_loss, whiten=True),
    "rloo": Algorithm(less_others_of_the_prompt, policy_gradient_loss, mean=Mean.CONSTANT, samples=4),
    "grpo": _grouped(scaled_in_the_group, clipped_policy_loss),
    "dr-grpo": _grouped(centred_in_the_group, clipped_policy_loss, Mean.CONSTANT),
    "gspo": _grouped(scaled_in_the_group, sequence_policy_loss, clip=3e-4),
    "trpo": Algorithm(
        by_critic, policy_gradient_loss, critic=True, whiten=True, clip=0.01, learn=learn_in_trust_region
    ),
    "nlpo": replace(PPO, masked=True),
    "cispo": _grouped(scaled_in_the_group, weighted_policy_loss, Mean.TOKEN, clip=4.0),
}
