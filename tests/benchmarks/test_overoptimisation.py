"""The over-optimisation study: its figures from planted curves, and both its scripts run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarkrun import BENCHMARKS, last_line


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import overoptimisation

    return overoptimisation


def seed_row(study, bend: float, shift: float) -> dict:
    """One seed: gold of best of n is 0.4 + d (1 - bend d), the ensemble half as bent; PPO bends by log d."""
    d = np.sqrt(study.kl_best_of_n(study.sizes_of(study.Study())))
    curves = {
        kind: {
            "gold": (0.4 + d * (1 + shift - b * d)).tolist(),
            "proxy": d.tolist(),
        }
        for kind, b in {"single": bend, "mean": bend / 2, "variance": bend / 2, "worst": bend / 2}.items()
    }
    steps = np.linspace(0.1, 4, 20)
    runs = {
        kind: [
            {"kl": s**2, "proxy": s, "gold": 0.4 + s * (1 + shift - b * np.log(s)), "length": 20.0}
            for s in steps
        ]
        for kind, b in {"single": 2 * bend, "variance": bend}.items()
    }
    return {"start_gold": 0.4, "best_of_n": curves, "ppo": runs}


def test_planted_laws_and_gains_are_found(study) -> None:
    rows = [seed_row(study, 0.4, shift) for shift in (-0.02, 0.0, 0.02)]
    best = study.curve_figures(study.Study(seeds=3), rows)
    assert best["start_gold"] == pytest.approx(0.4)
    assert best["n"][-1] == 512
    assert best["laws"]["single"]["alpha"]["value"] == pytest.approx(1.0)
    assert best["laws"]["single"]["beta"]["value"] == pytest.approx(0.4)
    assert best["laws"]["single"]["peak"]["kl"] == pytest.approx((1 / 0.8) ** 2)
    assert best["laws"]["variance"]["peak"]["kl"] == pytest.approx((1 / 0.4) ** 2)
    d2 = best["kl"][-1]
    gain = best["gain_at_most"]["variance"]
    assert gain["value"] == pytest.approx(0.2 * d2)
    assert gain["low"] == pytest.approx(gain["high"])  # paired by seed, the shift drops out
    ppo = study.run_figures(rows)
    assert ppo["single"]["law"]["beta"]["value"] == pytest.approx(0.8)
    assert ppo["variance"]["law"]["peak"]["kl"] == pytest.approx(np.exp(2 * (1 / 0.4 - 1)))
    assert ppo["gain_of_last_fifth"]["value"] > 0
    assert ppo["seeds"] == 3


def test_the_figures_are_json_and_the_plot_an_svg_whatever_is_undefined(study) -> None:
    rows = [seed_row(study, -0.1, 0.0)] * 2  # gold never turns
    rows[1] = {**rows[1], "ppo": None}  # a seed whose PPO was not run
    figures = {
        "best_of_n": study.curve_figures(study.Study(seeds=2), rows),
        "ppo": study.run_figures(rows * 2),
    }
    assert figures["ppo"]["seeds"] == 2
    json.dumps(figures, allow_nan=False)
    words = " ".join(study.told(figures))
    assert "never turns" in words
    assert study.draw(figures).startswith("<?xml")
    assert study.draw(figures) == study.draw(figures)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["overoptimisation.py", "reward_doubt.py"])
def test_the_script_runs_and_goes_on_from_what_it_kept(script: str, tmp_path: Path) -> None:
    found, again = (last_line(script, "--quick", "--folder", tmp_path) for _ in range(2))
    assert found == again
    assert found["quick"] is True


def test_doubt_does_not_know_which_side_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs are given the better side first, so a doubt that changed with the sides would leak the answer."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from reward_doubt import member_doubts

    d_EP = np.random.default_rng(0).normal(size=(3, 200))
    one, other = member_doubts(d_EP, [1.0, 2.0, 0.5]), member_doubts(-d_EP, [1.0, 2.0, 0.5])
    for name, doubt_P in one.items():
        compare = np.testing.assert_array_equal if "votes" in name else np.testing.assert_allclose
        compare(doubt_P, other[name])
    votes = member_doubts(np.array([[2.0, 1.0], [1.0, -1.0], [3.0, -4.0]]), [1.0] * 3)["votes against"]
    assert votes.tolist() == [0.0, 1.0]
