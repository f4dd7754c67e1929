"""What a reward model is measured by while it trains."""

from __future__ import annotations

import math

import numpy as np
import pytest

from accord.lm.grouped import Pair, PromptGroup
from accord.reward.measure import Measured, held_out_loss
from accord.types import Prompt


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        ((1.0, 1.0), (math.log1p(math.exp(-2)) + math.log1p(math.exp(1))) / 2),
        ((1.0, 0.3), (math.log1p(math.exp(-2)) + 0.3 * math.log1p(math.exp(1))) / 1.3),
        ((1.0, 0.0), math.log1p(math.exp(-2))),
        ((0.0, 0.0), (math.log1p(math.exp(-2)) + math.log1p(math.exp(1))) / 2),
    ],
)
def test_a_source_that_counts_less_says_less_of_which_weights_are_kept(weights, wanted):
    groups = [PromptGroup(Prompt.from_text(f"q{w}"), pairs=[Pair(0, 1, 1.0, w)]) for w in weights]
    measured = Measured(np.array([2.0, -1.0]), np.ones(2), np.zeros(2), ["a", "b"], np.zeros(4))
    assert held_out_loss(measured, None, groups) == pytest.approx(wanted)
