"""The precision of a training run's products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def mixed_precision(device: torch.device, wanted: bool = True) -> Iterator[None]:
    """bfloat16 products with float32 weights and sums where the processor has them, else float32.

    For what trains; sampling and rewards stay in the weights' own precision. On a processor the backward
    pass of fused bfloat16 attention takes longer than the plain one, so that is taken.
    """
    native = device.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    if not (wanted and native):
        yield
        return
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16), attention:
        yield
