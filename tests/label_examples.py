"""A store with prompts to label, and a labeler who answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import event

from accord.feedback.labeling.answers import Answer
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.queue import Assignment, claim
from accord.feedback.labeling.submit import Receipt, submit
from accord.store.store import Store
from accord.types import Completion, Prompt

PLAIN = LabelConfig(adaptive=False, overlap=2, repeat_share=0, gold_share=0, random_share=0, lease_minutes=10)
"""Two labelers a prompt and nothing mixed in; leases of 600 seconds."""


def add_prompts(store: Store, count: int, completions: int = 4, prefix: str = "prompt") -> list[str]:
    """Store prompts with completions; returns the prompts' ids."""
    prompts = [Prompt.from_text(f"{prefix} {i}") for i in range(count)]
    store.add_groups([(p, [Completion(f"{p.text}, {j}") for j in range(completions)]) for p in prompts])
    return [prompt.id for prompt in prompts]


def ids(task: Assignment) -> list[str]:
    """The completions of a task in an order of their own, whatever the screen's."""
    return [c.id for c in sorted(task.completions, key=lambda c: c.text)]


def in_order(items: Sequence[str]) -> Answer:
    """A ranking without ties, best first."""
    return Answer(tuple((item,) for item in items))


def answer(
    store: Store, labeler: str, task: Assignment, config: LabelConfig, now: float = 0.0, key: str = ""
) -> Receipt:
    """Rank a task in the completions' own order."""
    return submit(store, labeler, task.id, in_order(ids(task)), key or f"key of {task.id}", "g", config, now)


def claimed(store: Store, labeler: str, config: LabelConfig, now: float = 0.0) -> Assignment:
    """The labeler's task, where there must be one."""
    task = claim(store, labeler, config, now)
    assert task is not None
    return task


def open_store(url: str, folder: Path) -> Store:
    """A store whose file need not survive a power cut: many commits of a test wait for no disk."""
    store = Store(url, folder)
    if store.database.dialect == "sqlite":
        store.close()
        event.listen(store.database.engine, "connect", _hurry)
    return store


def _hurry(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous = OFF")
