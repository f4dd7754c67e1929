"""Hand-computed losses, gradients against finite differences, micro-batches, and a toy that learns."""

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from accord.rl.advantages import gae, whiten
from accord.rl.losses import Mean, clipped_policy_loss, clipped_value_loss, token_weights
from accord.rl.ranking import centering_penalty, ranking_loss

NAN = math.nan


def row(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


def test_policy_loss_by_hand():
    # c = 0.2. ratio  A   ratio A  clipped  min    -min
    #          1.5    2   3.0      2.4      2.4    -2.4   clipped
    #          1.5   -2  -3.0     -2.4     -3.0     3.0
    #          0.5    1   0.5      0.8      0.5    -0.5
    #          0.5   -1  -0.5     -0.8     -0.8     0.8   clipped
    # mean (-2.4 + 3.0 - 0.5 + 0.8) / 4 = 0.225; ratios 4 / 4 = 1, 1.5 at most.
    # k3 of old to new: r - 1 - log r = 0.5 - log 1.5 and -0.5 + log 2, twice each over four tokens:
    # (log 2 - log 1.5) / 2.
    old = row(-1, -2, -3, -1, 7)
    new = old + row(math.log(1.5), math.log(1.5), math.log(0.5), math.log(0.5), 900)
    loss, metrics = clipped_policy_loss(new, old, row(2, -2, 1, -1, NAN), row(1, 1, 1, 1, 0), clip=0.2)
    assert loss.item() == pytest.approx(0.225)
    assert metrics["ratio_mean"].item() == pytest.approx(1.0)
    assert metrics["ratio_max"].item() == pytest.approx(1.5)
    assert metrics["clipped_share"].item() == pytest.approx(0.5)
    assert metrics["approx_kl"].item() == pytest.approx((math.log(2) - math.log(1.5)) / 2)


def test_policy_gradient_is_cut_where_clipped_and_in_the_padding():
    # d(-r A)/d log p = -r A = 3 and -0.5 over 4 tokens for the two that are free; nothing elsewhere.
    old = row(-1, -2, -3, -1, 7)
    new = old + row(math.log(1.5), math.log(1.5), math.log(0.5), math.log(0.5), 900)
    new.requires_grad_()
    loss, _ = clipped_policy_loss(new, old, row(2, -2, 1, -1, NAN), row(1, 1, 1, 1, 0), clip=0.2)
    loss.backward()
    assert_close(new.grad, row(0, 3 / 4, -0.5 / 4, 0, 0))


def test_on_policy_the_gradient_is_reinforce():
    logprobs = torch.full((2, 3), -0.7, dtype=torch.float64, requires_grad=True)
    advantages = torch.arange(6, dtype=torch.float64).reshape(2, 3)
    loss, metrics = clipped_policy_loss(logprobs, logprobs.detach(), advantages, torch.ones(2, 3), clip=0.2)
    loss.backward()
    assert_close(logprobs.grad, -advantages / 6)
    assert metrics["ratio_max"].item() == 1
    assert metrics["approx_kl"].item() == 0


def test_gradients_flow_into_the_first_argument_alone():
    new, old, other, mask = (torch.rand(2, 3, requires_grad=True) for _ in range(4))
    for loss_of in (clipped_policy_loss, clipped_value_loss):
        loss, metrics = loss_of(new, old, other, torch.ones_like(mask), clip=0.2)
        loss.backward()
        assert old.grad is None
        assert other.grad is None
        assert not any(value.requires_grad for value in metrics.values())


def test_value_loss_by_hand():
    # c = 0.5, old value 1 throughout.
    #  v     R    free (v-R)^2   held: clip(v, 0.5, 1.5)   max
    #  1.2   2    0.64           1.2: 0.64                 0.64
    #  2.0   3    1.00           1.5: 2.25                 2.25   clipped
    #  2.0   1    1.00           1.5: 0.25                 1.00
    #  0.0   1    1.00           0.5: 0.25                 1.00
    # half the mean: 0.5 * 4.89 / 4 = 0.61125.
    loss, metrics = clipped_value_loss(
        row(1.2, 2, 2, 0, NAN), row(1, 1, 1, 1, NAN), row(2, 3, 1, 1, NAN), row(1, 1, 1, 1, 0), clip=0.5
    )
    assert loss.item() == pytest.approx(0.61125)
    assert metrics["value_clipped_share"].item() == pytest.approx(0.25)


def random_batch(seed):
    generator = torch.Generator().manual_seed(seed)
    new, old, target = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64) * 0.5
    mask = torch.arange(7) < torch.tensor([[7], [1], [4], [5], [2]])
    return new, old, target, mask


