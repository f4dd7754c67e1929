"""``verify`` finds what the labelling app's state has lost or counted wrongly."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from accord.feedback.labeling.queue import fill
from accord.store.store import Store
from label_examples import PLAIN, add_prompts, answer, claimed, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/a.db", tmp_path)
    add_prompts(store, 1)
    fill(store, PLAIN)
    answer(store, "ann", claimed(store, "ann", PLAIN), PLAIN, key="k")
    claimed(store, "bob", PLAIN)
    assert store.verify() == []
    yield store
    store.close()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE submissions SET feedback_ids = '[\"gone\"]'", "its feedback 'gone' is not stored"),
        ("UPDATE queue SET done = 0", "done is 0, but 1 assignments are submitted"),
        ("UPDATE queue SET taken = 1", "taken is 1, but 2 assignments are leased or submitted"),
        ("UPDATE queue SET wanted = 1", "2 labelers were asked where 1 were wanted"),
        (
            "UPDATE assignments SET feedback_id = NULL WHERE labeler = 'ann'",
            "it is submitted without feedback",
        ),
        ("UPDATE assignments SET labeler = 'eve' WHERE labeler = 'ann'", "is of another labeler or prompt"),
        ("UPDATE assignments SET prompt_id = 'gone' WHERE labeler = 'bob'", "'gone' is not in prompts"),
    ],
)
def test_planted_damage_is_found(store: Store, damage: str, found: str) -> None:
    assert store.database.file is not None
    connection = sqlite3.connect(store.database.file)  # of another program, which minds no foreign keys
    with connection:
        connection.execute(damage)
    connection.close()
    assert [found in str(problem) for problem in store.verify()] == [True], store.verify()
