"""How a whole run of training is paced: learning rates as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable


def cosine(total: int, warmup: int = 0, floor: float = 0.1) -> Callable[[int], float]:
    """Linear warm-up over ``warmup`` steps, then a cosine from 1 to ``floor`` at ``total``."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor
