"""The guard, on histories written by hand."""

import pytest

from accord.align.guard import Action, distrust


def history(rewards, kls=None):
    kls = kls or [0.0] * len(rewards)
    return [{"reward": r, "kl": k} for r, k in zip(rewards, kls, strict=True)]


def test_nothing_is_judged_without_rules():
    verdict = distrust(history([1e9] * 9, [1e9] * 9))
    assert (verdict.action, verdict.reason) == (Action.GO_ON, "")


@pytest.mark.parametrize(
    ("rewards", "action"),
    [
        ([2, 2, 2, 2], Action.GO_ON),  # four steps are no window of five
        ([2, 2, 2, 2, 2], Action.STOP),
        ([0, 2, 2, 2, 2, 2], Action.STOP),  # the first has left the window
        ([9, 0, 0, 0, 0.9], Action.GO_ON),  # mean 1.98
        ([10, 0, 0, 0, 0], Action.STOP),  # mean exactly 2
        ([9, 9, 9, 0, 0, 0, 0, 0], Action.GO_ON),
    ],
)
def test_the_target_is_the_mean_of_a_full_window(rewards, action):
    assert distrust(history(rewards), stop_reward=2.0).action is action


@pytest.mark.parametrize(
    ("kls", "action"),
    [
        ([50], Action.GO_ON),  # one step may be chance
        ([3, 4.2], Action.STOP),  # mean 3.6, no full window needed
        ([3, 4], Action.GO_ON),  # exactly the budget is within it
        ([99, 1, 1, 1, 1, 1], Action.GO_ON),
        ([0, 0, 0, 0, 17.6], Action.STOP),  # mean 3.52
    ],
)
def test_the_leash_is_the_mean_kl(kls, action):
    assert distrust(history([0.0] * len(kls), kls), stop_kl=3.5).action is action


def test_the_leash_goes_before_the_target_and_says_why():
    verdict = distrust(history([5.0] * 5, [7.0] * 5), stop_reward=1.0, stop_kl=3.0)
    assert "7.00" in verdict.reason
    assert "3" in verdict.reason
    assert "0.500" in distrust(history([0.5] * 5), stop_reward=0.25).reason


def test_a_window_of_one_judges_each_step():
    assert distrust(history([0, 1]), stop_reward=1.0, window=1).action is Action.STOP
