"""DPO's benchmark beside TRL runs at a small size, without the peer too, and ends with one JSON object."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / ".venv-trl/bin/python"


def last_line(*flags: str) -> dict:
    command = [sys.executable, str(ROOT / "benchmarks/dpo_vs_trl.py"), "--quick", "--threads=1", *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_it_runs_without_the_peer():
    found = last_line("--no-peer")
    assert found["quick"]
    assert "ratio_median" not in found
    for part in ("rankings", "single_pairs"):
        assert found[part]["accord"]["prompts_per_second"] > 0
    # four completions a prompt are more work than two
    seconds = [found[part]["accord"]["cpu_seconds_per_step"] for part in ("single_pairs", "rankings")]
    assert seconds[0] < seconds[1]


@pytest.mark.slow
@pytest.mark.skipif(not PEER.exists(), reason="needs the peer's environment: run scripts/setup-trl-env")
def test_its_ratios_are_those_of_both_sides():
    found = last_line()
    for start, part in (("", "rankings"), ("pair_", "single_pairs")):
        sides = found[part]
        ratio = sides["accord"]["prompts_per_second"] / sides["trl"]["prompts_per_second"]
        assert found[f"{start}ratio_median"] == pytest.approx(ratio)
        memory = sides["accord"]["peak_rss_mb"] / sides["trl"]["peak_rss_mb"]
        assert found[f"{start}memory_ratio"] == pytest.approx(memory)
