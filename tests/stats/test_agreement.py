from itertools import permutations

import numpy as np
import pytest

from accord.errors import DataError
from accord.stats.agreement import agreement, krippendorff_alpha, pair_accuracy, tau_b
from accord.types import Ranking

NAN = float("nan")
# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability": four observers, missing data.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_alpha_equals_the_published_example(level, published):
    assert krippendorff_alpha(PUBLISHED, level) == pytest.approx(published, abs=5e-4)


def test_alpha_says_why_it_is_undefined():
    with pytest.raises(DataError, match="every value is the same"):
        krippendorff_alpha(np.ones((3, 2)))
    with pytest.raises(DataError, match="two labelers"):
        krippendorff_alpha(np.array([[1, NAN], [NAN, 2]]))


def test_tau_is_invariant_to_relabelling_for_all_pairs_of_orders():
    """Comparing the ids at each position instead gives a wrong value for 296 of these 576 pairs."""
    items = "abcd"
    for one in permutations(items):
        for two in permutations(items):
            place = [{c: n for n, c in enumerate(order)} for order in (one, two)]
            concordant = sum(
                1 if (place[0][a] - place[0][b]) * (place[1][a] - place[1][b]) > 0 else -1
                for n, a in enumerate(items)
                for b in items[n + 1 :]
            )
            assert tau_b(*place) == pytest.approx(concordant / 6)


def test_tau_handles_ties_subsets_and_the_undefined():
    assert tau_b({"a": 1, "b": 2.5, "c": 2.5}, {"a": 1, "b": 2, "c": 3}) == pytest.approx(2 / np.sqrt(6))
    assert tau_b({"a": 1, "b": 2, "x": 9}, {"b": 2, "a": 1, "y": 0}) == 1
    assert tau_b({"a": 1, "b": 1}, {"a": 1, "b": 2}) is None
    assert tau_b({"a": 1}, {"a": 1}) is None


def _rank(prompt, labeler, *tiers, fails=()):
    return Ranking(prompt, labeler, tuple(tuple(t) for t in tiers), tuple(fails))


def test_pairwise_agreement_by_hand():
    rankings = [
        _rank("p", "x", "a", "b"),
        _rank("p", "y", "a", "b"),
        _rank("p", "z", "ab"),
        _rank("q", "x", "a", "b"),
        _rank("q", "y", "b", "a"),
    ]
    got = agreement(rankings, np.random.default_rng(0))
    # p: xy same, xz and yz one tie each; q: xy opposed. Ties: 1 of 5 votes.
    assert got.exact.interval.value == pytest.approx(1 / 4)
    assert got.half.interval.value == pytest.approx((1 + 0.5 + 0.5 + 0) / 4)
    assert got.exact.chance == pytest.approx(0.2**2 + 0.8**2 / 2)
    assert got.half.chance == pytest.approx(0.2**2 + 0.8**2 / 2 + 0.2 * 0.8)


def test_chance_agrees_by_chance():
    rng = np.random.default_rng(0)
    rankings = [
        _rank(f"p{n}", k, *(("a", "b") if rng.random() < 0.5 else ("b", "a")))
        for n in range(400)
        for k in "xyz"
    ]
    got = agreement(rankings, rng)
    # Four standard errors: 400 prompts, each 1 with probability 1/4, else 1/3.
    assert got.exact.interval.value == pytest.approx(0.5, abs=0.058)
    for figure in (got.alpha_nominal, got.alpha_ordinal):
        assert figure.interval.value == pytest.approx(0, abs=0.116)


def test_everyone_agrees():
    rankings = [_rank(f"p{n}", k, "a", "b", "c") for n in range(5) for k in "xy"]
    got = agreement(rankings, np.random.default_rng(0))
    assert (
        got.exact.interval.value == got.alpha_ordinal.interval.value == got.alpha_nominal.interval.value == 1
    )


def test_two_fails_are_no_judgement_of_order():
    rankings = [_rank("p", "x", "a", fails="bc"), _rank("p", "y", "a", fails="bc")]
    got = agreement(rankings, np.random.default_rng(0))
    assert got.exact.interval.value == 1
    assert got.alpha_ordinal.interval.value == 1


def test_names_of_completions_change_nothing():
    rng = np.random.default_rng(4)
    rankings = [
        _rank(f"p{n}", k, *(("a", "b") if rng.random() < 0.8 else ("b", "a")))
        for n in range(60)
        for k in "xyz"
    ]
    swap = {"a": "b", "b": "a"}
    swapped = [
        _rank(r.prompt_id, r.labeler, *(tuple(swap[c] for c in t) for t in r.tiers))
        if int(r.prompt_id[1:]) % 2
        else r
        for r in rankings
    ]
    one, two = (agreement(r, np.random.default_rng(0)) for r in (rankings, swapped))
    assert one.alpha_nominal.interval.value == pytest.approx(two.alpha_nominal.interval.value)
    assert one.exact == two.exact


def test_no_overlap_has_a_reason_and_no_number():
    got = agreement([_rank("p", "x", "a", "b"), _rank("q", "y", "a", "b")], np.random.default_rng(0))
    for figure in (got.exact, got.half, got.alpha_ordinal, got.alpha_nominal):
        assert figure.interval is None
        assert "two labelers" in figure.why


def test_pair_accuracy_by_hand():
    gold = {"p": {"a": 1.0, "b": 0.5, "c": 0.5}, "q": {"a": 0.0, "b": 1.0}}
    scores = {"p": {"a": 2.0, "b": 2.0, "c": 1.0}, "q": {"a": 0.0, "b": -1.0}}
    # p: a-b half, a-c right, b-c tied in gold and left out; q: wrong.
    got = pair_accuracy(scores, gold, np.random.default_rng(0))
    assert got.value == pytest.approx(1.5 / 3)
    assert got.n == 2
    with pytest.raises(DataError, match="same prompt and completion ids"):
        pair_accuracy({"r": {"a": 1.0}}, gold, np.random.default_rng(0))
