"""A store with a few prompts and completions in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from accord.store.store import Store
from store_examples import COMPLETIONS, PROMPTS


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    store = Store(database_url, tmp_path)
    yield store
    store.close()


@pytest.fixture
def ids(store: Store) -> list[str]:
    """Four completions of the first prompt, and one of the second, stored; their ids."""
    first, second = store.add_groups([(PROMPTS[0], COMPLETIONS), (PROMPTS[1], COMPLETIONS[:1])])
    return first + second
