"""The leash to the reference: sampled estimates of KL, and beta, which may follow a target.

k1, k2 and k3 (Schulman 2020, "Approximating KL divergence", joschu.net/blog/kl-approx.html) are per
token, for tokens sampled from the policy. As values k1 and k3 are unbiased for KL(policy ||
reference), k2 is not. As a bare loss on-policy only k2 has the exact gradient: k1's has mean zero, k3's is
that of the other direction (arXiv:2510.01555). Two ways are right: k1 in the reward (:func:`kl_rewards`), or
an unbiased estimator in the loss under the importance ratio and its gradient (:func:`kl_loss`).

Legend: B rows, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from accord.errors import NumericsError
from accord.rl.shapes import as_bool, check_same_shape, check_shapes

MAX_STEP = 0.2
"""Largest relative error an adaptive controller reacts to (Ziegler et al. 2019)."""


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """log p - log q per token, nats. Unbiased; one may be negative. Raises ValueError if shapes differ."""
    check_same_shape(logprobs=logprobs, ref_logprobs=ref_logprobs)
    return logprobs - ref_logprobs


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """(log p - log q)^2 / 2 per token, nats. Biased, never negative. Raises as k1."""
    return 0.5 * k1(logprobs, ref_logprobs).square()


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """q/p - 1 - log(q/p) per token, nats. Unbiased and never negative. Raises as k1."""
    log_ratio = -k1(logprobs, ref_logprobs)
    return torch.expm1(log_ratio) - log_ratio


ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}


def kl_rewards(kl_BT: Tensor, beta: float, mask_BT: Tensor) -> Tensor:
    """-beta kl per token, zero where masked, without gradient: the KL term of the reward.

    With k1 its sum over a completion is in expectation -beta KL(policy || reference) of whole completions,
    and the policy gradient of it is exact (Ziegler et al. 2019, arXiv:1909.08593, eq. 2): the term it
    leaves out, E[grad k1], is zero. With k2 or k3 that term is not zero and is missing.

    Raises:
        ValueError: shapes differ, or the mask holds more than 0 and 1.
    """
    check_same_shape(kl_BT=kl_BT, mask_BT=mask_BT)
    return torch.where(as_bool(mask_BT), -beta * kl_BT, 0.0).detach()


def ahead(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Each real token's value at the row's next real token; 0 at the last one and where masked.

    With the exact KL as x, -beta times this is the reward for the choices behind it: token t decides
    which prefixes come, not the KL at its own. That one belongs in the loss, where its gradient is exact
    (Amini et al. 2025, arXiv:2504.10637): together they are the gradient of the completion's KL, with
    less variance than k1's.

    Raises:
        ValueError: shapes differ, or the mask holds more than 0 and 1.
    """
    check_shapes(x_BT=x_BT, mask_BT=mask_BT)
    real_BT = as_bool(mask_BT)
    out_BT, next_B = torch.zeros_like(x_BT), torch.zeros_like(x_BT[:, 0])
    for t in reversed(range(x_BT.shape[1])):
        out_BT[:, t] = torch.where(real_BT[:, t], next_B, 0.0)
        next_B = torch.where(real_BT[:, t], x_BT[:, t], next_B)
    return out_BT


def kl_loss(
    logprobs_BT: Tensor, old_logprobs_BT: Tensor, ref_logprobs_BT: Tensor, mask_BT: Tensor, estimator: str
) -> Tensor:
    """(B, T) rho k, rho = exp(log p - log p_old) with its gradient; zero where masked.

    For tokens sampled from the old policy its expectation at a prefix is sum_v p(v) k(v), and so is its
    gradient: with k1 or k3 exactly KL(policy || reference) and its gradient, with k2 those of k2's biased
    value. What the policy does to the prefixes that follow is left out, as in every KL in the loss.

    Raises:
        ValueError: shapes differ, or there is no such estimator.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator is {estimator!r}; there are {', '.join(ESTIMATORS)}")
    check_shapes(
        logprobs_BT=logprobs_BT, old_logprobs_BT=old_logprobs_BT, ref_logprobs_BT=ref_logprobs_BT,
        mask_BT=mask_BT,
    )  # fmt: skip
    real_BT = as_bool(mask_BT)
    # Zeros before exp: what stands in the padding must not reach a gradient as 0 * inf.
    new, old, ref = (
        torch.where(real_BT, x, 0.0)
        for x in (logprobs_BT, old_logprobs_BT.detach(), ref_logprobs_BT.detach())
    )
    return (new - old).exp() * ESTIMATORS[estimator](new, ref)


class Beta:
    """The weight of the KL: fixed, or steering the measured KL to a target.

    e = clip(kl / target - 1, -0.2, 0.2);  beta <- beta (1 + e n / horizon)
    (Ziegler et al. 2019, arXiv:1909.08593, section 2.2), n the rollouts since the last update.
    """

    def __init__(self, init: float, target: float | None = None, horizon: float = 1.0) -> None:
        """Raises ValueError where ``init`` is negative, or ``target`` or ``horizon`` not positive."""
        if not ((target is None or target > 0) and horizon > 0):
            raise ValueError(f"target is {target}, horizon {horizon}; both must be positive")
        self.value = _checked(init)
        self.target = target
        self.horizon = horizon

    def update(self, kl: float, n: int) -> None:
        """Move beta by the KL (nats, of the target's unit) measured over ``n`` rollouts.

        Raises:
            NumericsError: kl is not finite.
            ValueError: n is so large against the horizon that one update could take beta to zero.
        """
        if self.target is None:
            return
        if not math.isfinite(kl):
            raise NumericsError(f"KL is {kl}; beta cannot follow it: look for NaN in the policy's log-probs")
        if n * MAX_STEP >= self.horizon:
            raise ValueError(f"{n} rollouts with a horizon of {self.horizon}; it must exceed {MAX_STEP * n}")
        error = min(max(kl / self.target - 1, -MAX_STEP), MAX_STEP)
        self.value *= 1 + error * n / self.horizon

    def state_dict(self) -> dict[str, float | None]:
        """What a checkpoint keeps."""
        return {"value": self.value, "target": self.target, "horizon": self.horizon}

    def load_state_dict(self, state: Mapping[str, float | None]) -> None:
        """Take up a checkpoint. Raises ValueError where target or horizon are not this one's."""
        found, ours = (state.get("target"), state.get("horizon")), (self.target, self.horizon)
        if found != ours or state.get("value") is None:
            raise ValueError(f"the checkpoint's beta {dict(state)} is not one of target and horizon {ours}")
        self.value = _checked(float(state["value"] or 0.0))


def _checked(beta: float) -> float:
    if not (beta >= 0 and math.isfinite(beta)):
        raise ValueError(f"beta is {beta}; it must be finite and not negative")
    return float(beta)
