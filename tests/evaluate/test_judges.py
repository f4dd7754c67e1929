"""Judges: a planted one is measured right, both orders take its bias out, and what is unusable is counted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from accord.errors import DataError
from accord.evaluate.asking import check
from accord.evaluate.judges import (
    AgainstReference,
    Asked,
    Choice,
    Chooser,
    Judged,
    LikelihoodChooser,
    LikelihoodConfig,
    both_orders,
    judge_report,
)
from accord.evaluate.likelihood import TextLogprob
from accord.evaluate.suite import FigureTable, Suite, SuiteTable
from accord.types import Completion, Prompt


class PlantedJudge:
    """Takes the first with chance ``bias``; else the right one ("good") with chance ``accuracy``."""

    def __init__(self, accuracy: float, bias: float, seed: int) -> None:
        self.accuracy, self.bias = accuracy, bias
        self.rng = np.random.default_rng(seed)

    def choose(self, asked: Sequence[Asked]) -> list[Choice]:
        return [self._one(first, second) for _, first, second in asked]

    def _one(self, first: str, second: str) -> Choice:
        if self.rng.random() < self.bias:
            return Choice(0.9, "A")
        right = self.rng.random() < self.accuracy
        takes_first = (first == "good") == right if first != second else self.rng.random() < 0.5
        return Choice(0.9 if takes_first else 0.1)


def pairs(n: int) -> tuple[list[Asked], list[bool]]:
    better = [i % 2 == 0 for i in range(n)]
    return [
        (Prompt.from_text(f"q{i}"), "good" if b else "bad", "bad" if b else "good")
        for i, b in enumerate(better)
    ], better


@pytest.mark.parametrize("accuracy", [0.6, 0.8, 0.95])
@pytest.mark.parametrize("bias", [0.0, 0.15, 0.3])
def test_a_planted_judge_is_measured_within_its_interval(accuracy: float, bias: float) -> None:
    asked, better = pairs(400)
    hits = np.zeros(2)
    for seed in range(10):
        judged = both_orders(PlantedJudge(accuracy, bias, seed), asked)
        report = judge_report(judged, better, range(400), np.random.default_rng(seed), draws=400)
        hits += [report.accuracy.low <= accuracy <= report.accuracy.high,
                 report.position_bias.low <= bias <= report.position_bias.high]  # fmt: skip
    assert hits.min() >= 7  # of 10 intervals that hold 95 %, some 90 % where there is no bias


def test_both_orders_take_out_what_one_order_is_led_by() -> None:
    equal: list[Asked] = [(Prompt.from_text(f"q{i}"), "same", "same") for i in range(4000)]
    judged = both_orders(PlantedJudge(0.8, 0.3, 0), equal)
    alone = np.mean([one.as_listed.p_first > 0.5 for one in judged])
    together = np.mean([0.5 + 0.5 * np.sign(round(one.p - 0.5, 9)) for one in judged])
    assert alone == pytest.approx(0.65, abs=0.03)
    assert together == pytest.approx(0.5, abs=0.03)


def test_a_judge_that_goes_by_position_alone_says_one_half() -> None:
    judged = both_orders(PlantedJudge(0.9, 1.0, 0), pairs(50)[0])
    assert [one.p for one in judged] == pytest.approx([0.5] * 50)
    assert all(one.flipped for one in judged)


@given(st.floats(-4, 4), st.floats(-4, 4))
def test_a_liking_in_log_odds_cancels_exactly(quality: float, liking: float) -> None:
    class Biased:
        def choose(self, asked: Sequence[Asked]) -> list[Choice]:
            signs = [1 if first == "a" else -1 for _, first, _ in asked]
            return [Choice(float(special.expit(sign * quality + liking))) for sign in signs]

    prompt = Prompt.from_text("?")
    one, other = both_orders(Biased(), [(prompt, "a", "b"), (prompt, "b", "a")])
    assert one.p == pytest.approx(special.expit(quality), abs=1e-9)
    assert other.p == pytest.approx(1 - one.p)


def test_unusable_answers_are_counted_and_the_other_order_stands() -> None:
    class Half:
        def choose(self, asked: Sequence[Asked]) -> list[Choice]:
            return [Choice(0.8 if first == "good" else None, "hm") for _, first, _ in asked]

    judged = both_orders(Half(), [(Prompt.from_text("?"), "good", "bad")])
    assert judged[0].p == pytest.approx(0.8)
    assert judged[0].flipped is None
    with pytest.raises(DataError, match="none was usable"):
        judge_report(judged, [True], ["q"], np.random.default_rng(0))
    full = [*judged, Judged(0.8, Choice(0.8), Choice(0.2))]
    report = judge_report(full, [True, True], ["q", "r"], np.random.default_rng(0))
    assert (report.unusable, report.pairs, report.flips) == (0.25, 1, 0.0)


def test_what_is_unusable_against_a_reference_is_data() -> None:
    class Shy:
        """Says nothing where the answer "odd" stands first, and nothing at all of "mute"."""

        def choose(self, asked: Sequence[Asked]) -> list[Choice]:
            return [Choice(None if first == "odd" or "mute" in (first, second) else 0.8)
                    for _, first, second in asked]  # fmt: skip

    prompt = Prompt.from_text("?", meta={"reference": "ref"})
    scorer = AgainstReference(Shy())
    odd, mute, both = scorer.score(prompt, [Completion("odd"), Completion("mute"), Completion("plain")])
    assert odd.value == pytest.approx(0.2)
    assert odd.parts == {"flipped": 1.0, "unusable": 0.5}
    assert (mute.value, mute.parts) == (0.5, {"flipped": 1.0, "unusable": 1.0})
    assert both.parts == {"flipped": 1.0, "unusable": 0.0}


def test_what_a_judge_would_fail_on_is_known_before_any_answer() -> None:
    class Narrow:
        def choose(self, asked: Sequence[Asked]) -> list[Choice]:
            if any(len(p.text) + len(one) + len(other) > 20 for p, one, other in asked):
                raise DataError("it does not fit the context")
            return [Choice(0.5) for _ in asked]

    figure = FigureTable.build({"name": "win rate", "of": "judge"})
    suite = Suite("s", SuiteTable(about="x"), (), {}, (figure,))
    judges = {"judge": AgainstReference(Narrow())}
    short = Prompt.from_text("short?", meta={"reference": "r"})
    check(suite, [short], judges)
    with pytest.raises(DataError, match="does not fit"):
        check(suite, [short, Prompt.from_text("long?", meta={"reference": "r" * 10})], judges)
    with pytest.raises(DataError, match="to be compared with"):
        check(suite, [short, Prompt.from_text("?")], judges)


def test_a_report_by_hand() -> None:
    # two right in both orders, one flipped to the first, one wrong in both
    first, second = Choice(0.9), Choice(0.1)
    judged = [Judged(0.9, first, second), Judged(0.9, first, second), Judged(0.5, first, first),
              Judged(0.1, second, first)]  # fmt: skip
    report = judge_report(judged, [True] * 4, "abcd", np.random.default_rng(0))
    assert report.flips == 0.25
    assert report.position_bias.value == pytest.approx(0.75 + 0.5 - 1)
    noise = (3 * 0.25**2 + 0.75**2) / 16 * 4 / 3  # of 1, 1, 2, 1 taken less 1.25 each
    size = math.sqrt(max(0.0, 0.25**2 - noise))
    assert report.accuracy.value == pytest.approx(0.5 + (0.75 - 0.5) / (2 * (1 - size)))
    assert report.one_order.value == pytest.approx((0.75 + 0.5) / 2)
    assert report.both.value == pytest.approx((1 + 1 + 0.5 + 0) / 4)


class Letters:
    """Likelihoods that like "A" by ``liking`` and the answer "good" by 2."""

    def __init__(self, liking: float) -> None:
        self.liking = liking
        self.seen: list[str] = []

    def logprobs(self, asked):
        out = []
        for prompt, labels in asked:
            self.seen.append(prompt.text)
            assert tuple(labels) == ("A", "B")
            gap = self.liking + (2 if "Answer A:\ngood" in prompt.text else -2)
            out.append([TextLogprob(math.log(special.expit(g)), 1) for g in (gap, -gap)])
        return out


def test_a_model_judges_by_the_likelihood_of_its_letters() -> None:
    letters = Letters(liking=1.0)
    chooser = LikelihoodChooser(letters, LikelihoodConfig(criterion="kinder", temperature=2.0))
    assert isinstance(chooser, Chooser)
    (one,) = both_orders(chooser, [(Prompt.from_text("Hello {first} {second}"), "good", "bad {criterion}")])
    assert one.p == pytest.approx(special.expit(1.0))  # 2 over the temperature, the liking gone
    assert one.as_listed.p_first == pytest.approx(special.expit(1.5))
    assert "Message:\nHello {first} {second}\n" in letters.seen[0]  # braces in a text are text
    assert "Answer B:\nbad {criterion}\n" in letters.seen[0]
    assert "better: kinder?" in letters.seen[0]


def test_a_judge_against_a_reference_is_a_scorer() -> None:
    scorer = AgainstReference(LikelihoodChooser(Letters(1.0)))
    prompt = Prompt.from_text("?", meta={"reference": "bad"})
    better, worse = scorer.score(prompt, [Completion("good"), Completion("awful")])
    assert better.value == pytest.approx(special.expit(2.0))
    assert worse.value == pytest.approx(0.5)  # neither is "good": the letters alone
    assert worse.parts["flipped"] == 1.0
    with pytest.raises(DataError, match="reference"):
        scorer.score(Prompt.from_text("?"), [Completion("good")])


def test_a_judge_that_breaks_its_word_is_refused() -> None:
    class Few:
        def choose(self, asked):
            return [Choice(0.5)]

    class Wild:
        def choose(self, asked):
            return [Choice(1.5) for _ in asked]

    with pytest.raises(DataError, match="1 choices for 2"):
        both_orders(Few(), [(Prompt.from_text("?"), "a", "b")])
    with pytest.raises(DataError, match=r"1\.5"):
        both_orders(Wild(), [(Prompt.from_text("?"), "a", "b")])
