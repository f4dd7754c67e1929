"""Early stopping: the trained parameters at their best on what was held out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def look_steps(steps: int, looks: int) -> set[int]:
    """After which of ``steps``, counted from 1, the held-out loss is taken: ``looks`` times, evenly."""
    return {math.ceil(steps * k / looks) for k in range(1, looks + 1)}


class Best:
    """The parameters at the lowest held-out loss so far. What does not train is not copied."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = parameters
        self.lowest = math.inf
        self.waited = 0
        """Looks since the lowest."""
        self.kept: list[Tensor] | None = None

    def look(self, loss: float, last: bool) -> None:
        """Take note of a loss; the last weights need no copy."""
        if not loss < self.lowest and self.lowest < math.inf:
            self.waited += 1
            return
        self.lowest, self.waited = loss, 0
        self.kept = None if last else [p.detach().clone() for p in self.parameters]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the parameters as they are."""
        return {"lowest": self.lowest, "waited": self.waited, "kept": self.kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self.lowest, self.waited, self.kept = state["lowest"], state["waited"], state["kept"]

    @torch.no_grad()
    def restore(self) -> None:
        """Put the kept parameters back."""
        if self.kept is not None:
            for parameter, value in zip(self.parameters, self.kept, strict=True):
                parameter.copy_(value)
