"""What an online algorithm is: how credit is given, what is minimised, and its usual settings. PPO's row.

A row is all that tells one algorithm from another; the loop (``align.online``), the leash and the guard are
the same. The other rows stand in ``align.rows``; who reads a step of PPO need not read them.
``docs/algorithms.md`` has each one's formula, source, and what is left out.

Legend: B rollouts, T completion tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from torch import Tensor

from accord.rl.advantages import gae
from accord.rl.losses import Mean, Metrics, clipped_policy_loss

ROWS = "accord.align.rows"


@dataclass(frozen=True)
class Paid:
    """What a step's rollouts were paid, the KL of the reward included."""

    rewards_BT: Tensor
    values_BT: Tensor
    """V before each token; zeros without a critic."""
    mask_BT: Tensor
    bootstrap_B: Tensor
    groups_B: Tensor
    """Rollouts of one prompt share a number."""
    gamma: float
    lam: float


@dataclass(frozen=True)
class Algorithm:
    """One row."""

    credit: Callable[[Paid], Tensor]
    """(B, T) advantages."""
    loss: Callable[..., tuple[Tensor, Metrics]]
    critic: bool = False
    whiten: bool = False
    """Advantages over their deviation in the whole batch, their mean taken off."""
    mean: Mean = Mean.TOKEN
    samples: int = 1
    """Completions of a prompt, unless the settings say; above 1 it needs groups."""
    epochs: int = 1
    clip: float = 0.2
    kl_in: str = "reward"
    kl: str = "k1"
    masked: bool = False
    """Tokens are chosen among the top-p set of a lagging copy of the policy."""
    learn: Callable[..., dict[str, float]] | None = None
    """What stands in for ``online.learn``, where an update is no gradient step."""


def by_critic(paid: Paid) -> Tensor:
    """Generalised advantage estimates against the critic's values."""
    return gae(
        paid.rewards_BT, paid.values_BT, paid.mask_BT, paid.bootstrap_B, gamma=paid.gamma, lam=paid.lam
    )[0]


PPO = Algorithm(by_critic, clipped_policy_loss, critic=True, whiten=True, epochs=4)


def find(name: str) -> Algorithm:
    """The row called ``name``."""
    return PPO if name == "ppo" else import_module(ROWS).ROWS[name]
