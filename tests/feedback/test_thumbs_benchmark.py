"""The benchmark of the sycophancy trap runs from end to end, and its users are what it says of them."""

from __future__ import annotations

import random

import pytest

from accord.recipes.helpdesk.world import make_prompts
from benchmarkrun import BENCHMARKS, last_line


@pytest.mark.slow
def test_it_runs_and_ends_with_its_figures():
    """Twelve small trainings: seconds on a machine of its own, minutes on a shared one."""
    data = last_line("thumbs.py", "--quick")
    assert data["quick"]
    assert set(data["arms"]["thumbs, raw"]) == {"gold_gain", "agrees", "accuracy"}
    assert 0 <= data["arms"]["rankings and weighted anchors"]["admitted"] <= 2


def test_its_users_like_what_they_hear_and_the_informed_what_is_true(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
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
