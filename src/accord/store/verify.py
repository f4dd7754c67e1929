"""The store's proof of itself: every seal, reference, correction, run and artefact, checked again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, Table, Text, func, select, type_coerce

from accord.errors import StoreError
from accord.store import facts
from accord.store import rows as r
from accord.store import tables as t
from accord.store.append_only import trigger_names
from accord.store.database import Database, alembic_config
from accord.store.lineage import content_hash
from accord.store.state import STATE
from accord.store.verify_runs import check_numbers, check_runs
from accord.store.verify_state import check_state


@dataclass(frozen=True)
class Problem:
    """Something in the store that is not as it was written."""

    table: str
    id: str
    what: str

    def __str__(self) -> str:
        return f"{self.table} {self.id}: {self.what}"


def verify(database: Database, root: Path) -> list[Problem]:
    """Every problem of the store; artefacts with relative paths are looked for under ``root``."""
    problems = [Problem("database", database.name, what) for what in database.damage()]
    with database.read() as connection:
        problems += _revision(connection)
        problems += _triggers(connection)
        broken = [problem for table in t.TABLES for problem in _seals(connection, table)]
        problems += broken
        problems += [problem for table in (*t.TABLES, *STATE) for problem in _references(connection, table)]
        problems += [Problem(*finding) for table in t.TABLES for finding in check_numbers(connection, table)]
        problems += [Problem(*finding) for finding in check_state(connection)]
        if not broken:  # what follows reads rows as records, which an altered row need not be
            problems += _judgements(connection)
            problems += [Problem(*finding) for finding in check_runs(connection, root)]
            problems += _artefacts(connection, root)
    return problems


def _revision(connection: Connection) -> Iterator[Problem]:
    revision = MigrationContext.configure(connection).get_current_revision()
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if revision != head:
        yield Problem("database", str(revision), f"the newest revision is {head}; open the workspace again")


def _triggers(connection: Connection) -> Iterator[Problem]:
    dialect = connection.dialect.name
    listing = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    if dialect == "postgresql":
        listing = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O'"
    standing = set(connection.exec_driver_sql(listing).scalars())
    for table in t.TABLES:
        for name in trigger_names(table.name, dialect):
            if name not in standing:
                yield Problem(table.name, name, "the trigger that keeps the table append-only is gone")


def _seals(connection: Connection, table: Table) -> Iterator[Problem]:
    raw = [type_coerce(c, Text).label(c.name) if isinstance(c.type, t.Json) else c for c in table.columns]
    for row in r.stream(connection, select(*raw).order_by(table.c.seq)):
        if row["sha256"] != _seal_of_raw(table, row):
            yield Problem(table.name, _name(row), "its content does not match its seal: it was altered")


def _seal_of_raw(table: Table, row: Mapping[str, Any]) -> str | None:
    json_type = t.Json()
    try:
        content = {
            c.name: json_type.process_result_value(row[c.name], None)
            if isinstance(c.type, t.Json)
            else row[c.name]
            for c in table.columns
        }
        return t.seal(table, content)
    except (ValueError, TypeError):  # no longer JSON, or no longer anything a seal can be taken of
        return None


def _name(row: Mapping[str, Any]) -> str:
    return str(row.get("id") or f"row {row['seq']}")


def _references(connection: Connection, table: Table) -> Iterator[Problem]:
    for column in table.columns:
        for key in column.foreign_keys:
            yield from _dangling(connection, table, column, key.column)


def _dangling(
    connection: Connection, table: Table, column: Column[Any], target: Column[Any]
) -> Iterator[Problem]:
    parent = target.table.alias("parent")
    found = select(parent.c[target.name]).where(parent.c[target.name] == column).exists()
    name = table.c.id if "id" in table.c else next(iter(table.primary_key))
    for id, value in connection.execute(select(name, column).where(column.is_not(None), ~found)):
        yield Problem(table.name, str(id), f"{column.name} {value!r} is not in {target.table.name}")


def _judgements(connection: Connection) -> Iterator[Problem]:
    """Judgements speak of their own prompt's completions; corrections follow what they correct, once."""
    c = t.completions.c
    owner = dict(connection.execute(select(c.id, c.prompt_id)).all())
    for row in r.stream(connection, select(t.feedback).order_by(t.feedback.c.seq)):
        for completion in dict.fromkeys(r.named_completions(row)):
            if owner.get(completion) != row["prompt_id"]:
                what = f"completion {completion!r} is not one of prompt {row['prompt_id']!r}"
                yield Problem("feedback", row["id"], what)
    old, new = t.feedback.alias("old"), t.feedback.alias("new")
    pairs = select(old, new).join(new, new.c.supersedes == old.c.id)
    width = len(t.feedback.columns)
    names = [column.name for column in t.feedback.columns]
    for pair in connection.execute(pairs):
        before, after = (
            dict(zip(names, pair[:width], strict=True)),
            dict(zip(names, pair[width:], strict=True)),
        )
        for name in facts.differing(after, before):
            yield Problem("feedback", after["id"], f"supersedes {before['id']!r} of another {name}")
        if after["seq"] <= before["seq"]:
            yield Problem("feedback", after["id"], f"supersedes {before['id']!r}, which came after it")
    times = func.count().label("times")
    twice = select(t.feedback.c.supersedes, times).group_by(t.feedback.c.supersedes).having(times > 1)
    for id, count in connection.execute(twice.where(t.feedback.c.supersedes.is_not(None))):
        yield Problem("feedback", id, f"superseded {count} times")


def _artefacts(connection: Connection, root: Path) -> Iterator[Problem]:
    rows = r.stream(connection, select(t.artefacts).order_by(t.artefacts.c.seq))
    # a path written again by a later run holds that run's artefact, and rightly not the earlier one
    latest = {row["path"]: row for row in rows}
    for row in latest.values():
        try:
            found = content_hash(root / row["path"])
        except StoreError:
            yield Problem("artefacts", row["id"], f"{row['path']} of run {row['run_id']!r} is missing")
            continue
        if found != row["content_hash"]:
            yield Problem("artefacts", row["id"], f"{row['path']} of run {row['run_id']!r} was changed")
