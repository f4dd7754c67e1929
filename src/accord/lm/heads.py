"""Scalar heads on a trunk's states: the critic's value head.

The head starts at zero, so an untrained critic says 0 everywhere and moves nothing but itself in
its first update (a random head would push noise into a trunk it shares with the policy).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ValueHead(nn.Module):
    """(..., D) states -> (...) values, in float32 whatever the trunk's dtype."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.linear(hidden.to(torch.float32)).squeeze(-1)


def start_head(net: nn.Module, seed: int) -> None:
    """Give a fresh reward head small weights: normal with standard deviation 1 / sqrt(D + 1), no bias.

    Stiennon et al. 2020 (arXiv:2009.01325) start reward heads so. A head inside a BERT-like
    classifier (``classifier``) keeps its own start.
    """
    head = getattr(net, "score", None)
    if isinstance(head, nn.Linear):
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            start = torch.randn(head.weight.shape, generator=generator) / (head.in_features + 1) ** 0.5
            head.weight.copy_(start.to(head.weight))
