"""Weights that read the same input, laid one behind the other, so that one product serves for all of them.

A layer's query, key and value weights become parts of one piece of memory; so do its gate and up weights.
They stay parameters of their own: training, saving, adapters and copies go on as before, and no weight is
there twice. Where they do not lie so any more (in a deep copy, after a move), they are multiplied one by one.

Legend: O out, I in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from accord.lm.linear import Linear

QKV, GATES = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")


def lay_together(net: nn.Module) -> None:
    """Lay the weights of ``QKV`` and of ``GATES`` one behind the other, in place and layer by layer."""
    for module in net.modules():
        for names in (QKV, GATES):
            layers: list[Any] = [getattr(module, name, None) for name in names]
            layers = [getattr(layer, "base_layer", layer) for layer in layers]  # under adapters
            if any(type(layer) is not Linear for layer in layers):
                continue
            weights = [layer.weight for layer in layers]
            alike = len({(type(w.data), w.shape[1], w.dtype, w.device) for w in weights}) == 1
            if joint(weights) is None and alike and type(weights[0].data) is Tensor:
                whole_OI = torch.cat([weight.data for weight in weights])
                for weight, part_OI in zip(weights, whole_OI.split([len(w) for w in weights]), strict=True):
                    weight.data = part_OI


def joint(weights: Sequence[Tensor]) -> Tensor | None:
    """(sum of O, I) over all of ``weights`` where they lie one behind the other; otherwise ``None``."""
    first, end = weights[0], weights[0].data_ptr()
    for weight in weights:
        same = weight.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (same and weight.data_ptr() == end and weight.is_contiguous() and weight.dtype is first.dtype):
            return None
        end += weight.nbytes
    rows = sum(len(weight) for weight in weights)
    return first.detach().as_strided((rows, first.shape[1]), first.stride())
