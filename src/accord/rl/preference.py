"""Offline losses on preferences: DPO, IPO, KTO, ORPO and SimPO. Pure tensors; metrics are detached scalars.

A label p_chosen is the probability that the first completion of a pair is preferred. Each loss is the
expectation over that label: p L(chosen, rejected) + (1 - p) L(rejected, chosen), so p = 1 is the paper's loss
and a tie (1/2) says that neither is to be preferred.

What a loss takes is a number a completion, in nats: the log-ratio log pi(y|x) - log ref(y|x) of the whole
completion (DPO, KTO), its mean over tokens (IPO), or the mean of log pi(y|x) over tokens (ORPO, SimPO).

Legend: P pairs, N completions, M completions put to another prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from accord.rl.losses import Metrics
from accord.rl.ranking import ranking_loss
from accord.rl.shapes import check_shapes

SUREST = -1e-6
"""Highest mean log-prob of which ORPO takes odds: those of certainty are infinite."""


def smooth_labels(p_chosen_P: Tensor, smoothing: float) -> Tensor:
    """Labels of which a share ``smoothing`` is taken to be flipped: p (1 - s) + (1 - p) s.

    DPO on them is conservative DPO (Mitchell 2023, "A note on DPO with noisy preferences",
    ericmitchell.ai/cdpo.pdf).

    Raises:
        ValueError: smoothing is not in [0, 1/2).
    """
    if not 0 <= smoothing < 0.5:
        raise ValueError(f"smoothing is {smoothing}; a share below one half can be flipped")
    return p_chosen_P * (1 - smoothing) + (1 - p_chosen_P) * smoothing


def dpo_loss(
    chosen_P: Tensor, rejected_P: Tensor, p_chosen_P: Tensor, *, beta: float, weights_P: Tensor | None = None
) -> tuple[Tensor, Metrics]:
    """Mean of -[p log sigma(beta d) + (1 - p) log sigma(-beta d)], d the log-ratios' difference.

    ``chosen_P`` and ``rejected_P`` are log-ratios to the reference of whole completions. Rafailov et al.
    2023, arXiv:2305.18290, eq. 7; least at d = logit(p) / beta, and log 2 where policy is reference.

    Raises:
        ValueError: beta is not positive; or as :func:`accord.rl.ranking.ranking_loss`.
    """
    _check_beta(beta)
    loss, _ = ranking_loss(beta * chosen_P, beta * rejected_P, p_chosen_P, weights_P=weights_P)
    return loss, _pair_metrics(beta * chosen_P, beta * rejected_P, p_chosen_P)


def ipo_loss(
    chosen_P: Tensor, rejected_P: Tensor, p_chosen_P: Tensor, *, beta: float, weights_P: Tensor | None = None
) -> tuple[Tensor, Metrics]:
    """Mean of p (d - 1 / (2 beta))^2 + (1 - p) (d + 1 / (2 beta))^2, d the log-ratios' difference.

    Azar et al. 2023, arXiv:2310.12036, eq. 17 with beta for its tau; least at d = (2 p - 1) / (2 beta). Give
    log-ratios a token (means over each completion's tokens): the paper's equation has sums, but its authors'
    results, and TRL, are of means, without which the target would not depend on a completion's length.

    Raises:
        ValueError: shapes differ, there is no pair, beta is not positive, or labels or weights are no such.
    """
    _check_beta(beta)
    weights_P = _checked(chosen_P, rejected_P, p_chosen_P, weights_P)
    d_P, target = chosen_P - rejected_P, 1 / (2 * beta)
    losses_P = p_chosen_P * (d_P - target).square() + (1 - p_chosen_P) * (d_P + target).square()
    metrics = _pair_metrics(beta * chosen_P, beta * rejected_P, p_chosen_P)
    return _mean(losses_P, weights_P), metrics


def orpo_loss(
    chosen_P: Tensor, rejected_P: Tensor, p_chosen_P: Tensor, *, beta: float, weights_P: Tensor | None = None
) -> tuple[Tensor, Metrics]:
    """Mean of -log P(y_w) - beta log sigma(log odds(y_w) - log odds(y_l)), odds(y) = P(y) / (1 - P(y)).

    log P(y) is the mean log-prob of a completion's tokens under the policy; there is no reference. Hong et
    al. 2024, arXiv:2403.07691, eq. 6 and 7, with beta for its lambda. TRL takes the first term of the
    prompt's tokens too and over a batch's tokens together; here each completion counts once, as in the paper.

    Raises:
        ValueError: shapes differ, there is no pair, beta is not positive, or labels or weights are no such.
    """
    _check_beta(beta)
    weights_P = _checked(chosen_P, rejected_P, p_chosen_P, weights_P)
    d_P = _log_odds(chosen_P) - _log_odds(rejected_P)
    supervised_P = -(p_chosen_P * chosen_P + (1 - p_chosen_P) * rejected_P)
    ordered_P = -(p_chosen_P * logsigmoid(d_P) + (1 - p_chosen_P) * logsigmoid(-d_P))
    metrics = _pair_metrics(beta * chosen_P, beta * rejected_P, p_chosen_P)
    return _mean(supervised_P + beta * ordered_P, weights_P), metrics


def simpo_loss(
    chosen_P: Tensor,
    rejected_P: Tensor,
    p_chosen_P: Tensor,
    *,
    beta: float,
    margin: float,
    weights_P: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """Mean of -[p log sigma(beta d - margin) + (1 - p) log sigma(-beta d - margin)].

    d is the difference of the mean log-probs of the completions' tokens under the policy; there is no
    reference. Meng et al. 2024, arXiv:2405.14734, eq. 6, with margin for its gamma. Whichever is preferred is
    to be so by the margin, so it changes sides with the label (in TRL's label smoothing it does not).

    Raises:
        ValueError: shapes differ, there is no pair, beta is not positive, margin is negative, or labels or
            weights are no such.
    """
    _check_beta(beta)
    if not margin >= 0:
        raise ValueError(f"margin is {margin}; it must not be negative")
    weights_P = _checked(chosen_P, rejected_P, p_chosen_P, weights_P)
    d_P = beta * (chosen_P - rejected_P)
    losses_P = -(p_chosen_P * logsigmoid(d_P - margin) + (1 - p_chosen_P) * logsigmoid(-d_P - margin))
    metrics = _pair_metrics(beta * chosen_P, beta * rejected_P, p_chosen_P)
    return _mean(losses_P, weights_P), metrics


def kto_loss(
    log_ratio_N: Tensor,
    p_good_N: Tensor,
    reference_point: Tensor,
    *,
    beta: float,
    desirable: float = 1.0,
    undesirable: float = 1.0,
    weights_N: Tensor | None = None,
) -> tuple[Tensor, Metrics]:
    """Mean of desirable p (1 - sigma(beta (r - z0))) + undesirable (1 - p) (1 - sigma(beta (z0 - r))).

    r is the log-ratio to the reference of a whole completion that is good with probability p; z0 is
    :func:`kto_reference_point`. Ethayarajh et al. 2024, arXiv:2402.01306, section 4. The paper
    advises weights whose totals over the good and the bad are as 1:1 to 4:3.

    Metrics: ``good_reward`` and ``bad_reward`` (means of beta r, weighted by p and 1 - p; NaN where nothing
    is good or bad) and ``reference_point``.

    Raises:
        ValueError: shapes differ, there is no completion, beta is not positive, or labels or weights are no
            such.
    """
    _check_beta(beta)
    weights_N = torch.ones_like(log_ratio_N) if weights_N is None else weights_N
    check_shapes(log_ratio_N=log_ratio_N, p_good_N=p_good_N, weights_N=weights_N)
    _check_labels(p_good_N, weights_N)
    if not (desirable >= 0 and undesirable >= 0):
        raise ValueError(f"weights of good {desirable} and bad {undesirable}; neither may be negative")
    gain_N = beta * (log_ratio_N - reference_point.detach())
    good_N, bad_N = desirable * p_good_N, undesirable * (1 - p_good_N)
    loss = _mean(good_N * torch.sigmoid(-gain_N) + bad_N * torch.sigmoid(gain_N), weights_N)
    with torch.no_grad():
        reward_N = beta * log_ratio_N
        metrics = {
            "good_reward": (p_good_N * reward_N).sum() / p_good_N.sum(),
            "bad_reward": ((1 - p_good_N) * reward_N).sum() / (1 - p_good_N).sum(),
            "reference_point": reference_point.detach(),
        }
    return loss, metrics


def kto_reference_point(mismatched_M: Tensor) -> Tensor:
    """z0 = max(0, mean log pi(y'|x) - log ref(y'|x)), y' completions of other prompts; without gradient.

    A biased estimate of KL(policy || reference) that needs no sampling (arXiv:2402.01306, section 4).

    Raises:
        ValueError: there is no completion.
    """
    check_shapes(mismatched_M=mismatched_M)
    if not len(mismatched_M):
        raise ValueError("no mismatched completion to take the reference point from")
    return mismatched_M.detach().mean().clamp(min=0)


def _log_odds(mean_logprob_P: Tensor) -> Tensor:
    """log p - log(1 - p); two forms of log(1 - e^x), each where it is exact (Maechler 2012)."""
    x_P = mean_logprob_P.clamp(max=SUREST)
    near_P = x_P > -0.6931471805599453
    # Each form sees only arguments of its own side: the other's gradient could be NaN there.
    high_P = torch.log(-torch.expm1(x_P.where(near_P, -0.5)))
    low_P = torch.log1p(-torch.exp(x_P.where(~near_P, -1.0)))
    return x_P - torch.where(near_P, high_P, low_P)


def _pair_metrics(chosen_P: Tensor, rejected_P: Tensor, p_chosen_P: Tensor) -> Metrics:
    """Mean implicit rewards, and ``accuracy`` over pairs that are no tie (NaN where all are)."""
    with torch.no_grad():
        decided_P = p_chosen_P != 0.5
        agrees_P = torch.sign(chosen_P - rejected_P) * torch.sign(p_chosen_P - 0.5)
        return {
            "accuracy": (0.5 + 0.5 * agrees_P[decided_P]).mean(),
            "margin": (chosen_P - rejected_P).mean(),
            "chosen_reward": chosen_P.mean(),
            "rejected_reward": rejected_P.mean(),
        }


def _checked(chosen_P: Tensor, rejected_P: Tensor, p_P: Tensor, weights_P: Tensor | None) -> Tensor:
    """The weights, ones where none are given, after every check a pair's loss needs."""
    weights_P = torch.ones_like(p_P) if weights_P is None else weights_P
    check_shapes(chosen_P=chosen_P, rejected_P=rejected_P, p_P=p_P, weights_P=weights_P)
    _check_labels(p_P, weights_P)
    return weights_P


def _check_labels(p: Tensor, weights: Tensor) -> None:
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"labels {p.tolist()[:8]}; probabilities lie in [0, 1]")
    if not ((weights >= 0).all() and weights.sum() > 0):
        raise ValueError(f"weights {weights.tolist()[:8]}; they are >= 0 and not all zero")


def _check_beta(beta: float) -> None:
    if not beta > 0:
        raise ValueError(f"beta is {beta}; it must be positive")


def _mean(losses: Tensor, weights: Tensor) -> Tensor:
    return (weights * losses).sum() / weights.sum()
