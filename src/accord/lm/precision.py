"""The precision of a training run's products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def mixed_precision(device: torch.device, wanted: bool = True) -> Iterator[None]:
    """bfloat16 products with float32 weights where the processor has them, else float32: for what trains.

    Casts of weights are kept until its end; where weights change inside, ``torch.clear_autocast_cache``.
    A processor's fused bfloat16 attention goes backward more slowly than the plain one, which is taken.
    """
    native = device.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    if not (wanted and native):
        yield
        return
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16), attention:
        yield
