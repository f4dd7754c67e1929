"""The natural gradient: conjugate gradients and the longest step inside a trust region. Pure tensors.

Schulman et al. 2015, arXiv:1502.05477, appendix C.

Legend: P parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from accord.rl.shapes import check_shapes


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b_P: Tensor, *, iterations: int, tolerance: float = 1e-10
) -> Tensor:
    """(P) x with A x = b for a symmetric positive definite A, known by ``product(v)`` = A v.

    Stops after ``iterations`` or where the squared residual has fallen below ``tolerance`` |b|^2; exact in P
    iterations.

    Raises:
        ValueError: a direction in which A is not positive.
    """
    check_shapes(b_P=b_P)
    x_P, residual_P = torch.zeros_like(b_P), b_P.clone()
    direction_P, squared = residual_P.clone(), residual_P.dot(residual_P)
    floor = tolerance * squared
    for _ in range(iterations):
        if squared <= floor:
            break
        image_P = product(direction_P)
        curvature = direction_P.dot(image_P)
        if not curvature > 0:
            raise ValueError(f"curvature {float(curvature):.3g} along a direction; raise the damping")
        length = squared / curvature
        x_P = x_P + length * direction_P
        residual_P = residual_P - length * image_P
        before, squared = squared, residual_P.dot(residual_P)
        direction_P = residual_P + squared / before * direction_P
    return x_P


def longest_step(direction_P: Tensor, image_P: Tensor, radius: float) -> Tensor:
    """(P) ``direction_P`` scaled so that x'Ax / 2 is ``radius``; ``image_P`` is A times the direction."""
    check_shapes(direction_P=direction_P, image_P=image_P)
    quadratic = direction_P.dot(image_P)
    return direction_P * (2 * radius / quadratic.clamp(min=torch.finfo(quadratic.dtype).tiny)).sqrt()
