"""The benchmarks of reports and of personal rewards run at a small size and end with one JSON object."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("ACCORD_DATA", ROOT.parent / "shared" / "data"))


def last_line(script: str, *flags: str, cache: Path) -> dict:
    """What a benchmark found; its data are read where they lie."""
    if not DATA.is_dir():
        pytest.skip(f"the public data sets are not at {DATA}")
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--quick", "--cache", str(cache), *flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "ACCORD_DATA": str(DATA)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_report_of_real_judgements(tmp_path):
    sets = "tulu:2:0,squality:2:0"
    found = last_line("reward_study.py", "--no-trl", "--sets", sets, cache=tmp_path)
    assert found["quick"]
    assert set(found) == {"benchmark", "quick", "Tulu", "SQuALITY"}
    squality = found["SQuALITY"]["study"]
    assert 0 <= squality["accuracy"]["interval"]["value"] <= 1
    assert squality["ceiling"]["human"]["interval"] is not None
    assert found["Tulu"]["study"]["ceiling"]["human"]["interval"] is None
    assert isinstance(squality["mistakes"], int)  # no text of the data leaves the script


@pytest.mark.slow
def test_personal_rewards(tmp_path):
    found = last_line("personal.py", "--only", "simulated", cache=tmp_path)
    assert found["simulated"]["fails_above_acceptable"]["lifted"] == 0
    (none, *_) = found["simulated"]["style"]["curve"]
    assert none["judgements"] == 0
    assert none["log_loss_gain"]["value"] == 0
    assert math.isfinite(none["log_loss"]["value"])
    assert set(found["update_ms"]) == {"1", "32", "100", "1000"}