@pytest.mark.parametrize("loss_of", [clipped_policy_loss, clipped_value_loss])
def test_gradients_equal_finite_differences(loss_of):
    new, old, target, mask = random_batch(3)
    new.requires_grad_()
    assert gradcheck(lambda x: loss_of(x, old, target, mask, clip=0.2)[0], (new,))


@pytest.mark.parametrize("loss_of", [clipped_policy_loss, clipped_value_loss])
def test_micro_batches_add_up_to_the_whole(loss_of):
    new, old, target, mask = random_batch(4)
    whole = new.clone().requires_grad_()
    loss, _ = loss_of(whole, old, target, mask, clip=0.2)
    loss.backward()
    parts = new.clone().requires_grad_()
    weights = token_weights(mask, Mean.TOKEN, 7)
    total = 0.0
    for rows in (slice(0, 1), slice(1, 3), slice(3, 5)):  # 7, 5 and 7 tokens
        part, _ = loss_of(
            parts[rows], old[rows], target[rows], mask[rows], clip=0.2, weights_BT=weights[rows]
        )
        part.backward()
        total += part.item()
    assert total == pytest.approx(loss.item())
    assert_close(parts.grad, whole.grad)


def test_ranking_loss_by_hand():
    # Hard: d = log 3, sigma = 3/4, loss log(4/3). Soft p = 0.75, d = log 3:
    # -(3/4 log 3/4 + 1/4 log 1/4), the entropy, which is its least value.
    log3 = torch.tensor([math.log(3)], dtype=torch.float64)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    hard, _ = ranking_loss(log3, zero, one)
    assert hard.item() == pytest.approx(math.log(4 / 3))
    soft, _ = ranking_loss(log3, zero, 0.75 * one)
    assert soft.item() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    # A margin of log 3 leaves d = 0: log 2. Weights 1 and 3 over losses log(4/3) and log 2.
    held, _ = ranking_loss(log3, zero, one, margin_P=log3)
    assert held.item() == pytest.approx(math.log(2))
    two, _ = ranking_loss(
        torch.cat([log3, zero]), torch.cat([zero, zero]), torch.ones(2), weights_P=torch.tensor([1.0, 3.0])
    )
    assert two.item() == pytest.approx((math.log(4 / 3) + 3 * math.log(2)) / 4)


def test_davidson_by_hand():
    # d = log 9, so e^(d/2) = 3 and e^(-d/2) = 1/3; nu = 2/3 makes the whole 4. Win 3/4, tie 1/6, loss 1/12.
    d = torch.tensor([math.log(9)], dtype=torch.float64)
    zero, log_nu = torch.zeros(1, dtype=torch.float64), torch.tensor(math.log(2 / 3), dtype=torch.float64)
    for first, second, p, expected in [(d, zero, 1.0, 3 / 4), (d, zero, 0.5, 1 / 6), (zero, d, 1.0, 1 / 12)]:
        label = torch.tensor([p], dtype=torch.float64)
        loss, _ = ranking_loss(first, second, label, log_nu=log_nu)
        assert loss.item() == pytest.approx(-math.log(expected))
    # A probability is given that no tie is called: nu cancels.
    label = torch.tensor([0.8], dtype=torch.float64)
    assert (
        ranking_loss(d, zero, label, log_nu=log_nu)[0].item()
        == ranking_loss(d, zero, label)[0].item()
        == pytest.approx(-0.8 * math.log(0.9) - 0.2 * math.log(0.1))
    )


