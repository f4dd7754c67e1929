"""Shapes checked by their names: the suffix of ``values_BT`` says two dimensions, B and T.

Legend: one capital letter is one dimension; a letter has one size throughout a call.
"""

from __future__ import annotations

import torch
from torch import Tensor


def check_shapes(**tensors: Tensor) -> None:
    """Hold each tensor to the suffix of its name, and each letter to one size.

    Raises:
        ValueError: a rank or a size differs; the message names the tensor and every shape.
    """
    sizes: dict[str, int] = {}
    for name, tensor in tensors.items():
        letters = name.rpartition("_")[2]
        if tensor.dim() != len(letters):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it needs {len(letters)} dimensions")
        for letter, size in zip(letters, tensor.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                shapes = ", ".join(f"{n} {tuple(t.shape)}" for n, t in tensors.items())
                raise ValueError(f"{name} has {size} along {letter}, others {sizes[letter]}: {shapes}")


def check_same_shape(**tensors: Tensor) -> None:
    """Hold tensors to one shape, whatever it is.

    Raises:
        ValueError: two shapes differ; the message names every tensor and shape.
    """
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"shapes differ, nothing is broadcast: {shapes}")


def as_bool(mask: Tensor) -> Tensor:
    """The mask as booleans.

    Raises:
        ValueError: an entry is neither 0 nor 1 (a weight is not a mask).
    """
    if mask.dtype == torch.bool:
        return mask
    real = mask != 0
    if not torch.equal(real.to(mask.dtype), mask):
        raise ValueError(f"a mask holds only 0 and 1; this one lies in [{mask.min()}, {mask.max()}]")
    return real
