"""The exact KL in its plain form: the one that ``lm.score`` is checked against, and for a loop of one's own.

Legend: N prefixes, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accord.rl.shapes import check_shapes


def exact_kl(logits_NV: Tensor, ref_logits_NV: Tensor) -> Tensor:
    """KL(policy || reference) = sum_v p(v) (log p(v) - log q(v)) at each of N prefixes, nats.

    Log-softmax in float32 (float64 where given); never negative but for its rounding.

    Raises:
        ValueError: shapes differ.
    """
    check_shapes(logits_NV=logits_NV, ref_logits_NV=ref_logits_NV)
    dtype = torch.promote_types(logits_NV.dtype, torch.float32)
    logp_NV = torch.log_softmax(logits_NV.to(dtype), dim=-1)
    logq_NV = torch.log_softmax(ref_logits_NV.to(dtype), dim=-1)
    return (logp_NV.exp() * (logp_NV - logq_NV)).sum(dim=-1)
