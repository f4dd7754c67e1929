"""The benchmark of the constitution runs at a small size and ends with one JSON object."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_both_ways_have_their_figures_and_are_kept(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/constitution.py"), "--quick", "--folder", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
        assert done.returncode == 0, done.stderr[-3000:]
    assert "reward" not in done.stderr, "the second time it only reads what was kept"
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["quick"]
    assert found["comparisons"][0] > 0
    harmless = {stage: row["value"] for stage, row in found["figures"]["harmless"].items()}
    gain = harmless["after_people"] - harmless["before"]
    assert found["gains"]["harmless"]["after_people"]["value"] == pytest.approx(gain)
    assert set(found["against"]) == {"respect", "privacy", "blame", "promise", "truth", "answer"}
