"""The benchmarks of reports and of personal rewards run at a small size and end with one JSON object."""

import math
from pathlib import Path

import pytest

from benchmarkrun import last_line
from realdata import real_folder


def found_by(script: str, *flags: str, cache: Path) -> dict:
    """What a benchmark of the public data found."""
    if not real_folder().is_dir():
        pytest.skip(f"the public data sets are not at {real_folder()}")
    return last_line(script, "--quick", "--cache", cache, *flags)


@pytest.mark.slow
def test_the_report_of_real_judgements(tmp_path):
    sets = "tulu:2:0,squality:2:0"
    found = found_by("reward_study.py", "--no-trl", "--sets", sets, cache=tmp_path)
    assert found["quick"]
    assert set(found) == {"benchmark", "quick", "Tulu", "SQuALITY"}
    squality = found["SQuALITY"]["study"]
    assert 0 <= squality["accuracy"]["interval"]["value"] <= 1
    assert squality["ceiling"]["human"]["interval"] is not None
    assert found["Tulu"]["study"]["ceiling"]["human"]["interval"] is None
    assert isinstance(squality["mistakes"], int)  # no text of the data leaves the script


@pytest.mark.slow
def test_personal_rewards(tmp_path):
    found = found_by("personal.py", "--only", "simulated", cache=tmp_path)
    assert found["simulated"]["fails_above_acceptable"]["lifted"] == 0
    (none, *_) = found["simulated"]["style"]["curve"]
    assert none["judgements"] == 0
    assert none["log_loss_gain"]["value"] == 0
    assert math.isfinite(none["log_loss"]["value"])
    assert set(found["update_ms"]) == {"1", "32", "100", "1000"}
