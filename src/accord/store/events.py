"""The event log: every fact as one JSON-ready event, out and back in, to the bit.

An event is a row of a fact table, named by ``event``, with its time and seal. A log carries all it
refers to, so the facts of a store can be made again from it alone. After them stand the comparisons that
were imported as such (no ranking says them); these come back as a new ``import`` run of the store they go
to, for the number of a run is each store's own. Runs, artefacts and what they made are not in a log.
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
from accord.store.lineage import Lineage, Status, add_state
from accord.store.tables import (
    FACTS,
    Row,
    comparisons,
    completions,
    feedback,
    metadata,
    origins,
    prompts,
    run_states,
    runs,
    seal,
)
from accord.types import digest

LOGGED = (*FACTS, comparisons)
"""The tables whose rows are in a log."""


def read_events(database: Database) -> Iterator[dict[str, Any]]:
    """Stream one snapshot of the facts, table by table, each in the order of its commits."""
    imported = select(run_states.c.run_id).join(runs, runs.c.id == run_states.c.run_id)
    imported = imported.where(runs.c.kind == "import", run_states.c.status == Status.DONE)
    with database.read() as connection:
        for table in LOGGED:
            columns = [column for column in table.columns if column.name != "seq"]
            query = select(*columns).order_by(table.c.seq)
            if table is comparisons:
                query = query.where(comparisons.c.run_id.in_(imported))
            for row in r.stream(connection, query):
                yield {"event": table.name, **row}


def add_events(store: Lineage, events: Iterable[Mapping[str, Any]]) -> int:
    """Store events exactly as they were; what is stored already is left alone. Returns how many were new.

    Imported comparisons become an ``import`` run, one for each run they were of.

    Raises :class:`DataError`, and stores nothing, for an event that is malformed, disagrees with its
    seal, refers to something unknown, or contradicts a stored fact.
    """
    new = 0
    with store.database.write() as connection:
        for (table, run_id), run in groupby((parse_event(event) for event in events), key=_together):
            if run_id:
                new += _add_imported(store, connection, [row for _, row in run])
                continue
            for chunk in r.chunks(row for _, row in run):
                new += _add(connection, table, chunk)
    return new


def _together(parsed: tuple[Table, Row]) -> tuple[Table, str]:
    """What is written at once: rows of one table, and comparisons of one run."""
    table, row = parsed
    return table, row["run_id"] if table is comparisons else ""


def parse_event(event: Mapping[str, Any]) -> tuple[Table, Row]:
    """The table and row of an event. Raises :class:`DataError` for one that is malformed or was altered."""
    table = metadata.tables.get(str(event.get("event")))
    if table is None or table not in LOGGED:
        known = ", ".join(table.name for table in LOGGED)
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


def _check_comparison(row: Row) -> None:
    if not (isinstance(row["p_chosen"], int | float) and 0.5 <= row["p_chosen"] <= 1.0):
        raise ValueError(f"p_chosen is {row['p_chosen']!r}; it must lie in [0.5, 1]")


RECORDS: dict[str, Callable[[Row], Any]] = {
    prompts.name: r.to_prompt,
    origins.name: r.to_origin,
    completions.name: lambda row: r.to_completion(row, None),
    feedback.name: lambda row: JUDGEMENTS[row["kind"]](row),
    comparisons.name: _check_comparison,
}


def imported_as(pairs: Iterable[tuple[str, str, str, float]]) -> str:
    """By what an ``import`` run knows its comparisons (prompt, chosen, rejected, p_chosen) again."""
    return digest([list(pair) for pair in pairs])


def _add_imported(store: Lineage, connection: Connection, rows: list[Row]) -> int:
    """Write the comparisons of one import as a run of this store, unless it has them; returns how many."""
    facts.check_comparisons(connection, rows)
    names = ("prompt_id", "chosen_id", "rejected_id", "p_chosen")
    content = imported_as(tuple(row[name] for name in names) for row in rows)
    done = select(runs.c.inputs).join(run_states, runs.c.id == run_states.c.run_id)
    done = done.where(runs.c.kind == "import", run_states.c.status == Status.DONE)
    if any(content in inputs for inputs in connection.execute(done).scalars()):
        return 0
    run_id = store.open_run(
        connection, "import", {"source": rows[0]["run_id"], "format": "events"}, [content]
    )
    fresh = [{name: row[name] for name in row if name not in ("at", "sha256")} for row in rows]
    r.insert_sealed(connection, comparisons, [row | {"run_id": run_id} for row in fresh])
    add_state(connection, run_id, Status.DONE, {"comparisons": len(rows)})
    return len(rows)


def _add(connection: Connection, table: Table, rows: list[Row]) -> int:
    if table is feedback:
        facts.check_completions(connection, rows)
        facts.check_supersedes(connection, rows)
    content = [c.name for c in table.columns if c.name not in ("seq", "at", "sha256")]
    key = "id" if "id" in content else "prompt_id"
    return r.insert_new(connection, table, rows, r.equal_on(*content), key=key)
