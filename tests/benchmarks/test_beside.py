"""The benchmarks beside TRL run at a small size, without the peer too, and end with one JSON object."""

import pytest

from benchmarkrun import BENCHMARKS, last_line

PEER = BENCHMARKS.parent / ".venv-trl/bin/python"
PARTS = {
    "ppo_vs_trl.py": [""],
    "rloo_vs_trl.py": ["", "grpo_"],
    "reward_vs_trl.py": [""],
    "dpo_vs_trl.py": ["", "pair_"],
}
"""How the figures of a script's parts begin."""


@pytest.mark.slow
@pytest.mark.parametrize("script", PARTS)
def test_it_runs_without_the_peer(script):
    found = last_line(script, "--quick", "--threads=1", "--no-peer")
    assert found["quick"]
    assert "ratio_median" not in found
    for start in PARTS[script]:
        assert found[f"{start}accord"]["items_per_second"] > 0


@pytest.mark.slow
@pytest.mark.skipif(not PEER.exists(), reason="needs the peer's environment: run scripts/setup-trl-env")
@pytest.mark.parametrize("script", PARTS)
def test_its_ratios_are_those_of_both_sides(script):
    found = last_line(script, "--quick", "--threads=1")
    for start in PARTS[script]:
        ours, theirs = found[f"{start}accord"], found[f"{start}trl"]
        ratio = ours["items_per_second"] / theirs["items_per_second"]
        assert found[f"{start}ratio_median"] == pytest.approx(ratio)
        memory = ours["peak_rss_mb"] / theirs["peak_rss_mb"]
        assert found[f"{start}memory_ratio"] == pytest.approx(memory)
