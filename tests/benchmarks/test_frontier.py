"""The benchmark of gold against KL: what it reads off a curve, and that it runs at a tiny size."""

import math

import pytest

from benchmarkrun import BENCHMARKS, last_line


@pytest.fixture
def frontier(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import frontier

    return frontier


def test_gold_is_read_off_the_smooth_curve_through_all_looks(frontier):
    def look(kl, off=0.0):
        return {"kl": kl, "gold": 0.4 + 0.3 * math.sqrt(kl) - 0.1 * kl + off}

    assert frontier.gold_at([look(0), look(1), look(3)], 2.0) == pytest.approx(look(2)["gold"])
    # Looks that are off by as much on either side do not move it.
    noisy = [look(0), *(look(kl, off) for kl in (0.5, 1, 2, 3) for off in (0.05, -0.05))]
    assert frontier.gold_at(noisy, 2.0) == pytest.approx(look(2)["gold"])
    assert math.isnan(frontier.gold_at(noisy, 3.5))  # it never got as far


def test_a_peer_is_compared_on_the_seeds_in_which_both_got_there(frontier):
    def seed(end, gold):
        return [{"kl": 0.0, "gold": 0.4, "reward": 0.0}, {"kl": end, "gold": gold, "reward": 1.0}]

    curves = {
        "ppo": [seed(1.0, 0.6), seed(1.0, 0.8), seed(0.2, 0.5)],
        "trl ppo": [seed(1.0, 0.5), seed(1.0, 0.6), seed(1.0, 0.9)],
    }
    row = frontier.report(curves, [1.0])["runs"]["ppo"]
    assert row["reached_1"] == 2
    assert row["gold_at_1"]["value"] == pytest.approx(0.7)
    assert row["less_trl_ppo_at_1"]["value"] == pytest.approx(0.15)


@pytest.mark.slow
def test_it_runs(tmp_path):
    names = "ppo,rloo,trpo,dpo,rft"
    kept = ("--folder", tmp_path, "--plot", tmp_path / "plot.svg")
    found = last_line("frontier.py", "--quick", "--seeds", "2", "--only", names, *kept)
    assert set(found["runs"]) == set(names.split(","))
    assert (tmp_path / "plot.svg").stat().st_size > 1000
