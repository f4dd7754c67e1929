"""Who labels what next: tasks, leases and drafts.

A task is one prompt under one criterion, and asks for ``wanted`` labelers. A claim takes one of its
places by a lease that ends after ``lease_minutes``; ``taken`` counts leases and answers, and never
passes ``wanted``. Each function is one transaction, in which no other writer can come between the
check and the change (``store.database``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Select, case, exists, insert, literal, select, update

from accord.errors import DataError
from accord.feedback.labeling.chance import shuffled, uniform
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.items import next_gold, next_quiz, next_repeat
from accord.store import facts, tables
from accord.store import rows as r
from accord.store import state as t
from accord.store.store import Store
from accord.types import Completion, Prompt, Ranking, Stop

LABEL = literal("label", literal_execute=True)
LEASED = literal("leased", literal_execute=True)
# as literals, not parameters: only then do the partial indices of store.state serve
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Assignment:
    """One labeler's task: what is on the screen, until when, and what was entered so far."""

    id: str
    prompt: Prompt
    completions: tuple[Completion, ...]
    """In the order shown; text, stop and id alone, for labelers are blind to models."""
    purpose: str
    """label, repeat, gold or quiz; not for the labeler's eyes."""
    arm: str
    criterion: str
    expires_at: float
    draft: dict[str, Any] | None
    draft_revision: int
    answer: Ranking | None
    """The ranking that was submitted, when it was taken back."""


def fill(store: Store, config: LabelConfig) -> int:
    """Make a task of each prompt of ``config.split`` that has none; returns how many were made.

    A prompt needs two different completions (one, to vote on or to edit); of more than the screen
    holds, a sample is drawn. Gold prompts are no tasks. Call it again when prompts were added.
    """
    with store.database.write() as connection:
        new = _new_prompts(connection, config)
        made = []
        for chunk in r.chunks(new):
            for prompt_id, completions in _choices(connection, chunk, config):
                made.append(_task(prompt_id, completions, config))
        for rows in r.chunks(made):
            connection.execute(insert(t.queue), rows)
    return len(made)


def _new_prompts(connection: Connection, config: LabelConfig) -> list[str]:
    p, q = tables.prompts.c, t.queue.c
    made = exists().where(q.prompt_id == p.id, q.criterion == config.criterion)
    query = select(p.id).where(~made, ~exists().where(t.gold.c.prompt_id == p.id)).order_by(p.seq)
    if config.split is not None:
        s = tables.splits.c
        query = query.join(tables.splits, s.prompt_id == p.id).where(s.split == config.split)
    return list(connection.execute(query).scalars())


def _choices(
    connection: Connection, prompt_ids: Sequence[str], config: LabelConfig
) -> Iterable[tuple[str, list[str]]]:
    c = tables.completions.c
    query = select(c.prompt_id, c.id, c.text).where(c.prompt_id.in_(prompt_ids)).order_by(c.seq)
    texts: dict[str, dict[str, str]] = {}
    for prompt_id, id, text in connection.execute(query):
        texts.setdefault(prompt_id, {}).setdefault(text, id)  # the same words twice are one answer
    least = 2 if config.ranks else 1
    for prompt_id in prompt_ids:
        ids = list(texts.get(prompt_id, {}).values())
        if len(ids) > config.shown:
            chosen = set(shuffled(ids, "sample", prompt_id)[: config.shown])
            ids = [id for id in ids if id in chosen]
        if len(ids) >= least:
            yield prompt_id, ids


def _task(prompt_id: str, completions: list[str], config: LabelConfig) -> Row:
    return {
        "id": uuid4().hex,
        "prompt_id": prompt_id,
        "criterion": config.criterion,
        "completions": completions,
        "wanted": config.first_wanted,
        "taken": 0,
        "done": 0,
        "priority": 0.0,
        "arm": "random",  # ids are random, and break the ties of priority
        "reserved": uniform("random", prompt_id) < config.random_share,
    }


def set_priorities(store: Store, priorities: Mapping[str, float], arm: str) -> int:
    """Put ``arm`` and a priority (the highest comes first) on the tasks of these prompts.

    Tasks of the random arm keep theirs. Returns how many were changed.
    """
    for prompt_id, priority in priorities.items():
        if not isinstance(priority, int | float) or priority - priority != 0:
            raise DataError(f"priority of prompt {prompt_id!r} is {priority!r}; give a finite number")
    q = t.queue.c
    changed = 0
    with store.database.write() as connection:
        for chunk in r.chunks(priorities, 300):
            value = case({id: float(priorities[id]) for id in chunk}, value=q.prompt_id, else_=0.0)
            where = q.prompt_id.in_(chunk) & ~q.reserved
            done = connection.execute(update(t.queue).where(where).values(priority=value, arm=arm))
            changed += done.rowcount
    return changed


