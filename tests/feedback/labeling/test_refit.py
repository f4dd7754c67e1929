"""Settings that change reach tasks that were made before, and spoil nothing that somebody has begun."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from accord.errors import DataError
from accord.feedback.labeling.answers import Answer
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.monitor_review import adjudicate, pause
from accord.feedback.labeling.people import Role, add_person
from accord.feedback.labeling.queue import claim, fill, save_draft, set_gold, set_priorities
from accord.feedback.labeling.refit import Refit, refit
from accord.feedback.labeling.submit import skip, submit, take_back
from accord.store import state as t
from accord.store.store import Store
from accord.types import Completion
from label_examples import PLAIN, add_prompts, answer, claimed, ids, in_order, open_store

PAIR = PLAIN.model_copy(update={"protocol": "pair"})
ADAPTIVE = LabelConfig(overlap=2, first_overlap=2, repeat_share=0, gold_share=0, random_share=0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/a.db", tmp_path)
    yield store
    assert store.verify() == []
    store.close()


@pytest.fixture
def any_store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    store = open_store(database_url, tmp_path)
    yield store
    assert store.verify() == []
    store.close()


def changed(config: LabelConfig, **values: object) -> LabelConfig:
    return LabelConfig(**{**config.model_dump(), **values})


def tasks(store: Store) -> list[dict]:
    with store.database.read() as connection:
        return [dict(row) for row in connection.execute(select(t.queue)).mappings()]


def sizes(store: Store) -> list[int]:
    return sorted(len(task["completions"]) for task in tasks(store))


def test_rank_then_pair_then_rank_on_one_workspace(any_store: Store) -> None:
    store = any_store
    add_prompts(store, 3)
    fill(store, PLAIN)
    begun = claimed(store, "ann", PLAIN)
    save_draft(store, "ann", begun.id, {"state": {"places": {}}}, 1, 0)
    assert refit(store, PAIR) == Refit(remade=2, waiting=1)
    assert sizes(store) == [2, 2, 4]

    seen = [claimed(store, "bob", PAIR, now) for now in (1, 2)]  # the second claim renews the first
    assert seen[0].id == seen[1].id
    for now in (3, 4):
        task = claimed(store, "bob", PAIR, now)
        assert len(task.completions) == 2
        submit(store, "bob", task.id, in_order(ids(task)), f"pair {now}", "g", PAIR, now)
    assert claim(store, "bob", PAIR, 5) is None, "what was begun with four answers is no pair"
    mine = claimed(store, "ann", PAIR, 6)
    assert (len(mine.completions), mine.id == begun.id) == (2, False), "her lease on the ranking ended"

    assert refit(store, PLAIN).remade == 0, "all three are begun, or lay on somebody's screen"
    assert sizes(store) == [2, 2, 4]
    submit(store, "ann", mine.id, in_order(ids(mine)), "of two", "g", PLAIN, 7)
    again = [claimed(store, "ann", PLAIN, 8)]
    submit(store, "ann", again[0].id, in_order(ids(again[0])), "next", "g", PLAIN, 9)
    again.append(claimed(store, "ann", PLAIN, 10))
    held = next(each for each in again if len(each.completions) == 4)
    assert held.id == begun.id
    assert held.draft == {"state": {"places": {}}}, "her draft waited with the task"


def test_a_pair_is_refused_where_not_two_were_shown(store: Store) -> None:
    add_prompts(store, 1)
    fill(store, PLAIN)
    task = claimed(store, "ann", PLAIN)
    made_up = in_order(ids(task))
    with pytest.raises(DataError, match="the task shows 4 answers and a pair is two"):
        submit(store, "ann", task.id, made_up, "k", "g", PAIR, 1)
    assert list(store.rankings()) == []


def test_without_refit_nobody_gets_what_the_protocol_cannot_ask(store: Store) -> None:
    add_prompts(store, 2)
    fill(store, PLAIN)
    assert claim(store, "ann", PAIR, 0) is None
    thumbs = changed(PLAIN, criterion="thumbs", protocol="thumb")
    add_prompts(store, 1, completions=1, prefix="lonely")
    assert fill(store, thumbs) == 3
    rank = changed(thumbs, protocol="rank")
    assert {len(claimed(store, name, rank).completions) for name in ("ann", "bob", "cy", "dan")} == {4}


def test_a_repeat_is_never_of_what_the_protocol_cannot_ask(store: Store) -> None:
    add_prompts(store, 14)
    fill(store, PLAIN)
    for n in range(7):
        answer(store, "ann", claimed(store, "ann", PLAIN, n), PLAIN, n)
    often = changed(PAIR, repeat_share=0.2)
    refit(store, often)
    for n in range(7):
        task = claimed(store, "ann", often, 100 + n)
        assert len(task.completions) == 2
        answer(store, "ann", task, often, 100 + n)
    assert len(list(store.rankings())) == 14


def test_an_answer_of_another_protocol_is_not_taken_back(store: Store) -> None:
    add_prompts(store, 1, completions=2)
    fill(store, PLAIN)
    answer(store, "ann", claimed(store, "ann", PLAIN), PLAIN)
    assert take_back(store, "ann", PAIR, 1) is None
    assert take_back(store, "ann", PLAIN, 2) is not None
    assert claim(store, "ann", PAIR, 3) is None, "what is open again closes, and its answer stands"
    assert [task["done"] for task in tasks(store)] == [1]


def test_a_protocol_that_needs_more_completions_removes_what_nobody_began(store: Store) -> None:
    thumbs = changed(PLAIN, protocol="thumb")
    prompts = add_prompts(store, 2, completions=1)
    fill(store, thumbs)
    task = claimed(store, "ann", thumbs)
    skip(store, "ann", task.id, "unclear", "", "k", 0)
    assert refit(store, PLAIN).removed == 1, "the one that was skipped keeps who met it"
    for prompt in prompts:
        store.add_completions(prompt, [Completion("a second")])
    assert (fill(store, PLAIN), refit(store, PLAIN).remade) == (1, 1)
    assert sizes(store) == [2, 2]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"overlap": 3}, {"wanted": 3}),
        ({"overlap": 1}, {"wanted": 1}),
        ({"completions": 3}, {"size": 3}),
        ({"random_share": 1.0}, {"reserved": True, "arm": "random", "priority": 0.0}),
    ],
)
def test_what_nobody_began_follows_the_settings(store: Store, values: dict, expected: dict) -> None:
    prompts = add_prompts(store, 3)
    fill(store, PLAIN)
    set_priorities(store, dict.fromkeys(prompts, 2.0), "large-gap")
    assert refit(store, changed(PLAIN, **values)) == Refit(remade=3)
    for task in tasks(store):
        assert {**task, "size": len(task["completions"])}.items() >= expected.items()
    assert refit(store, changed(PLAIN, **values)) == Refit(), "once is enough"


def test_completions_that_came_later_are_shown_where_nobody_began(store: Store) -> None:
    prompts = add_prompts(store, 3, completions=2)
    fill(store, PLAIN)
    begun = claimed(store, "ann", PLAIN).prompt.id
    for prompt in prompts:
        store.add_completions(prompt, [Completion("of a second model")])
    found = refit(store, PLAIN)
    assert found == Refit(remade=2, kept=1)
    assert found.notes()[1].startswith("1 begun tasks keep the completions they show")
    shown = {task["prompt_id"]: len(task["completions"]) for task in tasks(store)}
    assert shown == {prompt: 2 if prompt == begun else 3 for prompt in prompts}
    first = claimed(store, "bob", PLAIN)
    skip(store, "bob", first.id, "unclear", "", "k", 0)
    assert len(claimed(store, "bob", PLAIN).completions) == 3


def test_only_prompts_with_newer_completions_are_looked_at_while_the_app_runs(store: Store) -> None:
    prompts = add_prompts(store, 2)
    fill(store, PLAIN)
    store.add_completions(prompts[1], [Completion("late")])
    three = changed(PLAIN, completions=3)
    assert refit(store, three, since=8).remade == 1
    assert sizes(store) == [3, 4]


def test_whose_lease_ended_gets_the_task_as_it_is_now(store: Store) -> None:
    add_prompts(store, 1)
    fill(store, PLAIN)
    before = claimed(store, "ann", PLAIN, 0)
    assert claim(store, "cy", PLAIN, 700) is not None  # hers is over; his too, in the end
    assert claim(store, "dan", PLAIN, 1400) is not None
    with store.database.write() as connection:
        connection.execute(update(t.assignments).values(state="expired"))
        connection.execute(update(t.queue).values(taken=0))
    assert refit(store, PAIR) == Refit(remade=1)
    after = claimed(store, "ann", PAIR, 1500)
    assert (after.id, len(after.completions)) == (before.id, 2)
    answer(store, "ann", after, PAIR, 1501)


def test_a_raised_overlap_asks_more_of_what_was_complete(store: Store) -> None:
    add_prompts(store, 2)
    one = changed(PLAIN, overlap=1)
    fill(store, one)
    answer(store, "ann", claimed(store, "ann", one), one)
    three = changed(PLAIN, overlap=3)
    assert refit(store, three) == Refit(remade=1, asked=1)
    assert [task["wanted"] for task in tasks(store)] == [3, 3]
    for _ in range(2):
        answer(store, "bob", claimed(store, "bob", three), three)
    assert refit(store, one) == Refit(asked=2), "lower again: nobody more than have it"
    assert sorted((task["wanted"], task["done"]) for task in tasks(store)) == [(1, 1), (2, 2)]
    assert claim(store, "cy", one, 9) is None


def test_a_raised_adaptive_overlap_asks_more_only_where_there_is_doubt(store: Store) -> None:
    add_prompts(store, 2)
    fill(store, ADAPTIVE)
    for name in ("ann", "bob"):
        for n in range(2):
            task = claimed(store, name, ADAPTIVE, n)
            order = ids(task)
            if name == "bob" and task.prompt.text.endswith("1"):
                order = order[::-1]
            submit(store, name, task.id, in_order(order), f"{name} {n}", "g", ADAPTIVE, n)
    assert claim(store, "cy", ADAPTIVE, 5) is None
    assert refit(store, ADAPTIVE) == Refit()
    more = changed(ADAPTIVE, overlap=4)
    assert refit(store, more) == Refit(asked=1)
    assert claimed(store, "cy", more, 6).prompt.text.endswith("1"), "the one on which they differ"


def test_gold_adjudicated_and_set_aside_stay_as_they_are(store: Store) -> None:
    prompts = add_prompts(store, 3, completions=2)
    one = changed(PLAIN, overlap=1)
    fill(store, one)
    given = {task["prompt_id"]: task["completions"] for task in tasks(store)}
    set_gold(store, prompts[0], [[id] for id in given[prompts[0]]])
    add_person(store, "rita", Role.REVIEWER, 0.0)
    final = Answer(tuple((id,) for id in given[prompts[1]]))
    adjudicate(store, "rita", prompts[1], final, "g", one, 1.0)
    add_person(store, "ann", Role.LABELER, 0.0)
    answer(store, "ann", claimed(store, "ann", one), one)
    pause(store, "ann", again=True)
    store.add_completions(prompts[2], [Completion("a third")])
    assert refit(store, changed(PLAIN, overlap=3)) == Refit(asked=1, kept=1)
    wanted = {task["prompt_id"]: task["wanted"] for task in tasks(store)}
    assert wanted == {prompts[0]: 0, prompts[1]: 0, prompts[2]: 3}
