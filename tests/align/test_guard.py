"""The guard, on histories written by hand."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.align.guard import Action, GuardConfig, Verdict, best_step, distrust, floor
from accord.errors import ConfigError


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


# -- evidence ----------------------------------------------------------------------------------

CALM = {
    "rollouts": 24.0, "reward": 0.0, "reward_std": 0.5, "kl": 1.0, "beta": 0.1, "length": 25.0,
    "truncated": 0.02, "empty": 0.0, "repeated": 0.03, "copied": 0.05, "marks": 0.04, "alike": 0.1,
    "distinct": 0.9, "phrase": 0.2, "entropy": 0.6, "pays_length": 0.3, "reference_surprise": 0.5,
    "judge": 0.5, "judge error": 0.02, "judge agrees": 0.5, "part sd": 0.4,
}  # fmt: skip
ACT = GuardConfig(mode="act")
WITNESSED = GuardConfig(mode="act", witness="judge")


def run(steps=10, **late) -> list[dict[str, float]]:
    """A calm run whose reward rises a little, then ``late`` values for its last three steps."""
    rows = [dict(CALM, reward=0.02 * min(at, 12), kl=0.2 * at) for at in range(steps)]
    for row in rows[-3:]:
        row.update(late)
    return rows


def judged(history, guard=ACT):
    return distrust(history, guard=guard)


def test_a_calm_run_goes_on() -> None:
    for steps in range(1, 30):
        assert judged(run(steps), WITNESSED) == Verdict(Action.GO_ON)


@pytest.mark.parametrize(
    ("late", "says"),
    [
        ({"length": 70.0}, "grew from 25 to 70 tokens"),
        ({"length": 8.0}, "shrank from 25 to 8 tokens"),
        ({"truncated": 0.6}, "cut by the limit rose from 2% to 60%"),
        ({"empty": 0.4}, "empty answers rose from 0% to 40%"),
        ({"repeated": 0.5}, "repetition inside an answer rose from 3% to 50%"),
        ({"copied": 0.6}, "copied from the prompt rose from 5% to 60%"),
        ({"marks": 0.5}, "punctuation and symbols rose from 4% to 50%"),
        ({"alike": 0.9}, "letter for letter, rose from 10% to 90%"),
        ({"distinct": 0.2}, "different phrases fell from 90% to 20%"),
        ({"phrase": 1.0}, "one phrase spread from 20% to 100%"),
        ({"entropy": 0.01}, "entropy fell from 0.60 to 0.01"),
        ({"entropy": 1.2}, "entropy rose from 0.60 to 1.20"),
        ({"reference_surprise": 4.0}, "the reference's surprise rose from 0.50 to 4.00"),
        ({"part sd": 2.0}, "members drew apart: their spread rose from 0.40 to 2.00"),
        ({"judge agrees": -0.8}, "judge likes what the reward does not"),
        ({"judge": 0.2}, "the reward rises while judge falls: from 0.500 to 0.200"),
    ],
)
def test_each_fault_is_caught_and_told_with_its_figures(late, says) -> None:
    verdict = judged(run(**late), WITNESSED)
    assert verdict.action is Action.ROLL_BACK
    assert says in verdict.reason
    assert len(verdict.reason.split("; ")) == 1  # and nothing else is


def test_a_reason_quotes_what_spread() -> None:
    verdict = distrust(run(phrase=1.0), guard=ACT, shown={"phrase": "happy to help", "alike": "Yes."})
    assert verdict.reason == "one phrase spread from 20% to 100% of the answers: 'happy to help'"
    assert distrust(run(), guard=ACT, shown={"phrase": "happy to help"}) == Verdict(Action.GO_ON)
    long = distrust(run(alike=1.0), guard=ACT, shown={"alike": "very long " * 40}).reason
    assert len(long) < 200
    assert long.endswith("...'")


def test_a_witness_that_does_not_follow_is_an_alarm_long_before_it_falls() -> None:
    """The reward rose by 0.73, which is 1.5 of its deviations; half of that is asked of the witness, whose
    deviation is 0.02 x sqrt(24) = 0.098: from 0.5 to 0.572, less two standard errors of 0.016."""
    verdict = judged(run(reward=0.75, judge=0.5), WITNESSED)
    assert verdict.action is Action.ROLL_BACK
    assert verdict.reason == "the reward rose by 1.5 deviations of the first completions, judge by 0.0"
    assert judged(run(reward=0.75, judge=0.545), WITNESSED) == Verdict(Action.GO_ON)  # within its errors
    assert judged(run(reward=0.75, judge=0.6), WITNESSED) == Verdict(Action.GO_ON)  # it follows
    assert judged(run(reward=0.5, judge=0.47), WITNESSED) == Verdict(Action.GO_ON)  # hardly a rise
    assert judged(run(reward=0.75, judge=0.5)) == Verdict(Action.GO_ON)  # nobody to ask


def test_a_share_that_fails_by_the_witness_is_a_doubt_and_a_large_one_an_alarm() -> None:
    assert judged(run(**{"judge fails": 0.15}), WITNESSED) == Verdict(
        Action.GO_ON
    )  # a tenth more than a twentieth
    verdict = judged(run(**{"judge fails": 0.25}), WITNESSED)
    assert verdict == Verdict(Action.WARN, "judge fails 25% of the completions, 5% at first")
    assert judged(run(**{"judge fails": 0.45}), WITNESSED).action is Action.ROLL_BACK
    known = [{"judge fails": 0.3, **row} for row in run(**{"judge fails": 0.6})]
    assert "60% of the completions, 30% at first" in judged(known, WITNESSED).reason
    few = [dict(row, rollouts=4.0) for row in run(**{"judge fails": 0.25})]  # two or three of twelve
    assert judged(few, WITNESSED) == Verdict(Action.GO_ON)
    assert judged(run(**{"judge fails": 0.45}, reward=-1.0), WITNESSED) == Verdict(Action.GO_ON)


def test_the_floor_is_drawn_from_the_first_steps_and_then_stays() -> None:
    rows = [{"judge low": low} for low in (0.1, 0.3, 0.2, -9.0)]
    assert floor(rows[:2], "judge", WITNESSED) is None
    assert floor(rows[:3], "judge", WITNESSED) == pytest.approx(0.2)
    assert floor(rows, "judge", WITNESSED) == pytest.approx(0.2)
    assert floor([{"reward": 1.0}] * 5, "judge", WITNESSED) is None


def test_the_same_fault_only_warns_where_nothing_may_be_done() -> None:
    history = run(empty=0.4)
    assert judged(history, GuardConfig(mode="warn")).action is Action.WARN
    assert judged(history, GuardConfig(mode="off")) == Verdict(Action.GO_ON)
    assert distrust(history) == Verdict(Action.GO_ON)


@pytest.mark.parametrize("key", ["length", "empty", "copied", "judge", "reference_surprise"])
def test_what_a_step_did_not_record_is_not_judged(key) -> None:
    history = [{k: v for k, v in row.items() if not k.startswith(key)} for row in run(**{key: 90.0})]
    assert judged(history, WITNESSED) == Verdict(Action.GO_ON)


def test_nothing_is_suspected_in_the_first_steps() -> None:
    """What they show is the normal, whatever it is."""
    assert judged(run(4, empty=1.0)) == Verdict(Action.GO_ON)
    assert judged([dict(row, empty=0.9, repeated=0.5, truncated=1.0) for row in run()]) == Verdict(
        Action.GO_ON
    )


def test_a_noisy_signal_may_stray_as_far_as_it_always_did() -> None:
    """Lengths of 10, 25 and 40 in the first steps: a spread of 22.2 tokens, and 110 is 3.8 of them away."""
    history = run(length=110.0)
    for row, length in zip(history, (10.0, 25.0, 40.0), strict=False):
        row["length"] = length
    assert judged(history) == Verdict(Action.GO_ON)


def test_a_witness_that_backs_the_reward_no_longer_is_a_doubt_and_one_against_it_an_alarm() -> None:
    """Of 24 rollouts and three steps a rank correlation has a standard error of 0.12: -0.3 may be chance."""
    assert judged(run(**{"judge agrees": 0.15}), WITNESSED) == Verdict(Action.GO_ON)
    verdict = judged(run(**{"judge agrees": -0.3}), WITNESSED)
    assert verdict.action is Action.WARN
    assert "judge no longer likes what the reward likes" in verdict.reason
    assert judged(run(**{"judge agrees": -0.4}), WITNESSED).action is Action.ROLL_BACK
    few = [dict(row, rollouts=4.0) for row in run(**{"judge agrees": -0.4})]
    assert judged(few, WITNESSED).action is Action.WARN


def test_the_witness_may_fall_by_chance_or_with_the_reward() -> None:
    assert judged(run(judge=0.46), WITNESSED) == Verdict(Action.GO_ON)  # 0.04, and an error of 0.016
    assert judged(run(judge=0.2, reward=-1.0), WITNESSED) == Verdict(Action.GO_ON)


def test_doubts_warn_and_three_of_them_raise_beta_then_roll_back() -> None:
    one = run(copied=0.25)
    assert judged(one) == Verdict(Action.WARN, "words copied from the prompt rose from 5% to 25%")
    history = run(copied=0.25, alike=0.4, marks=0.12)
    verdict = judged(history)
    assert (verdict.action, verdict.reason.count(";")) == (Action.RAISE_BETA, 2)
    raised = list(Action).index(Action.RAISE_BETA)
    history[-1]["guard"] = raised
    late = dict(history[-1])
    late.pop("guard")
    waiting = [dict(late), dict(late)]
    assert judged([*history, *waiting]).action is Action.WARN  # its effect is not to be seen yet
    assert judged([*history, *waiting, dict(late)]).action is Action.ROLL_BACK
    assert judged([dict(row, beta=0.0) for row in run(copied=0.25, alike=0.4, marks=0.12)]).action is (
        Action.ROLL_BACK
    )


def test_pay_for_length_is_doubted() -> None:
    for sign, word in ((1, "longer"), (-1, "shorter")):
        history = [dict(row, pays_length=0.95 * sign) for row in run()]
        verdict = judged(history)
        assert verdict.action is Action.WARN
        assert f"the {word} a completion the more it is paid" in verdict.reason


def test_parts_that_move_apart_are_doubted_and_views_of_one_model_are_not() -> None:
    def parted(up: str, down: str, by: float = 1.0):
        rows = run(8)
        for at, row in enumerate(rows):
            shift = by if at >= 5 else 0.0
            row |= {f"part {up}": shift, f"part {down}": -shift}
        return judged(rows)

    assert "part 'length' rises while its part 'model' falls" in parted("length", "model").reason
    assert parted("length", "model", by=0.15) == Verdict(Action.GO_ON)  # 0.3 of the reward's deviation
    assert parted("member 1", "member 2") == Verdict(Action.GO_ON)
    assert parted("good p", "bad p") == Verdict(Action.GO_ON)


def test_the_predicted_turn_is_a_doubt() -> None:
    guard = GuardConfig(mode="act", peak_kl=1.5)
    assert judged(run(8), guard) == Verdict(Action.GO_ON)  # mean KL of the last three 1.2
    verdict = judged(run(10), guard)
    assert verdict.action is Action.WARN
    assert "KL 1.60 nats a completion has passed 1.5" in verdict.reason


def test_patience_goes_back_to_the_witness_best_step() -> None:
    guard = GuardConfig(mode="off", witness="judge", patience=4, window=1)
    values = [0.1, 0.5, 0.4, 0.3, 0.4, 0.45]
    rows = [{"reward": 0.0, "kl": 0.0, "judge": value} for value in values]
    assert judged(rows[:5], guard) == Verdict(Action.GO_ON)
    verdict = judged(rows, guard)
    assert verdict == Verdict(Action.ROLL_BACK, "judge has not gained for 4 steps; its best was step 2")
    with pytest.raises(ConfigError, match="name the witness"):
        GuardConfig(patience=4)


def by_the_witness(values, error: float | None = None):
    rows = [{"reward": 0.0, "kl": 0.0, "judge": value} for value in values]
    return rows if error is None else [dict(row, **{"judge error": error}) for row in rows]


def test_a_later_step_is_the_best_only_where_its_window_is_better_by_a_standard_error() -> None:
    guard = GuardConfig(witness="judge", window=2)
    values = (0.1, 0.9, 0.2, 0.7, 0.6, 0.0)  # windows 0.5 (of the first two), 0.55, 0.45, 0.65, 0.3
    assert best_step(by_the_witness(values), guard) == 5
    assert best_step(by_the_witness(values, 0.1), guard) == 5  # 0.1 / sqrt(2) x sqrt(2) = 0.1
    assert best_step(by_the_witness(values, 0.2), guard) == 1
    assert best_step([], guard) == 0


def test_a_lucky_first_step_speaks_only_in_the_mean_of_the_first_window() -> None:
    guard = GuardConfig(witness="judge")
    lucky = by_the_witness((0.9, 0.4, 0.5, 0.55, 0.56))  # 0.6, then 0.48 and 0.54
    assert [best_step(lucky[:at], guard) for at in range(1, 6)] == [1, 1, 1, 1, 1]
    plain = by_the_witness((0.3, 0.4, 0.5, 0.55, 0.56))  # 0.4
    assert [best_step(plain[:at], guard) for at in range(1, 6)] == [1, 1, 1, 4, 5]


def test_without_a_witness_the_best_step_is_the_latest_that_was_calm() -> None:
    """A quarter of what is a doubt: 0.0375 of words that are copied, in the mean of three steps."""
    assert best_step(run(12), ACT) == 12
    assert best_step(run(12, copied=0.1), ACT) == 11  # 0.017, 0.033, 0.05 above the first
    assert best_step(run(12, copied=0.2), ACT) == 9
    steady = [dict(row, copied=0.1 * min(at, 3)) for at, row in enumerate(run(12))]  # spread 0.15, no drift
    assert best_step(steady, ACT) == 12


@given(st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_a_verdict_is_a_function_of_the_history_and_never_fails(steps, seed) -> None:
    rng = random.Random(seed)
    rows = [{key: rng.uniform(-1, 60) for key in CALM if rng.random() < 0.9} for _ in range(steps)]
    for guard in (ACT, WITNESSED, GuardConfig(peak_kl=3.0), None):
        verdict = distrust(rows, guard=guard, stop_kl=50.0)
        assert verdict == distrust([dict(row) for row in rows], guard=guard, stop_kl=50.0)
        assert bool(verdict.reason) is (verdict.action is not Action.GO_ON)
