"""The lossless log: every fact as one JSON-ready event, out and back in, to the bit.

An event is a row of a fact table, named by ``event``, with its time and seal. A log carries all it
refers to, so a store can be made again from it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Table, select

from accord.errors import DataError
from accord.store import facts
from accord.store import rows as r
from accord.store.database import Database
from accord.store.tables import FACTS, Row, completions, feedback, metadata, origins, prompts, seal


def read_events(database: Database) -> Iterator[dict[str, Any]]:
    """Stream one snapshot of the facts, table by table, each in the order of its commits."""
    with database.read() as connection:
        for table in FACTS:
            columns = [column for column in table.columns if column.name != "seq"]
            query = select(*columns).order_by(table.c.seq)
            for row in r.stream(connection, query):
                yield {"event": table.name, **row}


def add_events(database: Database, events: Iterable[Mapping[str, Any]]) -> int:
    """Store events exactly as they were; what is stored already is left alone. Returns how many were new.

    Raises :class:`DataError`, and stores nothing, for an event that is malformed, disagrees with its
    seal, refers to something unknown, or contradicts a stored fact.
    """
    new = 0
    with database.write() as connection:
        for table, run in groupby((_parse(event) for event in events), key=lambda pair: pair[0]):
            for chunk in r.chunks(row for _, row in run):
                new += _add(connection, table, chunk)
    return new


def _parse(event: Mapping[str, Any]) -> tuple[Table, Row]:
    table = metadata.tables.get(str(event.get("event")))
    if table is None or table not in FACTS:
        known = ", ".join(table.name for table in FACTS)
        raise DataError(f"event {event.get('event')!r} is not one of {known}: {dict(event)!r:.200}")
    row = {key: value for key, value in event.items() if key != "event"}
    columns = {column.name for column in table.columns} - {"seq"}
    if row.keys() != columns:
        odd = sorted(row.keys() ^ columns)
        raise DataError(f"{table.name} event has a missing or unknown key, {odd[0]!r}: {row!r:.200}")
    if row["sha256"] != seal(table, row):
        raise DataError(f"{table.name} event does not match its seal, so it was altered: {row!r:.200}")
    try:
        RECORDS.get(table.name, dict)(row)
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(f"{table.name} event is malformed ({error}): {row!r:.200}") from error
    return table, row


JUDGEMENTS: dict[str, Callable[[Row], Any]] = {
    "ranking": r.to_ranking,
    "thumb": r.to_thumb,
    "skip": r.to_remark,
    "flag": r.to_remark,
}
RECORDS: dict[str, Callable[[Row], Any]] = {
    prompts.name: r.to_prompt,
    origins.name: r.to_origin,
    completions.name: lambda row: r.to_completion(row, None),
    feedback.name: lambda row: JUDGEMENTS[row["kind"]](row),
}


def _add(connection: Connection, table: Table, rows: list[Row]) -> int:
    if table is feedback:
        facts.check_completions(connection, rows)
        facts.check_supersedes(connection, rows)
    content = [c.name for c in table.columns if c.name not in ("seq", "at", "sha256")]
    key = "id" if "id" in content else "prompt_id"
    return r.insert_new(connection, table, rows, r.equal_on(*content), key=key)
