"""The objective: each term by hand, and the numbers that are learned beside the weights."""

import math

import pytest
import torch

from accord.lm.classifier import Encoded
from accord.lm.grouped import Mark, Pair, PromptGroup
from accord.reward.loss import Objective
from accord.types import Prompt

INPUT = Encoded((1,))


def group(text, inputs, pairs=(), marks=()):
    return PromptGroup(
        Prompt.from_text(text), inputs=[INPUT] * inputs, pairs=[Pair(*p) for p in pairs],
        marks=[Mark(*m) for m in marks],
    )  # fmt: skip


GOOD_AND_BAD = group("g", 20, marks=[(i, float(i < 12)) for i in range(20)])
"""Twelve good, eight bad."""


def objective(groups=(GOOD_AND_BAD,), centering=0.0, anchor_weight=1.0, **more):
    return Objective(groups, centering=centering, anchor_weight=anchor_weight, **more)


def bce(logit, p):
    return p * math.log1p(math.exp(-logit)) + (1 - p) * math.log1p(math.exp(logit))


def test_pairs_centre_and_anchors_by_hand():
    """Rewards (1, 0, 2) with two pairs of weights 1 and 0.5 and an anchor; (3) with an anchor."""
    one = group("a", 3, [(0, 1, 1.0), (2, 0, 0.75, 0.5)], [(1, 0.25, 2.0)])
    two = group("b", 1, marks=[(0, 1.0)])
    found = objective(centering=0.1, anchor_weight=0.5)
    b = math.log(12 / 8)  # the start: as often good as in training
    assert (found.a, found.offset) == (1.0, pytest.approx(b))
    value, metrics = found(torch.tensor([1.0, 0.0, 2.0, 3.0]), [one, two], 2)
    pairs = 0.5 * bce(1, 1) + 0.25 * bce(1, 0.75)  # each 1/2, times the weight of its source
    centre = 0.1 * (0.5 * 1 + 0.25 * 9)
    anchors = 0.5 * (2 * bce(0 + b, 0.25) + bce(3 + b, 1))
    assert float(value.detach()) == pytest.approx((pairs + centre + anchors) / 2, abs=1e-6)
    assert (float(metrics["right"]), float(metrics["decided"])) == (2, 2)


def test_parts_of_a_step_add_up():
    groups = [
        group("a", 2, [(0, 1, 1.0)]),
        group("b", 2, [(1, 0, 0.6)], [(0, 0.0)]),
        group("c", 1, marks=[(0, 1.0)]),
    ]
    found, rewards = objective(centering=0.2), torch.tensor([0.3, -1.0, 2.0, 0.5, -0.7])
    whole, _ = found(rewards, groups, 3)
    parts = [found(rewards[:2], groups[:1], 3)[0], found(rewards[2:4], groups[1:2], 3)[0],
             found(rewards[4:], groups[2:], 3)[0]]  # fmt: skip
    assert float(whole.detach()) == pytest.approx(float(sum(parts).detach()), abs=1e-6)


def test_a_source_of_weight_zero_counts_for_nothing():
    kept = group("a", 3, [(0, 1, 1.0)])
    both = group("a", 3, [(0, 1, 1.0), (2, 1, 1.0, 0.0)])
    rewards = torch.tensor([0.5, 0.1, -3.0], requires_grad=True)
    value, _ = objective(centering=0.1)(rewards, [both], 1)
    value.backward()
    assert rewards.grad[2] == 0
    alone, _ = objective(centering=0.1)(rewards.detach(), [kept], 1)
    assert float(value.detach()) == pytest.approx(float(alone) / 2)
    nothing, _ = objective()(rewards, [group("a", 3, [(2, 1, 1.0, 0.0)])], 1)
    assert float(nothing.detach()) == 0


def test_anchors_of_one_kind_do_not_fix_a_zero():
    few = group("g", 20, marks=[(i, float(i < 16)) for i in range(20)])  # four bad: fewer than five
    assert objective().anchored
    assert not objective([few]).anchored
    assert not objective(anchor_weight=0.0).anchored
    value, _ = objective([few])(torch.zeros(20), [few], 1)
    assert float(value) == 0
    assert objective([few]).learned() == []


def test_two_classes_keep_their_own_zero_and_are_not_centred():
    found = objective(centering=0.5, fixed_zero=True)
    assert (found.a, found.offset, found.learned()) == (1.0, 0.0, [])
    value, _ = found(torch.tensor([1.0, 2.0]), [group("a", 2, [(0, 1, 1.0)], [(0, 1.0)])], 1)
    assert float(value) == pytest.approx(bce(-1, 1) + bce(1, 1), abs=1e-6)
    unanchored = objective([], centering=0.5, fixed_zero=True)
    value, _ = unanchored(torch.tensor([1.0, 2.0]), [group("a", 2, [(0, 1, 1.0)])], 1)
    assert float(value) == pytest.approx(bce(-1, 1) + 0.5 * 9, abs=1e-6)


def test_a_and_b_are_learned():
    """Rewards of +-1 of which 9 in 10 and 2 in 10 are good: a + b and b - a are those log-odds."""
    groups = [group("g", 20, marks=[(i, p) for i, p in enumerate([0.9] * 10 + [0.2] * 10)])]
    rewards, found = torch.tensor([1.0] * 10 + [-1.0] * 10), objective(groups)
    optimiser = torch.optim.Adam(found.learned(), lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        found(rewards, groups, 1)[0].backward()
        optimiser.step()
    high, low = math.log(9), math.log(0.25)
    assert found.a == pytest.approx((high - low) / 2, abs=1e-3)
    assert found.offset == pytest.approx((high + low) / 2, abs=1e-3)


def test_ties_are_half_a_win_or_votes():
    tie, rewards = group("a", 2, [(0, 1, 0.5)]), torch.tensor([1.0, 0.0])
    half, _ = objective()(rewards, [tie], 1)
    assert float(half) == pytest.approx(bce(1, 0.5), abs=1e-6)
    groups = [group(str(i), 2, [(0, 1, 0.5 if i < 3 else 1.0)]) for i in range(10)]
    found = objective(groups, davidson=True)
    nu = float(found.log_nu.detach().exp())
    assert nu / (2 + nu) == pytest.approx(4 / 12)  # three ties of ten, with one of two to start from
    value, _ = found(rewards, [tie], 1)
    assert float(value) == pytest.approx(-math.log(nu / (math.exp(0.5) + math.exp(-0.5) + nu)), abs=1e-6)
    assert found.learned() == [found.log_nu]
