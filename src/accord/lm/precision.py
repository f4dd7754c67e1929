"""The precision of a training run's products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def has_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 by itself."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))


@contextmanager
def mixed_precision(device: torch.device, wanted: bool = True) -> Iterator[None]:
    """bfloat16 products with float32 weights where the processor has them, else float32: for what trains.

    Casts of weights are kept until its end; where weights change inside, ``torch.clear_autocast_cache``.
    A processor's fused bfloat16 attention goes backward more slowly than the plain one, which is taken.
    """
    on = wanted and has_bfloat16(device)
    attention = sdpa_kernel(SDPBackend.MATH) if on and device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16) if on else nullcontext(), attention:
        yield
