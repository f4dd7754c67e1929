"""The reward benchmarks at sizes that prove that they run, and the pieces whose figures are known."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def last_line(tmp_path: Path, script: str, *options: str) -> dict:
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--quick", f"--cache={tmp_path}", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_labels_benchmark_ends_with_each_ways_figures(tmp_path):
    found = last_line(tmp_path, "reward_labels.py")
    assert list(found["ways"]) == ["flat hard", "grouped hard", "grouped soft", "grouped soft + FAIL"]
    for figures in found["ways"].values():
        assert figures["accuracy"]["low"] <= figures["accuracy"]["value"] <= figures["accuracy"]["high"]
    expected = (
        found["ways"]["grouped soft + FAIL"]["accuracy"]["value"]
        - found["ways"]["flat hard"]["accuracy"]["value"]
    )
    assert found["difference"]["accuracy"]["value"] == pytest.approx(expected)


@pytest.mark.slow
def test_the_benchmark_beside_trl_runs_without_trl(tmp_path):
    found = last_line(tmp_path, "reward_vs_trl.py", "--no-peer", "--threads=1")
    assert found["small"]["accord"]["prompts_per_second"] > 0
    assert 0 < found["accuracy"] < 1
    assert "ratio_median" not in found
