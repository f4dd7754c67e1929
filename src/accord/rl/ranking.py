"""The losses of a reward model: comparisons, and the zero they leave open. Pure tensors.

Legend: P pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from accord.rl.losses import Metrics
from accord.rl.shapes import check_shapes


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
