"""How a whole run of training is paced: learning rates, and the precision of its products."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def mixed_precision(device: torch.device, wanted: bool = True) -> Iterator[None]:
    """bfloat16 products with float32 weights where the processor multiplies bfloat16 natively, else float32.

    For losses only: what is scored or sampled stays in the weights' own precision. On a processor the
    backward pass of fused bfloat16 attention takes longer than the plain one, so that is taken.
    """
    native = device.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    if not (wanted and native):
        yield
        return
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16), attention:
        yield


def cosine(total: int, warmup: int = 0, floor: float = 0.1) -> Callable[[int], float]:
    """Linear warm-up over ``warmup`` steps, then a cosine from 1 to ``floor`` at ``total``."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor
