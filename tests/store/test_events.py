"""The event log carries a store whole into another, and lets nothing false in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accord.errors import DataError
from accord.judgements import Ranking, Thumb
from accord.store.store import Store
from accord.types import Completion, Prompt
from store_examples import PROMPTS

P, Q = PROMPTS


@pytest.fixture
def log(store: Store, ids: list[str]) -> list[str]:
    """The lines of an exported log."""
    store.add_prompts([P], split="train")
    store.add_guidelines("Be fair.\x00")
    store.add_rankings([Ranking(P.id, "ann", ((ids[0],), (ids[1],)), seconds=0.1, id="one")])
    store.add_thumbs([Thumb(P.id, ids[0], "bob", True), Thumb(P.id, ids[0], "bob", False)])
    store.add_rankings([Ranking(P.id, "ann", ((ids[1],),), supersedes="one")])
    return [json.dumps(event) for event in store.events()]


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path}/other.db", tmp_path)


def read(lines: list[str]) -> list[dict]:
    return [json.loads(line) for line in lines]


def test_a_log_makes_the_same_store(store: Store, log: list[str], other: Store) -> None:
    assert other.add_events(read(log)) == len(log) == 14
    assert [json.dumps(event) for event in other.events()] == log
    assert other.prompts() == store.prompts()
    assert other.prompts(split="train") == [P]
    assert other.completions() == store.completions()
    assert list(other.rankings(current=False)) == list(store.rankings(current=False))
    assert list(other.thumbs(current=False)) == list(store.thumbs(current=False))
    assert other.verify() == []
    assert other.add_events(read(log)) == 0


def test_judgements_keep_the_order_they_came_in(log: list[str]) -> None:
    kinds = [event["kind"] for event in read(log) if event["event"] == "feedback"]
    assert kinds == ["ranking", "thumb", "thumb", "ranking"]


def test_a_log_is_one_moment_though_others_write(store: Store, log: list[str]) -> None:
    stream = store.events()
    first = next(stream)
    late = Prompt.from_text("late")
    ((completion,),) = store.add_groups([(late, [Completion("too late")])])
    store.add_rankings([Ranking(late.id, "ann", ((completion,),))])
    assert [json.dumps(event) for event in (first, *stream)] == log
    assert len(list(store.events())) == len(log) + 3


def test_logs_of_two_stores_merge(store: Store, log: list[str], other: Store) -> None:
    other.add_prompts([Prompt.from_text("mine"), P])
    assert other.add_events(read(log)) == len(log) - 1
    assert len(other.prompts()) == 3
    assert other.verify() == []


def test_a_false_log_is_refused_whole(log: list[str], other: Store) -> None:
    events = read(log)
    last = events[-1]

    def without(name: str) -> dict:
        return {key: value for key, value in last.items() if key != name}

    lone = [event for event in events if event["event"] != "completions"]
    orphan = [event for event in events if event.get("id") != "one"]
    for bad, match in [
        ([*events[:-1], {**last, "labeler": "eve"}], "does not match its seal"),
        ([*events[:-1], without("source")], "unknown key, 'source'"),
        ([*events[:-1], {**last, "extra": 1}], "unknown key, 'extra'"),
        ([*events, {**last, "event": "runs"}], "event 'runs' is not one of"),
        ([*events, {}], "event None is not one of"),
        (lone, "is not stored as one of prompt"),
        (orphan, "supersedes 'one', which is not stored"),
    ]:
        with pytest.raises(DataError, match=match):
            other.add_events(bad)
        assert not any(other.counts().values()), "part of a false log was stored"


def test_a_log_cannot_overwrite(log: list[str], other: Store) -> None:
    other.add_prompts([Prompt(P.messages, {"order": "another"})])
    with pytest.raises(DataError, match="another meta"):
        other.add_events(read(log))
    assert other.prompts()[0].meta == {"order": "another"}
