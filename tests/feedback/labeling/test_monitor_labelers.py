import numpy as np
import pytest

from accord.feedback.consensus import AgreeConfig, agree
from accord.feedback.labeling.monitor_labelers import labeler_table
from accord.judgements import Ranking
from accord.stats.intervals import Interval, wilson
from accord.stats.labelers import LabelerRow, Standing, standing
from accord.types import Completion, Prompt
from pool import simulate

CONFIG = AgreeConfig(bootstrap=100)


def row(reliability, overlap=100):
    """A labeler's row of which only reliability and overlap matter."""
    return LabelerRow(
        **dict.fromkeys(LabelerRow.__slots__, 0)
        | {"labeler": "ann", "reliability": reliability, "overlap": overlap}
    )


@pytest.mark.parametrize(
    ("high", "overlap", "expected"),
    [
        (0.9, 100, Standing.COIN),  # upper bound below a quarter of what is typical, 4
        (1.1, 100, Standing.FINE),  # poor value, but the upper bound is not
        (-0.1, 100, Standing.INVERTED),
        (-0.1, 29, Standing.FEW),
        (-0.1, 30, Standing.INVERTED),
    ],
)
def test_poor_is_who_is_poor_at_the_upper_bound_on_thirty_pairs(high, overlap, expected):
    found = standing(row(Interval(high - 1, high - 2, high, 50), overlap), 4.0, 30)
    assert found == expected
    assert found.poor == (expected in (Standing.COIN, Standing.INVERTED))


def test_nobody_is_poor_where_nothing_was_learned():
    assert standing(row(None), 4.0, 30) == Standing.UNLEARNED
    assert standing(row(Interval(-3, -4, -2, 9)), None, 30) == Standing.UNLEARNED


def table(prompts, completions, rankings, gold=None):
    consensus = agree(prompts, completions, rankings, CONFIG)
    lines = labeler_table(consensus, rankings, prompts, completions, gold or {}, CONFIG)
    return {line.labeler: line for line in lines}, [line.labeler for line in lines]


def test_planted_labelers_are_found_and_stand_first_and_nobody_else_is_accused():
    """Simulated: six reliable labelers, one coin, one who ranks upside down."""
    pool = simulate(np.random.default_rng(11), [4.0] * 6 + [0.0, -4.0], 200, 3, 4)
    lines, order = table(pool.prompts, pool.completions, pool.rankings)
    assert order[:2] == ["w7", "w6"]
    assert lines["w7"].standing == Standing.INVERTED
    assert lines["w6"].standing == Standing.COIN
    assert all(lines[f"w{k}"].standing == Standing.FINE for k in range(6))
    assert lines["w7"].row.tau.interval.high < 0
    assert lines["w6"].row.tau.interval.low < 0.1
    assert lines["w0"].row.tau.interval.low > 0.2
    assert len(pool.rankings) == 800, "no vote is taken away"


def ranking(labeler, tiers, prompt="p", fails="", arm=""):
    shown = tuple(sorted("".join(tiers.split()) + fails))
    return Ranking(prompt, labeler, tuple(map(tuple, tiers.split())), tuple(fails), shown, arm=arm)


TEXTS = {p: [Completion(c, id=c) for c in "abc"] for p in ("p", "q", "g", "h")}
PROMPTS = {p: Prompt.from_text(p, id=p) for p in TEXTS}
BASE = [ranking(name, "a b c", prompt) for name in ("ann", "ben") for prompt in ("p", "q")]


def test_gold_and_repeats_by_hand():
    """Gold of g is a, b, FAIL c: of its three pairs ann has a over b and a over c, and ties b with c. Of h
    she has the only pair the wrong way. Asked again, she judges p alike in 3 of 3 pairs and q in 2 of 3."""
    gold = {
        "g": {"prompt_id": "g", "tiers": [["a"], ["b"]], "fails": ["c"]},
        "h": {"prompt_id": "h", "tiers": [["a"], ["b"]], "fails": []},
    }
    asked = [ranking("ann", "a bc", "g", arm="gold"), ranking("ann", "b a", "h", arm="quiz")]
    again = [ranking("ann", "a b c", "p", arm="repeat"), ranking("ann", "b a c", "q", arm="repeat")]
    lines, _ = table(PROMPTS, TEXTS, [*BASE, *asked, *again], gold)
    assert lines["ann"].gold == wilson(2 / 3, 2)
    assert lines["ann"].repeats == wilson(1 + 2 / 3, 2)
    assert lines["ben"].gold is None
    assert lines["ben"].repeats is None


def test_a_ranking_of_a_gold_prompt_from_before_it_was_gold_is_no_test():
    gold = {"p": {"prompt_id": "p", "tiers": [["a"], ["b"], ["c"]], "fails": []}}
    lines, _ = table(PROMPTS, TEXTS, BASE, gold)
    assert lines["ann"].gold is None


def test_adjudications_say_nothing_of_habits():
    lines, _ = table(PROMPTS, TEXTS, [*BASE, ranking("rev", "c b a", "p", arm="adjudicated")])
    assert lines["rev"].habits is None
    assert lines["ann"].habits.rankings == 2