def set_gold(
    store: Store,
    prompt_id: str,
    tiers: Sequence[Sequence[str]],
    fails: Sequence[str] = (),
    quiz: bool = False,
    criterion: str = "",
) -> None:
    """Make a prompt an item of known answer, for the quiz or to be mixed in; a second call replaces it.

    Raises :class:`DataError` for completions that are not the prompt's, or an answer without any order.
    """
    try:
        answer = Ranking(prompt_id, "gold", tuple(map(tuple, tiers)), tuple(fails))
    except ValueError as error:
        raise DataError(f"gold of prompt {prompt_id!r}: {error}") from error
    if len(answer.tiers) + bool(answer.fails) < 2:
        raise DataError(
            f"gold of prompt {prompt_id!r} orders no pair of completions; give two tiers, or FAILs"
        )
    values = {
        "criterion": criterion,
        "tiers": [list(tier) for tier in answer.tiers],
        "fails": list(answer.fails),
        "quiz": quiz,
    }
    q = t.queue.c
    with store.database.write() as connection:
        facts.check_completions(connection, [r.ranking_row(answer)])
        changed = connection.execute(update(t.gold).where(t.gold.c.prompt_id == prompt_id).values(**values))
        if not changed.rowcount:
            connection.execute(insert(t.gold).values(prompt_id=prompt_id, **values))
        # it is a task no longer: who meets it as gold must not have met it before
        connection.execute(update(t.queue).where(q.prompt_id == prompt_id).values(wanted=q.taken))


def claim(store: Store, labeler: str, config: LabelConfig, now: float) -> Assignment | None:
    """The labeler's task: the one they hold, or the next one; ``None`` where there is nothing to do.

    What they hold has its lease renewed. Else the quiz comes first, then a repeat or a gold item if
    one is due, then the open task of best priority that they have not had. Leases that ended are
    given back first. A task whose lease they let end is theirs again, draft and all, while it has room.
    """
    with store.database.write() as connection:
        quiz = may_label(connection, labeler)
        row = None
        if quiz is not None:
            row = _held(connection, labeler)
            if row is not None:
                row = _renew(connection, row, now, now + 60 * config.lease_minutes)
            else:
                release_expired(connection, now)
                row = _next(connection, labeler, config, quiz, now)
    return None if row is None else load(store, row)


def may_label(connection: Connection, labeler: str) -> str | None:
    """The state of the labeler's quiz; ``None`` for one who gets no tasks (paused, or failed it)."""
    p = t.people.c
    person = connection.execute(select(p.status, p.quiz).where(p.name == labeler)).first()
    if person is None:
        return ""
    return None if person.status == "paused" or person.quiz == "failed" else person.quiz


def _held(connection: Connection, labeler: str) -> Row | None:
    a = t.assignments.c
    # what was taken back comes before what was under way, the latest first
    order = a.feedback_id.is_(None), a.leased_at.desc(), a.number.desc()
    return one(
        connection,
        select(t.assignments).where(a.labeler == labeler, a.state == "leased").order_by(*order).limit(1),
    )


def _renew(connection: Connection, row: Row, now: float, expires_at: float) -> Row:
    return change(connection, row, state="leased", leased_at=now, expires_at=expires_at)


def _next(connection: Connection, labeler: str, config: LabelConfig, quiz: str, now: float) -> Row | None:
    a = t.assignments.c
    last = select(a.number).where(a.labeler == labeler).order_by(a.number.desc()).limit(1)
    number = (connection.execute(last).scalar() or 0) + 1
    item = None
    if config.ranks:
        if quiz == "open":
            item = next_quiz(connection, labeler, config)
        item = item or next_repeat(connection, labeler, number, config)
        item = item or next_gold(connection, labeler, number, config)
    if item is None:
        item = _open_task(connection, labeler, number, config)
        if item is None:
            return None
        take = update(t.queue).where(t.queue.c.id == item["queue_id"])
        connection.execute(take.values(taken=t.queue.c.taken + 1))
        earlier = one(
            connection,
            select(t.assignments).where(
                a.queue_id == item["queue_id"], a.labeler == labeler, a.purpose == LABEL
            ),
        )
        if earlier is not None:
            return _renew(connection, earlier, now, now + 60 * config.lease_minutes)
    id = uuid4().hex
    row = {
        "id": id,
        "labeler": labeler,
        "number": number,
        "criterion": config.criterion,
        "state": "leased",
        "leased_at": now,
        "expires_at": now + 60 * config.lease_minutes,
        "draft": None,
        "draft_revision": 0,
        "feedback_id": None,
        "submitted_at": None,
        **item,
        "shown": shuffled(item["shown"], labeler, id),
    }
    connection.execute(insert(t.assignments), [row])
    return row


def _open_task(connection: Connection, labeler: str, number: int, config: LabelConfig) -> Row | None:
    """The best open task, of the random arm's own or of the others first, as its share asks."""
    own_first = uniform("arm", labeler, number) < config.random_share
    for reserved in (own_first, not own_first):
        found = connection.execute(_best_open(labeler, config.criterion, reserved)).first()
        if found is not None:
            return {
                "queue_id": found.id,
                "prompt_id": found.prompt_id,
                "purpose": "label",
                "arm": found.arm,
                "criterion": found.criterion,
                "shown": found.completions,
            }
    return None


