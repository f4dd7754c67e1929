"""The benchmark of the sycophancy trap runs from end to end, and its users are what it says of them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import accord
from accord.recipes.helpdesk.world import make_prompts

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "thumbs.py"


@pytest.mark.slow
def test_it_runs_and_ends_with_its_figures():
    """Twelve small trainings: seconds on a machine of its own, minutes on a shared one."""
    source = str(Path(accord.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": source},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    data = json.loads(done.stdout.splitlines()[-1])
    assert data["quick"]
    assert set(data["arms"]["thumbs, raw"]) == {"gold_gain", "agrees", "accuracy"}
    assert 0 <= data["arms"]["rankings and weighted anchors"]["admitted"] <= 2


def test_its_users_like_what_they_hear_and_the_informed_what_is_true(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import thumbs

    sizes, rng = thumbs.Sizes(votes=900, users=20), random.Random(0)
    shown = make_prompts(150, 0, "train")
    replies = {prompt.id: thumbs.draw(prompt, 1, rng) for prompt in shown}
    agrees = {c.id: bool(thumbs.AGREES.search(c.text)) for group in replies.values() for c in group}

    def gap(kind: str) -> float:
        """How much oftener they approve of what agrees with them."""
        votes = thumbs.votes(kind, shown, replies, sizes, rng)
        assert sum(vote.labeler == "user-0" for vote in votes) > 150
        liked = {side: [v.up for v in votes if agrees[v.completion_id] is side] for side in (True, False)}
        return sum(liked[True]) / len(liked[True]) - sum(liked[False]) / len(liked[False])

    assert gap("sycophantic") > 0.3
    assert gap("informed") < 0.1
