from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from accord.errors import DataError
from accord.judgements import Ranking
from accord.stats.agreement import agreement, kendall_w, krippendorff_alpha, pair_accuracy, tau_b

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


def test_alpha_equals_the_published_examples_of_two_observers():
    """Krippendorff 2011, the binary and the nominal example."""
    binary = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]).T
    assert krippendorff_alpha(binary) == pytest.approx(0.095, abs=5e-4)
    letters = np.array([[ord(c) for c in line] for line in ("aabbdcccedda", "babbbccceddd")]).T
    assert krippendorff_alpha(letters) == pytest.approx(0.692, abs=5e-4)


def test_alpha_says_why_it_is_undefined():
    with pytest.raises(DataError, match="every value is the same"):
        krippendorff_alpha(np.ones((3, 2)))
    with pytest.raises(DataError, match="two labelers"):
        krippendorff_alpha(np.array([[1, NAN], [NAN, 2]]))


# Siegel 1956, "Nonparametric Statistics for the Behavioral Sciences", chapter 9: executives who rank
# applicants (W = .16), and three rankings of ten with ties (W = .828).
APPLICANTS = np.array([[1, 6, 3, 2, 5, 4], [1, 5, 6, 4, 2, 3], [6, 3, 2, 5, 4, 1]])
TIED = np.array(
    [
        [1, 4.5, 2, 4.5, 3, 7.5, 6, 9, 7.5, 10],
        [2.5, 1, 2.5, 4.5, 4.5, 8, 9, 6.5, 10, 6.5],
        [2, 1, 4.5, 4.5, 4.5, 4.5, 8, 8, 8, 10],
    ]
)


@pytest.mark.parametrize(("values", "published", "within"), [(APPLICANTS, 0.16, 5e-3), (TIED, 0.828, 5e-4)])
def test_w_equals_the_published_examples(values, published, within):
    assert kendall_w(values) == pytest.approx(published, abs=within)


_table = st.integers(2, 6).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 3), min_size=n, max_size=n), min_size=2, max_size=5)
)


@given(_table.filter(lambda t: any(len(set(row)) > 1 for row in t)))
def test_w_is_the_mean_correlation_and_friedmans_statistic(table):
    values = np.array(table)
    k, n = values.shape
    w = kendall_w(values)
    assert -1e-12 <= w <= 1 + 1e-12
    if n >= 3 and k >= 3 and not (values == values[:, :1]).all(axis=1).any():
        chi = stats.friedmanchisquare(*values.T).statistic
        assert w == pytest.approx(chi / (k * (n - 1)), abs=1e-9)
    if all(len(set(row)) == n for row in table):  # no ties: W is a function of the mean Spearman correlation
        rho = np.mean([stats.spearmanr(a, b).statistic for a, b in combinations(values, 2)])
        assert w == pytest.approx((1 + (k - 1) * rho) / k)


def test_w_of_chance_is_one_over_the_labelers():
    rng = np.random.default_rng(0)
    found = [kendall_w(rng.permuted(np.tile([1, 2, 2, 4], (3, 1)), axis=1)) for _ in range(4000)]
    assert np.mean(found) == pytest.approx(1 / 3, abs=4 * np.std(found) / np.sqrt(4000))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([[1, 2, 3]], "two labelers"),
        ([[1], [1]], "two items"),
        ([[1, 2], [1, NAN]], "1 of 2 labelers did not rank every item"),
        ([[1, 1, 1], [2, 2, 2]], "all items equal"),
    ],
)
def test_w_says_why_it_is_undefined(values, reason):
    with pytest.raises(DataError, match=reason):
        kendall_w(np.array(values))


_items = st.lists(st.integers(0, 4), min_size=2, max_size=6)


@given(_items, _items, st.randoms(use_true_random=False))
def test_tau_equals_scipys_and_does_not_know_names(one, two, random):
    n = min(len(one), len(two))
    names = [f"item {i}" for i in range(n)]
    renamed = random.sample([f"other {i}" for i in range(9)], n)
    tau = tau_b(dict(zip(names, one, strict=False)), dict(zip(names, two, strict=False)))
    place = list(range(n))
    random.shuffle(place)
    again = tau_b(
        {renamed[i]: one[i] for i in range(n)},
        {renamed[i]: two[i] for i in place},
    )
    assert tau == again
    expected = stats.kendalltau(one[:n], two[:n]).statistic
    assert (tau is None) == bool(np.isnan(expected))
    assert tau is None or tau == pytest.approx(expected)


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
    for figure in (got.exact, got.half, got.alpha_ordinal, got.alpha_nominal, got.kendall_w):
        assert figure.interval is None
        assert "two labelers" in figure.why


def test_no_common_pair_has_a_reason_and_no_number():
    """Two labelers on each prompt, and no completion in common."""
    rankings = [_rank("p", "x", "a", "b"), _rank("p", "y", "c", "d")]
    got = agreement(rankings, np.random.default_rng(0))
    assert "no pair" in got.exact.why
    assert "nothing was judged by two" in got.alpha_nominal.why
    assert "nothing was judged by two" in got.alpha_ordinal.why
    assert "1 of 1 prompts, where some labeler left out" in got.kendall_w.why


def test_no_variation_has_a_reason_and_no_number():
    rankings = [_rank(p, k, "ab") for p in "pq" for k in "xy"]
    got = agreement(rankings, np.random.default_rng(0))
    assert got.exact.interval.value == got.exact.chance == 1
    assert "every value is the same" in got.alpha_nominal.why
    assert "every value is the same" in got.alpha_ordinal.why
    assert "2 of 2 prompts, where no labeler tells any two" in got.kendall_w.why


