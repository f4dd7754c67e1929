"""Whether what a task shows can be asked by the protocol: settings may change after tasks were made."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, exists, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.leases import Row
from accord.store import state as t


class ListLength(FunctionElement[int]):
    """How many items a column of ``store.tables.Json`` holds."""

    name = "list_length"
    type = Integer()
    inherit_cache = True


@compiles(ListLength)
def _length(element: Any, compiler: Any, **kw: Any) -> str:
    return f"json_array_length({compiler.process(element.clauses, **kw)})"


@compiles(ListLength, "postgresql")
def _length_cast(element: Any, compiler: Any, **kw: Any) -> str:
    return f"json_array_length(CAST({compiler.process(element.clauses, **kw)} AS json))"


def can_ask(config: LabelConfig, shown: int) -> bool:
    """Whether the protocol can ask about so many completions: a pair is two, a ranking two or more."""
    return shown == 2 if config.protocol == "pair" else shown >= config.least


def askable(config: LabelConfig, column: ColumnElement[Any]) -> ColumnElement[bool]:
    """The same of a column that lists completions, in SQL."""
    length = ListLength(column)
    return length == 2 if config.protocol == "pair" else length >= config.least


def goes_on(connection: Connection, row: Row, config: LabelConfig) -> bool:
    """Whether an assignment can go on under the protocol: it can ask what is shown, and if there is an
    answer, that was given under the same protocol."""
    if not can_ask(config, len(row["shown"])):
        return False
    s = t.submissions.c
    same = exists().where(s.assignment_id == row["id"], s.kind == config.protocol)
    return row["feedback_id"] is None or bool(connection.execute(select(same)).scalar())
