"""Hand-computed losses, gradients against finite differences, and the optimum each loss must have."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.testing import assert_close

from accord.rl.preference import (
    SUREST,
    dpo_loss,
    ipo_loss,
    kto_loss,
    kto_reference_point,
    orpo_loss,
    simpo_loss,
    smooth_labels,
)

PAIRWISE = {
    "dpo": partial(dpo_loss, beta=0.3),
    "ipo": partial(ipo_loss, beta=0.3),
    "orpo": partial(orpo_loss, beta=0.3),
    "simpo": partial(simpo_loss, beta=0.3, margin=0.4),
}
pairwise = pytest.mark.parametrize("loss_of", PAIRWISE.values(), ids=PAIRWISE)


def one(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def sigma(x):
    return 1 / (1 + math.exp(-x))


# -- by hand -----------------------------------------------------------------------------------


def test_dpo_by_hand():
    # beta 0.5, d = log 9, so beta d = log 3 and sigma 3/4. Hard: log(4/3). p = 3/4: the entropy, its least.
    d, zero = one(math.log(9)), one(0.0)
    loss, metrics = dpo_loss(d, zero, one(1), beta=0.5)
    assert loss.item() == pytest.approx(math.log(4 / 3))
    assert metrics["margin"].item() == pytest.approx(math.log(3))
    assert (metrics["accuracy"].item(), metrics["rejected_reward"].item()) == (1, 0)
    soft, _ = dpo_loss(d, zero, one(0.75), beta=0.5)
    assert soft.item() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


def test_dpo_where_policy_is_reference_is_log_2():
    same = one(0.0, 0.0, 0.0)
    assert dpo_loss(same, same, one(1, 0.7, 0.5), beta=0.1)[0].item() == pytest.approx(math.log(2))


def test_conservative_dpo_is_dpo_on_smoothed_labels():
    # Mitchell: (1 - s) L(w, l) + s L(l, w), s = 0.2, beta d = log 3.
    d, zero = one(math.log(3)), one(0.0)
    loss, _ = dpo_loss(d, zero, smooth_labels(one(1), 0.2), beta=1.0)
    assert loss.item() == pytest.approx(0.8 * math.log(4 / 3) + 0.2 * math.log(4))
    assert_close(smooth_labels(one(1, 0.5, 0.7), 0.1), one(0.9, 0.5, 0.66))


def test_ipo_by_hand():
    # beta 1/4: target 2. d = 3: (3 - 2)^2 = 1 against (3 + 2)^2 = 25; p = 3/4: 0.75 + 6.25 = 7.
    d, zero = one(3.0), one(0.0)
    assert ipo_loss(d, zero, one(1), beta=0.25)[0].item() == 1
    assert ipo_loss(d, zero, one(0.75), beta=0.25)[0].item() == 7


def test_orpo_by_hand():
    # P = 3/4 and 1/3: odds 3 and 1/2, so sigma(log 6) = 6/7; with beta 2: log(4/3) + 2 log(7/6).
    w, l = one(math.log(3 / 4)), one(math.log(1 / 3))
    assert orpo_loss(w, l, one(1), beta=2.0)[0].item() == pytest.approx(math.log(4 / 3) + 2 * math.log(7 / 6))
    tie = 0.5 * (math.log(4 / 3) + math.log(3)) + 2 * 0.5 * (math.log(7 / 6) + math.log(7))
    assert orpo_loss(w, l, one(0.5), beta=2.0)[0].item() == pytest.approx(tie)


def test_simpo_by_hand():
    # beta 2, d = 1, margin 0.5: sigma(1.5); for the flipped label sigma(-2.5).
    loss, _ = simpo_loss(one(-1.0), one(-2.0), one(1), beta=2.0, margin=0.5)
    assert loss.item() == pytest.approx(-math.log(sigma(1.5)))
    soft, _ = simpo_loss(one(-1.0), one(-2.0), one(0.75), beta=2.0, margin=0.5)
    assert soft.item() == pytest.approx(-0.75 * math.log(sigma(1.5)) - 0.25 * math.log(sigma(-2.5)))


def test_kto_by_hand():
    # beta 0.5, z0 = 1. good r = 3: 1 - sigma(1); bad r = -1: 1 - sigma(1); p = 1/4 of r = 1: 1/2.
    # weights of good 2, of bad 3: (2 (1 - s) + 3 (1 - s) + 2/4 * 1/2 + 3 * 3/4 * 1/2) / 3.
    r, p = one(3.0, -1.0, 1.0), one(1, 0, 0.25)
    loss, metrics = kto_loss(r, p, one(1.0)[0], beta=0.5, desirable=2.0, undesirable=3.0)
    assert loss.item() == pytest.approx((5 * (1 - sigma(1)) + 0.25 + 1.125) / 3)
    assert metrics["good_reward"].item() == pytest.approx((1.5 + 0.25 * 0.5) / 1.25)
    assert metrics["bad_reward"].item() == pytest.approx((-0.5 + 0.75 * 0.5) / 1.75)


def test_the_reference_point_is_a_mean_that_is_never_negative():
    found = one(0.5, 1.5)
    assert kto_reference_point(found).item() == 1
    assert kto_reference_point(-found).item() == 0
    assert not kto_reference_point(found.requires_grad_()).requires_grad


# -- gradients ---------------------------------------------------------------------------------


def log_probs(seed=0, pairs=5):
    generator = torch.Generator().manual_seed(seed)
    draw = partial(torch.rand, pairs, generator=generator, dtype=torch.float64)
    return -3 * draw() - 0.01, -3 * draw() - 0.01, draw(), draw()


@pairwise
def test_gradients_equal_finite_differences(loss_of):
    chosen, rejected, p, weights = log_probs()
    assert gradcheck(
        lambda a, b: loss_of(a, b, p, weights_P=weights)[0],
        (chosen.requires_grad_(), rejected.requires_grad_()),
    )


def test_kto_gradient_equals_finite_differences_and_passes_no_reference_point():
    r, _, p, weights = log_probs()
    point = one(0.2)[0].requires_grad_()
    assert gradcheck(
        lambda x: kto_loss(x, p, point, beta=0.4, desirable=2.0, weights_N=weights)[0], (r.requires_grad_(),)
    )
    kto_loss(r, p, point, beta=0.4)[0].backward()
    assert point.grad is None


def test_orpo_is_finite_at_certainty_and_at_despair():
    chosen, rejected = one(0.0, -1e-9, -80.0).requires_grad_(), one(-80.0, 0.0, 0.0).requires_grad_()
    loss, _ = orpo_loss(chosen, rejected, one(1, 1, 0.5), beta=1.0)
    loss.backward()
    assert all(torch.isfinite(x).all() for x in (loss, chosen.grad, rejected.grad))
    assert orpo_loss(one(SUREST), one(-1.0), one(1), beta=1.0)[0] > 0


@pairwise
def test_weighted_parts_add_up_to_the_whole(loss_of):
    """Micro-batches scaled by their weight: as the trainer sums them."""
    chosen, rejected, p, weights = log_probs(1, 7)
    whole, _ = loss_of(chosen, rejected, p, weights_P=weights)
    parts = 0.0
    for at in (slice(0, 2), slice(2, 3), slice(3, 7)):
        part, _ = loss_of(chosen[at], rejected[at], p[at], weights_P=weights[at])
        parts += part.item() * weights[at].sum().item()
    assert parts / weights.sum().item() == pytest.approx(whole.item())


# -- properties --------------------------------------------------------------------------------

finite = st.floats(-5, -0.05)


@pairwise
@given(finite, finite, st.floats(0, 1))
def test_turning_a_pair_and_its_label_around_changes_nothing(loss_of, a, b, p):
    one_way, metrics = loss_of(one(a), one(b), one(p))
    other, turned = loss_of(one(b), one(a), one(1 - p))
    assert one_way.item() == pytest.approx(other.item(), rel=1e-9, abs=1e-12)
    assert math.isnan(metrics["accuracy"]) or metrics["accuracy"] == turned["accuracy"]


@pairwise
@given(finite, finite, st.floats(0, 1))
def test_a_soft_label_is_the_expectation_of_hard_ones(loss_of, a, b, p):
    hard, flipped = (loss_of(one(x), one(y), one(1))[0].item() for x, y in ((a, b), (b, a)))
    assert loss_of(one(a), one(b), one(p))[0].item() == pytest.approx(p * hard + (1 - p) * flipped)


@given(st.floats(0.05, 0.95), st.floats(0.05, 2))
def test_the_margins_at_which_dpo_and_ipo_are_least(p, beta):
    for loss_of, best in (
        (dpo_loss, math.log(p / (1 - p)) / beta),
        (ipo_loss, (2 * p - 1) / (2 * beta)),
    ):
        d = one(best).requires_grad_()
        loss, _ = loss_of(d, one(0.0), one(p), beta=beta)
        loss.backward()
        assert abs(d.grad.item()) < 1e-9
        for other in (best - 0.1, best + 0.1):
            assert loss_of(one(other), one(0.0), one(p), beta=beta)[0] > loss


@given(st.floats(-4, 4), st.floats(0, 3))
def test_kto_pulls_the_good_up_and_the_bad_down_most_at_the_reference_point(r, z):
    def slope(at, p):
        x = one(at).requires_grad_()
        kto_loss(x, one(p), one(z)[0], beta=1.0)[0].backward()
        return x.grad.item()

    assert slope(r, 1) < 0 < slope(r, 0)
    assert abs(slope(r, 1)) <= abs(slope(z, 1)) + 1e-12
    assert slope(r, 0.5) == pytest.approx(0, abs=1e-12)


@pairwise
def test_a_tie_pulls_towards_no_preference(loss_of):
    """At equal numbers a tie moves the pair's difference nowhere."""
    a, b = one(-1.0).requires_grad_(), one(-1.0).requires_grad_()
    loss, metrics = loss_of(a, b, one(0.5))
    loss.backward()
    assert a.grad.item() == pytest.approx(b.grad.item(), abs=1e-12)
    assert math.isnan(metrics["accuracy"])


