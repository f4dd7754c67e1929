import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from accord.judgements import Ranking
from accord.stats.biases import difference, habits, mean_share, median_interval
from accord.stats.intervals import Interval, wilson
from accord.types import Completion, Prompt

LETTERS = "abcd"
PROMPTS = {"p": Prompt.from_text("two words", id="p")}
COMPLETIONS = {"p": [Completion(" ".join("x" * (n + 1)), id=c) for n, c in enumerate(LETTERS)]}


def ranking(labeler, tiers, fails="", shown="abcd", seconds=None, prompt="p"):
    return Ranking(
        prompt, labeler, tuple(map(tuple, tiers.split())), tuple(fails), tuple(shown), seconds=seconds
    )


def one(*rankings):
    """The habits of the first ranking's labeler."""
    return habits(PROMPTS, COMPLETIONS, rankings)[rankings[0].labeler]


def test_every_habit_of_two_rankings_by_hand():
    """a has 1 word, b 2, c 3, d 4; the prompt 2; in characters 1, 3, 5, 7."""
    mine = [
        ranking("ann", "a bc", "d", "abcd", seconds=24.0),
        ranking("ann", "bd", "", "bd", seconds=4.0),
    ]
    others = [ranking("ben", "d c b a", "", "dcba")]
    found = one(*mine, *others)
    # shown first and best: all of a; half of b, which shares the top with d
    assert found.first.share.value == pytest.approx((1 + 1 / 2) / 2)
    assert found.first.usual == pytest.approx((1 / 4 + 1 / 2) / 2)
    # in order: a over b, c, d; b and c over d: the longer never wins; the second ranking orders nothing
    assert (found.longer.share.value, found.longer.share.n) == (0.0, 1)
    assert found.longer.usual == 1.0
    # judged pairs: 6 with one tie (b, c); 1 with one tie
    assert found.ties.share.value == pytest.approx((1 / 6 + 1) / 2)
    assert found.ties.usual == 0.0
    assert found.fails.share.value == pytest.approx((1 / 4 + 0) / 2)
    assert found.rankings == 2
    # too few for intervals of a median
    assert found.task_seconds is None


def test_pace_counts_the_words_that_were_shown():
    found = one(*[ranking("ann", "a b", "", "ab", seconds=5.0 * n) for n in range(1, 8)])
    assert found.task_seconds == Interval(20.0, 5.0, 35.0, 7)
    assert found.word_seconds == Interval(4.0, 1.0, 7.0, 7)  # 2 words of the prompt, 1 of a, 2 of b


def test_what_nothing_bears_on_is_none():
    found = one(Ranking("p", "ann", (), ("a", "b"), ("a", "b")))
    assert found.first is None
    assert one(Ranking("p", "ann", (("a",), ("b",)))).first is None  # the order on the screen is not known
    assert found.longer is None
    assert found.ties is None
    assert found.fails.share.value == 1.0
    assert found.fails.usual is None
    assert found.task_seconds is None
    assert not found.hurried
    assert found.marks() == []


def test_mean_share_is_wilsons_interval_for_zeros_and_ones():
    assert mean_share([1, 0, 1, np.nan, 1]) == wilson(3, 4)
    assert mean_share([np.nan]) is None
    assert mean_share([1 / 3] * 3).value == pytest.approx(1 / 3)
    assert mean_share([1.0] * 3 + [1 / 3 + 2 / 3]).value == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_mean_share_holds_the_mean(shares):
    found = mean_share(shares)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value <= found.high + 1e-12 <= 1 + 1e-9
    assert found.value == pytest.approx(np.mean(shares))


def test_difference_equals_newcombes_published_example():
    """Newcombe 1998, table II, method 10: 56/70 less 48/80 gives 0.0524 to 0.3339; 9/10 less 3/10,
    0.1705 to 0.8090."""
    for a, m, b, n, low, high in ((56, 70, 48, 80, 0.0524, 0.3339), (9, 10, 3, 10, 0.1705, 0.8090)):
        found = difference(wilson(a, m), wilson(b, n))
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_median_interval_is_that_of_order_statistics():
    """Of ten values the second and the ninth hold the median with 97.9 % (Binomial(10, 1/2) < 2 has 11/1024);
    of five not even the extremes do with 95 %."""
    assert median_interval([7, 1, 2, 10, 3, 4, 9, 6, 8, 5]) == Interval(5.5, 2.0, 9.0, 10)
    assert median_interval([1, 2, 3, 4, 5, 6]) == Interval(3.5, 1.0, 6.0, 6)
    assert median_interval([1, 2, 3, 4, 5]) is None
    assert median_interval([]) is None


def test_median_interval_covers():
    rng = np.random.default_rng(0)
    found = [median_interval(rng.lognormal(size=25)) for _ in range(1000)]
    covered = sum(i.low <= 1.0 <= i.high for i in found)
    assert stats.binomtest(covered, 1000, 0.957).pvalue > 0.001  # the exact level for 25 values


