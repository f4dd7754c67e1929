"""Policy losses that treat the importance ratio otherwise than PPO. Pure tensors, detached metrics.

Legend: B rows of the batch, T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accord.rl.losses import Metrics, clipped, log_ratio, ratio_metrics, weighted_mean
from accord.rl.shapes import as_bool


def sequence_policy_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip: float,
    weights_BT: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """The clipped loss with one ratio a completion: rho = exp(mean_t (log p_t - log p_old,t)).

    GSPO (Zheng et al. 2025, arXiv:2507.18071, eq. 5 and 7). A ratio of whole completions in its geometric
    mean moves little, so its clip is some 3e-4. Metrics and errors as for :func:`clipped_policy_loss`.
    """
    log_ratio_BT = log_ratio(logprobs_BT, old_logprobs_BT, advantages_BT, mask_BT, clip)
    real_BT = as_bool(mask_BT)
    mean_B1 = log_ratio_BT.sum(dim=1, keepdim=True) / real_BT.sum(dim=1, keepdim=True).clamp(min=1)
    return clipped(torch.where(real_BT, mean_B1, 0.0), advantages_BT, mask_BT, clip, weights_BT)


def weighted_policy_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip: float,
    weights_BT: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """-mean min(rho, 1 + c) A log p, the ratio without gradient.

    CISPO (MiniMax 2025, arXiv:2506.13585, eq. 4): a token beyond the clip counts less and is not dropped.
    Metrics and errors as for :func:`clipped_policy_loss`; ``clipped_share`` are the tokens held back.
    """
    log_ratio_BT = log_ratio(logprobs_BT, old_logprobs_BT, advantages_BT, mask_BT, clip)
    ratio_BT = log_ratio_BT.detach().exp()
    chosen_BT = torch.where(as_bool(mask_BT), logprobs_BT, 0.0)
    loss_BT = -ratio_BT.clamp(max=1 + clip) * advantages_BT.detach() * chosen_BT
    metrics = ratio_metrics(log_ratio_BT, ratio_BT > 1 + clip, mask_BT, weights_BT)
    return weighted_mean(loss_BT, mask_BT, weights_BT), metrics


def policy_gradient_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip: float,
    weights_BT: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """-mean rho A: on the policy that sampled, the gradient is REINFORCE's, -A grad log p (Williams 1992).

    The ratio keeps it right, nothing clips it, where the policy has moved since (a second minibatch of the
    same rollouts). ``clip`` is read by nothing but ``clipped_share``, the tokens a clip would have cut.
    Metrics and errors as for :func:`clipped_policy_loss`.
    """
    log_ratio_BT = log_ratio(logprobs_BT, old_logprobs_BT, advantages_BT, mask_BT, clip)
    ratio_BT = log_ratio_BT.exp()
    beyond_BT = (ratio_BT.detach() - 1).abs() > clip
    metrics = ratio_metrics(log_ratio_BT, beyond_BT, mask_BT, weights_BT)
    return weighted_mean(-ratio_BT * advantages_BT.detach(), mask_BT, weights_BT), metrics
