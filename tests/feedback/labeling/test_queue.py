"""Tasks are made once and handed out by leases: best first, nobody twice, nothing held for ever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest
from scipy import stats
from sqlalchemy import select

from accord.errors import DataError
from accord.feedback.labeling.chance import last_due, shuffled
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.queue import claim, fill, save_draft, set_gold, set_priorities
from accord.feedback.labeling.submit import skip
from accord.store import state as t
from accord.store.store import Store
from accord.types import Completion, Prompt
from label_examples import PLAIN, add_prompts, answer, claimed, ids, open_store

LEASE = 600.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/a.db", tmp_path)
    yield store
    store.close()


@pytest.fixture
def any_store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    store = open_store(database_url, tmp_path)
    yield store
    store.close()


def task_row(store: Store, prompt_id: str) -> dict:
    with store.database.read() as connection:
        query = select(t.queue).where(t.queue.c.prompt_id == prompt_id)
        return dict(connection.execute(query).mappings().one())


def test_each_prompt_with_two_different_answers_is_one_task(any_store: Store) -> None:
    store = any_store
    first = add_prompts(store, 3)
    add_prompts(store, 1, completions=1, prefix="lonely")
    same = Completion("the same", id="a"), Completion("the same", id="b")
    store.add_groups([(Prompt.from_text("twins"), same)])
    assert fill(store, PLAIN) == 3
    assert fill(store, PLAIN) == 0
    store.add_completions(first[0], [Completion("a late one")])
    add_prompts(store, 2, prefix="later")
    assert fill(store, PLAIN) == 2
    assert task_row(store, first[0])["wanted"] == 2
    assert len(task_row(store, first[0])["completions"]) == 4, "a task that was made stays as it is"
    assert fill(store, PLAIN.model_copy(update={"criterion": "brief"})) == 5


def test_only_prompts_of_the_split_become_tasks(store: Store) -> None:
    add_prompts(store, 3)
    store.add_prompts([Prompt.from_text("prompt 1")], split="label")
    assert fill(store, PLAIN.model_copy(update={"split": "label"})) == 1


@pytest.mark.parametrize(("protocol", "least", "shown"), [("rank", 2, 4), ("pair", 2, 2), ("thumb", 1, 4)])
def test_a_protocol_shows_what_it_can_ask_about(store: Store, protocol: str, least: int, shown: int) -> None:
    add_prompts(store, 2, completions=6)
    add_prompts(store, 1, completions=1, prefix="lonely")
    config = LabelConfig.build({**PLAIN.model_dump(), "protocol": protocol})
    assert fill(store, config) == (3 if least == 1 else 2)
    assert len(claimed(store, "ann", config).completions) in ({1, shown} if least == 1 else {shown})


def test_a_task_shows_texts_and_no_models(store: Store) -> None:
    add_prompts(store, 1)
    fill(store, PLAIN)
    task = claimed(store, "ann", PLAIN)
    assert sorted(c.text for c in task.completions) == [f"prompt 0, {j}" for j in range(4)]
    assert all(c.origin is None and not c.logprobs and not c.ids for c in task.completions)
    assert (task.purpose, task.arm, task.criterion) == ("label", "random", PLAIN.criterion)
    assert (task.expires_at, task.draft, task.draft_revision, task.answer) == (LEASE, None, 0, None)


def test_a_labeler_keeps_their_task_until_it_is_answered(store: Store) -> None:
    add_prompts(store, 2)
    fill(store, PLAIN)
    first = claimed(store, "ann", PLAIN, now=0)
    again = claimed(store, "ann", PLAIN, now=500)
    assert again.id == first.id
    assert again.completions == first.completions
    assert again.expires_at == 500 + LEASE
    answer(store, "ann", first, PLAIN, now=501)
    second = claimed(store, "ann", PLAIN, now=502)
    assert second.prompt.id != first.prompt.id
    answer(store, "ann", second, PLAIN, now=503)
    assert claim(store, "ann", PLAIN, now=504) is None


def test_a_prompt_goes_to_as_many_labelers_as_are_wanted(store: Store) -> None:
    (prompt,) = add_prompts(store, 1)
    fill(store, PLAIN)
    assert claimed(store, "ann", PLAIN).id != claimed(store, "bob", PLAIN).id
    assert claim(store, "cy", PLAIN, now=0) is None
    assert task_row(store, prompt)["taken"] == 2


def test_a_lease_that_ended_goes_to_another_and_comes_back_if_there_is_room(any_store: Store) -> None:
    store = any_store
    (prompt,) = add_prompts(store, 1)
    config = PLAIN.model_copy(update={"overlap": 1})
    fill(store, config)
    first = claimed(store, "ann", config, now=0)
    save_draft(store, "ann", first.id, {"tiers": [["x"]]}, 3, now=0)
    assert claim(store, "bob", config, now=LEASE - 1) is None
    second = claimed(store, "bob", config, now=LEASE)
    assert claim(store, "ann", config, now=LEASE) is None
    skip(store, "bob", second.id, "unclear", "", "k", now=LEASE)
    back = claimed(store, "ann", config, now=LEASE + 1)
    assert (back.id, back.draft, back.draft_revision) == (first.id, {"tiers": [["x"]]}, 3)
    assert claim(store, "bob", config, now=3 * LEASE) is None, "a skipped task is not met again"
    assert task_row(store, prompt)["taken"] == 0
    assert store.verify() == []


def test_the_highest_priority_comes_first_and_the_random_arm_keeps_its_tasks(store: Store) -> None:
    prompts = add_prompts(store, 60)
    config = PLAIN.model_copy(update={"random_share": 0.5, "overlap": 1})
    fill(store, config)
    kept = {id for id in prompts if task_row(store, id)["reserved"]}
    assert 15 < len(kept) < 45
    assert set_priorities(store, {id: n for n, id in enumerate(prompts)}, "active") == 60 - len(kept)
    met = []
    for n in range(60):
        task = claimed(store, "ann", config, now=n)
        met.append(task)
        answer(store, "ann", task, config, now=n)
    active = [task.prompt.id for task in met if task.arm == "active"]
    assert active == [id for id in reversed(prompts) if id not in kept]
    assert {task.prompt.id for task in met if task.arm == "random"} == kept
    early = [task.arm for task in met[:20]]
    assert 4 < early.count("random") < 16, "the two arms are mixed by their share"


def test_a_priority_must_be_a_number(store: Store) -> None:
    with pytest.raises(DataError, match="finite number"):
        set_priorities(store, {"p": float("nan")}, "active")


def test_the_newest_draft_wins_and_renews_the_lease(store: Store) -> None:
    add_prompts(store, 1)
    fill(store, PLAIN)
    task = claimed(store, "ann", PLAIN, now=0)
    assert save_draft(store, "ann", task.id, {"a": 1}, 2, now=100) == 2
    assert save_draft(store, "ann", task.id, {"a": 0}, 1, now=200) == 2
    again = claimed(store, "ann", PLAIN, now=300)
    assert (again.draft, again.draft_revision, again.expires_at) == ({"a": 1}, 2, 300 + LEASE)
    answer(store, "ann", task, PLAIN, now=301)
    assert save_draft(store, "ann", task.id, {"a": 9}, 9, now=302) == 2, "a draft after the answer is late"


def test_a_draft_on_a_lease_that_ended_is_kept(store: Store) -> None:
    (prompt,) = add_prompts(store, 1)
    config = PLAIN.model_copy(update={"overlap": 1})
    fill(store, config)
    task = claimed(store, "ann", config, now=0)
    other = claimed(store, "bob", config, now=LEASE)
    assert save_draft(store, "ann", task.id, {"a": 1}, 1, now=LEASE + 1) == 1
    assert task_row(store, prompt)["taken"] == 1
    skip(store, "bob", other.id, "unclear", "", "k", now=LEASE + 2)
    assert claimed(store, "ann", config, now=LEASE + 3).draft == {"a": 1}


def test_what_is_not_theirs_is_unknown_to_a_labeler(any_store: Store) -> None:
    add_prompts(any_store, 1)
    fill(any_store, PLAIN)
    task = claimed(any_store, "ann", PLAIN)
    wrong = [("ann", id) for id in ("no such", "", "a\x00b", "\ud800", "x" * 10_000)]
    for labeler, id in [*wrong, ("bob", task.id)]:
        with pytest.raises(DataError, match="not one of yours"):
            save_draft(any_store, labeler, id, {}, 1, now=0)


def test_gold_is_no_task_and_needs_an_order(any_store: Store) -> None:
    store = any_store
    first, second = add_prompts(store, 2)
    fill(store, PLAIN)
    a, b, *_ = (c.id for c in store.completions([first])[first])
    held = {claimed(store, name, PLAIN).prompt.id: name for name in ("ann", "bob")}
    set_gold(store, first, [[a], [b]], criterion=PLAIN.criterion)
    set_gold(store, first, [[b]], [a])
    assert task_row(store, first)["wanted"] == 0
    assert store.verify() == []
    if first in held:  # what was under way is kept, beyond the overlap
        task = claimed(store, held[first], PLAIN)
        assert answer(store, held[first], task, PLAIN).surplus
    assert fill(store, PLAIN.model_copy(update={"criterion": "brief"})) == 1
    for tiers in ([[a]], [[a, b]], [[a], [a]], [[a], []]):
        with pytest.raises(DataError, match="gold of prompt"):
            set_gold(store, second, tiers)
    with pytest.raises(DataError, match="not stored as one of prompt"):
        set_gold(store, second, [[a], [b]])


# -- chances ----------------------------------------------------------------------------------------


def test_each_order_of_completions_is_equally_likely() -> None:
    orders = Counter(tuple(shuffled(["a", "b", "c"], "ann", str(n))) for n in range(6000))
    assert set(orders) == set(permutations("abc"))
    assert stats.chisquare(list(orders.values())).pvalue > 0.01


def test_the_order_they_came_in_says_nothing_about_the_order_shown() -> None:
    assert shuffled(["a", "b", "c"], "ann", "1") == shuffled(["c", "a", "b"], "ann", "1")


def test_the_order_shown_is_the_labelers_own_and_is_recorded(store: Store) -> None:
    prompts = add_prompts(store, 60)
    fill(store, PLAIN)
    places: Counter[int] = Counter()
    for n in range(60):
        task = claimed(store, "ann", PLAIN, now=n)
        order = [c.id for c in task.completions]
        assert order == shuffled(order, "ann", task.id)
        places[order.index(ids(task)[0])] += 1
        answer(store, "ann", task, PLAIN, now=n)
        if n == 0:
            assert next(iter(store.rankings())).shown == tuple(order)
    assert sum(places.values()) == len(prompts)
    assert stats.chisquare([places[k] for k in range(4)]).pvalue > 0.001  # ids are new each run


@pytest.mark.parametrize("share", [0.03, 0.04, 0.05, 0.2, 0.19])
def test_a_share_is_exact_and_falls_at_random_places(share: float) -> None:
    dues = {last_due(share, n, "ann") for n in range(1, 10_001)} - {0}
    assert abs(len(dues) - share * 10_000) <= 1
    gaps = [b - a for a, b in zip(sorted(dues), sorted(dues)[1:], strict=False)]
    assert max(gaps) <= 2 / share + 1
    assert len(set(gaps)) > 3, "every so many claims would be seen through"
    assert last_due(0.0, 100, "ann") == 0


def test_the_latest_due_claim_is_the_largest_of_those_before() -> None:
    seen = 0
    for n in range(1, 500):
        due = last_due(0.07, n, "bob")
        assert seen <= due <= n
        seen = due
