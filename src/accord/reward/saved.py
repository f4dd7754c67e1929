"""A reward from its folder, whichever kind was saved there: a model, an ensemble, heads or Laplace."""

from __future__ import annotations

from pathlib import Path

from accord.reward import ensemble, heads, laplace
from accord.reward.ensemble import Ensemble
from accord.reward.heads import Heads
from accord.reward.laplace import LaplaceReward
from accord.reward.model import RewardModel

Reward = RewardModel | Ensemble | Heads | LaplaceReward


def load_reward(path: str | Path, device: str | None = None) -> Reward:
    """What was saved to ``path``.

    Raises:
        ModelError: nothing loadable there.
    """
    if (Path(path) / ensemble.SETTINGS).exists():
        return Ensemble.load(path, device)
    if heads.FILES.lies_in(path):
        return Heads.load(path, device)
    if laplace.FILES.lies_in(path):
        return LaplaceReward.load(path, device)
    return RewardModel.load(path, device)


def one_model(reward: Reward) -> RewardModel:
    """The reward model within: the first member of an ensemble, the trunk of heads."""
    if isinstance(reward, RewardModel):
        return reward
    return reward.members[0] if isinstance(reward, Ensemble) else reward.model
