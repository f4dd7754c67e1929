import numpy as np
import pytest

from accord.constitution.prefer import SOURCE, PreferConfig, by_principle, comparisons, disagreements, prefer
from accord.constitution.principles import Constitution, Principle
from accord.errors import DataError
from accord.judging import Asked, Choice, both_orders
from accord.types import Completion, Prompt

RULES = Constitution(
    name="c",
    principle=(
        Principle(name="longer", choose="Choose the longer."),
        Principle(name="first letter", choose="Choose by the alphabet."),
        Principle(name="mends only", critique="Say so.", revision="Mend it."),
    ),
)


class Judge:
    """Knows both principles; likes what stands first by ``bias`` nats; ``broken`` gives nothing."""

    def __init__(self, bias=0.0, broken=lambda asked: False):
        self.bias = bias
        self.broken = broken
        self.calls = []

    def choose(self, asked):
        self.calls.append(list(asked))
        return [Choice(None, "hm") if self.broken(one) else Choice(self._p(one)) for one in asked]

    def _p(self, one):
        lead = len(one.first) - len(one.second)
        if one.criterion == "Choose by the alphabet.":
            lead = (one.first < one.second) - (one.first > one.second)
        return 1 / (1 + np.exp(-(np.sign(lead) + self.bias)))


def groups(n=20):
    texts = ("bb", "a", "cccc", "ddd")
    return [
        (Prompt.from_text(f"question {i}"), [Completion(t, id=f"{i}{t}") for t in texts]) for i in range(n)
    ]


def test_each_pair_is_judged_under_a_principle_in_both_orders():
    judge = Judge()
    found = prefer(judge, RULES, groups(), PreferConfig(pairs=2))
    assert len(found) == 40
    assert {one.principle for one in found} == {"longer", "first letter"}
    listed = judge.calls[0]
    assert {a.criterion for a in listed} == {"Choose the longer.", "Choose by the alphabet."}
    half = len(listed) // 2
    assert all(
        (a.first, a.second) == (b.second, b.first) for a, b in zip(listed[:half], listed[half:], strict=True)
    )


def test_comparisons_put_the_preferred_first_with_the_judges_probability():
    made = comparisons(prefer(Judge(), RULES, groups(), PreferConfig(pairs=6)))
    assert len(made) == 120
    for one in made:
        better = (
            len(one.chosen.text) > len(one.rejected.text)
            if one.labelers == ("longer",)
            else one.chosen.text < one.rejected.text
        )
        assert better
        assert one.source == SOURCE
        assert one.p_chosen == pytest.approx(1 / (1 + np.exp(-1)))


def test_a_liking_for_the_first_cancels_and_shows_as_flips():
    plain, biased = (prefer(Judge(bias), RULES, groups(), PreferConfig(pairs=6)) for bias in (0.0, 0.9))
    assert [one.judged.p for one in biased] == pytest.approx([one.judged.p for one in plain])
    swayed = prefer(Judge(3.0), RULES, groups(), PreferConfig(pairs=6, most_flipped=1.0))
    assert [one.judged.p for one in swayed] == pytest.approx([one.judged.p for one in plain])
    assert all(row.flipped == 1.0 for row in by_principle(swayed))
    assert all(row.flipped == 0.0 for row in by_principle(plain))


def test_a_judge_of_position_is_not_asked_on():
    judge = Judge(3.0)
    with pytest.raises(DataError, match=r"of no use.*100%"):
        prefer(judge, RULES, groups(200), PreferConfig(pairs=6))
    assert len(judge.calls) == 1, "1200 pairs were wanted, one chunk was asked"


def test_unusable_answers_are_counted_and_make_no_comparison():
    judge = Judge(broken=lambda asked: asked.prompt.text.endswith(" 3"))
    found = prefer(judge, RULES, groups(), PreferConfig(pairs=6))
    assert len(comparisons(found)) == 114
    assert sum(row.unusable * row.pairs for row in by_principle(found)) == pytest.approx(6)
    with pytest.raises(DataError, match="100% of its answers are unusable"):
        prefer(Judge(broken=lambda asked: True), RULES, groups(), PreferConfig())


def test_one_usable_order_is_enough():
    found = prefer(Judge(broken=lambda a: a.first < a.second), RULES, groups(), PreferConfig())
    assert len(comparisons(found)) == len(found)
    assert all(row.unusable == 0.5 for row in by_principle(found))


def test_pairs_use_every_completion_before_one_comes_again_and_equal_texts_make_none():
    found = prefer(Judge(), RULES, groups(), PreferConfig(pairs=2))
    for i in range(20):
        used = [c.text for one in found[2 * i : 2 * i + 2] for c in (one.first, one.second)]
        assert sorted(used) == ["a", "bb", "cccc", "ddd"]
    prompt = Prompt.from_text("p")
    same = [(prompt, [Completion("x"), Completion("x"), Completion("y")])]
    assert len(prefer(Judge(), RULES, same, PreferConfig(pairs=5))) == 1
    with pytest.raises(DataError, match="two different completions"):
        prefer(Judge(), RULES, [(prompt, [Completion("x"), Completion("x")])], PreferConfig())
    with pytest.raises(DataError, match="no principle that chooses"):
        prefer(Judge(), Constitution(name="c", principle=RULES.principle[2:]), groups(), PreferConfig())


def test_principles_that_pull_apart_are_seen():
    pairs = [
        Asked(Prompt.from_text("p"), a, b) for a, b in (("a", "bb"), ("bb", "a"), ("b", "aa"), ("aa", "b"))
    ]
    judged = {
        rule: both_orders(Judge(), [Asked(p.prompt, p.first, p.second, text) for p in pairs])
        for rule, text in (("longer", "Choose the longer."), ("abc", "Choose by the alphabet."))
    }
    (found,) = disagreements(judged)
    assert (found.one, found.other, found.pairs, found.opposed) == ("longer", "abc", 4, 0.5)
