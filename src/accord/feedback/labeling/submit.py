"""Answers in: each is stored once, in the transaction that changes its assignment.

A submission carries a key that its sender made. The same key again is the same receipt, so a browser
may send until it hears of success. What is refused raises :class:`DataError` and changes nothing;
the caller keeps it with :func:`refuse`, for an error must not lose a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, insert, select, update

from accord.errors import DataError
from accord.feedback.labeling.answers import Answer, to_feedback
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.fit import goes_on
from accord.feedback.labeling.items import grade_quiz
from accord.feedback.labeling.leases import SURPLUS, Row, change, count, one, own, renew, retake
from accord.feedback.labeling.queue import Assignment, load, may_label
from accord.feedback.labeling.settle import Trust, is_settled, read_trust
from accord.feedback.labeling.webhooks import announce
from accord.judgements import Ranking, Remark, Thumb
from accord.store import facts, tables
from accord.store import rows as r
from accord.store import state as t
from accord.store.store import Store
from accord.types import Completion, digest

KEY_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was stored of a submission."""

    key: str
    ids: tuple[str, ...]
    """Of the feedback it became."""
    duplicate: bool = False
    """The key had been stored before; this is its receipt."""
    surplus: bool = False
    """It came after its lease had ended and the place was filled; it is kept beyond the overlap."""


def submit(
    store: Store,
    labeler: str,
    assignment_id: str,
    answer: Answer,
    key: str,
    guidelines: str,
    config: LabelConfig,
    now: float,
) -> Receipt:
    """Store a labeler's answer to their assignment; once, however often it is sent with this ``key``.

    A lease that ended takes its place again where there is one; else the answer is kept as surplus.
    After :func:`take_back` the answer supersedes the one before.

    Raises:
        DataError: not this labeler's assignment, an answer that does not fit it or the protocol, a key
            used for something else, or an assignment that is submitted already.
    """
    content = _content(assignment_id, config.protocol, answer.content())
    trust = read_trust(store) if config.adaptive else Trust()
    with store.database.write() as connection:
        known = _known(connection, labeler, key, content)
        if known is not None:
            return known
        row = own(connection, labeler, assignment_id)
        if row["state"] == "submitted":
            raise DataError(f"assignment {assignment_id!r} is submitted; take it back to change the answer")
        if row["state"] != "leased":
            row = retake(connection, row) or change(connection, row, arm=SURPLUS)
        before = row["feedback_id"]
        ids = _store(connection, to_feedback(row, answer, guidelines, config))
        row = change(connection, row, state="submitted", feedback_id=ids[0], submitted_at=now)
        count(connection, row, done=1)
        _receive(connection, key, row, config.protocol, content, ids, now)
        _announce_label(connection, row, ids, before, now)
        if row["purpose"] == "quiz":
            grade_quiz(connection, labeler, config)
        elif row["purpose"] == "label":
            _finish(connection, row, config, trust, now)
    return Receipt(key, tuple(ids), surplus=row["arm"] == SURPLUS)


def _content(*parts: Any) -> str:
    try:
        return digest(*parts)
    except UnicodeEncodeError as error:
        odd = error.object[error.start : error.end]
        raise DataError(
            f"the text holds a lone surrogate, {odd!r}, which is no character; remove it"
        ) from error


def _known(connection: Connection, labeler: str, key: str, content: str) -> Receipt | None:
    """The receipt of a key that is stored. Raises :class:`DataError` for one that cannot be or is taken."""
    if not 0 < len(key) <= KEY_LENGTH or not key.isprintable():
        raise DataError(f"the key {key!r:.60} cannot be; send 1 to {KEY_LENGTH} printable characters")
    row = one(connection, select(t.submissions).where(t.submissions.c.key == key))
    if row is None:
        return None
    if row["labeler"] != labeler or row["content"] != content:
        raise DataError(f"the key {key!r} was used for another submission; give each one its own")
    arm = connection.execute(select(t.assignments.c.arm).where(t.assignments.c.id == row["assignment_id"]))
    return Receipt(key, tuple(row["feedback_ids"]), True, arm.scalar() == SURPLUS)


def _store(connection: Connection, given: tuple[list[Completion], list[Ranking], list[Thumb]]) -> list[str]:
    """Write an answer's facts; returns the ids of its feedback."""
    completions, rankings, thumbs = given
    prompt_id = (rankings or thumbs)[0].prompt_id
    facts.add_completions(connection, [(prompt_id, completions)])
    rows = [r.ranking_row(ranking) for ranking in rankings] or facts.place_votes(connection, thumbs)
    facts.add_feedback(connection, rows)
    return [row["id"] for row in rows]


def _receive(
    connection: Connection, key: str, row: Row, kind: str, content: str, ids: Sequence[str], now: float
) -> None:
    values = {
        "key": key,
        "assignment_id": row["id"],
        "labeler": row["labeler"],
        "kind": kind,
        "content": content,
        "feedback_ids": list(ids),
        "at": now,
    }
    connection.execute(insert(t.submissions), [values])


def _announce_label(
    connection: Connection, row: Row, ids: Sequence[str], before: str | None, now: float
) -> None:
    payload = {
        "feedback": list(ids),
        "assignment": row["id"],
        "prompt": row["prompt_id"],
        "labeler": row["labeler"],
        "criterion": row["criterion"],
        "arm": row["arm"],
    }
    if before is None:
        announce(connection, "label.created", payload, now)
    else:
        announce(connection, "label.superseded", {**payload, "supersedes": before}, now)


