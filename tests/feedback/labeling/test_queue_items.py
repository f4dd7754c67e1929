"""Repeats, gold and the quiz: by their share, never twice, and beside the overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from accord.feedback.labeling import people
from accord.feedback.labeling.answers import Answer
from accord.feedback.labeling.queue import claim, fill, set_gold
from accord.feedback.labeling.submit import skip, submit, take_back
from accord.store import state as t
from accord.store.store import Store
from label_examples import PLAIN, add_prompts, answer, claimed, ids, in_order, open_store

QUIZ = PLAIN.model_copy(update={"quiz": 3})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/a.db", tmp_path)
    yield store
    store.close()


def add_gold(store: Store, count: int, quiz: bool) -> set[str]:
    """Prompts whose known answer is the completions' own order."""
    prompts = add_prompts(store, count, completions=3, prefix=f"gold {quiz}")
    for id in prompts:
        a, b, c = (c.id for c in store.completions([id])[id])
        set_gold(store, id, [[a], [b]], [c], quiz)
    return set(prompts)


def add_labeler(store: Store) -> None:
    people.add_person(store, "ann", people.Role.LABELER, 0.0)


def quiz_of(store: Store) -> str:
    with store.database.read() as connection:
        return connection.execute(select(t.people.c.quiz)).scalar_one()


def test_repeats_and_gold_come_by_their_share_and_only_once(store: Store) -> None:
    config = PLAIN.model_copy(update={"repeat_share": 0.05, "gold_share": 0.04, "overlap": 1})
    golds = add_gold(store, 30, quiz=False)
    add_prompts(store, 300)
    fill(store, config)
    met = []
    for n in range(300):
        task = claimed(store, "ann", config, now=n)
        met.append(task)
        answer(store, "ann", task, config, now=n)
    purposes = Counter(task.purpose for task in met)
    assert abs(purposes["repeat"] - 15) <= 1
    assert abs(purposes["gold"] - 12) <= 1
    where: dict[str, list[int]] = {}
    for n, task in enumerate(met):
        where.setdefault(task.prompt.id, []).append(n)
    repeated = {met[places[1]].prompt.id for places in where.values() if len(places) > 1}
    assert len(repeated) == purposes["repeat"]
    assert all(len(p) <= 2 and (len(p) == 1 or p[1] - p[0] >= 5) for p in where.values())
    assert {task.prompt.id for task in met if task.purpose == "gold"} <= golds
    pairs = [[met[n] for n in places] for places in where.values() if len(places) == 2]
    assert all(ids(first) == ids(second) for first, second in pairs)
    assert any(first.completions != second.completions for first, second in pairs), "the order is drawn anew"
    with store.database.read() as connection:
        taken = sum(connection.execute(select(t.queue.c.taken)).scalars())
    assert taken == purposes["label"]
    assert Counter(r.arm for r in store.rankings())["repeat"] == purposes["repeat"]
    assert store.verify() == []


def test_a_quiz_comes_first_and_is_passed_by_most_pairs_right(store: Store) -> None:
    quiz = add_gold(store, 5, quiz=True)
    add_prompts(store, 3)
    fill(store, QUIZ)
    add_labeler(store)
    for n in range(3):
        task = claimed(store, "ann", QUIZ, now=n)
        assert task.prompt.id in quiz
        assert quiz_of(store) == "open"
        a, b, c = ids(task)
        # the last one with two of three pairs turned round: 7 of 9 pairs are right
        given = in_order([a, b, c] if n < 2 else [b, c, a])
        submit(store, "ann", task.id, given, f"k{n}", "g", QUIZ, now=n)
    assert quiz_of(store) == "passed"
    assert claimed(store, "ann", QUIZ, now=5).purpose == "label"
    assert take_back(store, "ann", QUIZ, now=6) is None, "a quiz that is over stays as it is"


@pytest.mark.parametrize("how", ["wrong", "tied", "skipped"])
def test_a_failed_quiz_ends_a_labelers_tasks(store: Store, how: str) -> None:
    add_gold(store, 3, quiz=True)
    add_prompts(store, 3)
    fill(store, QUIZ)
    add_labeler(store)
    for n in range(3):
        task = claimed(store, "ann", QUIZ, now=n)
        items = ids(task)
        if how == "skipped":
            skip(store, "ann", task.id, "hard", "", f"k{n}", now=n)
        else:
            given = in_order(items[::-1]) if how == "wrong" else Answer((tuple(items),))
            submit(store, "ann", task.id, given, f"k{n}", "g", QUIZ, now=n)
    assert claim(store, "ann", QUIZ, now=9) is None
    assert quiz_of(store) == "failed"


def test_only_a_labeler_who_is_new_is_examined(store: Store) -> None:
    add_prompts(store, 3)
    fill(store, QUIZ)
    add_labeler(store)
    people.add_person(store, "olga", people.Role.OWNER, 0.0)
    answer(store, "ann", claimed(store, "ann", QUIZ, now=0), QUIZ, now=0)  # before there are any items
    add_gold(store, 3, quiz=True)
    assert claimed(store, "ann", QUIZ, now=1).purpose == "label"
    assert claimed(store, "olga", QUIZ, now=1).purpose == "label"


def test_a_quiz_item_left_lying_comes_again(store: Store) -> None:
    add_gold(store, 3, quiz=True)
    fill(store, QUIZ)
    add_labeler(store)
    first = claimed(store, "ann", QUIZ, now=0)
    assert claim(store, "bob", QUIZ, now=10_000) is None  # ends the lease
    assert claimed(store, "ann", QUIZ, now=10_001).id == first.id


def test_a_paused_labeler_gets_no_tasks(store: Store) -> None:
    add_prompts(store, 1)
    fill(store, PLAIN)
    add_labeler(store)
    people.set_status(store, "ann", "paused")
    assert claim(store, "ann", PLAIN, now=0) is None
