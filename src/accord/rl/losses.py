"""The losses of PPO and of the reward model. Pure tensors; metrics are detached scalars.

Means run over real tokens. Under gradient accumulation pass ``total_tokens``, the count of the whole
optimiser step: the micro-batches' losses then add up to the loss of the whole batch.

Legend: B rows of the batch, T tokens, P pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from accord.rl.advantages import masked_mean, masked_sum
from accord.rl.kl import k3
from accord.rl.shapes import as_bool, check_shapes

Metrics = dict[str, Tensor]


def clipped_policy_loss(
    logprobs_BT: Tensor,
    old_logprobs_BT: Tensor,
    advantages_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip: float,
    total_tokens: int | None = None,
) -> tuple[Tensor, Metrics]:
    """-mean min(rho A, clip(rho, 1 - c, 1 + c) A), rho = exp(log p - log p_old).

    Schulman et al. 2017, arXiv:1707.06347, eq. 7. Gradients flow into ``logprobs_BT`` alone.
    Metrics, over this call's tokens: ``ratio_mean``, ``ratio_max``, ``clipped_share`` (tokens whose
    gradient the clip cuts) and ``approx_kl`` (k3 of the old policy to the new, nats a token).

    Raises:
        ValueError: shapes differ, clip or total_tokens is not positive, or no token is real.
    """
    check_shapes(
        logprobs_BT=logprobs_BT, old_logprobs_BT=old_logprobs_BT, advantages_BT=advantages_BT, mask_BT=mask_BT
    )
    _check_positive(clip=clip)
    real_BT = as_bool(mask_BT)
    advantages_BT = advantages_BT.detach()
    # Masked before exp: an overflow in the padding would make 0 * inf = NaN in the gradient.
    log_ratio_BT = torch.where(real_BT, logprobs_BT - old_logprobs_BT.detach(), 0.0)
    ratio_BT = log_ratio_BT.exp()
    free_BT = -ratio_BT * advantages_BT
    held_BT = -ratio_BT.clamp(1 - clip, 1 + clip) * advantages_BT
    loss = _step_mean(torch.maximum(free_BT, held_BT), mask_BT, total_tokens)
    with torch.no_grad():
        metrics = {
            "ratio_mean": masked_mean(ratio_BT, mask_BT),
            "ratio_max": ratio_BT[real_BT].max(),
            "clipped_share": masked_mean((held_BT > free_BT).to(ratio_BT.dtype), mask_BT),
            "approx_kl": masked_mean(k3(torch.zeros_like(log_ratio_BT), log_ratio_BT), mask_BT),
        }
    return loss, metrics


def clipped_value_loss(
    values_BT: Tensor,
    old_values_BT: Tensor,
    returns_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip: float,
    total_tokens: int | None = None,
) -> tuple[Tensor, Metrics]:
    """0.5 mean max((v - R)^2, (clip(v, v_old - c, v_old + c) - R)^2).

    The value clipping of OpenAI's PPO (Huang et al. 2024, arXiv:2403.17031). Gradients flow into
    ``values_BT`` alone. Metrics, over this call's tokens: ``value_clipped_share``, ``value_mean``
    and ``value_error`` (mean squared error, unclipped).

    Raises:
        ValueError: shapes differ, clip or total_tokens is not positive, or no token is real.
    """
    check_shapes(values_BT=values_BT, old_values_BT=old_values_BT, returns_BT=returns_BT, mask_BT=mask_BT)
    _check_positive(clip=clip)
    old_BT, returns_BT = old_values_BT.detach(), returns_BT.detach()
    free_BT = (values_BT - returns_BT).square()
    held_BT = (values_BT.clamp(old_BT - clip, old_BT + clip) - returns_BT).square()
    loss = 0.5 * _step_mean(torch.maximum(free_BT, held_BT), mask_BT, total_tokens)
    with torch.no_grad():
        metrics = {
            "value_clipped_share": masked_mean((held_BT > free_BT).to(values_BT.dtype), mask_BT),
            "value_mean": masked_mean(values_BT, mask_BT),
            "value_error": masked_mean(free_BT, mask_BT),
        }
    return loss, metrics


def ranking_loss(
    chosen_P: Tensor,
    rejected_P: Tensor,
    p_chosen_P: Tensor,
    *,
    weights_P: Tensor | None = None,
    margin_P: Tensor | None = None,
    log_nu: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """Weighted mean of -[p log sigma(d) + (1 - p) log sigma(-d)], d = r_chosen - r_rejected - margin.

    With p = 1 this is -log sigma(r_j - r_k) (Bradley & Terry 1952; Ouyang et al. 2022,
    arXiv:2203.02155, eq. 1); p below 1 is the labelers' agreement, 0.5 a tie; the margin is that of
    Llama 2 (arXiv:2307.09288, eq. 2).

    With ``log_nu`` (a scalar that may learn) a label of exactly 0, 1/2 or 1 is a vote that could have been
    a tie, under Davidson's model (1970): P(first) = e^(d/2) / (e^(d/2) + e^(-d/2) + nu), P(tie) = nu over
    the same. Any other p is the probability given that no tie is called, in which nu cancels.

    Metrics: ``accuracy`` (over pairs that are no tie; equal
    scores count one half; NaN where all are ties) and ``margin`` (mean r_chosen - r_rejected).

    Raises:
        ValueError: shapes differ, there is no pair, a p lies outside [0, 1], or weights are
            negative or all zero.
    """
    given = {"chosen_P": chosen_P, "rejected_P": rejected_P, "p_chosen_P": p_chosen_P}
    weights_P = torch.ones_like(p_chosen_P) if weights_P is None else weights_P
    margin_P = torch.zeros_like(chosen_P) if margin_P is None else margin_P
    check_shapes(**given, weights_P=weights_P, margin_P=margin_P)
    if not ((p_chosen_P >= 0) & (p_chosen_P <= 1)).all():
        raise ValueError(f"p_chosen_P holds {p_chosen_P.tolist()[:8]}; probabilities lie in [0, 1]")
    if not ((weights_P >= 0).all() and weights_P.sum() > 0):
        raise ValueError(f"weights_P is {weights_P.tolist()[:8]}; weights are >= 0 and not all zero")
    difference_P = chosen_P - rejected_P
    held_P = difference_P - margin_P
    losses_P = -(p_chosen_P * logsigmoid(held_P) + (1 - p_chosen_P) * logsigmoid(-held_P))
    if log_nu is not None:
        tie_P, vote_P = p_chosen_P == 0.5, (2 * p_chosen_P) % 1 == 0
        open_P = torch.logaddexp(held_P / 2, -held_P / 2)
        with_tie_P = torch.logaddexp(open_P, log_nu) - open_P - tie_P * log_nu
        losses_P = losses_P + torch.where(vote_P, with_tie_P, torch.zeros_like(open_P))
    loss = (weights_P * losses_P).sum() / weights_P.sum()
    with torch.no_grad():
        decided_P = p_chosen_P != 0.5
        agreement_P = torch.sign(difference_P) * torch.sign(p_chosen_P - 0.5)
        metrics = {
            "accuracy": (0.5 + 0.5 * agreement_P[decided_P]).mean(),
            "margin": difference_P.mean(),
        }
    return loss, metrics


def centering_penalty(chosen_P: Tensor, rejected_P: Tensor, weights_P: Tensor | None = None) -> Tensor:
    """Weighted mean of (r_chosen + r_rejected)^2, which fixes the zero that a ranking leaves open.

    Eisenstein et al. 2023, arXiv:2312.09244.

    Raises:
        ValueError: shapes differ, or there is no pair.
    """
    weights_P = torch.ones_like(chosen_P) if weights_P is None else weights_P
    check_shapes(chosen_P=chosen_P, rejected_P=rejected_P, weights_P=weights_P)
    if not len(chosen_P):
        raise ValueError("no pair to centre")
    return (weights_P * (chosen_P + rejected_P).square()).sum() / weights_P.sum()


def _step_mean(x_BT: Tensor, mask_BT: Tensor, total_tokens: int | None) -> Tensor:
    if total_tokens is None:
        return masked_mean(x_BT, mask_BT)
    _check_positive(total_tokens=total_tokens)
    return masked_sum(x_BT, mask_BT) / total_tokens


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be positive")
