from dataclasses import replace

import numpy as np
import pytest

from accord.stats.fitting import fit
from accord.stats.labelers import Standing, labeler_rows, standing
from accord.stats.rankings import ranking_table
from pool import simulate


@pytest.fixture(scope="module")
def pool():
    return simulate(
        np.random.default_rng(3), [3.0, 2.0, 1.5, 0.0, -2.0], 250, 3, 3, position=[0, 0, 1.0, 0, 0]
    )


@pytest.fixture(scope="module")
def rows(pool):
    return _rows(pool.rankings, pool)


def _rows(rankings, pool, learned=True):
    lengths = {p: dict.fromkeys(group, 5) for p, group in pool.gold.items()}
    fitted = fit(ranking_table(rankings))
    return {r.labeler: r for r in labeler_rows(fitted, rankings, lengths, learned, np.random.default_rng(0))}


def test_position_bias_is_reported_with_its_interval(rows):
    assert rows["w2"].position.low > 0
    assert rows["w2"].position.low < 1.0 < rows["w2"].position.high
    assert rows["w0"].position.low < 0 < rows["w0"].position.high
    # the bare share says less: it does not know how good the completion was that stood first
    assert abs(rows["w2"].first_share - rows["w2"].first_chance) < 0.05


def test_no_order_on_the_screen_gives_no_position_bias(pool):
    rankings = [replace(r, shown=()) if r.labeler == "w1" else r for r in pool.rankings]
    rows = _rows(rankings, pool)
    assert rows["w1"].position is None
    assert rows["w2"].position.low > 0


def test_nothing_is_said_of_what_was_assumed(pool):
    row = _rows(pool.rankings[:60], pool, learned=False)["w0"]
    assert row.reliability is None
    assert row.position is None


def test_agreement_leaves_the_labeler_out(rows):
    """By hand: a labeler of no skill agrees with the others as often as not, whatever their own votes say."""
    assert rows["w3"].agreement.low < 0.5 < rows["w3"].agreement.high
    assert rows["w4"].agreement.high < 0.4
    assert rows["w0"].agreement.low > 0.6


def test_standing_needs_a_poor_upper_bound_and_enough_pairs(rows):
    found = {name: standing(row, 2.0, 30) for name, row in rows.items()}
    assert found == {"w0": Standing.FINE, "w1": Standing.FINE, "w2": Standing.FINE,
                     "w3": Standing.COIN, "w4": Standing.INVERTED}  # fmt: skip
    assert standing(replace(rows["w4"], overlap=29), 2.0, 30) is Standing.FEW
    wide = replace(rows["w3"].reliability, high=0.51)
    assert standing(replace(rows["w3"], reliability=wide), 2.0, 30) is Standing.FINE
    assert standing(rows["w3"], None, 30) is Standing.UNLEARNED
    assert [s for s in Standing if s.poor] == [Standing.COIN, Standing.INVERTED]
