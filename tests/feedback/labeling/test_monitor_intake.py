import numpy as np
import pytest
from scipy import stats

from accord.feedback.labeling.monitor_intake import Flow, alarms, unusual


def flow(stored=0, refused=0, returned=0, lapsed=0):
    return Flow(stored, {"the guidelines have changed": refused} if refused else {}, returned, lapsed)


def test_received_is_what_was_stored_and_what_was_refused():
    assert Flow(7, {"a": 2, "b": 1}).received == 10


def test_the_bound_by_hand():
    """Before: 19 of 380, with the prior 20 of 400; Wilson's upper bound is 0.0760. P(Binomial(20, 0.0760)
    >= 6) = 0.0028 and of >= 7 is 0.00042."""
    assert stats.binom.sf(5, 20, 0.0760) == pytest.approx(0.0028, abs=2e-4)
    assert not unusual(6, 20, 19, 380)
    assert unusual(7, 20, 19, 380)


def test_quiet_hours_raise_nothing():
    assert alarms(flow(), flow()) == ()
    assert alarms(flow(stored=50), flow(stored=900, refused=10)) == ()
    assert alarms(flow(stored=1, refused=1), flow(stored=900)) == ()
    # a full day without anybody is no outage
    assert alarms(flow(), flow(stored=900, refused=4, returned=880, lapsed=30)) == ()


@pytest.mark.parametrize("week", [flow(), flow(stored=40, refused=1), flow(stored=5000, refused=40)])
def test_a_planted_outage_is_seen_within_ten_submits(week):
    (alarm,) = alarms(flow(stored=1, refused=9), week)
    assert "9 of 10 submits" in alarm
    assert "the guidelines have changed" in alarm


def test_a_slow_leak_is_seen_where_it_was_one_in_a_hundred():
    week = flow(stored=4950, refused=50)
    assert alarms(flow(stored=170, refused=30), week)
    assert not alarms(flow(stored=197, refused=3), week)


def test_a_page_that_cannot_submit_is_seen_by_the_tasks_that_lapse():
    week = flow(stored=900, returned=920, lapsed=80)
    (alarm,) = alarms(flow(returned=0, lapsed=12), week)
    assert "12 of 12 tasks handed out came back unanswered" in alarm
    # the last task of the day stays open on some screens
    assert not alarms(flow(stored=40, returned=40, lapsed=6), week)


def test_any_gap_is_an_alarm():
    (alarm,) = alarms(flow(stored=10), flow(stored=10), ("1 submission names a label that is not stored",))
    assert alarm.startswith("1 submission names a label that is not stored")


def test_steady_refusals_seldom_raise_an_alarm():
    """2,000 simulated hours of 40 submits after a week of 800, 4 % refused in both: under one false alarm
    in a thousand hours is asked for, 5 of 2,000 would happen with less than 5 % at that."""
    rng = np.random.default_rng(0)
    false = sum(
        unusual(int(rng.binomial(40, 0.04)), 40, int(rng.binomial(800, 0.04)), 800) for _ in range(2000)
    )
    assert false < 5
