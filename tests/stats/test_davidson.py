import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.stats.davidson import probabilities


@given(d=st.floats(-50, 50), b=st.floats(-20, 20), log_tie=st.floats(-10, 5))
def test_probabilities_sum_to_one_and_swap(d, b, log_tie):
    win, tie, loss = (float(p) for p in probabilities(np.array(d), b, log_tie))
    assert win + tie + loss == pytest.approx(1)
    swapped = tuple(float(p) for p in probabilities(np.array(-d), b, log_tie))
    assert swapped == pytest.approx((loss, tie, win))


def test_position_bias_adds_to_the_logit():
    # no difference in score; the first leads by the whole screen and the labeler leans by log 4 to it
    win, tie, loss = (float(p) for p in probabilities(np.array(0.0), 3.0, np.log(0.5), np.log(4)))
    assert (win, tie, loss) == pytest.approx((4 / 6, 1 / 6, 1 / 6))


def test_probabilities_by_hand():
    win, tie, loss = (float(p) for p in probabilities(np.array(2 * np.log(2)), 1.0, np.log(0.5)))
    # e^x = 4, nu e^(x/2) = 1, 1: odds 4 : 1 : 1
    assert (win, tie, loss) == pytest.approx((4 / 6, 1 / 6, 1 / 6))
