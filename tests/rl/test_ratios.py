"""Hand-computed losses of other ratios, gradients against finite differences, padding, micro-batches."""

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from accord.rl.losses import Mean, clipped_policy_loss, token_weights
from accord.rl.ratios import policy_gradient_loss, sequence_policy_loss, weighted_policy_loss

NAN = math.nan
LOSSES = [policy_gradient_loss, sequence_policy_loss, weighted_policy_loss]


def row(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


OLD, MASK = row(-1, -2, -3, -1, 7), row(1, 1, 1, 1, 0)
NEW = OLD + row(math.log(1.5), math.log(1.5), math.log(0.5), math.log(0.5), 900)
ADVANTAGES = row(2, -2, 1, -1, NAN)


def test_policy_gradient_by_hand():
    # -mean of 1.5 * 2, 1.5 * -2, 0.5 * 1, 0.5 * -1 = 0; all four ratios lie beyond 0.2.
    new = NEW.clone().requires_grad_()
    loss, metrics = policy_gradient_loss(new, OLD, ADVANTAGES, MASK, clip=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert_close(new.grad, row(-3, 3, -0.5, 0.5, 0) / 4)
    assert metrics["clipped_share"].item() == 1
    assert metrics["ratio_mean"].item() == pytest.approx(1)


def test_sequence_ratio_by_hand():
    # Mean log-ratio of row one: (2 log 1.5 + 2 log 0.5) / 4 = log(0.75) / 2; ratio sqrt(0.75) = 0.866.
    # Advantage 2 a token, clip 0.1: min(0.866 * 2, 0.9 * 2) = 1.732 free; advantage -2: min(-1.732, -1.8)
    # = -1.8, clipped.
    new = NEW.clone().requires_grad_()
    loss, metrics = sequence_policy_loss(new, OLD, row(2, 2, 2, 2, NAN), MASK, clip=0.1)
    assert loss.item() == pytest.approx(-2 * math.sqrt(0.75))
    assert metrics["ratio_max"].item() == pytest.approx(math.sqrt(0.75))
    loss.backward()  # d(-2 s)/d log p_t = -2 s / 4 for each of the four tokens
    assert_close(new.grad, row(*[-2 * math.sqrt(0.75) / 4] * 4, 0))
    loss, metrics = sequence_policy_loss(NEW, OLD, row(-2, -2, -2, -2, NAN), MASK, clip=0.1)
    assert loss.item() == pytest.approx(1.8)
    assert metrics["clipped_share"].item() == 1


def test_weighted_log_probs_by_hand():
    # CISPO, clip 0.2: weights 1.2, 1.2, 0.5, 0.5; -mean of w A log p.
    new = NEW.clone().requires_grad_()
    loss, metrics = weighted_policy_loss(new, OLD, ADVANTAGES, MASK, clip=0.2)
    terms = [
        1.2 * 2 * new[0, 0].item(),
        1.2 * -2 * new[0, 1].item(),
        0.5 * 1 * new[0, 2].item(),
        0.5 * -1 * new[0, 3].item(),
    ]
    assert loss.item() == pytest.approx(-sum(terms) / 4)
    loss.backward()
    assert_close(new.grad, row(-2.4, 2.4, -0.5, 0.5, 0) / 4)
    assert metrics["clipped_share"].item() == pytest.approx(0.5)


def random_batch(seed):
    generator = torch.Generator().manual_seed(seed)
    new, old, target = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64) * 0.5
    return new, old, target, torch.arange(7) < torch.tensor([[7], [1], [4], [5], [2]])


@pytest.mark.parametrize("loss_of", LOSSES)
def test_on_policy_every_gradient_is_reinforce_of_its_mean(loss_of):
    new, _, _, mask = random_batch(1)
    new.requires_grad_()
    weights = token_weights(mask, Mean.SEQUENCE, 7)
    advantages = torch.tensor([[1.0], [-2.0], [0.5], [3.0], [-1.0]]).double().expand(5, 7)  # one a completion
    loss, _ = loss_of(new, new.detach(), advantages, mask, clip=0.2, weights_BT=weights)
    loss.backward()
    assert_close(new.grad, (-advantages * weights).double(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss_of", [policy_gradient_loss, sequence_policy_loss])
def test_gradients_equal_finite_differences(loss_of):
    new, old, target, mask = random_batch(3)
    new.requires_grad_()
    assert gradcheck(lambda x: loss_of(x, old, target, mask, clip=0.2)[0], (new,))


def test_the_weight_of_a_weighted_log_prob_has_no_gradient():
    new, old, target, mask = random_batch(3)
    new.requires_grad_()
    loss, _ = weighted_policy_loss(new, old, target, mask, clip=0.2)
    loss.backward()
    weight = (new.detach() - old).exp().clamp(max=1.2)
    assert_close(new.grad, torch.where(mask, -weight * target, 0.0) / mask.sum())


@pytest.mark.parametrize("mean", list(Mean))
@pytest.mark.parametrize("loss_of", [*LOSSES, clipped_policy_loss])
def test_micro_batches_add_up_to_the_whole(loss_of, mean):
    new, old, target, mask = random_batch(4)
    weights = token_weights(mask, mean, 7)
    whole, parts = new.clone().requires_grad_(), new.clone().requires_grad_()
    loss, metrics = loss_of(whole, old, target, mask, clip=0.2, weights_BT=weights)
    loss.backward()
    total = {"ratio_mean": 0.0, "clipped_share": 0.0, "approx_kl": 0.0}
    for rows in (slice(0, 1), slice(1, 3), slice(3, 5)):
        given = parts[rows], old[rows], target[rows], mask[rows]
        part, found = loss_of(*given, clip=0.2, weights_BT=weights[rows])
        part.backward()
        total = {key: total[key] + found[key].item() for key in total}
    assert_close(parts.grad, whole.grad)
    for key, value in total.items():
        assert value == pytest.approx(metrics[key].item())


@pytest.mark.parametrize("loss_of", LOSSES)
def test_what_stands_in_the_padding_is_never_read(loss_of):
    new, old, target, mask = random_batch(5)
    spoiled = [torch.where(mask, x, y) for x, y in ((new, 900.0), (old, -900.0), (target, NAN))]
    spoiled[0].requires_grad_()
    loss, _ = loss_of(*spoiled, mask, clip=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(loss_of(new, old, target, mask, clip=0.2)[0].item())
    assert torch.isfinite(spoiled[0].grad).all()


def test_token_weights_by_hand():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    assert_close(token_weights(mask, Mean.TOKEN, 5), torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]]) / 4)
    sixth = 1 / 6
    rows = [[sixth] * 3, [0.5, 0, 0], [0, 0, 0]]  # two completions; the third row has no token
    assert_close(token_weights(mask, Mean.SEQUENCE, 5), torch.tensor(rows))
    assert_close(token_weights(mask, Mean.CONSTANT, 5), mask / 10)  # 2 completions of at most 5
