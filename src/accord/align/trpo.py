"""TRPO: the longest natural-gradient step whose exact KL stays inside a trust region.

Schulman et al. 2015 (arXiv:1502.05477). A step maximises mean rho A (with the leash as the settings have it)
subject to mean KL(pi || pi_old) <= delta, nats a token, over the rollouts' prefixes: its direction solves
F x = g by conjugate gradients, F the Fisher matrix, and a line search halves it until the exact KL over
the vocabulary is within delta and the objective has risen. Where no halving does, the policy stays.

What differs from the paper: F is exact (second derivatives of the exact KL, not of the sampled log-probs),
and so is the constraint. As in the paper (appendix C) the direction is solved for with F of a part of the
rollouts; the step's length takes F of all. KL(pi || pi_old) and the paper's KL(pi_old || pi) agree to the
second order. The critic learns by Adam, on states without gradient, before the policy moves.

Left out: nothing is clipped, no learning rate is read for the policy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from accord.align.learner import Learner, step_seed
from accord.align.online import Batch, Micro, check_first_ratio, minibatches, policy_loss, value_loss
from accord.errors import NumericsError
from accord.lm.fit import fit
from accord.lm.model import LanguageModel
from accord.lm.score import score_hidden
from accord.rl.natural import conjugate_gradient, longest_step

ITERATIONS = 10
"""Of conjugate gradients; the paper's."""
DAMPING = 0.1
"""Added to F's diagonal: with few rollouts F is singular. The paper's code adds as much."""
CURVED = (0.2, 32)
"""Of a step's rollouts, the share whose F gives the direction, and the least number. The paper's: a tenth."""
HALVINGS = 10
"""Of the step, at most."""
CRITIC_PASSES = 4


def learn_in_trust_region(learner: Learner, batch: Batch, step: int) -> dict[str, float]:
    """One step of TRPO on all of ``batch``; ``clip`` of the settings is the region's radius delta.

    Metrics beside those of ``learn``: ``step_kl`` (exact, nats a token), ``step_share`` of the longest step
    that was taken (0: none), ``gain`` of the objective.

    Raises:
        NumericsError: gradient or objective is not finite, or the first importance ratio is not 1.
    """
    learner.schedule(step)
    metrics = _teach_critic(learner, batch, step)
    if step < learner.config.critic_warmup:
        return metrics | {"first_ratio": 1.0}
    micros, weights = _micros(learner, batch), learner.policy.trainable()
    generator = torch.Generator().manual_seed(step_seed(learner.config.seed, step))
    rollouts = torch.randperm(len(batch.tokens), generator=generator)
    curved = _micros(learner, batch.rows(rollouts[: max(int(CURVED[0] * len(rollouts)), CURVED[1])]))
    # A fused attention has no second derivative.
    with sdpa_kernel(SDPBackend.MATH):
        gradient_P, before, seen = _objective(learner, micros, weights)
        check_first_ratio(learner, seen["ratio_mean"], step, batch.metrics["sampler_gap"])
        if not math.isfinite(before) or not bool(torch.isfinite(gradient_P).all()):
            raise NumericsError(f"step {step}: objective {before}, or its gradient, is not finite")
        direction_P = conjugate_gradient(
            lambda v_P: _fisher_product(learner, curved, weights, v_P), gradient_P, iterations=ITERATIONS
        )
        image_P = _fisher_product(learner, micros, weights, direction_P)
        step_P = longest_step(direction_P, image_P, learner.config.ratio_clip)
    found = _search(learner, micros, weights, step_P, before)
    learner.beta.update(batch.metrics["kl"], len(batch.tokens))
    learner.follow(step)
    return metrics | seen | found | {"first_ratio": seen["ratio_mean"]}


def _micros(learner: Learner, batch: Batch) -> list[Micro]:
    """The whole batch as one optimiser step."""
    return next(minibatches(batch, len(batch.tokens), 1, learner.config, torch.Generator()))


def _teach_critic(learner: Learner, batch: Batch, step: int) -> dict[str, float]:
    """The critic's passes; the policy's weights get no gradient, so Adam leaves them alone."""
    config = learner.config
    generator = torch.Generator().manual_seed(step_seed(config.seed, step))

    def loss(micro: Micro) -> tuple[Tensor, dict[str, Tensor]]:
        part, weights_BT, _ = micro
        with torch.no_grad():
            hidden = learner.policy.hidden(part.tokens)
        return value_loss(learner, part, hidden, weights_BT)

    passes = config.epochs or CRITIC_PASSES
    steps = minibatches(batch, config.minibatch, passes, config, generator)
    rows = list(fit(steps, loss, learner.optimiser))
    return {"value_loss": sum(row["value_loss"] for row in rows) / len(rows)}


