"""The evaluation's power benchmark runs, and its last line holds what it promises."""

from __future__ import annotations

import numpy as np
import pytest

from accord.stats.paired import Gain
from benchmarkrun import BENCHMARKS, last_line


def test_quick_run_ends_with_its_figures() -> None:
    found = last_line("evaluation_power.py", "--quick", timeout=300)
    assert found["power_promised"] == 0.8
    assert found["quick"] is True
    assert found["power_found"] > 0.3
    assert found["false_alarms"] < 0.3
    assert len(found["null"]) == 6


def test_a_claim_needs_both_the_test_and_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from evaluation_power import claimed, normal

    sure = Gain(1.0, 0.5, 1.5, 0.001, 20, 1.0)
    across = Gain(1.0, -0.5, 1.5, 0.001, 20, 1.0)
    unsure = Gain(1.0, 0.5, 1.5, 0.02, 20, 1.0)
    assert claimed([(sure, 0.0)])
    assert not claimed([(across, 0.0)])
    assert claimed([(unsure, 0.0)])
    assert not claimed([(unsure, 0.0)] * 3)  # three times 0.02 is above 0.05
    assert all(claimed(normal(30, 3.0)(np.random.default_rng(i))) for i in range(5))
