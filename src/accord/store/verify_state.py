"""What ``verify`` asks of the labelling app's state: receipts lead to facts, and counts add up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, and_, case, func, or_, select

from accord.store import rows as r
from accord.store import state as s
from accord.store import tables as t

Finding = tuple[str, str, str]
"""Table, id, and what is wrong."""


def check_state(connection: Connection) -> Iterator[Finding]:
    """Everything in the mutable tables that contradicts itself or the facts."""
    yield from _receipts(connection)
    yield from _answers(connection)
    yield from _counts(connection)


def _receipts(connection: Connection) -> Iterator[Finding]:
    """What was acknowledged to a labeler is stored."""
    for chunk in r.chunks(r.stream(connection, select(s.submissions).order_by(s.submissions.c.at))):
        wanted = {id for row in chunk for id in row["feedback_ids"]}
        f = t.feedback.c
        found: set[str] = set()
        for ids in r.chunks(sorted(wanted)):
            found |= set(connection.execute(select(f.id).where(f.id.in_(ids))).scalars())
        for row in chunk:
            for id in row["feedback_ids"]:
                if id not in found:
                    yield "submissions", row["key"], f"its feedback {id!r} is not stored: a label was lost"


def _answers(connection: Connection) -> Iterator[Finding]:
    """An assignment is submitted with its labeler's feedback on its prompt, and not otherwise."""
    a, f = s.assignments.c, t.feedback.c
    bare = select(a.id).where(a.state == "submitted", or_(a.feedback_id.is_(None), a.submitted_at.is_(None)))
    for id in connection.execute(bare).scalars():
        yield "assignments", id, "it is submitted without feedback"
    joined = select(a.id, a.feedback_id).join(t.feedback, a.feedback_id == f.id)
    other = or_(f.labeler != a.labeler, f.prompt_id != a.prompt_id)
    for id, feedback_id in connection.execute(joined.where(other)):
        yield "assignments", id, f"its feedback {feedback_id!r} is of another labeler or prompt"


def _counts(connection: Connection) -> Iterator[Finding]:
    """A task's counts are those of its assignments, and nobody was asked beyond its overlap."""
    q, a = s.queue.c, s.assignments.c
    counts = and_(a.queue_id == q.id, a.purpose == "label", a.arm != "surplus")
    done = func.coalesce(func.sum(case((a.state == "submitted", 1), else_=0)), 0)
    leased = func.coalesce(func.sum(case((a.state == "leased", 1), else_=0)), 0)
    query = select(q.id, q.taken, q.done, q.wanted, done.label("submitted"), leased.label("leased"))
    joined = query.select_from(s.queue.outerjoin(s.assignments, counts))
    for row in connection.execute(joined.group_by(q.id, q.taken, q.done, q.wanted)).mappings():
        yield from _count(row)


def _count(row: Mapping[Any, Any]) -> Iterator[Finding]:
    held = row["submitted"] + row["leased"]
    if row["done"] != row["submitted"]:
        yield "queue", row["id"], f"done is {row['done']}, but {row['submitted']} assignments are submitted"
    if row["taken"] != held:
        yield "queue", row["id"], f"taken is {row['taken']}, but {held} assignments are leased or submitted"
    if held > row["wanted"]:
        yield "queue", row["id"], f"{held} labelers were asked where {row['wanted']} were wanted"
