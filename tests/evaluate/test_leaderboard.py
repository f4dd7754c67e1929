"""Leaderboards: planted leads are claimed and ranked, equals are not, and every figure is what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from accord.errors import DataError
from accord.evaluate.asking import Contestant, ask, values_of
from accord.evaluate.compare import EvaluateConfig
from accord.evaluate.leaderboard import leaderboard, section_of
from accord.evaluate.likelihood import Choice
from accord.evaluate.standings import Cell, Leaderboard, Model
from accord.evaluate.suite import FigureTable, ScorerTable, Suite, SuiteTable
from accord.judging import TextLogprob
from accord.stats.paired import holm
from accord.types import Completion, Prompt, Score, Stop
from boards import First, Planted, board, suite


def test_a_planted_lead_is_claimed_and_equals_share_their_places() -> None:
    found = board()
    section = found.section("care")
    assert section.order()[0] == 2
    assert section.ranks[2] == (1, 1)
    assert section.ranks[0] == section.ranks[1] == (2, 3)
    lead = section.pair(0, 2)
    assert lead.claimed
    assert lead.low < 1.0 < lead.high
    assert lead.win_rate is not None
    assert lead.win_rate > 0.65  # P(N(1, 2) > 0) = 0.76
    assert lead.prompts_won > lead.prompts_lost
    assert not section.pair(0, 1).claimed
    back = section.pair(2, 0)
    assert (back.difference, back.win_rate) == (-lead.difference, pytest.approx(1 - lead.win_rate))


def test_where_lower_is_better_the_order_and_the_wins_turn() -> None:
    section = board(better="lower").section("care")
    assert section.order()[-1] == 2
    assert section.ranks[2] == (3, 3)
    assert section.pair(0, 2).win_rate < 0.4
    gains = [e for part in section.parts for e in part.examples if e.why == "gain"]
    assert gains
    assert all(e.figures[0].after < e.figures[0].before for e in gains)


def test_holm_is_over_main_figures_and_the_rest_apart() -> None:
    found = board()
    section = found.sections[0]
    main = [p for p in section.pairs if p.figure == "score"]
    rest = [p for p in section.pairs if p.figure != "score"]
    assert found.tests == (3, 3)  # words have no better way, distinct no unit: neither is tested
    assert [p.p_holm for p in main] == pytest.approx(holm([p.p for p in main]).tolist())
    assert [p.p_holm for p in rest] == pytest.approx(holm([p.p for p in rest]).tolist())


def test_figures_cells_and_slices_by_hand() -> None:
    one, config = suite(n=9), EvaluateConfig(rounds=200)
    answers = ask(one, one.prompts, Contestant("a", Planted(0.5, 3)), {"first": First()}, lambda: 0.0)
    section = section_of(one, one.prompts, [answers, answers], config)
    said = np.array([[float(c.text.split()[0]) for c in group] for group in answers.groups])
    assert section.row("score").cells[0].value == pytest.approx(said.mean())
    assert section.row("high").cells[0].value == pytest.approx((said > 1).mean())
    assert section.row("tokens an answer").cells[0].value == 8
    assert [(s.name, s.prompts) for s in section.slices] == [("kind 0", 3), ("kind 1", 3), ("kind 2", 3)]
    assert section.slices[1].values[0] == pytest.approx(said[1::3].mean())
    assert section.pair(0, 1).p == 1.0


def test_a_model_without_the_main_figure_ranks_last_whichever_way_is_good() -> None:
    section = board().sections[0]
    for better, best in (("lower", 2), ("higher", 0)):
        cells = (Cell(3.0), Cell(None), Cell(-3.0))
        rows = tuple(replace(r, cells=cells, better=better) if r.name == "score" else r for r in section.rows)
        assert replace(section, rows=rows).order() == [best, 2 - best, 1]


def test_none_of_few_is_not_never() -> None:
    section = board(means=(-9.0, -9.0), n=20).sections[0]
    cell = section.row("high").cells[0]
    assert cell.value == cell.low == 0.0
    assert cell.high > 0.05


def figure(take: str, of: str = "first", **more: object) -> FigureTable:
    return FigureTable.build({"name": take, "of": of, "take": take, **more})


def test_takes_by_hand() -> None:
    prompts = [Prompt.from_text(f"q{i}", meta={"cluster": "ab"[i // 2], "k": i % 2}) for i in range(4)]
    one = Suite("s", SuiteTable(about="x"), tuple(prompts), {"first": ScorerTable(kind="f")}, ())
    texts = iter(["1", "3", "5", "2"])

    class Fixed:
        def sample(self, prompts, n=1):
            return [[Completion(next(texts), (), (), Stop.EOS)] for _ in prompts]

    asked = Suite("s", one.table, one.prompts, one.scorers, (figure("mean"),))
    answers = ask(asked, prompts, Contestant("a", Fixed()), {"first": First()}, lambda: 0.0)
    got = {take: values_of(figure(take), prompts, answers).value
           for take in ("mean", "sd", "share", "worst", "spread", "exp")}  # fmt: skip
    assert got["mean"] == 2.75
    assert got["sd"] == pytest.approx(np.std([1, 3, 5, 2]))
    assert got["share"] == 1.0
    assert values_of(figure("share", above=2.0), prompts, answers).value == 0.5
    assert got["worst"] == 1.5  # of 1, 3 and of 5, 2
    assert got["spread"] == 2.5
    assert got["exp"] == pytest.approx(np.exp(2.75))
    assert values_of(figure("mean", where={"k": 1}), prompts, answers).value == 2.5
    with pytest.raises(DataError, match="has no prompt"):
        values_of(figure("mean", where={"k": 7}), prompts, answers)
    with pytest.raises(DataError, match="no part 'low'; it has high"):
        values_of(figure("mean", of="first.low"), prompts, answers)


class Sure:
    """Finds the right option with a stated probability, and is right as often as it is told to be."""

    def __init__(self, says: float, is_right: float) -> None:
        self.says, self.is_right = says, is_right

    def sample(self, prompts, n=1):
        raise AssertionError("nothing was to be sampled")

    def fits(self, prompt, texts):
        return True

    def logprobs(self, asked):
        sides = [(self.says, 1 - self.says), (1 - self.says, self.says)]
        rows = [sides[i >= self.is_right * len(asked)] for i in range(len(asked))]
        return [[TextLogprob(float(np.log(p)), 1) for p in row] for row in rows]


def test_choices_are_asked_without_sampling_and_calibration_is_measured() -> None:
    prompts = tuple(Prompt.from_text(f"q{i}", meta={"right": "a", "wrong": "b"}) for i in range(40))
    figures = (figure("mean", of="choice"), figure("calibration", of="choice", better="lower"))
    one = Suite("s", SuiteTable(about="x"), prompts, {"choice": ScorerTable(kind="choice")}, figures)
    judges = {"choice": Choice(right="right", wrong="wrong")}
    models = [Contestant(name, model, model) for name, model in
              (("calibrated", Sure(0.7, 0.7)), ("too sure", Sure(0.95, 0.7)))]  # fmt: skip
    answers = [ask(one, prompts, model, judges) for model in models]
    section = section_of(one, prompts, answers, EvaluateConfig(rounds=200))
    honest, sure = (cell.value for cell in section.row("calibration").cells)
    assert honest == pytest.approx(0.0, abs=1e-9)
    assert sure == pytest.approx(0.25, abs=1e-9)
    assert section.pairs[0].equal_length is None
    with pytest.raises(DataError, match="local model"):
        ask(one, prompts, Contestant("mute", Sure(0.5, 0.5)), judges)


def test_the_chance_of_a_guess_is_shown_without_an_interval() -> None:
    prompts = tuple(Prompt.from_text(f"q{i}", meta={"right": "a", "wrong": "b"}) for i in range(10))
    guess = {"name": "by chance", "percent": True, "better": "neither"}
    figures = (figure("mean", of="choice", percent=True), figure("mean", of="choice.chance", **guess))
    one = Suite("s", SuiteTable(about="x"), prompts, {"choice": ScorerTable(kind="choice")}, figures)
    model = Contestant("m", Sure(0.7, 0.7), Sure(0.7, 0.7))
    answers = ask(one, prompts, model, {"choice": Choice(right="right", wrong="wrong")})
    right, chance = (row.cells[0] for row in section_of(one, prompts, [answers], EvaluateConfig()).rows)
    assert (chance.value, chance.low, chance.high) == (0.5, None, None)
    assert right.low < 0.7 < right.high


class Brief(Sure):
    """The same with a context of three characters."""

    def fits(self, prompt, texts):
        return len(prompt.text) <= 3

    def logprobs(self, asked):
        assert all(self.fits(*one) for one in asked)
        return super().logprobs(asked)


def test_a_choice_too_long_for_the_context_is_wrong_and_counted() -> None:
    prompts = tuple(Prompt.from_text("q" * (1 + i), meta={"right": "a", "wrong": "b"}) for i in range(4))
    one = Suite("s", SuiteTable(about="x"), prompts, {"choice": ScorerTable(kind="choice")},
                (figure("mean", of="choice"),))  # fmt: skip
    judges, model = {"choice": Choice(right="right", wrong="wrong")}, Brief(0.9, 1.0)
    answers = ask(one, prompts, Contestant("brief", model, model), judges)
    assert answers.unread == 1
    section = section_of(one, prompts, [answers], EvaluateConfig(rounds=200))
    assert section.rows[0].cells[0].value == 0.75
    assert section.unread == (1,)
    with pytest.raises(DataError, match="none of the 1 prompts of s fits the context of brief"):
        ask(one, prompts[3:], Contestant("brief", model, model), judges)


def test_a_prompt_too_long_for_the_context_is_answered_by_nothing_and_counted() -> None:
    class Reads:
        def sample(self, prompts, n=1):
            assert all(len(p.text) <= 3 for p in prompts)
            return [[Completion(p.text)] * n for p in prompts]

    prompts = tuple(Prompt.from_text("q" * (1 + i)) for i in range(5))
    figures = tuple(figure("mean", of=of, better="lower", name=of) for of in ("truncated", "empty"))
    one = Suite("s", SuiteTable(about="x", samples=2), prompts, {}, figures)
    brief = Contestant("brief", Reads(), fits=lambda prompt: len(prompt.text) <= 3)
    answers = ask(one, prompts, brief, {}, lambda: 0.0)
    assert answers.unread == 2
    assert [len(group) for group in answers.groups] == [2] * 5
    section = section_of(one, prompts, [answers], EvaluateConfig(rounds=200))
    assert [row.cells[0].value for row in section.rows[:2]] == [0.4, 0.4]
    with pytest.raises(DataError, match="longer context"):
        ask(one, prompts[3:], brief, {}, lambda: 0.0)


def test_json_and_back() -> None:
    found = board()
    assert Leaderboard.from_json(found.to_json()) == found
    with pytest.raises(DataError, match="not a leaderboard"):
        Leaderboard.from_json("{}")


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="name them apart"):
        leaderboard([Model("a", "", {})] * 2, [], EvaluateConfig())


def test_a_sampler_that_gives_too_few_is_caught() -> None:
    class Short:
        def sample(self, prompts, n=1):
            return [[Completion("1")] for _ in prompts]

    one = suite(n=3)
    with pytest.raises(DataError, match="other than 2 answers"):
        ask(one, one.prompts, Contestant("a", Short()), {"first": First()})


def test_a_scorer_without_why_and_parts_will_do() -> None:
    class Plain:
        def score(self, prompt, completions):
            return [Score(1.0) for _ in completions]

    one = suite(n=3)
    asked = Suite("s", one.table, one.prompts, one.scorers, one.figures[:1])
    answers = ask(asked, one.prompts, Contestant("a", Planted(0, 0)), {"first": Plain()}, lambda: 0.0)
    section = section_of(asked, one.prompts, [answers, answers], EvaluateConfig(rounds=200))
    assert section.parts[0].examples[0].before_note == ""
