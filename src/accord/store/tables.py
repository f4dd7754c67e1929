"""The store's tables, and the seal by which each row proves itself.

    guidelines     origins     prompts ── splits          runs ── run_states
                      │           │                         │
                      └──── completions ──── comparisons ───┼── artefacts
                                  │
                              feedback (rankings and thumbs; ``supersedes`` points at an earlier row)

Rows are written once. A correction is a new row that supersedes, a run's progress is a new state,
and triggers in the database refuse UPDATE and DELETE. ``seq`` is the order of commits; ``at`` is
UTC in ISO 8601; ``sha256`` seals the other columns.

Lists, mappings and free text are canonical JSON in text columns: floats come back to the bit, and
a NUL that a byte-level model wrote survives PostgreSQL, whose ``text`` cannot hold one bare and
whose ``jsonb`` cannot hold one at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

from accord.errors import DataError

NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values, equal text. Raises ValueError for NaN."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class Json(TypeDecorator[Any]):
    """Any JSON value, stored as canonical text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else canonical(value)

    def process_result_value(self, value: str | None, dialect: Any) -> Any:
        return None if value is None else json.loads(value)


metadata = MetaData(naming_convention=NAMING)


def _table(name: str, *columns: Column[Any] | UniqueConstraint | Index) -> Table:
    seq = Column(
        "seq", BigInteger().with_variant(Integer, "sqlite"), Identity(always=False), primary_key=True
    )
    at = Column("at", Text, nullable=False)
    sha256 = Column("sha256", Text, nullable=False)
    # autoincrement: SQLite would otherwise give the number of a lost row to a new one
    return Table(name, metadata, seq, *columns, at, sha256, sqlite_autoincrement=True)


guidelines = _table(
    "guidelines",
    Column("id", Text, nullable=False, unique=True),
    Column("text", Json, nullable=False),
)
prompts = _table(
    "prompts",
    Column("id", Text, nullable=False, unique=True),
    Column("messages", Json, nullable=False),
    Column("meta", Json, nullable=False),
)
splits = _table(
    "splits",
    Column("prompt_id", Text, ForeignKey("prompts.id"), nullable=False, unique=True),
    Column("split", Text, nullable=False, index=True),
)
origins = _table(
    "origins",
    Column("id", Text, nullable=False, unique=True),
    Column("model", Json, nullable=False),
    Column("model_hash", Text, nullable=False),
    Column("adapter_hash", Text),
    Column("rendered", Json, nullable=False),
    Column("prompt_ids", Json, nullable=False),
    Column("sampling", Json, nullable=False),
    Column("seed", Json, nullable=False),
)
completions = _table(
    "completions",
    Column("id", Text, nullable=False, unique=True),
    Column("prompt_id", Text, ForeignKey("prompts.id"), nullable=False, index=True),
    Column("origin_id", Text, ForeignKey("origins.id")),
    Column("text", Json, nullable=False),
    Column("ids", Json, nullable=False),
    Column("logprobs", Json, nullable=False),
    Column("stop", Text, nullable=False),
)
feedback = _table(
    "feedback",
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("prompt_id", Text, ForeignKey("prompts.id"), nullable=False, index=True),
    Column("labeler", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("judgement", Json, nullable=False),
    Column("supersedes", Text, ForeignKey("feedback.id"), unique=True),
)
runs = _table(
    "runs",
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("config", Json, nullable=False),
    Column("inputs", Json, nullable=False),
    Column("versions", Json, nullable=False),
)
run_states = _table(
    "run_states",
    Column("run_id", Text, ForeignKey("runs.id"), nullable=False, index=True),
    Column("status", Text, nullable=False),
    Column("metrics", Json, nullable=False),
)
artefacts = _table(
    "artefacts",
    Column("id", Text, nullable=False, unique=True),
    Column("run_id", Text, ForeignKey("runs.id"), nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("path", Json, nullable=False),
    Column("content_hash", Text, nullable=False),
)
comparisons = _table(
    "comparisons",
    Column("run_id", Text, ForeignKey("runs.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("prompt_id", Text, ForeignKey("prompts.id"), nullable=False),
    Column("chosen_id", Text, ForeignKey("completions.id"), nullable=False),
    Column("rejected_id", Text, ForeignKey("completions.id"), nullable=False),
    Column("p_chosen", Double, nullable=False),
    Column("source", Text, nullable=False),
    Column("labelers", Json, nullable=False),
    UniqueConstraint("run_id", "position"),
)

FACTS = (guidelines, prompts, splits, origins, completions, feedback)
"""What people and models said, in the order in which rows may refer to one another: the event log."""

TABLES = (*FACTS, runs, run_states, artefacts, comparisons)

Row = dict[str, Any]


def seal(table: Table, row: Mapping[str, Any]) -> str:
    """SHA-256 of every column but ``seq`` and ``sha256``, as 64 hex digits.

    Empty columns are left out, so a column that a later migration adds breaks no older seal. Raises
    :class:`DataError` for what no database may hold: NaN, a lone surrogate, a bare NUL in a name.
    """
    content = {
        column.name: row[column.name]
        for column in table.columns
        if column.name not in ("seq", "sha256") and row.get(column.name) is not None
    }
    for name, value in content.items():
        if isinstance(value, str) and "\x00" in value and not isinstance(table.c[name].type, Json):
            raise DataError(f"{table.name}.{name} = {value!r} holds a NUL character; remove it")
    try:
        return hashlib.sha256(canonical(content).encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise DataError(
            f"a row of {table.name} holds a lone surrogate, {error.object[error.start : error.end]!r}, "
            "which is no character; repair the text (errors='replace') and add it again"
        ) from error
    except ValueError as error:
        raise DataError(f"a row of {table.name} holds a number that is not finite: {row!r:.300}") from error


def plain(value: Any, where: str) -> Any:
    """``value`` in lists, dicts and JSON scalars. Raises :class:`DataError` where JSON would change it."""
    if isinstance(value, Mapping):
        odd = [key for key in value if not isinstance(key, str)]
        if odd:
            raise DataError(f"{where} has the key {odd[0]!r}; only text can be a key in the store")
        return {key: plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and value - value != 0:
        raise DataError(f"{where} is {value}; the store holds finite numbers")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise DataError(f"{where} is a {type(value).__name__}; the store holds text, numbers, lists and mappings")
