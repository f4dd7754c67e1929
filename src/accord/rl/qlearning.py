"""Learning values of tokens: Q-learning's targets and losses, and those of implicit Q-learning. Pure tensors.

A token is an action, what stands before it the state. Targets over several tokens are ``advantages.gae``'s
returns with the values below: lambda 0 looks one token ahead, 1 to the end of the episode.

Legend: N states, V vocabulary, B rows of the batch, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accord.rl.advantages import masked_mean
from accord.rl.losses import Metrics, weighted_mean
from accord.rl.shapes import as_bool, check_shapes


def double_values(q_NV: Tensor, target_NV: Tensor) -> Tensor:
    """(N) value of each state: the target's Q of the token that the learner finds best.

    Double DQN (van Hasselt et al. 2016, arXiv:1509.06461): one net chooses, the other values, so that noise
    is not taken for value.

    Raises:
        ValueError: shapes differ.
    """
    check_shapes(q_NV=q_NV, target_NV=target_NV)
    return target_NV.gather(1, q_NV.argmax(dim=1, keepdim=True))[:, 0]


def value_loss(
    values_BT: Tensor, targets_BT: Tensor, mask_BT: Tensor, *, weights_BT: Tensor | None = None
) -> tuple[Tensor, Metrics]:
    """0.5 mean (y - q)^2 over the policy's tokens; the target has no gradient.

    Metrics: ``q_mean`` and ``q_error`` (mean squared error).

    Raises:
        ValueError: shapes differ, or no token is real.
    """
    check_shapes(values_BT=values_BT, targets_BT=targets_BT, mask_BT=mask_BT)
    # Masked before it is squared: NaN behind a mask would come back as 0 x NaN in the gradient.
    error_BT = torch.where(as_bool(mask_BT), targets_BT.detach() - values_BT, 0.0).square()
    loss = 0.5 * weighted_mean(error_BT, mask_BT, weights_BT)
    with torch.no_grad():
        metrics = {
            "q_mean": weighted_mean(values_BT, mask_BT, weights_BT),
            "q_error": weighted_mean(error_BT, mask_BT, weights_BT),
        }
    return loss, metrics


def expectile_loss(values_BT: Tensor, targets_BT: Tensor, mask_BT: Tensor, *, expectile: float) -> Tensor:
    """mean |tau - 1(u < 0)| u^2, u = target - value: at tau near 1 the value is near the best target seen.

    The V of implicit Q-learning (Kostrikov et al. 2021, arXiv:2110.06169, eq. 5): a maximum over the actions
    of the data, with no action asked about that nobody took.

    Raises:
        ValueError: shapes differ, no token is real, or tau is not within (0, 1).
    """
    check_shapes(values_BT=values_BT, targets_BT=targets_BT, mask_BT=mask_BT)
    if not 0 < expectile < 1:
        raise ValueError(f"expectile is {expectile}; it must lie within (0, 1)")
    ahead_BT = torch.where(as_bool(mask_BT), targets_BT.detach() - values_BT, 0.0)
    weight_BT = torch.where(ahead_BT < 0, 1 - expectile, expectile)
    return masked_mean(weight_BT * ahead_BT.square(), mask_BT)


def conservative_loss(q_NV: Tensor, tokens_N: Tensor) -> Tensor:
    """mean (log sum_v exp Q(v) - Q(token)): keeps tokens nobody took from being thought good.

    The CQL term of ILQL (Snell et al. 2022, arXiv:2206.11871, sec. 4.2; Kumar et al. 2020,
    arXiv:2006.04779).

    Raises:
        ValueError: shapes differ.
    """
    check_shapes(q_NV=q_NV, tokens_N=tokens_N)
    return (q_NV.logsumexp(dim=1) - q_NV.gather(1, tokens_N[:, None])[:, 0]).mean()


def spread(values_N: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, T) values of the policy's tokens in the rows' order, zero where masked."""
    real_BT = as_bool(mask_BT)
    empty_BT = torch.zeros(real_BT.shape, dtype=values_N.dtype, device=values_N.device)
    return empty_BT.masked_scatter(real_BT, values_N)
