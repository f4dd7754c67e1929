"""Win rates: AlpacaEval's published figures from its own rows, and a planted liking for length taken out."""

from collections import defaultdict

import numpy as np
import pytest
from scipy import special, stats

from accord.errors import DataError
from accord.evaluate.winrate import alpaca_shares, length_controlled, plain
from realdata import real_data


def test_plain_by_hand():
    got = plain([1, 1, 0, 0.5])
    assert got.value == 0.625
    assert (got.wins, got.losses, got.ties, got.n) == (2, 1, 1, 4)
    assert got.standard_error == pytest.approx(np.sqrt(0.6875 / 3) / 2)  # squares .14 .14 .39 .016: .6875


def test_alpaca_preferences_become_shares():
    assert alpaca_shares([2, 1, 0, 1.5, None, float("nan"), 1.25]).tolist() == [1, 0, 0.5, 0.5, 0.25]
    with pytest.raises(DataError, match="3"):
        alpaca_shares([3.0])


def test_the_published_win_rates_and_standard_errors_come_out():
    rows = defaultdict(list)
    for row in real_data("alpaca-eval/gpt4_judge_preferences"):
        rows[row["model"]].append(row)
    board = [r for r in real_data("alpaca-eval/leaderboard") if r.get("published_win_rate") is not None]
    assert len(board) == 52
    ours, theirs = [], []
    for row in board:
        got = plain(alpaca_shares([r["preference"] for r in rows[row["model"]]]))
        assert 100 * got.value == pytest.approx(row["published_win_rate"], abs=1e-9)
        assert 100 * got.standard_error == pytest.approx(row["published_standard_error"], abs=1e-9)
        assert got.n == int(float(row["published_n_total"]))
        if row.get("published_length_controlled_winrate"):
            told = [r for r in rows[row["model"]] if r["preference"] is not None]
            lengths = ([r[key] for r in told] for key in ("len_model", "len_baseline"))
            found = length_controlled(alpaca_shares([r["preference"] for r in told]), *lengths)
            ours.append(100 * found.rate.value)
            theirs.append(float(row["published_length_controlled_winrate"]))
    # another model of length than theirs: it ranks the models alike, and is not the same number
    assert len(ours) > 40
    assert stats.spearmanr(ours, theirs).statistic > 0.95


def judged(skill: float, liking: float, n: int, seed: int):
    """Preferences of a judge who likes length, of a model that writes longer by some 100 words."""
    rng = np.random.default_rng(seed)
    base, own = rng.gamma(4, 50, n), rng.gamma(4, 75, n)
    gap = own - base
    won = rng.random(n) < special.expit(skill + liking * np.tanh(gap / gap.std()))
    return won.astype(float), own, base


def test_a_liking_for_length_is_taken_out():
    worlds = [judged(skill=0.0, liking=2.0, n=1000, seed=seed) for seed in range(12)]
    assert all(plain(shares).value > 0.6 for shares, _, _ in worlds)
    found = [length_controlled(*world) for world in worlds]
    assert np.mean([f.rate.value for f in found]) == pytest.approx(0.5, abs=0.02)  # 3.4 standard errors
    assert np.mean([f.slope for f in found]) == pytest.approx(2.0, abs=0.15)
    assert all(f.slope_low > 1 for f in found)


def test_the_controlled_rates_interval_covers():
    truth = special.expit(0.5)
    hits = 0
    for seed in range(200):
        found = length_controlled(*judged(0.5, 1.0, 150, seed))
        hits += found.rate.low <= truth <= found.rate.high
    assert 0.90 <= hits / 200 <= 0.99


def test_repeats_of_a_prompt_widen_the_interval():
    shares, own, base = judged(0.3, 1.0, 100, 1)
    once = length_controlled(shares, own, base)
    again = [np.repeat(x, 4) for x in (shares, own, base)]
    clustered = length_controlled(*again, clusters=np.repeat(np.arange(100), 4).tolist())
    naive = length_controlled(*again)
    width = [f.rate.high - f.rate.low for f in (once, clustered, naive)]
    assert width[1] == pytest.approx(width[0], rel=0.05)
    assert width[2] < 0.6 * width[1]


def test_equal_lengths_leave_the_plain_rate():
    found = length_controlled([1, 1, 0, 1] * 25, [9.0] * 100, [9.0] * 100)
    assert found.rate.value == pytest.approx(0.75, abs=0.01)
    assert found.slope == pytest.approx(0.0, abs=1e-9)


def test_what_cannot_be_is_refused():
    with pytest.raises(DataError):
        plain([2.0])
    with pytest.raises(DataError):
        length_controlled([1.0, 0.0], [1.0], [1.0])
