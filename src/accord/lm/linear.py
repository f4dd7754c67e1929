"""Matrix products on a CPU by oneDNN, at twice the speed of MKL where MKL holds back. N rows, I in, O out.

torch multiplies float32 by MKL, which runs at half of what a processor can that is not Intel's; ``quicken``
sends linear layers (not attention) through oneDNN, which torch has too. Results agree to rounding.
"""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def _works() -> bool:
    """Whether oneDNN is there, on a processor where it is known to be fast, and multiplies as torch does."""
    x = torch.arange(12.0).view(3, 4)
    try:
        right = torch.equal(torch.ops.mkldnn._linear_pointwise(x, x, None, "none", [], ""), x @ x.t())
    except (AttributeError, RuntimeError):  # torch was built without it
        return False
    return right and platform.machine().lower() in ("x86_64", "amd64")


AVAILABLE = _works()


class Linear(nn.Linear):
    """A linear layer that multiplies by :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def quicken(net: nn.Module) -> None:
    """Make the linear layers of ``net`` multiply by :func:`linear` (in place)."""
    for module in net.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear  # a method put on the layer would keep it, and its weights, alive


def linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """``functional.linear``, by oneDNN where all is float32 on a CPU."""
    floats = x.dtype is torch.float32 and weight_OI.dtype is torch.float32
    if not (AVAILABLE and floats and x.is_cpu and x.numel()) or torch.is_autocast_enabled("cpu"):
        return functional.linear(x, weight_OI, bias_O)
    y = _Product.apply(x.reshape(-1, x.shape[-1]).contiguous(), weight_OI)  # slow with other strides
    y = y.view(*x.shape[:-1], len(weight_OI))
    return y if bias_O is None else y + bias_O


class _Product(torch.autograd.Function):
    """(N, O) x W^T. Its backward is made of products of its own kind and so has one too."""

    @staticmethod
    def forward(ctx: Any, x_NI: Tensor, weight_OI: Tensor) -> Tensor:
        ctx.save_for_backward(x_NI, weight_OI)
        if len(x_NI) <= 64 and len(weight_OI) >= 4096:  # oneDNN would rearrange the weights for few rows
            return torch.ops.mkldnn._linear_pointwise(weight_OI, x_NI, None, "none", [], "").t()
        return torch.ops.mkldnn._linear_pointwise(x_NI, weight_OI, None, "none", [], "")

    @staticmethod
    def backward(ctx: Any, grad_NO: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x_NI, weight_OI = ctx.saved_tensors
        grad_NO = grad_NO.contiguous()
        grad_x = _Product.apply(grad_NO, weight_OI.t()) if ctx.needs_input_grad[0] else None
        grad_weight = _Product.apply(grad_NO.t(), x_NI.t()) if ctx.needs_input_grad[1] else None
        return grad_x, grad_weight
