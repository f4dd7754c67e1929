"""Answers are stored once and whole, fit their task and protocol, and can be corrected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from accord.errors import AccordError, DataError
from accord.feedback.labeling.answers import Answer
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.queue import claim, fill
from accord.feedback.labeling.submit import flag, refuse, skip, stored, submit, take_back
from accord.feedback.labeling.webhooks import add_webhook, deliveries
from accord.judgements import Remark
from accord.store import state as t
from accord.store.store import Store
from label_examples import PLAIN, add_prompts, answer, claimed, ids, in_order, open_store

ONE = PLAIN.model_copy(update={"overlap": 1})
LEASE = 600.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/a.db", tmp_path)
    add_prompts(store, 2)
    fill(store, PLAIN)
    yield store
    store.close()


@pytest.fixture
def any_store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    store = open_store(database_url, tmp_path)
    add_prompts(store, 2)
    fill(store, PLAIN)
    yield store
    store.close()


def test_a_ranking_is_stored_as_entered(any_store: Store) -> None:
    task = claimed(any_store, "ann", PLAIN)
    a, b, c, d = ids(task)
    given = Answer(((c,), (a, b)), (d,), note="b\x00c \u2028", seconds=12.5)
    receipt = submit(any_store, "ann", task.id, given, "k", "v1", PLAIN, now=5)
    (ranking,) = any_store.rankings()
    assert receipt.ids == (ranking.id,)
    assert not receipt.duplicate
    assert not receipt.surplus
    assert (ranking.tiers, ranking.fails, ranking.note) == (given.tiers, given.fails, given.note)
    assert ranking.shown == tuple(each.id for each in task.completions)
    assert (ranking.labeler, ranking.prompt_id, ranking.seconds) == ("ann", task.prompt.id, 12.5)
    assert (ranking.criterion, ranking.guidelines, ranking.source) == (PLAIN.criterion, "v1", "human")
    assert (ranking.protocol, ranking.arm, ranking.assignment) == ("rank", "random", task.id)
    assert any_store.verify() == []


def test_a_submission_sent_again_is_the_same_receipt(any_store: Store) -> None:
    task = claimed(any_store, "ann", PLAIN)
    first = answer(any_store, "ann", task, PLAIN, key="k")
    for _ in range(3):
        again = answer(any_store, "ann", task, PLAIN, key="k")
        assert again == replace(first, duplicate=True)
    assert len(list(any_store.rankings(current=False))) == 1
    assert stored(any_store, "ann", ["k", "other", "\x00"]) == {"k"}
    assert stored(any_store, "bob", ["k"]) == set()


def test_a_forged_or_reused_submission_changes_nothing(any_store: Store) -> None:
    store = any_store
    task, other = claimed(store, "ann", PLAIN), claimed(store, "bob", PLAIN)
    with pytest.raises(DataError, match="not one of yours"):
        submit(store, "bob", task.id, in_order(ids(task)), "k", "g", PLAIN, now=0)
    answer(store, "ann", task, PLAIN, key="k")
    with pytest.raises(DataError, match="used for another submission"):
        answer(store, "bob", other, PLAIN, key="k")
    with pytest.raises(DataError, match="used for another submission"):
        submit(store, "ann", task.id, in_order(ids(task)[::-1]), "k", "g", PLAIN, now=0)
    with pytest.raises(DataError, match="is submitted; take it back"):
        answer(store, "ann", task, PLAIN, key="k2")
    for key in ("\n", "x" * 201, "a\x00", "\ud800"):
        with pytest.raises(DataError, match="cannot be"):
            answer(store, "bob", other, PLAIN, key=key)
    assert len(list(store.rankings())) == 1
    assert store.verify() == []


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (lambda a, b, c, d: in_order([a, b, c]), "1 of 4 completions are not placed"),
        (lambda a, b, c, d: Answer(), "4 of 4 completions are not placed"),
        (lambda a, b, c, d: in_order([a, b, c, d, "e"]), "were not shown"),
        (lambda a, b, c, d: in_order([a, b, c, d, a]), "stands twice"),
        (lambda a, b, c, d: Answer(((a, b), (c,)), (d, c)), "stands twice"),
        (lambda a, b, c, d: Answer(((a, b, c, d), ())), "empty tier"),
        (lambda a, b, c, d: replace(in_order([a, b, c, d]), strength=0.5), "takes no strength"),
        (lambda a, b, c, d: replace(in_order([a, b, c, d]), edited="x"), "takes no edited"),
        (lambda a, b, c, d: replace(in_order([a, b, c, d]), thumbs={a: True}), "takes no thumbs"),
        (lambda a, b, c, d: replace(in_order([a, b, c, d]), seconds=float("nan")), "seconds is nan"),
        (lambda a, b, c, d: replace(in_order([a, b, c, d]), seconds=-1.0), "seconds is -1"),
        (lambda a, b, c, d: replace(in_order([a, b, c, d]), note="\ud800"), "lone surrogate"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_and_the_task_stays(store: Store, wrong, match: str) -> None:
    task = claimed(store, "ann", PLAIN)
    with pytest.raises(DataError, match=match):
        submit(store, "ann", task.id, wrong(*ids(task)), "k", "g", PLAIN, now=0)
    assert list(store.rankings()) == []
    assert claimed(store, "ann", PLAIN).id == task.id
    answer(store, "ann", task, PLAIN, key="k")


def test_partial_rankings_where_the_project_says_so(store: Store) -> None:
    config = PLAIN.model_copy(update={"partial": True})
    task = claimed(store, "ann", config)
    a, b, *_ = ids(task)
    with pytest.raises(DataError, match="not placed"):
        submit(store, "ann", task.id, Answer(), "k", "g", config, now=0)
    with pytest.raises(DataError, match="one placed completion says nothing"):
        submit(store, "ann", task.id, Answer(((a,),)), "k", "g", config, now=0)
    submit(store, "ann", task.id, Answer(((a,),), (b,)), "k", "g", config, now=0)
    assert next(store.rankings()).tiers == ((a,),)


def test_an_answer_after_its_lease_takes_the_place_again_or_is_surplus(store: Store) -> None:
    first = claimed(store, "ann", ONE, now=0)
    # the tasks were made for two labelers: ann, bob and cy want the same one
    second = {name: claimed(store, name, PLAIN, now=LEASE) for name in ("bob", "cy")}
    same = [name for name, task in second.items() if task.prompt.id == first.prompt.id]
    assert same == ["bob", "cy"]
    assert answer(store, "ann", first, PLAIN, now=LEASE + 1).surplus
    assert next(store.rankings()).arm == "surplus"
    again = answer(store, "ann", first, PLAIN, now=LEASE + 2)
    assert again.duplicate
    assert again.surplus
    skip(store, "cy", second["cy"].id, "unclear", "", "s", now=LEASE + 3)
    late = claimed(store, "dan", PLAIN, now=LEASE + 4)
    claim(store, "eve", PLAIN, now=3 * LEASE)  # ends bob's and dan's leases; eve takes a place
    receipt = answer(store, "dan", late, PLAIN, now=3 * LEASE + 1)
    assert not receipt.surplus, "its place was free"
    assert store.verify() == []


def test_an_answer_taken_back_is_superseded_by_the_next(any_store: Store) -> None:
    store = any_store
    task = claimed(store, "ann", PLAIN, now=0)
    first = answer(store, "ann", task, PLAIN, now=1, key="one")
    under_way = claimed(store, "ann", PLAIN, now=2)
    back = take_back(store, "ann", PLAIN, now=3)
    assert back is not None
    assert back.id == task.id
    assert back.answer is not None
    assert back.answer.id == first.ids[0]
    assert claimed(store, "ann", PLAIN, now=4).id == task.id, "what was taken back comes first"
    given = in_order(ids(task)[::-1])
    second = submit(store, "ann", task.id, given, "two", "g", PLAIN, now=5)
    (ranking,) = store.rankings()
    assert (ranking.id, ranking.supersedes, ranking.tiers) == (second.ids[0], first.ids[0], given.tiers)
    assert len(list(store.rankings(current=False))) == 2
    assert claimed(store, "ann", PLAIN, now=6).id == under_way.id
    assert answer(store, "ann", task, PLAIN, key="one").ids == first.ids, "a receipt stays what it was"
    assert store.verify() == []


def test_an_answer_taken_back_and_left_stands(store: Store) -> None:
    task = claimed(store, "ann", PLAIN, now=0)
    answer(store, "ann", task, PLAIN, now=1)
    assert take_back(store, "ann", PLAIN, now=2) is not None
    with pytest.raises(DataError, match="has an answer, which stands"):
        skip(store, "ann", task.id, "unclear", "", "s", now=3)
    claimed(store, "bob", PLAIN, now=2 + LEASE)
    assert claimed(store, "ann", PLAIN, now=2 + LEASE).prompt.id != task.prompt.id
    assert len(list(store.rankings())) == 1
    assert store.verify() == []
    assert take_back(store, "nobody", PLAIN, now=0) is None


def test_skips_and_flags_are_kept_and_sent_once(any_store: Store) -> None:
    store = any_store
    task = claimed(store, "ann", PLAIN)
    a = ids(task)[0]
    flagged = flag(store, "ann", task.id, "private", "an address", a, "f", now=0)
    assert flag(store, "ann", task.id, "private", "an address", a, "f", now=1) == replace(
        flagged, duplicate=True
    )
    assert claimed(store, "ann", PLAIN).id == task.id, "a flag leaves the task"
    skipped = skip(store, "ann", task.id, "unclear", "", "s", now=2)
    assert skip(store, "ann", task.id, "unclear", "", "s", now=3) == replace(skipped, duplicate=True)
    assert list(store.remarks()) == [
        Remark(task.prompt.id, "ann", "flag", "private", "an address", a, id=flagged.ids[0]),
        Remark(task.prompt.id, "ann", "skip", "unclear", id=skipped.ids[0]),
    ]
    for wrong in (
        lambda: skip(store, "bob", task.id, "unclear", "", "x", now=4),
        lambda: skip(store, "ann", task.id, "unclear", "", "x", now=4),
        lambda: flag(store, "ann", task.id, "private", "", "no such", "x", now=4),
    ):
        with pytest.raises(DataError):
            wrong()
    assert store.verify() == []


def test_a_refused_submission_is_kept_whole(any_store: Store) -> None:
    bodies = [{"tiers": [["a"]], "key": "k"}, "\ud800", {"n": float("nan")}, "a\x00b", None, [1, {"x": "é"}]]
    for n, body in enumerate(bodies):
        refuse(any_store, "eve", "not theirs", body, now=n)
    with any_store.database.read() as connection:
        rows = connection.execute(select(t.refusals).order_by(t.refusals.c.at)).mappings().all()
    expected = [bodies[0], "'\\ud800'", "{'n': nan}", bodies[3], "None", bodies[5]]
    assert [row["body"] for row in rows] == expected
    assert {row["labeler"] for row in rows} == {"eve"}


# -- other protocols ---------------------------------------------------------------------------------


def with_protocol(protocol: str, **more: object) -> LabelConfig:
    return LabelConfig.build({**PLAIN.model_dump(), "protocol": protocol, "criterion": protocol, **more})


def test_a_pair_is_a_ranking_with_strength(store: Store) -> None:
    config = with_protocol("pair")
    fill(store, config)
    task = claimed(store, "ann", config)
    a, b = ids(task)
    for wrong in (Answer(((a,),)), Answer(((a,), (b,)), strength=1.5), Answer(((a,), (b,)), strength=-0.1)):
        with pytest.raises(DataError):
            submit(store, "ann", task.id, wrong, "k", "g", config, now=0)
    submit(store, "ann", task.id, Answer(((b,), (a,)), strength=0.75), "k", "g", config, now=0)
    tied = claimed(store, "ann", config)
    submit(store, "ann", tied.id, Answer((tuple(ids(tied)),), strength=0.0), "k2", "g", config, now=0)
    first, second = store.rankings()
    assert (first.protocol, first.tiers, first.strength) == ("pair", ((b,), (a,)), 0.75)
    assert (second.tiers, second.strength) == ((tuple(ids(tied)),), 0.0)


def test_thumbs_are_votes_and_the_latest_counts(store: Store) -> None:
    config = with_protocol("thumb")
    fill(store, config)
    task = claimed(store, "ann", config)
    a, b, c, d = ids(task)
    for wrong in ({a: True}, {a: True, b: True, c: True, "e": True}, {}):
        with pytest.raises(DataError):
            submit(store, "ann", task.id, Answer(thumbs=wrong), "k", "g", config, now=0)
    votes = {a: True, b: False, c: True, d: False}
    receipt = submit(store, "ann", task.id, Answer(thumbs=votes), "k", "g", config, now=0)
    assert len(receipt.ids) == 4
    assert {v.completion_id: v.up for v in store.thumbs()} == votes
    assert take_back(store, "ann", config, now=1) is not None
    submit(store, "ann", task.id, Answer(thumbs={**votes, a: False}), "k2", "g", config, now=2)
    assert {v.completion_id: v.up for v in store.thumbs()} == {**votes, a: False}
    assert store.verify() == []


def test_an_edit_is_a_new_completion_above_the_original(store: Store) -> None:
    config = with_protocol("edit")
    fill(store, config)
    task = claimed(store, "ann", config)
    a, b, *_ = ids(task)
    text = next(c.text for c in task.completions if c.id == a)
    for wrong in (
        Answer(edited=" ", edited_of=a),
        Answer(edited="better", edited_of="no such"),
        Answer(edited=text, edited_of=b, tiers=((a,),)),
    ):
        with pytest.raises(DataError):
            submit(store, "ann", task.id, wrong, "k", "g", config, now=0)
    submit(store, "ann", task.id, Answer(edited="better", edited_of=a), "k", "g", config, now=0)
    (ranking,) = store.rankings()
    new = {c.id: c for c in store.completions([task.prompt.id])[task.prompt.id]}[ranking.tiers[0][0]]
    assert (new.text, new.origin, new.ids) == ("better", None, ())
    assert (ranking.protocol, ranking.tiers[1]) == ("edit", (a,))
    assert store.verify() == []


def test_webhooks_hear_of_labels_and_of_what_is_complete(store: Store) -> None:
    add_webhook(store, "https://example.org/hook", [], now=0)
    for n, labeler in enumerate(["ann", "ann", "bob", "bob"]):
        answer(store, labeler, claimed(store, labeler, PLAIN, now=n), PLAIN, now=n)
    take_back(store, "bob", PLAIN, now=9)
    task = claimed(store, "bob", PLAIN, now=9)
    submit(store, "bob", task.id, in_order(ids(task)[::-1]), "again", "g", PLAIN, now=10)
    heard = [each.event for each in deliveries(store)]
    assert {name: heard.count(name) for name in set(heard)} == {
        "label.created": 4,
        "label.superseded": 1,
        "prompt.complete": 3,
        "queue.complete": 2,
    }


def test_nothing_is_announced_of_an_answer_that_was_refused(store: Store) -> None:
    add_webhook(store, "https://example.org/hook", [], now=0)
    task = claimed(store, "ann", PLAIN)
    with pytest.raises(AccordError):
        submit(store, "ann", task.id, Answer(), "k", "g", PLAIN, now=0)
    assert deliveries(store) == []
