"""The critic's value head on a trunk's states.

The head starts at zero, so an untrained critic says 0 everywhere and moves nothing but itself in
its first update (a random head would push noise into a trunk it shares with the policy).
"""

from __future__ import annotations

from torch import Tensor, nn

from accord.lm.tokens import TokenBatch


class ValueHead(nn.Module):
    """(..., D) states -> (...) values, in float32 whatever the trunk's dtype.

    ``trunk`` are the weights below that are the critic's own: none of a head on the policy's.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.trunk: list[nn.Parameter] = []

    def forward(self, hidden: Tensor) -> Tensor:
        return (hidden.float() * self.linear.weight[0]).sum(-1) + self.linear.bias[0]

    def values(self, tokens: TokenBatch, hidden: Tensor, *, after: bool = False) -> Tensor:
        """(B, T) values before each token of ``tokens``; with ``after`` (B, T+1), behind the last one too.

        ``hidden`` are the policy's states of the same columns.
        """
        return self(hidden)
