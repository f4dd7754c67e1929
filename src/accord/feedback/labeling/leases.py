"""Leases inside one transaction: taken, renewed, ended, and counted on their task.

A task's ``taken`` is the number of labelers whose assignment is leased or submitted, its ``done`` of those
submitted; assignments of another purpose (repeat, gold, quiz) and the arm ``surplus`` do not count.
``Store.verify`` counts again.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, and_, literal, select, true, update

from accord.errors import DataError
from accord.store import rows as r
from accord.store import state as t

Row = dict[str, Any]
SURPLUS = "surplus"
# literals, not parameters: only then do the partial indices of store.state serve
LABEL = literal("label", literal_execute=True)
LEASED = literal("leased", literal_execute=True)


def one(connection: Connection, query: Select[Any]) -> Row | None:
    """The first row of ``query``, as a dict."""
    found = connection.execute(query).mappings().first()
    return None if found is None else {str(name): value for name, value in found.items()}


def own(connection: Connection, labeler: str, assignment_id: str) -> Row:
    """The labeler's assignment. Another's and an unknown one are the same :class:`DataError`."""
    a = t.assignments.c
    if assignment_id.isprintable():  # no database holds a name of another kind
        row = one(connection, select(t.assignments).where(a.id == assignment_id, a.labeler == labeler))
        if row is not None:
            return row
    raise DataError(f"assignment {assignment_id!r:.60} is not one of yours; open your task anew")


def change(connection: Connection, row: Row, **values: Any) -> Row:
    """Write ``values`` into an assignment; returns it as it is now."""
    connection.execute(update(t.assignments).where(t.assignments.c.id == row["id"]).values(**values))
    return {**row, **values}


def count(connection: Connection, row: Row, taken: int = 0, done: int = 0) -> None:
    """Change the counts of the row's task, if the row is one of the labelers it asked for."""
    q = t.queue.c
    if row["purpose"] == "label" and row["arm"] != SURPLUS:
        values = {"taken": q.taken + taken, "done": q.done + done}
        connection.execute(update(t.queue).where(q.id == row["queue_id"]).values(**values))


def renew(connection: Connection, row: Row, now: float, seconds: float, **values: Any) -> Row:
    """Lease an assignment, which holds its place, until ``seconds`` from now."""
    return change(connection, row, state="leased", leased_at=now, expires_at=now + seconds, **values)


def retake(connection: Connection, row: Row) -> Row | None:
    """The row of a lease that ended, with a place of its task taken again; ``None`` where none is free."""
    if row["purpose"] != "label":
        return row
    q = t.queue.c
    free = update(t.queue).where(q.id == row["queue_id"], q.taken < q.wanted)
    if not connection.execute(free.values(taken=q.taken + 1)).rowcount:
        return None
    if row["arm"] != SURPLUS:
        return row
    arm = connection.execute(select(q.arm).where(q.id == row["queue_id"])).scalar_one()
    return change(connection, row, arm=arm)


def release_expired(connection: Connection, now: float) -> int:
    """Give back the places of leases that ended; returns how many ended.

    A task that was taken back and not answered anew is submitted as before: its answer stands.
    """
    a = t.assignments.c
    rows = list(r.stream(connection, select(t.assignments).where(a.state == LEASED, a.expires_at <= now)))
    for row in rows:
        end(connection, row)
    return len(rows)


def end(connection: Connection, row: Row) -> None:
    """End a lease: the place is free, or the answer that was taken back stands again."""
    if row["feedback_id"] is None:
        change(connection, row, state="expired")
        count(connection, row, taken=-1)
    else:
        change(connection, row, state="submitted")
        count(connection, row, done=1)


def close(connection: Connection, prompt_id: str, criterion: str | None = None) -> None:
    """Ask nobody more about a prompt (by every criterion, unless one is named); what is under way there, if
    it comes, is kept as surplus."""
    q, a = t.queue.c, t.assignments.c
    these = and_(q.prompt_id == prompt_id, true() if criterion is None else q.criterion == criterion)
    tasks = select(q.id).where(these)
    leased = update(t.assignments).where(a.queue_id.in_(tasks), a.purpose == LABEL, a.state == "leased")
    connection.execute(leased.values(arm=SURPLUS))
    connection.execute(update(t.queue).where(these).values(taken=q.done, wanted=q.done))