def _objective(
    learner: Learner, micros: Sequence[Micro], weights: Sequence[nn.Parameter]
) -> tuple[Tensor, float, dict[str, float]]:
    """The gradient (P) of the objective, its value, and the ratio's metrics."""
    total_P = torch.zeros(sum(p.numel() for p in weights), device=learner.policy.device)
    value, metrics = 0.0, {"ratio_mean": 0.0, "policy_loss": 0.0}
    for micro in micros:
        hidden = learner.policy.hidden(micro[0].tokens)
        loss, found = policy_loss(learner, micro, hidden)
        total_P -= _flat(torch.autograd.grad(loss, weights, allow_unused=True), weights)
        value -= float(loss.detach())
        metrics = {key: metrics[key] + float(found[key]) for key in metrics}
    return total_P, value, metrics


def _fisher_product(
    learner: Learner, micros: Sequence[Micro], weights: Sequence[nn.Parameter], v_P: Tensor
) -> Tensor:
    """(P) (F + damping) v: the Hessian of the mean exact KL to the policy as it is, times v."""
    total_P = DAMPING * v_P
    for part, weights_BT, _ in micros:
        hidden = learner.policy.hidden(part.tokens)
        kl = (_kl(learner, learner.policy, hidden, hidden.detach(), part) * weights_BT).sum()
        slope_P = _flat(torch.autograd.grad(kl, weights, create_graph=True, allow_unused=True), weights)
        total_P = total_P + _flat(torch.autograd.grad(slope_P.dot(v_P), weights, allow_unused=True), weights)
    return total_P.detach()


@torch.no_grad()
def _search(
    learner: Learner,
    micros: Sequence[Micro],
    weights: Sequence[nn.Parameter],
    step_P: Tensor,
    before: float,
) -> dict[str, float]:
    """Halve the step until it is inside the region and gains; leave the weights there, or where they were."""
    policy = learner.policy
    # Adapters never touch the head, so states alone bring the old policy back; full weights move the head.
    old = policy if policy.peft is not None else policy.frozen_copy()
    old_hidden = [policy.hidden(part.tokens) for part, _, _ in micros]
    start = [p.detach().clone() for p in weights]
    for halving in range(HALVINGS):
        share = 0.5**halving
        for p, begun, move in zip(weights, start, _like(step_P, weights), strict=True):
            p.copy_(begun + share * move)
        torch.clear_autocast_cache()
        kl = value = 0.0
        for micro, reference in zip(micros, old_hidden, strict=True):
            part, weights_BT, weight = micro
            hidden = policy.hidden(part.tokens)
            kl += float((_kl(learner, old, hidden, reference, part) * weights_BT).sum()) / weight
            value -= float(policy_loss(learner, micro, hidden)[0])
        if kl <= learner.config.ratio_clip and value > before:
            return {"step_kl": kl, "step_share": share, "gain": value - before}
    for p, begun in zip(weights, start, strict=True):
        p.copy_(begun)
    return {"step_kl": 0.0, "step_share": 0.0, "gain": 0.0}


def _kl(learner: Learner, old: LanguageModel, hidden: Tensor, old_hidden: Tensor, part: Batch) -> Tensor:
    """(B, T) exact KL(policy || old policy), zero where masked."""
    scores = score_hidden(
        learner.policy, hidden, part.tokens, learner.config.temperature,
        reference=old, ref_hidden_BTD=old_hidden,
    )  # fmt: skip
    assert scores.kl is not None
    return scores.kl


def _flat(tensors: Sequence[Tensor | None], weights: Sequence[nn.Parameter]) -> Tensor:
    return torch.cat(
        [(torch.zeros_like(p) if t is None else t).flatten() for t, p in zip(tensors, weights, strict=True)]
    )


def _like(flat_P: Tensor, weights: Sequence[nn.Parameter]) -> Iterator[Tensor]:
    for part, p in zip(flat_P.split([p.numel() for p in weights]), weights, strict=True):
        yield part.view_as(p)
