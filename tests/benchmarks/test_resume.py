"""The benchmark of killed and resumed runs finds them identical, and finds one that is not."""

import json

import pytest

from benchmarkrun import BENCHMARKS, ended, last_line

SPOILED = """
import runpy, sys
from accord.align.learner import Learner
tensors = Learner.tensors
Learner.tensors = lambda self: {k: v for k, v in tensors(self).items() if not k.startswith("critic.")}
sys.argv = ["resume.py", "--quick"]
runpy.run_path(sys.path.pop(), run_name="__main__")
"""


@pytest.mark.slow
def test_a_few_kills():
    found = last_line("resume.py", "--quick")
    assert found["quick"]
    assert found["kills"] >= 4
    assert found["identical"] == found["runs"]
    assert not found["differing"]


@pytest.mark.slow
def test_a_checkpoint_without_its_critic_is_found_out():
    program = SPOILED.replace("sys.path.pop()", repr(str(BENCHMARKS / "resume.py")))
    found = json.loads(ended("-c", program).stdout.splitlines()[-1])
    assert any(each["algorithm"] in ("ppo", "nlpo") for each in found["differing"])