# -- planted habits --------------------------------------------------------------------------------

SIZE = 4


def pool(rng, labelers, per_labeler=80, **planted):
    """Simulated labelers who rank by quality with noise; ``planted`` maps a name to a habit and its strength.

    position adds to the score of what is shown first, length to that of the longest, ties is the share
    of neighbours tied, fails the share of completions failed, seconds the time a word.
    """
    prompts, completions, rankings = {}, {}, []
    for n in range(per_labeler):
        prompt = f"p{n}"
        prompts[prompt] = Prompt.from_text("word " * 10, id=prompt)
        quality = rng.normal(size=SIZE)
        lengths = rng.integers(20, 200, size=SIZE)
        completions[prompt] = [Completion("word " * int(k), id=f"c{i}") for i, k in enumerate(lengths)]
        for name in labelers:
            habit, strength = planted.get(name, ("", 0.0))
            shown = rng.permutation(SIZE)
            score = quality + rng.gumbel(size=SIZE)
            score[shown[0]] += strength * (habit == "position")
            score[np.argmax(lengths)] += strength * (habit == "length")
            score[np.argmin(lengths)] -= strength * (habit == "length")
            failed = rng.random(SIZE) < (strength if habit == "fails" else 0.1)
            tiers: list[list[str]] = []
            for i in (i for i in np.argsort(-score) if not failed[i]):
                if tiers and rng.random() < (strength if habit == "ties" else 0.1):
                    tiers[-1].append(f"c{i}")
                else:
                    tiers.append([f"c{i}"])
            pace = strength if habit == "seconds" else 0.3
            seconds = float((10 + lengths.sum()) * pace * rng.lognormal(0, 0.4))
            rankings.append(
                Ranking(
                    prompt,
                    name,
                    tuple(map(tuple, tiers)),
                    tuple(f"c{i}" for i in np.flatnonzero(failed)),
                    tuple(f"c{i}" for i in shown),
                    seconds=seconds,
                )
            )
    return prompts, completions, rankings


NAMES = [f"w{n}" for n in range(6)]


@pytest.mark.parametrize(
    ("habit", "strength", "words"),
    [
        ("position", 2.0, "prefers what is shown first"),
        ("position", -3.0, "avoids what is shown first"),
        ("length", 2.0, "prefers longer answers"),
        ("length", -2.0, "prefers shorter answers"),
        ("ties", 0.5, "calls many ties"),
        ("fails", 0.4, "marks many as FAIL"),
        ("seconds", 0.03, "too fast to have read the texts"),
    ],
)
def test_a_planted_habit_is_marked_and_no_other(habit, strength, words):
    rng = np.random.default_rng(1)
    found = habits(*pool(rng, NAMES, 150, w0=(habit, strength)))
    assert found["w0"].marks() == [words]
    assert {name for name in NAMES if found[name].marks()} == {"w0"}


def test_unbiased_labelers_are_not_marked_and_their_intervals_cover():
    """400 labelers without habits: at most some 5 % of pools may hold a mark, and the 95 % intervals hold
    what was planted (a fair start, pool's own share of FAIL) at least 93 % of the time."""
    rng = np.random.default_rng(2)
    marked, first, fails = 0, [], []
    for _ in range(80):
        found = habits(*pool(rng, NAMES[:5], 40))
        marked += any(h.marks() for h in found.values())
        first += [h.first.difference.low <= 0 <= h.first.difference.high for h in found.values()]
        fails += [h.fails.share.low <= 0.1 <= h.fails.share.high for h in found.values()]
    assert marked <= 10  # P(Binomial(80, 0.05) > 10) = 0.002
    assert np.mean(first) > 0.93
    assert np.mean(fails) > 0.93


def test_few_rankings_mark_nobody():
    found = habits(*pool(np.random.default_rng(3), NAMES, 29, w0=("position", 9.0), w1=("seconds", 0.001)))
    assert found["w0"].first.share.low > 0.5
    assert not found["w0"].marks()
    assert not found["w1"].marks()


def test_a_careless_labeler_is_not_taken_for_one_who_shuns_length():
    """Where longer answers are better, who chooses at random picks them less often than the others, and
    still has no taste for short ones."""
    rng = np.random.default_rng(4)
    prompts, completions, rankings = pool(rng, NAMES, 150, **dict.fromkeys(NAMES[1:], ("length", 1.5)))
    found = habits(prompts, completions, rankings)
    assert found["w0"].longer.difference.high < 0
    assert "prefers shorter answers" not in found["w0"].marks()


def test_the_order_of_rankings_changes_nothing():
    prompts, completions, rankings = pool(np.random.default_rng(5), NAMES[:3], 30)
    assert repr(habits(prompts, completions, rankings)) == repr(
        habits(prompts, completions, sorted(rankings, key=lambda r: (r.labeler, r.prompt_id)))
    )
