"""The report of a reward model: every figure by hand, and planted faults that it must show."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from accord.errors import DataError, NumericsError
from accord.judgements import Comparison, Ranking
from accord.reward.judged import judge, judged
from accord.reward.study import MISTAKES, study, study_scorer
from accord.types import Completion, Prompt, Score


class By:
    """A scorer that is a function of the text; counts what it is asked."""

    def __init__(self, function, logit=None):
        self.function, self.logit, self.asked = function, logit, []

    def score(self, prompt, completions):
        self.asked += [(prompt.id, c.text) for c in completions]
        parts = [{"logit": self.logit(c.text)} if self.logit else {} for c in completions]
        return [Score(float(self.function(c.text)), part) for c, part in zip(completions, parts, strict=True)]


def pair(prompt, chosen, rejected, p=1.0, source="human"):
    return Comparison(
        Prompt.from_text(prompt, id=prompt), Completion(chosen), Completion(rejected), p, source
    )


PAIRS = [
    pair("p", "aaaa", "b"),  # the longer won
    pair("p", "aaaa", "cc", 0.8),
    pair("q", "d", "eeee", 1.0, "import:x"),  # the shorter won
    pair("q", "d", "ff", 0.5),  # a tie
    pair("r", "gg", "hh"),  # of equal length
]


def test_accuracy_by_hand_by_split_and_source():
    held = judge(By(len), PAIRS)
    found = study(held, splits={"p": "one", "q": "two", "r": "two"})
    # Of the four decided pairs: right, right, wrong, equal.
    assert found.accuracy.interval.value == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert found.accuracy.interval.n == 3
    assert (found.pairs, found.decided, found.prompts) == (5, 4, 3)
    assert list(found.by_split) == ["one", "two"]
    assert found.by_split["one"].interval is None  # two pairs, but of one prompt
    assert "1.00 over 2" in found.by_split["one"].why
    assert found.by_split["two"].interval.value == pytest.approx(0.25)
    assert found.by_source["human"].interval.value == pytest.approx(2.5 / 3)
    assert "0.00 over 1" in found.by_source["import:x"].why


def test_length_baseline_and_what_is_above_it_by_hand():
    found = study(judge(By(lambda t: t[0] < "e"), PAIRS))
    # Scores: a, b, c, d 1; e to h 0. Right on q; equal, so half, on p twice and on r.
    assert found.accuracy.interval.value == pytest.approx((0.5 + 0.5 + 1 + 0.5) / 4)
    assert found.baselines.longer.interval.value == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert found.baselines.over_longer.interval.value == pytest.approx(0.0)
    assert found.length.shorter_won.why.startswith("1.00 over 1")
    assert found.length.longer_won.why.startswith("0.50 over 2")


def test_correlations_are_those_of_scipy_over_completions_that_count_once():
    rng = np.random.default_rng(0)
    pairs, values = [], {}
    for i in range(30):
        texts = ["x" * int(n) + f"{i}" for n in rng.choice(50, 3, replace=False)]
        values |= {t: 0.05 * len(t) + rng.normal() for t in texts}
        pairs += [pair(f"p{i}", texts[a], texts[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    length = study(judge(By(values.get), pairs)).length
    value, size = np.array(list(values.values())), np.array([len(t) for t in values])
    assert length.pearson.interval.value == pytest.approx(stats.pearsonr(value, size).statistic)
    assert length.spearman.interval.value == pytest.approx(stats.spearmanr(value, size).statistic)

    def within(part):
        return np.concatenate([part(group) - np.mean(part(group)) for group in (value.reshape(-1, 3))]), (
            np.concatenate([part(group) - np.mean(part(group)) for group in size.reshape(-1, 3)])
        )

    for figure, part in ((length.pearson_within, np.asarray), (length.spearman_within, stats.rankdata)):
        assert figure.interval.value == pytest.approx(stats.pearsonr(*within(part)).statistic)
        assert figure.interval.low < figure.interval.value < figure.interval.high


def test_a_reward_that_is_length_is_caught():
    rng = np.random.default_rng(1)
    pairs = [pair(f"p{i}", *("w" * int(n) for n in rng.choice(60, 2, replace=False) + 1)) for i in range(80)]
    found = study(judge(By(len), pairs))
    assert found.length.pearson.interval.value == pytest.approx(1.0)
    assert found.length.shorter_won.interval.value == 0.0
    assert found.length.longer_won.interval.value == 1.0
    assert found.baselines.over_longer.interval.high == 0.0


def test_the_style_baseline_learns_from_what_was_trained_on_alone():
    learned = [pair(f"t{i}", "yes!" * (i % 3 + 1), "yes" * (i % 5 + 1)) for i in range(40)]
    held = [pair(f"h{i}", "no!", "no, never ever at all") for i in range(10)]
    found = study(judge(By(lambda t: 0.0), held), learned=learned)
    assert found.baselines.style.interval.value == 1.0
    assert found.baselines.over_style.interval.value == -0.5
    assert found.baselines.style_weights["exclamation marks"] > 0
    given = study(judge(By(lambda t: 0.0), held), style_P=-np.ones(10))
    assert given.baselines.style.interval.value == 0.0


def test_without_what_was_trained_on_style_is_told_by_the_other_half():
    """A taste for "!" in even prompts and against it in odd ones: each half misleads the other."""
    sides = [("no!", "no"), ("no", "no!")]
    held = [pair(f"h{i}", *sides[i % 2]) for i in range(40)]
    assert study(judge(By(lambda t: 0.0), held)).baselines.style.interval.value == 0.0
    same = study(judge(By(len), [pair(f"h{i}", "ab", "cd") for i in range(4)])).baselines
    assert same.style.interval is None
    assert same.over_style.why == same.style.why
    assert "2 training pairs, none of texts that differ in style" in same.style.why
    alike = [pair(f"h{i}", "no!", "no") for i in range(40)]
    assert study(judge(By(lambda t: 0.0), alike)).baselines.style.interval.value == 1.0


def test_with_gold_the_best_of_the_completions_is_followed():
    held = [pair(f"p{i}", x, y) for i in range(6) for x, y in (("a", "bb"), ("ccc", "dddd"))]
    found = study_scorer(By(len), held, gold=By(lambda t: -len(t))).best_of
    assert (found.prompts, found.n) == (6, (1, 2, 4))
    assert [f.interval.value for f in found.gold] == [pytest.approx(v) for v in (-2.5, -10 / 3, -4)]
    assert [f.interval.value for f in found.reward] == [pytest.approx(v) for v in (2.5, 10 / 3, 4)]
    assert "no gold scorer" in study_scorer(By(len), held).best_of.why


def test_the_ceiling_uses_the_pairs_of_the_report():
    held = judge(By(len), [pair("p", "aa", "b"), pair("q", "aa", "b"), pair("q", "b", "cc")])
    rankings = [
        Ranking(p, k, tiers, id="") for p in "pq" for k in "xyz"
        for tiers in [(("aa",), ("b",))]
    ]  # fmt: skip
    ceiling = study(held, rankings=rankings).ceiling
    assert ceiling.human.interval.value == ceiling.model.interval.value == 1.0
    assert ceiling.judgements == 6


def test_pairs_that_people_split_on_count_in_the_ceiling():
    """Two people who agree on every other pair: left out as ties, the splits would make a ceiling of 1."""
    held, rankings = [], []
    for i in range(10):
        held.append(pair(f"p{i}", "aa", "b", 1.0 if i % 2 else 0.5))
        rankings.append(Ranking(f"p{i}", "x", (("aa",), ("b",))))
        rankings.append(Ranking(f"p{i}", "y", (("aa",), ("b",)) if i % 2 else (("b",), ("aa",))))
    ceiling = study(judge(By(len), held), rankings=rankings).ceiling
    assert ceiling.human.interval.value == 0.5
    assert ceiling.model.interval.value == 0.75


def test_trust_is_of_the_logit_and_not_of_the_standardised_value():
    rng = np.random.default_rng(2)
    truth = rng.normal(0, 2, 600)
    pairs, value = [], {}
    for i, d in enumerate(truth):
        first, second = f"{i} first", f"{i} second"
        value |= {first: d, second: 0.0}
        won = rng.random() < 1 / (1 + math.exp(-d))
        pairs.append(pair(f"p{i}", *((first, second) if won else (second, first))))
    plain = study(judge(By(lambda t: value[t] / 10, logit=value.get), pairs)).trust
    assert plain.temperature == pytest.approx(1.0, abs=0.15)
    assert plain.ece < 0.05
    assert plain.bins
    tenth = study(judge(By(lambda t: value[t] / 10), pairs)).trust
    assert tenth.temperature == pytest.approx(0.1, abs=0.02)
    assert tenth.ece > 0.15
    assert tenth.tempered_ece < 0.05
    assert tenth.tempered_log_loss < tenth.log_loss
    alone = study(judge(By(len), PAIRS[:2])).trust
    assert alone.temperature is None
    assert "two prompts" in alone.why
    assert alone.ece is not None


def test_mistakes_are_the_surest_first_and_never_a_right_pair():
    values = {f"c{i}": -float(i) for i in range(20)} | {f"r{i}": 0.0 for i in range(20)}
    values["c1"], values["r1"] = 5.0, 0.0
    pairs = [pair(f"p{i}", f"c{i}", f"r{i}", 0.9) for i in range(20)]
    found = study(judge(By(values.get), pairs)).mistakes
    assert [m.chosen for m in found] == [f"c{i}" for i in range(19, 19 - MISTAKES, -1)]
    assert all(m.p_chosen == 0.9 and m.sure > 0.5 for m in found)
    assert found[0].sure > found[-1].sure
    assert not study(judge(By(lambda t: t[0] == "c"), pairs)).mistakes


def test_each_completion_is_scored_once():
    scorer = By(len)
    judge(scorer, PAIRS)
    assert len(scorer.asked) == len(set(scorer.asked)) == 3 + 3 + 2


@given(st.permutations(range(5)), st.floats(0.1, 10), st.floats(-5, 5))
def test_neither_the_order_of_pairs_nor_the_scale_of_rewards_changes_accuracy(order, scale, shift):
    plain = study(judge(By(len), PAIRS))
    moved = study(judge(By(lambda t: scale * len(t) + shift), [PAIRS[i] for i in order]))
    assert moved.accuracy.interval.value == pytest.approx(plain.accuracy.interval.value)
    assert moved.baselines.longer.interval.value == plain.baselines.longer.interval.value
    assert moved.length.pearson.interval.value == pytest.approx(plain.length.pearson.interval.value)


def test_swapping_the_two_sides_of_every_pair_mirrors_accuracy():
    decided = [c for c in PAIRS if c.p_chosen > 0.5]
    swapped = [replace(c, chosen=c.rejected, rejected=c.chosen) for c in decided]
    one, other = (study(judge(By(len), pairs)).accuracy.interval.value for pairs in (decided, swapped))
    assert one + other == pytest.approx(1.0)


def test_what_cannot_be_studied_is_refused():
    with pytest.raises(DataError, match="all 1 comparisons are ties"):
        study(judge(By(len), [PAIRS[3]]))
    with pytest.raises(DataError, match="0 comparisons"):
        judge(By(len), [])
    with pytest.raises(NumericsError, match=r"'aaaa'.*nan"):
        judge(By(lambda t: math.nan), PAIRS)
    with pytest.raises(DataError, match="shape"):
        judged(PAIRS, [[1.0, 2.0]])


def test_folds_put_together_are_the_values_given():
    held = judged(PAIRS, [[4, 1], [4, 2], [1, 4], [1, 2], [2, 2]])
    assert study(held).accuracy == study(judge(By(len), PAIRS)).accuracy
