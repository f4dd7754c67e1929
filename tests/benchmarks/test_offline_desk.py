"""The benchmark of offline learning on the help desk runs at a small size and ends with one JSON object."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_way_has_its_figures(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/offline_desk.py"), "--quick", "--cache", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["quick"]
    assert found["starter"]["kl"]["value"] == 0
    for way in ("dpo", "ipo", "kto", "orpo", "simpo", "rft"):
        gain = found[way]["gold"]["value"] - found["starter"]["gold"]["value"]
        assert found[way]["gain"]["value"] == pytest.approx(gain)
        assert found[way]["kl"]["value"] > 0
