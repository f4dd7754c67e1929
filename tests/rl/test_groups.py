"""Group advantages by hand, and what makes them baselines."""

import pytest
import torch
from torch.testing import assert_close

from accord.rl.groups import group_advantages, leave_one_out

TOTALS = torch.tensor([1.0, 5.0, 2.0, 3.0, 4.0])
GROUPS = torch.tensor([7, 3, 7, 7, 3])  # {1, 2, 3} and {5, 4}, in any order


def test_leave_one_out_by_hand():
    # 1 - (2 + 3) / 2, 5 - 4, 2 - (1 + 3) / 2, 3 - (1 + 2) / 2, 4 - 5.
    assert leave_one_out(TOTALS, GROUPS).tolist() == [-1.5, 1.0, 0.0, 1.5, -1.0]


def test_group_advantages_by_hand():
    # Means 2 and 4.5; deviations (n - 1) 1 and sqrt(1/2).
    assert group_advantages(TOTALS, GROUPS, scale=False).tolist() == [-1.0, 0.5, 0.0, 1.0, -0.5]
    half = 0.5 / (0.5**0.5 + 1e-4)
    scaled = group_advantages(TOTALS, GROUPS, scale=True)
    assert_close(scaled, torch.tensor([-1 / 1.0001, half, 0.0, 1 / 1.0001, -half]))


def test_equal_rewards_give_no_advantage():
    for scale in (True, False):
        assert group_advantages(torch.full((4,), 3.0), torch.zeros(4), scale=scale).tolist() == [0.0] * 4
    assert leave_one_out(torch.full((4,), 3.0), torch.zeros(4)).tolist() == [0.0] * 4


def test_an_own_reward_has_no_part_in_its_leave_one_out_baseline():
    raised = TOTALS.clone()
    raised[0] += 10
    baseline, after = TOTALS - leave_one_out(TOTALS, GROUPS), raised - leave_one_out(raised, GROUPS)
    assert baseline[0] == after[0]
    assert after[2] == baseline[2] + 5


def test_a_group_of_one_is_refused():
    for advantages in (leave_one_out, lambda t, g: group_advantages(t, g, scale=True)):
        with pytest.raises(ValueError, match=r"rows \[2\] are groups of one"):
            advantages(torch.zeros(3), torch.tensor([0, 0, 1]))
