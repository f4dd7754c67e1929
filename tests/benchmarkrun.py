"""Benchmarks run as their user runs them: a process of its own, on one thread, of this source."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from realdata import real_folder

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def ended(*command: str | Path, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    """A Python command that came to its end without an error."""
    environment = os.environ | {
        "PYTHONPATH": str(BENCHMARKS.parent / "src"),
        "OMP_NUM_THREADS": "1",
        "ACCORD_DATA": str(real_folder()),
    }
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=timeout, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def last_line(script: str, *flags: str | Path, timeout: float = 900) -> dict[str, Any]:
    """The figures a benchmark ends with."""
    return json.loads(ended(BENCHMARKS / script, *flags, timeout=timeout).stdout.splitlines()[-1])
