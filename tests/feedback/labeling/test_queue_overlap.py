"""Never too many labelers on a prompt, however many ask at once and however many leases end meanwhile."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from accord.errors import DataError
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.queue import claim, fill, save_draft
from accord.feedback.labeling.submit import skip, submit, take_back
from accord.store import state as t
from accord.store.store import Store
from label_examples import PLAIN, add_prompts, ids, in_order, open_store

ADAPTIVE = LabelConfig(overlap=4, first_overlap=2, repeat_share=0.1, gold_share=0, lease_minutes=1)


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    store = open_store(database_url, tmp_path)
    yield store
    store.close()


def over(store: Store) -> list[dict]:
    """Tasks with more labelers than wanted, by counts and by assignments in one snapshot."""
    a, q = t.assignments.c, t.queue.c
    with store.database.read() as connection:
        live = select(a.queue_id).where(
            a.purpose == "label", a.arm != "surplus", a.state.in_(["leased", "submitted"])
        )
        held = Counter(connection.execute(live).scalars())
        rows = connection.execute(select(q.id, q.wanted, q.taken)).mappings().all()
    return [dict(row) for row in rows if not held[row["id"]] == row["taken"] <= row["wanted"]]


def work(store: Store, labeler: str, config: LabelConfig, clock: Iterator[int], steps: int) -> None:
    """A labeler who answers, dawdles, skips and takes back; the clock runs for all of them."""
    rng = random.Random(labeler)
    for step in range(steps):
        task = claim(store, labeler, config, float(next(clock)))
        if task is None:
            continue
        choice = rng.random()
        now = float(next(clock)) + (90 if choice < 0.2 else 0)  # a lease is 60
        try:
            if choice > 0.9:
                skip(store, labeler, task.id, "unclear", "", f"{labeler}-{step}", now)
            elif choice > 0.8:
                save_draft(store, labeler, task.id, {"step": step}, step, now)
            else:
                order = ids(task) if choice > 0.3 else ids(task)[::-1]
                submit(store, labeler, task.id, in_order(order), f"{labeler}-{step}", "g", config, now)
            if choice > 0.7:
                take_back(store, labeler, config, now)
        except DataError as error:
            if "has an answer, which stands" not in str(error):  # a skip of what was taken back
                raise


def test_many_labelers_at_once_never_pass_the_overlap(store: Store) -> None:
    add_prompts(store, 12)
    fill(store, ADAPTIVE)
    clock = count(0, 3)
    with ThreadPoolExecutor(12) as pool:
        jobs = [pool.submit(work, store, f"labeler {n}", ADAPTIVE, clock, 12) for n in range(12)]
        while not all(job.done() for job in jobs):
            assert over(store) == []
        for job in jobs:
            job.result()
    assert over(store) == []
    assert store.verify() == []
    ordinary = Counter((r.prompt_id, r.labeler) for r in store.rankings() if r.arm != "repeat")
    assert max(ordinary.values()) == 1, "a labeler met a prompt twice"
    with store.database.read() as connection:
        wanted = list(connection.execute(select(t.queue.c.wanted)).scalars())
    assert all(2 <= each <= 4 for each in wanted)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "claim", "submit", "skip", "back", "draft", "late"]),
        st.sampled_from(["ann", "bob", "cy"]),
        st.sampled_from([0, 0, 700]),
    ),
    min_size=20,
    max_size=40,
)
ONE = PLAIN.model_copy(update={"overlap": 1})


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store with two tasks, to start each example from."""
    folder = tmp_path_factory.mktemp("filled")
    store = open_store(f"sqlite:///{folder}/a.db", folder)
    add_prompts(store, 2)
    fill(store, ONE)
    store.close()
    return folder / "a.db"


@settings(max_examples=25, phases=[Phase.explicit, Phase.generate])  # to shrink takes minutes
@given(actions=ACTIONS)
def test_no_sequence_of_steps_breaks_the_counts(filled: Path, actions: list[tuple[str, str, int]]) -> None:
    with TemporaryDirectory() as folder:
        shutil.copy(filled, folder)
        store = open_store(f"sqlite:///{folder}/a.db", Path(folder))
        play(store, actions)
        store.close()


def play(store: Store, actions: list[tuple[str, str, int]]) -> None:
    """Let labelers do these things, however senseless; the counts hold after each."""
    held: dict[str, list] = {}
    now = 0.0
    for n, (what, who, wait) in enumerate(actions):
        now += wait
        tasks = held.get(who, [])
        if what == "claim":
            task = claim(store, who, ONE, now)
            if task is not None and task.id not in {each.id for each in tasks}:
                held.setdefault(who, []).append(task)
        elif what == "back":
            take_back(store, who, ONE, now)
        elif tasks:
            task = tasks[0 if what == "late" else -1]
            try:
                if what == "skip":
                    skip(store, who, task.id, "unclear", "", str(n), now)
                elif what == "draft":
                    save_draft(store, who, task.id, {}, n, now)
                else:
                    submit(store, who, task.id, in_order(ids(task)), str(n), "g", ONE, now)
            except DataError:
                pass
        assert over(store) == []
    assert store.verify() == []
