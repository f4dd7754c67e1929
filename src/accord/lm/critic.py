"""A critic with a trunk of its own: begun as the policy, or as the reward model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from accord.errors import ConfigError
from accord.lm.heads import ValueHead
from accord.lm.model import LanguageModel
from accord.lm.tokens import TokenBatch


class OwnCritic(ValueHead):
    """A value head on ``model``, a language model of the policy's vocabulary, all of whose weights train."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__(model.width)
        model.merge()
        self.model = model
        self.net = model.net.float().requires_grad_(True)  # coarser weights round small updates away
        self.trunk = list(self.net.parameters())
        self.to(model.device)

    def values(self, tokens: TokenBatch, hidden: Tensor, *, after: bool = False) -> Tensor:
        """As of a head, from its own states."""
        return self(self.model.hidden(tokens, after=after))

    @torch.no_grad()
    def begin_as(self, base: nn.Module, weight_D: Tensor | None = None, bias: float = 0.0) -> None:
        """Take over the trunk of a reward model, and its head where that is linear.

        ``base`` is the trunk of a classifier of the same architecture; ``weight_D`` and ``bias`` map its
        states to the reward as the policy is paid it.

        Raises:
            ConfigError: the trunks differ.
        """
        trunk = self.net.base_model
        ours, theirs = trunk.state_dict(), base.state_dict()
        shared = {name: value for name, value in theirs.items() if name in ours}
        differ = [name for name, value in shared.items() if value.shape != ours[name].shape]
        differ += sorted(theirs.keys() - ours.keys())
        differ += sorted(name for name in ours.keys() - theirs.keys() if not name.startswith("lm_head"))
        if differ:
            raise ConfigError(
                f"the critic cannot begin as this reward model: {self.model.name} has another trunk "
                f"({len(differ)} weights differ, the first {differ[0]}); train the reward model from the "
                'policy\'s own base, or take critic = "own"'
            )
        trunk.load_state_dict(shared, strict=False)
        if weight_D is not None:
            self.linear.weight.copy_(weight_D[None])
            self.linear.bias.fill_(bias)
