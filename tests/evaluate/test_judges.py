"""Judges: a planted one is measured right, one against a reference scores, and what is unusable counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import special

from accord.errors import DataError
from accord.evaluate.asking import Contestant, ask, check, values_of, wants_answers
from accord.evaluate.judges import AgainstReference, Known, agreement, judge_report
from accord.evaluate.suite import FigureTable, Suite, SuiteTable
from accord.judging import Asked, Choice, Judged, LikelihoodChooser, both_orders
from accord.types import Completion, Prompt
from choosers import Letters, PlantedJudge, pairs


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
    assert hits.min() >= 7  # of 10 intervals that hold 95 %


def test_the_intervals_hold_over_the_whole_grid_of_accuracies_and_biases() -> None:
    asked, better = pairs(200)
    hits, total = np.zeros(2), 0
    for accuracy in np.linspace(0.6, 0.95, 8):
        for bias in np.linspace(0.0, 0.3, 7):
            rng = np.random.default_rng(total)
            judged = both_orders(PlantedJudge(accuracy, bias, total), asked)
            report = judge_report(judged, better, range(200), rng, draws=300)
            hits += [report.accuracy.low <= accuracy <= report.accuracy.high,
                     report.position_bias.low <= bias <= report.position_bias.high]  # fmt: skip
            total += 1
    assert total == 56
    assert hits.min() >= 50  # of 56 that hold 95 %: so few by chance in one draw of twenty


def test_unusable_answers_are_left_out_of_a_report_and_counted() -> None:
    half = Judged(0.8, Choice(0.8), Choice(None))
    with pytest.raises(DataError, match="none was usable"):
        judge_report([half], [True], ["q"], np.random.default_rng(0))
    full = [half, Judged(0.8, Choice(0.8), Choice(0.2))]
    report = judge_report(full, [True, True], ["q", "r"], np.random.default_rng(0))
    assert (report.unusable, report.pairs, report.flips) == (0.25, 1, 0.0)


def test_what_is_unusable_against_a_reference_is_data() -> None:
    class Shy:
        """Says nothing where the answer "odd" stands first, and nothing at all of "mute"."""

        def choose(self, asked: Sequence[Asked]) -> list[Choice]:
            return [Choice(None if one.first == "odd" or "mute" in (one.first, one.second) else 0.8)
                    for one in asked]  # fmt: skip

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
            if any(len(one.prompt.text) + len(one.first) + len(one.second) > 20 for one in asked):
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


def test_a_judge_against_a_reference_is_a_scorer() -> None:
    scorer = AgainstReference(LikelihoodChooser(Letters(1.0)))
    prompt = Prompt.from_text("?", meta={"reference": "bad"})
    better, worse = scorer.score(prompt, [Completion("good"), Completion("awful")])
    assert better.value == pytest.approx(special.expit(2.0))
    assert worse.value == pytest.approx(0.5)  # neither is "good": the letters alone
    assert worse.parts["flipped"] == 1.0
    with pytest.raises(DataError, match="reference"):
        scorer.score(Prompt.from_text("?"), [Completion("good")])


def test_agreement_by_hand() -> None:
    first, second, mute = Choice(0.9), Choice(0.1), Choice(None)
    right = agreement(Judged(0.9, first, second))
    assert (right.value, right.parts["one_order"], right.parts["flipped"]) == (1.0, 1.0, 0.0)
    assert (right.parts["first"], right.parts["unusable"], right.parts["confidence"]) == (0.5, 0.0, 0.9)
    wrong = agreement(Judged(0.1, second, first))
    assert (wrong.value, wrong.parts["one_order"], wrong.parts["confidence"]) == (0.0, 0.0, 0.9)
    placed = agreement(Judged(0.5, first, first))
    assert (placed.value, placed.parts["one_order"]) == (0.5, 0.5)
    assert (placed.parts["flipped"], placed.parts["first"]) == (1.0, 1.0)
    half = agreement(Judged(0.9, mute, second))
    assert (half.value, half.parts["one_order"], half.parts["unusable"]) == (1.0, 0.75, 0.5)
    assert (half.parts["flipped"], half.parts["first"]) == (1.0, 0.25)
    assert agreement(Judged(None, mute, mute)).parts["unusable"] == 1.0


def test_a_suite_of_known_pairs_measures_the_judge_that_is_asked() -> None:
    figures = [FigureTable.build({"name": n, "of": of}) for n, of in
               (("right", "judge"), ("one", "judge.one_order"), ("flips", "judge.flipped"))]  # fmt: skip
    suite = Suite("s", SuiteTable(about="x"), (), {}, tuple(figures))
    prompts = [Prompt.from_text(f"q{i}", meta={"better": "good", "worse": "bad"}) for i in range(3000)]
    judges = {"judge": Known()}
    check(suite, prompts, judges)
    assert not wants_answers(suite, judges)
    model = Contestant("m", Nobody(), None, PlantedJudge(0.8, 0.3, 0))
    answers = ask(suite, prompts, model, judges)
    right, one, flips = (values_of(figure, prompts, answers).value for figure in figures)
    # it goes by position with chance 0.3 in each order by itself, and is right with 0.8 else
    single = 0.3 * 0.5 + 0.7 * 0.8
    assert one == pytest.approx(single, abs=0.02)
    firsts, seconds = 0.3 + 0.7 * 0.8, 0.7 * 0.8  # right where the better stands first, and second
    assert right == pytest.approx((firsts + seconds) / 2, abs=0.02)
    assert flips == pytest.approx(firsts * (1 - seconds) + (1 - firsts) * seconds, abs=0.03)
    with pytest.raises(DataError, match="is no judge"):
        ask(suite, prompts[:1], Contestant("m", Nobody()), judges)
    with pytest.raises(DataError, match="two different answers"):
        check(suite, [Prompt.from_text("q", meta={"better": "same", "worse": "same"})], judges)


class Nobody:
    """A sampler that is not to be asked."""

    def sample(self, prompts: Sequence[Prompt], n: int = 1) -> list[list[Completion]]:
        raise AssertionError