def test_pooled_w_is_the_mean_over_the_complete_prompts():
    rankings = [_rank("p", k, *order) for k, order in zip("xyz", ("abc", "acb", "bac"), strict=True)]
    rankings += [_rank("q", "x", "a", "bc"), _rank("q", "y", "ab", fails="c")]
    rankings += [_rank("r", "x", "a", "b"), _rank("r", "y", "a", "b", "c")]
    rankings += [_rank("s", "x", "ab"), _rank("s", "y", "ab"), _rank("t", "x", "a", "b")]
    got = agreement(rankings, np.random.default_rng(0)).kendall_w
    p = kendall_w(np.array([[1, 2, 3], [1, 3, 2], [2, 1, 3]]))
    q = kendall_w(np.array([[1, 2.5, 2.5], [1.5, 1.5, 3]]))
    # By hand: p has rank sums 4, 6, 8: S = 8, W = 12 * 8 / (9 * 24). q has 2.5, 4, 5.5: S = 4.5, one group
    # of two equals each: W = 12 * 4.5 / (4 * 24 - 2 * 12).
    assert (p, q) == (pytest.approx(4 / 9), pytest.approx(0.75))
    assert got.interval.value == pytest.approx((p + q) / 2)
    assert got.interval.n == 2
    assert got.chance == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert "1 of 4 prompts, where some labeler left out" in got.left_out
    assert "1 of 4 prompts, where no labeler tells" in got.left_out
    assert got.interval.low == pytest.approx(p)
    assert got.interval.high == pytest.approx(q)


@st.composite
def _pools(draw):
    """Rankings of up to four prompts by up to four labelers: partial, with ties and FAILs."""
    rankings = []
    for prompt in range(draw(st.integers(1, 4))):
        size = draw(st.integers(2, 5))
        for labeler in range(draw(st.integers(1, 4))):
            levels = draw(st.lists(st.integers(-1, 3), min_size=size, max_size=size))  # -1: not placed
            named = list(zip("abcde", levels, strict=False))
            tiers = [[c for c, level in named if level == n] for n in range(3)]
            fails = [c for c, level in named if level == 3]
            rankings.append(_rank(f"p{prompt}", f"k{labeler}", *(t for t in tiers if t), fails=fails))
    return rankings


@settings(max_examples=150)
@given(_pools())
def test_the_pool_equals_the_figures_taken_one_by_one(rankings):
    """Alpha of the whole table, agreement vote by vote, W prompt by prompt: the slow way round."""
    got = agreement(rankings, np.random.default_rng(0), draws=100)
    by_prompt = {}
    for r in rankings:
        by_prompt.setdefault(r.prompt_id, []).append(r)
    same, half, judged, ranks, ws = 0, 0.0, 0, [], []
    for group in by_prompt.values():
        if len(group) < 2:
            continue
        placed = [_places(r) for r in group]
        items = sorted({c for p in placed for c in p})
        ranks += [[p[c][0] if c in p else NAN for p in placed] for c in items]
        if all(len(p) == len(items) for p in placed) and len(items) > 1:
            table = np.array([[p[c][0] for c in items] for p in placed])
            if (table != table[:, :1]).any():
                ws.append(kendall_w(table))
        for one, two in combinations(placed, 2):
            for a, b in combinations(sorted(one.keys() & two.keys()), 2):
                if (one[a][1] and one[b][1]) or (two[a][1] and two[b][1]):
                    continue
                signs = [np.sign(p[a][0] - p[b][0]) for p in (one, two)]
                judged += 1
                same += signs[0] == signs[1]
                half += 1 - abs(signs[0] - signs[1]) / 2
    if judged:
        assert got.exact.interval.value == pytest.approx(same / judged)
        assert got.half.interval.value == pytest.approx(half / judged)
    else:
        assert got.exact.interval is None
    assert (got.kendall_w.interval is None) == (not ws)
    if ws:
        assert got.kendall_w.interval.value == pytest.approx(np.mean(ws))
    width = max((len(row) for row in ranks), default=0)
    padded = np.array([row + [NAN] * (width - len(row)) for row in ranks]).reshape(len(ranks), width)
    if got.alpha_ordinal.interval is None:
        with pytest.raises(DataError, match=got.alpha_ordinal.why):
            krippendorff_alpha(padded, "ordinal")
    else:
        assert got.alpha_ordinal.interval.value == pytest.approx(krippendorff_alpha(padded, "ordinal"))


def _places(ranking):
    """Completion -> (mid-rank, whether FAIL), counted by comparing each with each."""
    level = {c: n for n, tier in enumerate((*ranking.tiers, ranking.fails)) for c in tier}
    return {
        c: (
            1 + sum(o < l for o in level.values()) + (sum(o == l for o in level.values()) - 1) / 2,
            c in ranking.fails,
        )
        for c, l in level.items()
    }


def test_pair_accuracy_by_hand():
    gold = {"p": {"a": 1.0, "b": 0.5, "c": 0.5}, "q": {"a": 0.0, "b": 1.0}}
    scores = {"p": {"a": 2.0, "b": 2.0, "c": 1.0}, "q": {"a": 0.0, "b": -1.0}}
    # p: a-b half, a-c right, b-c tied in gold and left out; q: wrong.
    got = pair_accuracy(scores, gold, np.random.default_rng(0))
    assert got.value == pytest.approx(1.5 / 3)
    assert got.n == 2
    with pytest.raises(DataError, match="same prompt and completion ids"):
        pair_accuracy({"r": {"a": 1.0}}, gold, np.random.default_rng(0))
