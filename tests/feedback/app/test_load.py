"""The load benchmark at a small size: a real server, killed twice, and not a label lost; and its own eyes."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_nothing_is_lost_or_doubled_though_the_server_is_killed(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "benchmarks/labeling_load.py"),
        "--quick",
        "--folder",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["labelers"], figures["submitted"], figures["kills"]) == (20, 300, 2)
    for name in ("lost", "doubled", "overlap_exceeded", "places_miscounted", "refused", "receipts_differ"):
        assert figures[name] == 0, figures["examples"]
    assert figures["doctor_clean"]
    assert figures["export_complete"]
    assert figures["annotations"] >= 2000
    assert figures["sent_again"], "the server was not killed in the midst of requests"
