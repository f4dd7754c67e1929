"""The benchmark of planted judges runs, and its last line holds what it promises."""

from __future__ import annotations

import numpy as np
import pytest

from accord.judging import both_orders
from benchmarkrun import BENCHMARKS, last_line


def test_quick_run_ends_with_its_figures() -> None:
    found = last_line("judge_quality.py", "--quick", timeout=300)
    assert found["quick"] is True
    assert found["cells"] == 4
    assert 0 <= found["accuracy"]["held"]["low"] <= found["accuracy"]["held"]["high"] <= 1
    assert [each["bias"] for each in found["equal_answers"]] == [0.0, 0.3]


def test_a_planted_judge_is_as_it_was_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from judge_quality import Planted, pairs

    asked, first = pairs(4000)
    judged = both_orders(Planted(0.9, 0.2, np.random.default_rng(0)), asked)
    took = np.array([one.as_listed.p_first > 0.5 for one in judged])
    better = np.array(first)
    assert took[better].mean() == pytest.approx(0.2 + 0.8 * 0.9, abs=0.03)
    assert took[~better].mean() == pytest.approx(0.2 + 0.8 * 0.1, abs=0.03)
