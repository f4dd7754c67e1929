"""A critic that begins as the reward model: the one place where reward/ and align/ share weights."""

from __future__ import annotations

from torch import nn

from accord.align.settings import AlignConfig
from accord.errors import ConfigError
from accord.lm.critic import OwnCritic
from accord.lm.model import LanguageModel
from accord.reward.model import RewardModel
from accord.types import Scorer


def critic_of(policy: LanguageModel, scorer: Scorer, config: AlignConfig) -> OwnCritic | None:
    """The critic for ``critic = reward``, else ``None``: the loop makes the others itself.

    Its trunk is the reward model's; its head too where that is one matrix (a decoder's), so that its first
    values are the rewards themselves, in the policy's units.

    Raises:
        ConfigError: the reward is no single trained model, or of another trunk than the policy's.
    """
    if not (config.row.critic and config.critic == "reward"):
        return None
    if not isinstance(scorer, RewardModel):
        raise ConfigError(
            f'critic = "reward" needs a reward model of one set of weights, and the reward is a '
            f'{type(scorer).__name__}; take critic = "own" or "head"'
        )
    critic, net = OwnCritic(policy.frozen_copy()), scorer.classifier.net
    weight_D = None
    head = getattr(net, "score", None)
    if isinstance(head, nn.Linear):
        rows = head.weight.detach()  # one logit, or those of bad and good
        weight_D = (rows[0] if len(rows) == 1 else rows[1] - rows[0]) / scorer.std
    critic.begin_as(net.base_model, weight_D, -scorer.mean / scorer.std)
    return critic
