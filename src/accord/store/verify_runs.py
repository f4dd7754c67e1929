"""What ``verify`` asks of runs and of lost rows: what a run names is there, and no row was taken away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, select

from accord.store import rows as r
from accord.store import tables as t
from accord.store.lineage import HASH, Status
from accord.store.verify_state import Finding

SHOWN = 5


def check_runs(connection: Connection, root: Path) -> Iterator[Finding]:
    """Each run has a state, its folder if it is done, and the runs and artefacts that it names.

    An input may also be the hash of something outside the store, and a lost artefact's id looks like one; but
    its own run names it too, in ``metrics["artefact"]``.
    """
    runs = list(r.stream(connection, select(t.runs).order_by(t.runs.c.seq)))
    artefacts = set(connection.execute(select(t.artefacts.c.id)).scalars())
    known = artefacts | {run["id"] for run in runs}
    query = select(t.run_states).order_by(t.run_states.c.seq)
    states = {state["run_id"]: state for state in r.stream(connection, query)}
    for run in runs:
        state = states.get(run["id"])
        if state is None:
            yield "runs", run["id"], "it has no state, not even that it began"
            continue
        for each in run["inputs"]:
            if each not in known and not HASH.fullmatch(each) and ":" not in each:
                yield "runs", run["id"], f"its input {each!r} is no run or artefact of the store"
        yield from _outcome(run, state, artefacts, root)


def _outcome(
    run: Mapping[str, Any], state: Mapping[str, Any], artefacts: set[str], root: Path
) -> Iterator[Finding]:
    made = state["metrics"].get("artefact")
    if made is not None and made not in artefacts:
        yield "runs", run["id"], f"it made the artefact {made!r}, which is not stored"
    if state["status"] == Status.DONE and not (root / run["path"]).is_dir():
        yield "runs", run["id"], f"its folder {run['path']} is missing"


def check_numbers(connection: Connection, table: Table) -> Iterator[Finding]:
    """On SQLite, no number of ``seq`` is skipped: a transaction that was rolled back takes none, so each one
    that is missing was a row. PostgreSQL's sequences skip by design, and say nothing."""
    if connection.dialect.name != "sqlite":
        return
    given = "SELECT seq FROM sqlite_sequence WHERE name = ?"
    last = connection.exec_driver_sql(given, (table.name,)).scalar() or 0
    lost: list[str] = []
    count, before = 0, 0
    for seq in [*connection.execute(select(table.c.seq).order_by(table.c.seq)).scalars(), last + 1]:
        if seq > before + 1:
            count += seq - before - 1
            lost.append(str(before + 1) if seq == before + 2 else f"{before + 1} to {seq - 1}")
        before = seq
    if count:
        numbers = ", ".join(lost[:SHOWN]) + (", ..." if len(lost) > SHOWN else "")
        yield table.name, f"seq {numbers}", f"{count} row{'s were' if count > 1 else ' was'} taken away"
