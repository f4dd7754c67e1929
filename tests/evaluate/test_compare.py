"""Before/after: means, intervals, win rates, examples, and refusals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from accord.errors import ConfigError, DataError, NumericsError
from accord.evaluate.compare import EvaluateConfig, evaluate, evaluate_samplers, win_shares
from accord.evaluate.record import KL, Evaluation, Kind
from accord.stats.paired import holm
from accord.stats.power import detectable_mean
from accord.types import Completion, Prompt, Score, Stop


class Number:
    """Scores a text by the number it is; parts ``half`` and ``minus``."""

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        values = [float(c.text) for c in completions]
        return [Score(v, {"half": v / 2, "minus": -v}, f"it is {v}") for v in values]


class Fixed:
    """A sampler that always gives the same texts."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def sample(self, prompts: Sequence[Prompt], n: int = 1) -> list[list[Completion]]:
        return [[Completion(t, (1,), (), Stop.EOS) for t in self.texts[:n]] for _ in prompts]


def prompts(n: int) -> list[Prompt]:
    return [Prompt.from_text(f"question {i}", id=f"p{i}") for i in range(n)]


def side(*groups: Sequence[float]) -> dict[str, list[Completion]]:
    return {f"p{i}": [Completion(str(x)) for x in group] for i, group in enumerate(groups)}


def config(**values: object) -> EvaluateConfig:
    return EvaluateConfig.build({"rounds": 200, **values})


def test_means_differences_and_win_rate_by_hand() -> None:
    before, after = side([0, 2], [4, 4], [1, 1]), side([3, 1], [4, 5], [0, 0])
    result = evaluate(before, after, prompts(3), {"n": Number()}, config(samples=2))
    row = result.row("n")
    assert row.before_mean == pytest.approx(12 / 6)
    assert row.after_mean == pytest.approx(13 / 6)
    assert row.difference == pytest.approx(1 / 6)
    assert row.before_sd == pytest.approx(np.std([0, 2, 4, 4, 1, 1]))
    # Prompt 0: 3>0 3>2 1>0 1<2 = 3/4; prompt 1: tie tie win win = 3/4; prompt 2: 0.
    assert row.win_rate == pytest.approx(0.5)
    assert result.row("n.half").difference == pytest.approx(1 / 12)
    assert result.row("n.minus").win_rate == pytest.approx(0.5)
    assert [r.kind for r in result.rows[:3]] == [Kind.SCORER, Kind.PART, Kind.PART]


def test_the_interval_is_clustered_by_prompt() -> None:
    rng = np.random.default_rng(0)
    shift = rng.normal(0.3, 1, 40)
    # Eight copies of each prompt's sample carry no more news than one.
    one = evaluate(
        side(*[[0.0]] * 40), side(*[[s] for s in shift]), prompts(40), {"n": Number()}, config(rounds=2000)
    ).row("n")
    eight = evaluate(
        side(*[[0.0] * 8] * 40), side(*[[s] * 8 for s in shift]), prompts(40), {"n": Number()},
        config(rounds=2000, samples=8),
    ).row("n")  # fmt: skip
    assert (one.low, one.high) == pytest.approx((eight.low, eight.high))
    assert one.low is not None
    assert one.high is not None
    assert one.high - one.low == pytest.approx(2 * 1.96 * shift.std() / np.sqrt(40), rel=0.15)


def test_win_shares_count_a_tie_as_half() -> None:
    shares = win_shares(np.array([[1.0], [1.0], [1.0]]), np.array([[0.0], [1.0], [2.0]]))
    np.testing.assert_array_equal(shares, [0, 0.5, 1])


def test_identical_sides_differ_by_nothing() -> None:
    same = side([1.0, 2.0], [3.0, 4.0])
    result = evaluate(same, same, prompts(2), {"n": Number()}, config(samples=2))
    assert all(row.difference == 0 for row in result.rows)
    assert result.row("n").win_rate == 0.5
    assert not [e for e in result.examples if e.why != "random"]


def test_text_rows() -> None:
    before = {"p0": [Completion("one two", (1, 2), (), Stop.EOS)]}
    after = {"p0": [Completion("", (), (), Stop.LENGTH)]}
    result = evaluate(before, after, prompts(1), {"n": Length()}, config())
    assert result.row("words").difference == -2
    assert result.row("tokens").difference == -2
    assert result.row("truncated").after_mean == 1
    assert result.row("empty").after_mean == 1
    assert not result.has("diversity")
    assert not result.has("distinct_1")
    imported = evaluate({"p0": [Completion("x")]}, after, prompts(1), {"n": Length()}, config())
    assert not imported.has("tokens")


class Length:
    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        return [Score(float(len(c.text))) for c in completions]


def test_examples_are_the_extremes_and_a_seeded_rest() -> None:
    gains = [0, 5, -3, 1, 2, 9, -1, 0, 0, 0]
    arguments = (side(*[[0]] * 10), side(*[[g] for g in gains]), prompts(10), {"n": Number()})
    result = evaluate(*arguments, config(examples=2, seed=3))
    found = {
        why: [e.prompt_id for e in result.examples if e.why == why] for why in ("gain", "loss", "random")
    }
    assert found["gain"] == ["p5", "p1"]
    assert found["loss"] == ["p2", "p6"]
    assert len(set(found["random"]) - {"p5", "p1", "p2", "p6"}) == 2
    assert result == evaluate(*arguments, config(examples=2, seed=3))
    first = result.examples[0]
    assert (first.before, first.after, first.after_note) == ("0", "9", "it is 9.0")
    assert [f.name for f in first.figures] == ["n", "n.half", "n.minus"]
    assert (first.figures[1].before, first.figures[1].after) == (0.0, 4.5)


