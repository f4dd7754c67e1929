"""The benchmark of the constitution runs at a small size and ends with one JSON object."""

import json

import pytest

from benchmarkrun import BENCHMARKS, ended


@pytest.mark.slow
def test_both_ways_have_their_figures_and_are_kept(tmp_path):
    for _ in range(2):
        done = ended(BENCHMARKS / "constitution.py", "--quick", "--folder", tmp_path)
    assert "reward" not in done.stderr, "the second time it only reads what was kept"
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["quick"]
    assert found["comparisons"][0] > 0
    harmless = {stage: row["value"] for stage, row in found["figures"]["harmless"].items()}
    gain = harmless["after_people"] - harmless["before"]
    assert found["gains"]["harmless"]["after_people"]["value"] == pytest.approx(gain)
    assert set(found["against"]) == {"respect", "privacy", "blame", "promise", "truth", "answer"}
