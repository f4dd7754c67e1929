"""The benchmarks beside TRL run at a small size, without the peer too, and end with one JSON object."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / ".venv-trl/bin/python"
PARTS = {
    "ppo_vs_trl.py": [""],
    "rloo_vs_trl.py": ["", "grpo_"],
    "reward_vs_trl.py": [""],
    "dpo_vs_trl.py": ["", "pair_"],
}
"""How the figures of a script's parts begin."""


def last_line(script: str, *flags: str) -> dict:
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--quick", "--threads=1", *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("script", PARTS)
def test_it_runs_without_the_peer(script):
    found = last_line(script, "--no-peer")
    assert found["quick"]
    assert "ratio_median" not in found
    for start in PARTS[script]:
        assert found[f"{start}accord"]["items_per_second"] > 0


@pytest.mark.slow
@pytest.mark.skipif(not PEER.exists(), reason="needs the peer's environment: run scripts/setup-trl-env")
@pytest.mark.parametrize("script", PARTS)
def test_its_ratios_are_those_of_both_sides(script):
    found = last_line(script)
    for start in PARTS[script]:
        ours, theirs = found[f"{start}accord"], found[f"{start}trl"]
        ratio = ours["items_per_second"] / theirs["items_per_second"]
        assert found[f"{start}ratio_median"] == pytest.approx(ratio)
        memory = ours["peak_rss_mb"] / theirs["peak_rss_mb"]
        assert found[f"{start}memory_ratio"] == pytest.approx(memory)
