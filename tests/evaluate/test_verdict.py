"""Each rule of the verdict, hit and just missed."""

from __future__ import annotations

import pytest

from accord.errors import DataError
from accord.evaluate.record import Evaluation, Kind, Row
from accord.evaluate.verdict import Outcome, Rule, VerdictConfig, verdict


def row(name: str, before: float, after: float, half: float = 0.01, kind: Kind = Kind.TEXT) -> Row:
    change = after - before
    return Row(name, kind, "higher", before, 0.1, after, 0.1, change, change - half, change + half)


def evaluation(*rows: Row, prompts: int = 50) -> Evaluation:
    """A plain improvement of ``gold`` from 0.5 to 0.7, with ``rows`` in place of the ordinary ones."""
    ordinary = [
        row("gold", 0.5, 0.7, kind=Kind.SCORER), row("words", 40, 44), row("repetition", 0.1, 0.1),
        row("empty", 0, 0), row("truncated", 0.02, 0.02), row("diversity", 0.6, 0.55),
    ]  # fmt: skip
    given = {r.name: r for r in rows}
    merged = [given.pop(r.name, r) for r in ordinary] + list(given.values())
    return Evaluation(prompts, 1, "gold", 0.95, 1000, 0, tuple(merged), (), "")


def rules(*rows: Row, prompts: int = 50, **config: object) -> set[Rule]:
    found = verdict(evaluation(*rows, prompts=prompts), VerdictConfig.build(config))
    return {concern.rule for concern in found.concerns}


def test_improved_without_a_concern() -> None:
    found = verdict(evaluation())
    assert found.outcome is Outcome.IMPROVED
    assert found.concerns == ()
    assert found.sentence == (
        "On 50 prompts, gold rose: 0.500 before, 0.700 after, a difference of +0.200 "
        "(95% interval +0.190 to +0.210)."
    )


@pytest.mark.parametrize(
    ("after", "outcome"),
    [(0.52, Outcome.IMPROVED), (0.509, Outcome.UNCHANGED), (0.491, Outcome.UNCHANGED), (0.48, Outcome.WORSE)],
)
def test_the_interval_decides(after: float, outcome: Outcome) -> None:
    assert verdict(evaluation(row("gold", 0.5, after, kind=Kind.SCORER))).outcome is outcome


def test_few_prompts_measure_nothing() -> None:
    found = verdict(evaluation(prompts=9))
    assert found.outcome is Outcome.UNCHANGED
    assert [c.rule for c in found.concerns] == [Rule.FEW_PROMPTS]
    assert verdict(evaluation(prompts=10)).outcome is Outcome.IMPROVED


@pytest.mark.parametrize(
    ("reward", "gold", "expected"),
    [
        (1.0, 0.4, {Rule.HACKING}),
        (1.0, 0.5, {Rule.NOT_CARRIED}),
        (1.0, 0.7, set()),
        (0.0, 0.4, set()),
        (-1.0, 0.4, {Rule.REWARD_FELL}),
        (-1.0, 0.7, {Rule.REWARD_FELL}),
    ],
)
def test_proxy_against_gold(reward: float, gold: float, expected: set[Rule]) -> None:
    rows = row("reward", 0.0, reward, kind=Kind.SCORER), row("gold", 0.5, gold, kind=Kind.SCORER)
    assert rules(*rows, proxy="reward") == expected
    assert rules(*rows) == set()


def test_the_proxy_may_be_the_criterion() -> None:
    assert rules(row("gold", 0.5, 0.4, kind=Kind.SCORER), proxy="gold") == set()
    assert rules(row("gold", 0.5, 0.6, kind=Kind.SCORER), proxy="gold") == {Rule.OWN_JUDGE}


def test_fluency() -> None:
    name = "gold.fluent"
    assert rules(row(name, 0.95, 0.92, kind=Kind.PART), fluency=name) == {Rule.FLUENCY}
    assert rules(row(name, 0.95, 0.935, kind=Kind.PART), fluency=name) == set()


def test_a_part_that_fell() -> None:
    assert rules(row("gold.honest", 0.9, 0.8, kind=Kind.PART)) == {Rule.PART_FELL}
    assert rules(row("gold.honest", 0.9, 0.895, kind=Kind.PART)) == set()
    assert rules(row("other.honest", 0.9, 0.8, kind=Kind.PART)) == set()


@pytest.mark.parametrize(
    ("after", "expected"), [(61, {Rule.LONGER}), (59, set()), (21, set()), (19, {Rule.SHORTER})]
)
def test_length(after: float, expected: set[Rule]) -> None:
    assert rules(row("words", 40, after)) == expected


@pytest.mark.parametrize(
    ("name", "limit", "rule"),
    [("truncated", 0.05, Rule.TRUNCATED), ("empty", 0.01, Rule.EMPTY), ("repetition", 0.05, Rule.REPETITION)],
)
def test_shares(name: str, limit: float, rule: Rule) -> None:
    assert rules(row(name, 0.1, 0.1 + limit + 0.001)) == {rule}
    assert rules(row(name, 0.1, 0.1 + limit - 0.001)) == set()


@pytest.mark.parametrize("name", ["diversity", "distinct_2"])
def test_diversity(name: str) -> None:
    assert rules(row(name, 0.6, 0.41)) == {Rule.DIVERSITY}
    assert rules(row(name, 0.6, 0.43)) == set()


def test_labels_are_used_and_unknown_rows_refused() -> None:
    assert "Gold (HHH) rose" in verdict(evaluation(), VerdictConfig(labels={"gold": "Gold (HHH)"})).sentence
    with pytest.raises(DataError, match="no row 'reward'"):
        verdict(evaluation(), VerdictConfig(proxy="reward"))