def test_davidson_learns_the_share_of_ties():
    # Of equals, nu / (2 + nu) are tied: with 6 ties of 10 the likelihood is highest at nu = 3.
    log_nu = torch.zeros((), dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(10, dtype=torch.float64)
    labels = torch.tensor([0.5] * 6 + [1.0] * 2 + [0.0] * 2, dtype=torch.float64)
    for _ in range(300):
        loss, _ = ranking_loss(zero, zero, labels, log_nu=log_nu)
        log_nu.grad = None
        loss.backward()
        with torch.no_grad():
            log_nu -= log_nu.grad
    assert log_nu.exp().item() == pytest.approx(3.0, abs=1e-4)
    generator = torch.Generator().manual_seed(6)
    d = torch.randn(10, dtype=torch.float64, generator=generator).requires_grad_()
    assert gradcheck(lambda x, nu: ranking_loss(x, zero, labels, log_nu=nu)[0], [d, log_nu])


def test_hard_labels_are_exactly_the_bradley_terry_loss_even_far_out():
    chosen = torch.tensor([1e4, -1e4, 0.3])
    loss, _ = ranking_loss(chosen, torch.zeros(3), torch.ones(3))
    assert loss.item() == -torch.nn.functional.logsigmoid(chosen).mean().item()


def test_ranking_gradient_vanishes_at_the_labelled_probability():
    # d/dd of the loss is sigma(d) - p.
    p = torch.tensor([0.6, 0.9, 0.5], dtype=torch.float64)
    chosen = torch.logit(p).requires_grad_()
    loss, _ = ranking_loss(chosen, torch.zeros_like(p), p)
    loss.backward()
    assert_close(chosen.grad, torch.zeros_like(p), atol=1e-12, rtol=0)
    generator = torch.Generator().manual_seed(7)
    inputs = [torch.randn(4, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2)]
    labels = torch.tensor([1.0, 0.8, 0.5, 0.7], dtype=torch.float64)
    assert gradcheck(lambda c, r: ranking_loss(c, r, labels, margin_P=labels)[0], inputs)


def test_ranking_accuracy_leaves_out_ties_and_halves_equal_scores():
    # Right, wrong, equal score; the tie in the last place does not count: (1 + 0 + 1/2) / 3.
    chosen, rejected = torch.tensor([2.0, 0, 1, 5]), torch.tensor([1.0, 1, 1, 0])
    _, metrics = ranking_loss(chosen, rejected, torch.tensor([1.0, 0.8, 0.9, 0.5]))
    assert metrics["accuracy"].item() == pytest.approx(0.5)
    assert metrics["margin"].item() == pytest.approx((1 - 1 + 0 + 5) / 4)
    _, metrics = ranking_loss(chosen, rejected, torch.full((4,), 0.5))
    assert metrics["accuracy"].isnan()


def test_centering_by_hand():
    # (1 + 2)^2 = 9 and (-1 + 1)^2 = 0: mean 4.5.
    assert centering_penalty(torch.tensor([1.0, -1]), torch.tensor([2.0, 1])).item() == 4.5
    # Weights 1 and 3: (9 + 0) / 4.
    weights = torch.tensor([1.0, 3.0])
    assert centering_penalty(torch.tensor([1.0, -1]), torch.tensor([2.0, 1]), weights).item() == 2.25


def test_losses_refuse_what_would_be_silently_wrong():
    x, mask = torch.zeros(2, 3), torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"advantages_BT has shape \(2,\)"):
        clipped_policy_loss(x, x, torch.zeros(2), mask, clip=0.2)
    with pytest.raises(ValueError, match="clip is 0"):
        clipped_policy_loss(x, x, x, mask, clip=0)
    with pytest.raises(ValueError, match=r"weights_BT has shape \(2,\)"):
        clipped_value_loss(x, x, x, mask, clip=0.2, weights_BT=torch.zeros(2))
    with pytest.raises(ValueError, match="no token is real"):
        token_weights(0 * mask, Mean.TOKEN, 3)
    pair = torch.zeros(2)
    with pytest.raises(ValueError, match="probabilities lie in"):
        ranking_loss(pair, pair, torch.tensor([1.0, 1.2]))
    with pytest.raises(ValueError, match="not all zero"):
        ranking_loss(pair, pair, torch.ones(2), weights_P=torch.zeros(2))
    with pytest.raises(ValueError, match="not all zero"):
        ranking_loss(pair[:0], pair[:0], pair[:0])
    with pytest.raises(ValueError, match="no pair"):
        centering_penalty(pair[:0], pair[:0])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_better_of_two_actions_is_learned_within_50_updates(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.zeros(2, requires_grad=True)
    value = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([logits, value], lr=0.03, eps=1e-5)
    mask = torch.ones(32, 1)
    for _ in range(50):
        probabilities = torch.softmax(logits.detach(), 0)
        actions = torch.multinomial(probabilities, 32, replacement=True, generator=generator)
        old_logprobs = probabilities.log()[actions][:, None]
        old_values = value.detach().expand(32)[:, None]
        rewards = (actions == 1).float()[:, None]
        advantages, returns = gae(rewards, old_values, mask, torch.zeros(32), gamma=1.0, lam=0.95)
        advantages = whiten(advantages, mask)
        for _ in range(4):
            logprobs = torch.log_softmax(logits, 0)[actions][:, None]
            loss, _ = clipped_policy_loss(logprobs, old_logprobs, advantages, mask, clip=0.2)
            values = value.expand(32)[:, None]
            value_loss, _ = clipped_value_loss(values, old_values, returns, mask, clip=0.2)
            optimiser.zero_grad()
            (loss + 0.5 * value_loss).backward()
            optimiser.step()
    assert torch.softmax(logits, 0)[1].item() > 0.95
    assert 0.8 < value.item() < 1.1
