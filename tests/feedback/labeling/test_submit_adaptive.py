"""Adaptive overlap asks one labeler more while a prompt is unsettled, by the posterior of its rankings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from accord.feedback.consensus import AgreeConfig
from accord.feedback.labeling.answers import Answer
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.queue import claim, fill
from accord.feedback.labeling.settle import RELIABILITY, TIE, Trust, least_certain, read_trust
from accord.feedback.labeling.submit import submit
from accord.judgements import Ranking
from accord.recipes.judgements import agree
from accord.stats.fitting import assume
from accord.stats.rankings import ranking_table
from accord.store import state as t
from accord.store.lineage import Status
from accord.store.store import Store
from accord.types import Completion, Prompt
from accord.workspace import Workspace
from label_examples import add_prompts, claimed, ids, in_order, open_store

CONFIG = LabelConfig(overlap=4, first_overlap=2, repeat_share=0, gold_share=0, completions=3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/a.db", tmp_path)
    yield store
    store.close()


def wanted(store: Store) -> int:
    with store.database.read() as connection:
        return connection.execute(select(t.queue.c.wanted)).scalar_one()


def rank(store: Store, labeler: str, order: str, config: LabelConfig = CONFIG) -> None:
    """``order`` is letters of the completions, best first; after a dash those that FAIL."""
    task = claimed(store, labeler, config)
    names = dict(zip("abcdefghi", ids(task), strict=False))
    ranked, _, failed = order.partition("-")
    given = Answer(in_order([names[x] for x in ranked]).tiers, tuple(names[x] for x in failed))
    submit(store, labeler, task.id, given, f"key of {labeler}", "g", config, now=0)


@pytest.mark.parametrize(
    ("orders", "asked"),
    [
        (["abc"], 2),
        (["abc", "abc"], 2),
        (["-abc", "-abc"], 2),
        (["a-bc", "a-bc"], 2),
        (["abc", "cba"], 3),
        (["abc", "cba", "abc"], 4),
        (["abc", "cba", "abc", "cba"], 4),
        (["abc", "-abc"], 3),
    ],
)
def test_another_labeler_is_asked_only_where_the_first_leave_doubt(
    store: Store, orders: list[str], asked: int
) -> None:
    add_prompts(store, 1, completions=3)
    fill(store, CONFIG)
    for n, order in enumerate(orders):
        rank(store, f"labeler {n}", order)
    assert wanted(store) == asked
    assert (claim(store, "one more", CONFIG, now=0) is None) == (asked == len(orders))


def test_without_adaptive_overlap_all_labelers_are_asked(store: Store) -> None:
    config = CONFIG.model_copy(update={"adaptive": False})
    add_prompts(store, 1, completions=3)
    fill(store, config)
    assert wanted(store) == 4
    rank(store, "ann", "abc", config)
    rank(store, "bob", "abc", config)
    assert wanted(store) == 4


def a_ranking(labeler: str, *tiers: str, fails: str = "") -> Ranking:
    return Ranking("p", labeler, tuple(map(tuple, tiers)), tuple(fails))


def test_with_equal_trust_it_is_the_consensus_of_assumed_reliability() -> None:
    rankings = [a_ranking("ann", "a", "b", "c"), a_ranking("bob", "b", "ac")]
    p_S = assume(ranking_table(rankings), RELIABILITY, TIE).p_first()
    expected = np.maximum(p_S, 1 - p_S).min()
    assert least_certain(rankings, "abc", Trust()) == pytest.approx(expected)


def test_it_does_not_depend_on_order_or_names() -> None:
    rankings = [a_ranking("ann", "a", "b", "c"), a_ranking("bob", "b", "a", "c")]
    swapped = [a_ranking("zoe", "b", "c", "a"), a_ranking("yan", "c", "b", "a")]
    value = least_certain(rankings, "abc", Trust())
    assert least_certain(rankings[::-1], "cab", Trust()) == pytest.approx(value)
    assert least_certain(swapped, "abc", Trust()) == pytest.approx(value)
    assert value == pytest.approx(0.5, abs=1e-6)


def test_who_is_trusted_more_decides() -> None:
    rankings = [a_ranking("ann", "a", "b"), a_ranking("bob", "b", "a")]
    even = least_certain(rankings, "ab", Trust({"ann": 4, "bob": 4}))
    uneven = least_certain(rankings, "ab", Trust({"ann": 4, "bob": 0.1}))
    assert even == pytest.approx(0.5, abs=1e-6)
    assert uneven > 0.7


@pytest.mark.parametrize(
    ("rankings", "expected"),
    [
        ([], 0.5),
        ([a_ranking("ann", "a", "b")], 0.5),  # c was never placed
        ([a_ranking("ann", fails="abc")], 1.0),
        ([a_ranking("ann", "a"), a_ranking("bob", "b"), a_ranking("cy", "c")], 0.5),
    ],
)
def test_what_nobody_compared_is_uncertain_and_fail_fail_is_no_question(
    rankings: list[Ranking], expected: float
) -> None:
    assert least_certain(rankings, "abc", Trust()) == expected


def test_trust_is_read_from_the_latest_finished_agree_run(store: Store, tmp_path: Path) -> None:
    assert read_trust(store).typical == RELIABILITY
    for value, status in [(1.0, Status.DONE), (3.0, Status.DONE), (9.0, Status.FAILED)]:
        run = store.start_run("agree", {}, [])
        row = {"labeler": "ann", "reliability": {"value": value, "low": 0, "high": 5}}
        unknown = {"labeler": "bob", "reliability": None}
        (run.path / "consensus.json").write_text(json.dumps({"labelers": [row, unknown]}))
        store.finish_run(run.id, status, {})
    assert read_trust(store).reliability == {"ann": 3.0}
    assert read_trust(store).typical == 3.0


def test_labelers_whom_the_consensus_took_for_alike_are_trusted_alike(tmp_path: Path) -> None:
    """By chance alone one of two looks better; the adaptive queue must not believe what the fit did not."""
    workspace = Workspace.create(tmp_path / "w")
    for n in range(12):
        prompt, one, two = (
            Prompt.from_text(f"question {n}"),
            Completion("x", id=f"a{n}"),
            Completion("y", id=f"b{n}"),
        )
        workspace.store.add_groups([(prompt, [one, two])])
        order = (one.id,), (two.id,)
        votes = {"ann": order, "bob": order if n % 4 else order[::-1], "cat": order}
        workspace.store.add_rankings([Ranking(prompt.id, name, vote) for name, vote in votes.items()])
    _, consensus = agree(workspace, AgreeConfig())
    assert consensus.prior.alike
    assert len({row.reliability.value for row in consensus.labelers}) > 1, "what is reported differs"
    trust = read_trust(workspace.store)
    assert set(trust.reliability) == {"ann", "bob", "cat"}
    assert set(trust.reliability.values()) == {consensus.prior.prior.reliability_mean}


def test_two_unknown_labelers_who_agree_settle_a_prompt_and_one_alone_does_not() -> None:
    same = [a_ranking(name, *"abcd") for name in ("ann", "bob")]
    assert least_certain(same[:1], "abcd", Trust()) == pytest.approx(0.74, abs=0.01)
    assert least_certain(same, "abcd", Trust()) == pytest.approx(0.82, abs=0.01)