def _best_open(labeler: str, criterion: str, reserved: bool) -> Select[Any]:
    q, a = t.queue.c, t.assignments.c
    had = exists().where(a.queue_id == q.id, a.labeler == labeler, a.purpose == LABEL, a.state != "expired")
    return (
        select(t.queue)
        .where(q.criterion == criterion, q.reserved == reserved, q.taken < q.wanted, ~had)
        .order_by(q.priority.desc(), q.id)
        .limit(1)
    )


def release_expired(connection: Connection, now: float) -> int:
    """Give back the places of leases that ended; returns how many ended.

    A task that was taken back and not answered anew is submitted as before: its ranking stands.
    """
    a = t.assignments.c
    ended = select(t.assignments).where(a.state == LEASED, a.expires_at <= now)
    rows = list(r.stream(connection, ended))
    for row in rows:
        if row["feedback_id"] is None:
            change(connection, row, state="expired")
            count(connection, row, taken=-1)
        else:
            change(connection, row, state="submitted")
            count(connection, row, done=1)
    return len(rows)


def retake(connection: Connection, row: Row) -> bool:
    """Take a place of the row's task again, for a lease that ended; whether there was one."""
    if row["purpose"] != "label":
        return True
    q = t.queue.c
    free = update(t.queue).where(q.id == row["queue_id"], q.taken < q.wanted)
    return connection.execute(free.values(taken=q.taken + 1)).rowcount == 1


def count(connection: Connection, row: Row, taken: int = 0, done: int = 0) -> None:
    """Change the counts of the row's task, if the row is one of the labelers it asked for."""
    q = t.queue.c
    if row["purpose"] == "label" and row["arm"] != "surplus":
        values = {"taken": q.taken + taken, "done": q.done + done}
        connection.execute(update(t.queue).where(q.id == row["queue_id"]).values(**values))


def save_draft(
    store: Store, labeler: str, assignment_id: str, draft: Mapping[str, Any], revision: int, now: float
) -> int:
    """Keep what is entered so far, if ``revision`` is newer than the one kept, and renew the lease.

    Returns the revision that is kept. A lease that had ended is taken again where there is room; the
    draft is kept either way. A draft that comes after the answer changes nothing. Raises
    :class:`DataError` for an assignment that is not this labeler's.
    """
    with store.database.write() as connection:
        row = own(connection, labeler, assignment_id)
        if row["state"] in ("submitted", "skipped"):
            return row["draft_revision"]
        if row["state"] == "leased" or retake(connection, row):
            row = _renew(connection, row, now, now + row["expires_at"] - row["leased_at"])
        if revision > row["draft_revision"]:
            kept = tables.plain(draft, "draft")
            row = change(connection, row, draft=kept, draft_revision=revision)
        return row["draft_revision"]


def own(connection: Connection, labeler: str, assignment_id: str) -> Row:
    """The labeler's assignment. Another's and an unknown one are the same :class:`DataError`."""
    a = t.assignments.c
    if "\x00" not in assignment_id and assignment_id.isprintable():
        row = one(connection, select(t.assignments).where(a.id == assignment_id, a.labeler == labeler))
        if row is not None:
            return row
    raise DataError(f"assignment {assignment_id!r:.60} is not one of yours; open your task anew")


def load(store: Store, row: Row) -> Assignment:
    """The assignment with its texts."""
    c = tables.completions.c
    with store.database.read() as connection:
        prompt = facts.load_prompts(connection, [row["prompt_id"]])[row["prompt_id"]]
        query = select(c.id, c.text, c.stop).where(c.id.in_(row["shown"]))
        found = {id: Completion(text, stop=Stop(stop), id=id) for id, text, stop in connection.execute(query)}
        answer = None
        if row["feedback_id"] is not None:
            for given in r.fetch(connection, tables.feedback, "id", [row["feedback_id"]]):
                answer = r.to_ranking(given) if given["kind"] == "ranking" else None
    return Assignment(
        row["id"],
        prompt,
        tuple(found[id] for id in row["shown"]),
        row["purpose"],
        row["arm"],
        row["criterion"],
        row["expires_at"],
        row["draft"],
        row["draft_revision"],
        answer,
    )


def one(connection: Connection, query: Select[Any]) -> Row | None:
    """The only row of ``query``, as a dict."""
    found = connection.execute(query).mappings().first()
    return None if found is None else {str(name): value for name, value in found.items()}


def change(connection: Connection, row: Row, **values: Any) -> Row:
    """Write ``values`` into an assignment; returns it as it is now."""
    where: ColumnElement[bool] = t.assignments.c.id == row["id"]
    connection.execute(update(t.assignments).where(where).values(**values))
    return {**row, **values}
