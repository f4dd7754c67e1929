"""Values of tokens: hand-computed targets and losses, gradients, and a table learned to its optimum."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.testing import assert_close

from accord.rl.advantages import gae
from accord.rl.qlearning import conservative_loss, double_values, expectile_loss, spread, value_loss

NAN = math.nan


def rows(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def test_one_net_chooses_and_the_other_values():
    online = rows([1.0, 3.0, 2.0], [5.0, 0.0, 0.0])
    target = rows([9.0, -1.0, 4.0], [0.5, 8.0, 8.0])
    assert_close(double_values(online, target), rows(-1.0, 0.5))  # not the target's own 9 and 8
    with pytest.raises(ValueError, match="others"):
        double_values(online, target[:, :2])


def test_targets_look_one_token_ahead_or_to_the_end():
    """The environment speaks in column 1; r = 1 on the last token; gamma 0.5."""
    rewards, values = rows([0.0, 0.0, 0.0, 1.0]), rows([3.0, 77.0, 4.0, 5.0])
    mask, nothing = torch.tensor([[1, 0, 1, 1]]), rows(0.0)
    one = gae(rewards, values, mask, nothing, gamma=0.5, lam=0.0)[1]
    assert_close(one, rows([0.5 * 4.0, 0.0, 0.5 * 5.0, 1.0]))
    whole = gae(rewards, values, mask, nothing, gamma=0.5, lam=1.0)[1]
    assert_close(whole, rows([0.25, 0.0, 0.5, 1.0]))
    half = gae(rewards, values, mask, nothing, gamma=0.5, lam=0.5)[1]
    # Q(lambda): 0.5 ((1 - lam) V' + lam G'), from the end back
    third = 0.5 * (0.5 * 5.0 + 0.5 * 1.0)
    assert_close(half, rows([0.5 * (0.5 * 4.0 + 0.5 * third), 0.0, third, 1.0]))


def test_the_loss_by_hand():
    q = rows([1.0, 2.0, 9.0]).requires_grad_()
    targets = rows([3.0, 1.0, NAN]).requires_grad_()
    mask = torch.tensor([[1, 1, 0]])
    loss, metrics = value_loss(q, targets, mask)
    assert loss.item() == pytest.approx(0.5 * (4 + 1) / 2)
    assert metrics["q_mean"].item() == pytest.approx(1.5)
    assert metrics["q_error"].item() == pytest.approx(2.5)
    loss.backward()
    assert_close(q.grad, rows([-1.0, 0.5, 0.0]))
    assert targets.grad is None


def test_expectiles_by_hand():
    values, targets = rows([1.0, 1.0, 0.0]), rows([3.0, 0.0, NAN])
    mask = torch.tensor([[1, 1, 0]])
    assert expectile_loss(values, targets, mask, expectile=0.9).item() == pytest.approx((0.9 * 4 + 0.1) / 2)
    assert expectile_loss(values, targets, mask, expectile=0.5).item() == pytest.approx((4 + 1) / 4)
    for wrong in (0.0, 1.0):
        with pytest.raises(ValueError, match="within"):
            expectile_loss(values, targets, mask, expectile=wrong)


def test_an_expectile_moves_from_the_mean_to_the_best():
    """Targets 0, 0, 1: the least loss is at tau / (tau + 2 (1 - tau))."""
    for tau in (0.5, 0.9, 0.99):
        value = torch.zeros((), dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([value], max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-14)

        def closure(value=value, optimiser=optimiser, tau=tau):
            optimiser.zero_grad()
            loss = expectile_loss(value.expand(1, 3), rows([0.0, 0.0, 1.0]), torch.ones(1, 3), expectile=tau)
            loss.backward()
            return loss

        optimiser.step(closure)
        assert value.item() == pytest.approx(tau / (tau + 2 * (1 - tau)), abs=1e-4)


def test_the_conservative_term_by_hand():
    q = rows([0.0, math.log(3.0)], [1.0, 1.0])
    loss = conservative_loss(q, torch.tensor([1, 0]))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


@given(st.integers(0, 2**31))
def test_gradients_equal_finite_differences(seed):
    generator = torch.Generator().manual_seed(seed)
    values, targets = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    mask = torch.arange(4) < torch.tensor([[4], [1], [3]])
    assert gradcheck(lambda v: value_loss(v, targets, mask)[0], (values.requires_grad_(),))
    assert gradcheck(lambda v: expectile_loss(v, targets, mask, expectile=0.8), (values,))
    tokens = torch.tensor([0, 3, 1])
    assert gradcheck(lambda q: conservative_loss(q, tokens), (values,))


def test_values_go_back_to_their_rows():
    mask = torch.tensor([[True, False, True], [True, False, False]])
    assert spread(rows(1.0, 2.0, 3.0), mask).tolist() == [[1.0, 0.0, 2.0], [3.0, 0.0, 0.0]]


def test_a_table_is_learned_to_its_optimum():
    """Four states in a row; right (1) goes on and pays 1 at the end, left (0) ends with 0.3; gamma 0.9."""
    generator = torch.Generator().manual_seed(0)
    q, target = torch.zeros(4, 2, requires_grad=True), torch.zeros(4, 2)
    optimiser = torch.optim.Adam([q], lr=0.05)
    for update in range(600):
        states, actions, rewards = (
            torch.zeros(16, 4, dtype=torch.long),
            torch.zeros(16, 4, dtype=torch.long),
            torch.zeros(16, 4),
        )
        mask = torch.zeros(16, 4, dtype=torch.bool)
        for row in range(16):
            for t in range(4):
                action = int(torch.randint(2, (), generator=generator))
                states[row, t], actions[row, t], mask[row, t] = t, action, True
                if action == 0 or t == 3:
                    rewards[row, t] = 0.3 if action == 0 else 1.0
                    break
        ahead = double_values(q.detach()[states[mask]], target[states[mask]])
        targets = gae(rewards, spread(ahead, mask), mask, torch.zeros(16), gamma=0.9, lam=0.0)[1]
        chosen = spread(q[states[mask], actions[mask]], mask)
        optimiser.zero_grad()
        value_loss(chosen, targets, mask)[0].backward()
        optimiser.step()
        if update % 5 == 0:
            target = q.detach().clone()
    best = [[0.3, 0.9**3], [0.3, 0.9**2], [0.3, 0.9], [0.3, 1.0]]
    assert_close(q.detach(), torch.tensor(best), atol=0.02, rtol=0)
