"""The benchmark of tic-tac-toe: its sums over seeds, its settings, and the script runs and keeps its runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarkrun import BENCHMARKS, last_line


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import tictactoe

    return tictactoe


def test_seeds_are_summed_by_their_worst_play_and_one_that_missed_is_not_hidden(benchmark) -> None:
    runs = [
        {"losses_vs_perfect": 0.0, "wins_vs_random": won, "episodes": needed}
        for won, needed in ((0.95, 5120), (0.91, 2560), (0.99, 7680))
    ]
    assert benchmark.summed(runs) == {
        "losses_vs_perfect": 0.0, "wins_vs_random": 0.91, "episodes": 5120, "seeds": 3, "by_seed": runs,
    }  # fmt: skip
    runs[1] |= {"losses_vs_perfect": 0.25, "episodes": None}
    missed = benchmark.summed(runs)
    assert (missed["losses_vs_perfect"], missed["episodes"]) == (0.25, None)


def test_every_algorithm_has_settings_that_hold(benchmark) -> None:
    named = benchmark.AlignConfig.model_fields["algorithm"].annotation.__args__
    assert set(benchmark.SETTINGS) == set(named)
    for name in benchmark.SETTINGS:
        config = benchmark.settings_of(name, benchmark.Size(), 0)
        assert config.prompts_per_step * config.samples == benchmark.EPISODES
    assert benchmark.settings_of(benchmark.Q, benchmark.Size(), 0).prompts_per_step == benchmark.EPISODES
    assert benchmark.told(benchmark.settings_of(benchmark.Q, benchmark.QUICK, 7))["steps"] == 4


def test_the_goal_has_to_be_held(benchmark, monkeypatch) -> None:
    """Reached, lost, reached for good: the episodes are those before it was reached for good."""
    looks = iter([False, True, False, True, True, True, True])
    seen = lambda policy: {"losses_vs_perfect": 0.0, "wins_vs_random": 1.0, "solved": next(looks)}  # noqa: E731
    monkeypatch.setattr(benchmark, "looked", seen)
    monkeypatch.setattr(benchmark, "sampled", lambda *_: 0.0)
    monkeypatch.setattr(benchmark, "online_steps", lambda policy, config: iter(range(256, 256 * 100, 256)))
    monkeypatch.setattr(benchmark.LanguageModel, "load", lambda start: None)
    found = benchmark.run("ppo", Path(), benchmark.Size(), 0)
    assert found["episodes"] == 256 * 20  # the fourth look, each after five steps
    assert found["played"] == 256 * 30
    looks = iter([True] * 2 + [False] * 100)
    assert benchmark.run("ppo", Path(), benchmark.Size(), 0)["episodes"] is None


@pytest.mark.slow
def test_the_script_runs_and_takes_up_what_it_has_kept(tmp_path: Path) -> None:
    flags = ("--folder", tmp_path, "--quick", "--only", "rloo", "q-learning")
    found = last_line("tictactoe.py", *flags)["algorithms"]
    assert list(found) == ["rloo", "q-learning"]
    for figures in found.values():
        assert figures["seeds"] == 1
        assert 0 <= figures["losses_vs_perfect"] <= 1
        assert figures["settings"]["max_new_tokens"] == 2
    kept = next(tmp_path.glob("*/rloo-0-*.json"))
    row = json.loads(kept.read_text()) | {"wins_vs_random": 0.125}
    kept.write_text(json.dumps(row))
    assert last_line("tictactoe.py", *flags)["algorithms"]["rloo"]["wins_vs_random"] == 0.125
