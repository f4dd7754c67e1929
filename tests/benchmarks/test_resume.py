"""The benchmark of killed and resumed runs finds them identical, and finds one that is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPOILED = """
import runpy, sys
from accord.align.learner import Learner
tensors = Learner.tensors
Learner.tensors = lambda self: {k: v for k, v in tensors(self).items() if not k.startswith("critic.")}
sys.argv = ["resume.py", "--quick"]
runpy.run_path(sys.path.pop(), run_name="__main__")
"""


def figures(*command):
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_few_kills():
    found = figures(str(ROOT / "benchmarks/resume.py"), "--quick")
    assert found["quick"]
    assert found["kills"] >= 4
    assert found["identical"] == found["runs"]
    assert not found["differing"]


@pytest.mark.slow
def test_a_checkpoint_without_its_critic_is_found_out():
    program = SPOILED.replace("sys.path.pop()", repr(str(ROOT / "benchmarks/resume.py")))
    found = figures("-c", program)
    assert any(each["algorithm"] in ("ppo", "nlpo") for each in found["differing"])