def _finish(connection: Connection, row: Row, config: LabelConfig, trust: Trust, now: float) -> None:
    """Where a task's answers are all in: want one more, if they do not settle it; else tell who listens."""
    q = t.queue.c
    task = one(connection, select(t.queue).where(q.id == row["queue_id"]))
    if task is None or task["done"] < task["wanted"]:
        return
    if config.adaptive and config.ranks and task["done"] and task["wanted"] < config.overlap:
        golden = select(t.gold.c.prompt_id).where(t.gold.c.prompt_id == row["prompt_id"])
        if not is_settled(connection, task, trust, config.certain) and not one(connection, golden):
            connection.execute(update(t.queue).where(q.id == task["id"]).values(wanted=q.wanted + 1))
            return
    matter = {"prompt": task["prompt_id"], "criterion": task["criterion"], "labelers": task["done"]}
    announce(connection, "prompt.complete", matter, now)
    unfinished = select(q.id).where(q.criterion == task["criterion"], q.done < q.wanted).limit(1)
    if one(connection, unfinished) is None:
        announce(connection, "queue.complete", {"criterion": task["criterion"]}, now)


def take_back(store: Store, labeler: str, config: LabelConfig, now: float) -> Assignment | None:
    """Open the labeler's last submitted assignment again; its next submit supersedes the answer.

    Until then the answer stands. ``None`` where there is none, it was of a quiz that is over, or it was
    given under another protocol.
    """
    a = t.assignments.c
    last = select(t.assignments).where(a.labeler == labeler, a.state == "submitted")
    with store.database.write() as connection:
        quiz = may_label(connection, labeler)
        row = one(connection, last.order_by(a.submitted_at.desc(), a.number.desc()).limit(1))
        if row is None or quiz is None or (row["purpose"] == "quiz" and quiz != "open"):
            return None
        if not goes_on(connection, row, config):
            return None
        row = renew(connection, row, now, 60 * config.lease_minutes)
        count(connection, row, done=-1)
    return load(store, row)


def skip(
    store: Store, labeler: str, assignment_id: str, reason: str, note: str, key: str, now: float
) -> Receipt:
    """Give an assignment back without an answer; the labeler does not meet it again."""
    return _remark(store, labeler, assignment_id, ("skip", reason, note, ""), key, now)


def flag(
    store: Store,
    labeler: str,
    assignment_id: str,
    reason: str,
    note: str,
    completion_id: str,
    key: str,
    now: float,
) -> Receipt:
    """Tell the owner that something is wrong with a prompt or a completion; the assignment stays."""
    return _remark(store, labeler, assignment_id, ("flag", reason, note, completion_id), key, now)


def _remark(
    store: Store,
    labeler: str,
    assignment_id: str,
    said: tuple[str, str, str, str],
    key: str,
    now: float,
) -> Receipt:
    kind, reason, note, completion_id = said
    content = _content(assignment_id, said)
    with store.database.write() as connection:
        known = _known(connection, labeler, key, content)
        if known is not None:
            return known
        row = own(connection, labeler, assignment_id)
        if completion_id and completion_id not in row["shown"]:
            raise DataError(f"completion {completion_id!r:.60} is not on this task")
        id = digest("remark", key, labeler)
        remark = Remark(row["prompt_id"], labeler, kind, reason, note, completion_id, id=id)
        facts.add_feedback(connection, [r.remark_row(remark)])
        if kind == "skip":
            _give_back(connection, row)
        _receive(connection, key, row, kind, content, [id], now)
    return Receipt(key, (id,))


def _give_back(connection: Connection, row: Row) -> None:
    if row["feedback_id"] is not None:
        raise DataError(f"assignment {row['id']!r} has an answer, which stands; submit a better one instead")
    if row["state"] == "skipped":
        raise DataError(f"assignment {row['id']!r} is skipped already")
    change(connection, row, state="skipped")
    if row["state"] == "leased":
        count(connection, row, taken=-1)


def stored(store: Store, labeler: str, keys: Sequence[str]) -> set[str]:
    """Which of ``keys`` are stored submissions of this labeler."""
    s = t.submissions.c
    sound = [key for key in dict.fromkeys(keys) if key.isprintable()]
    found: set[str] = set()
    with store.database.read() as connection:
        for chunk in r.chunks(sound):
            query = select(s.key).where(s.key.in_(chunk), s.labeler == labeler)
            found |= set(connection.execute(query).scalars())
    return found


def refuse(store: Store, labeler: str, reason: str, body: Any, now: float) -> str:
    """Keep a submission that was refused, whole; returns its id."""
    row = {"id": uuid4().hex, "at": now, "labeler": labeler, "reason": _kept(reason), "body": _kept(body)}
    with store.database.write() as connection:
        connection.execute(insert(t.refusals), [row])
    return row["id"]


def _kept(value: Any) -> Any:
    """``value``, or how Python writes it where it is not JSON that a database can hold."""
    try:
        tables.canonical(value).encode()
    except (TypeError, ValueError):
        return ascii(value)
    return ascii(value) if value is None else value