# -- learning ----------------------------------------------------------------------------------


def learned(loss_of, p, *, mean=False):
    """Adam on the logits of three completions of one token each; log-ratios at the end."""
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    reference = torch.log_softmax(one(0.3, -0.2, 0.5), 0)
    optimiser = torch.optim.Adam([logits], lr=0.03)
    for _ in range(1500):
        optimiser.zero_grad()
        ratio = torch.log_softmax(logits, 0) - reference
        loss_of(ratio[[0, 1]], ratio[[1, 2]], p)[0].backward()
        optimiser.step()
    return (torch.log_softmax(logits, 0) - reference).detach()


def test_dpo_and_ipo_reach_their_known_optimum_on_a_softmax():
    """Three completions in a row of pairs: both differences are met at once."""
    p = one(0.8, 0.6)
    ratio = learned(partial(dpo_loss, beta=0.5), p)
    assert_close(ratio[:2] - ratio[1:], torch.logit(p) / 0.5, atol=1e-4, rtol=0)
    ratio = learned(partial(ipo_loss, beta=0.5), p)
    assert_close(ratio[:2] - ratio[1:], 2 * p - 1, atol=1e-4, rtol=0)


# -- errors ------------------------------------------------------------------------------------


@pairwise
def test_wrong_input_is_refused(loss_of):
    x = one(-1.0, -2.0)
    with pytest.raises(ValueError, match="along P"):
        loss_of(x, one(-1.0), x)
    with pytest.raises(ValueError, match="probabilities"):
        loss_of(x, x, one(0.5, 1.5))
    with pytest.raises(ValueError, match="not all zero"):
        loss_of(x, x, one(1, 1), weights_P=one(0, 0))
    with pytest.raises(ValueError, match="beta is 0"):
        loss_of(x, x, one(1, 1), beta=0)


def test_other_wrong_input_is_refused():
    x = one(-1.0)
    with pytest.raises(ValueError, match="margin is -1"):
        simpo_loss(x, x, one(1), beta=1.0, margin=-1)
    with pytest.raises(ValueError, match=r"smoothing is 0\.5"):
        smooth_labels(x, 0.5)
    with pytest.raises(ValueError, match="no mismatched"):
        kto_reference_point(one())
    with pytest.raises(ValueError, match="good -1"):
        kto_loss(x, one(1), x[0], beta=1.0, desirable=-1)
    with pytest.raises(ValueError, match="not all zero"):
        kto_loss(one(), one(), x[0], beta=1.0)
