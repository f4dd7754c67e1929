"""Real public data for tests: ``ACCORD_DATA`` or ``../shared/data`` beside the checkout; absent elsewhere."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def real_folder() -> Path:
    """Where real data is looked for."""
    return Path(os.environ.get("ACCORD_DATA", ROOT.parent / "shared" / "data"))


def real_file(name: str) -> Path:
    """Where the file ``NAME.jsonl.gz`` is; skips, with the reason, when absent."""
    path = real_folder() / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no real data at {path}; set ACCORD_DATA to its folder")
    return path


def real_data(name: str) -> list[dict[str, Any]]:
    """The rows of ``NAME.jsonl.gz`` (say ``dialogsum/test``); skips, with the reason, when absent."""
    with gzip.open(real_file(name), "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
