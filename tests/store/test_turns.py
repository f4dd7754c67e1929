"""Threads that write to SQLite come to their turn in the order they came."""

import threading
import time

import pytest

from accord.errors import StoreError
from accord.store import database
from accord.store.database import Database, Turns
from accord.store.store import Store
from accord.types import Prompt


def queued(turns: Turns, count: int) -> None:
    """Wait until so many wait."""
    ends = time.monotonic() + 20
    while len(turns._queue) < count:
        assert time.monotonic() < ends
        time.sleep(0.001)


def test_who_waits_longest_is_next_and_who_comes_again_is_last() -> None:
    turns, order, threads = Turns(), [], []

    def come(name: str) -> None:
        with turns:
            order.append(name)

    with turns:
        for i in range(8):
            threads.append(threading.Thread(target=come, args=(f"t{i}",)))
            threads[-1].start()
            queued(turns, i + 1)
    with turns:  # asked for at once, while eight wait: not ours before theirs
        order.append("again")
    for thread in threads:
        thread.join()
    assert order == [f"t{i}" for i in range(8)] + ["again"]


def test_a_turn_that_does_not_come_is_an_error_and_holds_nobody_up(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    store = Store(f"sqlite:///{tmp_path}/a.db")
    with (
        store.database.write(),
        pytest.raises(StoreError, match="nothing was written"),
        store.database.write(),
    ):
        pass
    assert store.add_prompts([Prompt.from_text("still writable?")])


def test_who_gives_up_as_the_turn_comes_passes_it_on() -> None:
    turns = Turns()
    turns.__enter__()
    given_up = threading.Lock()
    given_up.acquire()
    turns._queue.append(given_up)
    turns.__exit__()  # hands the turn to the one who gives up
    turns._leave(given_up)
    assert not turns._taken
    with turns:
        pass


def test_an_error_in_a_transaction_ends_the_turn(tmp_path) -> None:
    base = Database(f"sqlite:///{tmp_path}/a.db")
    for _ in range(2):
        with pytest.raises(RuntimeError), base.write():
            raise RuntimeError