def test_samplers() -> None:
    result = evaluate_samplers(
        Fixed("1", "2"), Fixed("2", "3"), prompts(4), {"n": Number()}, config(samples=2), KL(0.5, 0.4)
    )
    row = result.row("n")
    assert (row.difference, row.low, row.high) == (1, 1, 1)
    assert result.row("tokens").before_mean == 1
    assert result.kl == KL(0.5, 0.4)


def test_json_round_trip() -> None:
    result = evaluate_samplers(
        Fixed("1"), Fixed("2"), prompts(12), {"n": Number()}, config(), KL(0.1, -0.1, 0.02)
    )
    assert Evaluation.from_json(result.to_json()) == result
    with pytest.raises(DataError, match="not an evaluation"):
        Evaluation.from_json("{}")


class Broken:
    """A scorer with one planted fault."""

    def __init__(self, *scores: Score) -> None:
        self.scores = list(scores)

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        return [self.scores.pop(0)] if self.scores else []


def test_bad_scores_are_refused() -> None:
    sides = side([1], [1]), side([1], [1])
    with pytest.raises(NumericsError, match=r"'n' gave nan"):
        evaluate(*sides, prompts(2), {"n": Broken(Score(float("nan")))}, config())
    with pytest.raises(DataError, match="0 scores for the 1 completions of prompt 'p1'"):
        evaluate(*sides, prompts(2), {"n": Broken(Score(1.0))}, config())
    with pytest.raises(DataError, match="same parts"):
        evaluate(*sides, prompts(2), {"n": Broken(Score(1.0, {"a": 1.0}), Score(1.0))}, config())


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_bad_parts_are_refused(value: float) -> None:
    with pytest.raises(NumericsError, match="parts"):
        evaluate(side([1]), side([1]), prompts(1), {"n": Broken(Score(1.0, {"a": value}))}, config())


def test_bad_input_is_refused() -> None:
    one = side([1])
    scorers = {"n": Number()}
    with pytest.raises(DataError, match="no prompts"):
        evaluate(one, one, [], scorers, config())
    with pytest.raises(DataError, match="'p1' has 0 completions before"):
        evaluate(one, side([1], [2]), prompts(2), scorers, config())
    with pytest.raises(DataError, match="has 1 completions before; the config's `samples` says 2"):
        evaluate(one, one, prompts(1), scorers, config(samples=2))
    with pytest.raises(DataError, match="stands twice"):
        evaluate(one, one, prompts(1) * 2, scorers, config())
    with pytest.raises(DataError, match="no scorer"):
        evaluate(one, one, prompts(1), {}, config())
    with pytest.raises(DataError, match="'words'"):
        evaluate(one, one, prompts(1), {"words": Number()}, config())
    with pytest.raises(DataError, match="criterion 'm'"):
        evaluate(one, one, prompts(1), scorers, config(criterion="m"))
    with pytest.raises(ConfigError, match="did you mean 'samples'"):
        config(sample=2)
    with pytest.raises(DataError, match="no row 'm'; its rows: n, "):
        evaluate(one, one, prompts(1), scorers, config()).row("m")


def test_impossible_kl_is_refused() -> None:
    with pytest.raises(NumericsError, match="cannot be negative"):
        KL(-0.1, 0.0)
    with pytest.raises(NumericsError, match="not finite"):
        KL(0.1, float("nan"))


def test_each_row_says_how_sure_it_is_and_what_it_could_have_found() -> None:
    values = np.random.default_rng(1).normal(0.8, 1.0, 30)
    result = evaluate(
        side(*[[0.0]] * 30), side(*[[v] for v in values]), prompts(30), {"n": Number()}, config()
    )
    row, half = result.row("n"), result.row("n.half")
    assert row.p is not None
    assert row.p < 0.05
    assert row.p_holm is None  # the criterion was named beforehand
    assert half.p == row.p
    others = [r.p for r in result.rows if r.p is not None and r.name != "n"]
    assert half.p_holm == pytest.approx(holm(others)[others.index(half.p)])
    assert row.detectable == pytest.approx(detectable_mean(30, float(values.std(ddof=1))))


def test_prompts_that_are_one_question_count_as_one() -> None:
    values = np.random.default_rng(1).normal(0.3, 1.0, 20)
    many = [Prompt.from_text(f"wording {i}", id=f"p{i}", meta={"cluster": i // 4}) for i in range(80)]
    before, after = side(*[[0.0]] * 80), side(*[[v] for v in np.repeat(values, 4)])
    apart = evaluate(before, after, prompts(80), {"n": Number()}, config()).row("n")
    together = evaluate(before, after, many, {"n": Number()}, config()).row("n")
    same_text = [Prompt.from_text(f"wording {i // 4}", id=f"p{i}") for i in range(80)]
    repeated = evaluate(before, after, same_text, {"n": Number()}, config()).row("n")
    assert together.high - together.low > 1.6 * (apart.high - apart.low)
    assert repeated == together


def test_one_question_alone_has_no_interval() -> None:
    one = [Prompt.from_text(f"wording {i}", id=f"p{i}", meta={"cluster": "a"}) for i in range(3)]
    result = evaluate(side([0.0], [0.0], [0.0]), side([1.0], [2.0], [3.0]), one, {"n": Number()}, config())
    assert (result.row("n").low, result.row("n").high, result.row("n").detectable) == (None, None, None)
    assert Evaluation.from_json(result.to_json()) == result
