"""Tokens drawn by inverse CDF without adding up the whole vocabulary.

Blocks of tokens are summed first; then only one block a row is added up token by token, in float64. What is
drawn is what a sum over all tokens would give, to rounding.

Legend: B rows, V vocabulary, N blocks, k tokens of a block.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 64
"""Tokens of a block."""


def draw(p_BV: Tensor, u_B: Tensor) -> Tensor:
    """(B,) tokens where sums of ``p_BV``, whose total need not be 1, pass the share ``u_B`` < 1 of it."""
    p_VB, size = p_BV.t(), p_BV.shape[1]
    whole = size - size % BLOCK
    sums_BN = p_VB[:whole].unflatten(0, (-1, BLOCK)).sum(1).t()
    if whole < size:
        sums_BN = torch.cat([sums_BN, p_VB[whole:].sum(0)[:, None]], dim=1)
    cdf_BN, block_B1 = _pass(sums_BN, u_B[:, None])
    past_B1 = u_B[:, None] * cdf_BN[:, -1:] - cdf_BN.gather(1, block_B1)
    # The share of the block that is to be passed; a sum and its parts may round to different sides.
    share_B1 = (past_B1 / sums_BN.gather(1, block_B1)).add_(1.0).clamp_(0.0, 1 - 2**-53)
    ids_Bk = block_B1 * BLOCK + torch.arange(BLOCK, device=p_BV.device)
    if whole == size:
        p_Bk = p_BV.gather(1, ids_Bk)
    else:
        p_Bk = p_BV.gather(1, ids_Bk.clamp(max=size - 1)).where(ids_Bk < size, 0.0)
    return ids_Bk.gather(1, _pass(p_Bk, share_B1)[1])[:, 0]


def _pass(p_BK: Tensor, u_B1: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of ``p_BK`` up to each place, and the place where they pass the share ``u_B1`` of the total."""
    cdf_BK = p_BK.cumsum(-1, dtype=torch.float64)
    # Scaled by the row's own total, a share below 1 always falls on what is positive.
    return cdf_BK, torch.searchsorted(cdf_BK, u_B1 * cdf_BK[:, -1:], right=True)
