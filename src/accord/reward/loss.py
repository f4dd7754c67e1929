"""What a reward model is asked to be: right on pairs, centred, and right on what is acceptable.

For one prompt, in the mean over its pairs and its anchors, and then over prompts:

    pairs    -[p log sigma(d) + (1 - p) log sigma(-d)],  d = r_chosen - r_rejected   (weights by source)
    centre   c (r_chosen + r_rejected)^2                 (Eisenstein et al. 2023, arXiv:2312.09244)
    anchors  w BCE(sigma(a r + b), p_good)

A ranking says nothing of where a reward is zero. Anchors (FAIL or not, thumbs) do: with a > 0 and b learned
beside the weights, r = -b/a is a completion that is as often acceptable as not.

With ``ties = davidson`` a label of exactly 1/2 is a vote "equal" and one of 1 a vote that could have been
"equal", with nu learned. A consensus probability (anything between) is already given that no tie was
called; nu cancels in it and the plain term is its exact likelihood. Labels of one labeler each are such
votes; those of a consensus are not, so the setting changes nothing for them.

Legend: N completions of a micro-batch, P pairs, M anchors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from accord.lm.grouped import Pair, PromptGroup, marks_of, pairs_of
from accord.rl.ranking import centering_penalty, ranking_loss

LEAST_OF_EACH = 5
"""Good and bad anchors below which they cannot tell where zero is."""


class Objective(nn.Module):
    """The loss of a micro-batch, with the few numbers that are learned beside the weights."""

    def __init__(
        self,
        groups: Sequence[PromptGroup],
        *,
        centering: float,
        anchor_weight: float,
        davidson: bool = False,
        fixed_zero: bool = False,
    ) -> None:
        """``groups`` are those trained on: b and nu start at their share of good and of ties.

        ``fixed_zero`` keeps a = 1 and b = 0 (a two-class head, whose softmax is the probability itself) and
        leaves centring out where there are anchors, for both would set the zero.
        """
        super().__init__()
        marks = [mark for group in groups for mark in group.marks if mark.weight > 0]
        counts = sum(mark.p_good > 0.5 for mark in marks), sum(mark.p_good < 0.5 for mark in marks)
        good = sum(mark.p_good for mark in marks)
        self.anchored = anchor_weight > 0 and min(counts) >= LEAST_OF_EACH
        self.anchor_weight = anchor_weight if self.anchored else 0.0
        self.centering = 0.0 if fixed_zero and self.anchored else centering
        odds = math.log(good / (len(marks) - good)) if self.anchored and not fixed_zero else 0.0
        learns = self.anchored and not fixed_zero
        self.log_a = nn.Parameter(torch.tensor(0.0), requires_grad=learns)
        self.b = nn.Parameter(torch.tensor(odds), requires_grad=learns)
        self.davidson = davidson
        labels = [pair.p_chosen for group in groups for pair in group.pairs]
        votes = [p for p in labels if p in (0.5, 1.0)]
        share = (votes.count(0.5) + 1) / (len(votes) + 2)
        # Of equals, Davidson calls nu / (2 + nu) a tie.
        self.log_nu = nn.Parameter(torch.tensor(math.log(2 * share / (1 - share))), requires_grad=davidson)

    @property
    def a(self) -> float:
        """The slope of the log-odds of being acceptable."""
        return math.exp(float(self.log_a.detach()))

    @property
    def offset(self) -> float:
        """b, the log-odds of being acceptable at reward 0."""
        return float(self.b.detach())

    def learned(self) -> list[nn.Parameter]:
        """The parameters that train."""
        return [p for p in self.parameters() if p.requires_grad]

    def forward(
        self, rewards_N: Tensor, groups: Sequence[PromptGroup], prompts: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The micro-batch's share of the loss of an optimiser step of ``prompts`` prompts.

        ``rewards_N`` are those of the groups' completions, in order. Metrics: ``right`` and ``decided``
        (pairs with a winner; equal rewards count a half).
        """
        device = rewards_N.device
        pairs, marks = pairs_of(groups), marks_of(groups)  # a prompt counts once, however many it has
        total, metrics = self._pairs(rewards_N, pairs)
        if marks and self.anchored:
            at, good, weight = zip(*marks, strict=True)
            logit_M = self.log_a.exp() * rewards_N[list(at)] + self.b
            good_M, weight_M = (torch.tensor(each, device=device) for each in (good, weight))
            bce_M = binary_cross_entropy_with_logits(logit_M, good_M, reduction="none")
            total = total + self.anchor_weight * (weight_M * bce_M).sum()
        return total / prompts, metrics

    def _pairs(self, rewards_N: Tensor, pairs: Sequence[Pair]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum over pairs of their loss and centring."""
        nothing = torch.zeros((), device=rewards_N.device)
        if not pairs:
            return 0.0 * rewards_N.sum(), {"right": nothing, "decided": nothing}
        chosen, rejected, *numbers = zip(*pairs, strict=True)
        chosen_P, rejected_P = rewards_N[list(chosen)], rewards_N[list(rejected)]
        p_P, weights_P = (torch.tensor(each, device=rewards_N.device) for each in numbers)
        total = 0.0 * rewards_N.sum()
        if float(weights_P.sum()) > 0:
            log_nu = self.log_nu if self.davidson else None
            value, _ = ranking_loss(chosen_P, rejected_P, p_P, weights_P=weights_P, log_nu=log_nu)
            centre = centering_penalty(chosen_P, rejected_P, weights_P)
            total = (value + self.centering * centre) * weights_P.sum()
        decided_P = p_P > 0.5
        right = (0.5 + 0.5 * torch.sign(chosen_P - rejected_P))[decided_P].sum().detach()
        return total, {"right": right, "decided": decided_P.sum()}
