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

from sqlalchemy import Connection, Select, case, exists, func, insert, select, update

from accord.errors import DataError
from accord.feedback.labeling.chance import shuffled, uniform
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.fit import askable, goes_on
from accord.feedback.labeling.items import grade_quiz, next_gold, next_quiz, next_repeat, start_quiz
from accord.feedback.labeling.leases import (
    LABEL,
    Row,
    change,
    close,
    end,
    one,
    own,
    release_expired,
    renew,
    retake,
)
from accord.judgements import Ranking
from accord.store import facts, tables
from accord.store import rows as r
from accord.store import state as t
from accord.store.store import Store
from accord.types import Completion, Prompt, Stop

MEASURES = ("repeat", "gold", "quiz")


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
    with store.database.read() as connection:  # no writer waits while prompts are looked through
        chunks = list(r.chunks(_new_prompts(connection, config)))
    made = 0
    for chunk in chunks:
        with store.database.write() as connection:
            known = _have_tasks(connection, chunk, config.criterion)
            new = [prompt_id for prompt_id in chunk if prompt_id not in known]
            tasks = [task_of(id, ids, config) for id, ids in choices(connection, new, config)]
            if tasks:
                connection.execute(insert(t.queue), tasks)
            made += len(tasks)
    return made


def _new_prompts(connection: Connection, config: LabelConfig) -> list[str]:
    p, q = tables.prompts.c, t.queue.c
    made = exists().where(q.prompt_id == p.id, q.criterion == config.criterion)
    query = select(p.id).where(~made, ~exists().where(t.gold.c.prompt_id == p.id)).order_by(p.seq)
    if config.split is not None:
        s = tables.splits.c
        query = query.join(tables.splits, s.prompt_id == p.id).where(s.split == config.split)
    return list(connection.execute(query).scalars())


def _have_tasks(connection: Connection, prompt_ids: Sequence[str], criterion: str) -> set[str]:
    q, g = t.queue.c, t.gold.c
    tasks = select(q.prompt_id).where(q.prompt_id.in_(prompt_ids), q.criterion == criterion)
    golds = select(g.prompt_id).where(g.prompt_id.in_(prompt_ids))
    return {*connection.execute(tasks).scalars(), *connection.execute(golds).scalars()}


def choices(
    connection: Connection, prompt_ids: Sequence[str], config: LabelConfig
) -> Iterable[tuple[str, list[str]]]:
    """Of each prompt that can be a task, its id and the completions that a new task shows."""
    c = tables.completions.c
    query = select(c.prompt_id, c.id, c.text).where(c.prompt_id.in_(prompt_ids)).order_by(c.seq)
    texts: dict[str, dict[str, str]] = {}
    for prompt_id, id, text in connection.execute(query):
        texts.setdefault(prompt_id, {}).setdefault(text, id)  # the same words twice are one answer
    for prompt_id in prompt_ids:
        ids = list(texts.get(prompt_id, {}).values())
        if len(ids) > config.shown:
            chosen = set(shuffled(ids, "sample", prompt_id)[: config.shown])
            ids = [id for id in ids if id in chosen]
        if len(ids) >= config.least:
            yield prompt_id, ids


def task_of(prompt_id: str, completions: list[str], config: LabelConfig) -> Row:
    """A new task's row."""
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
    with store.database.write() as connection:
        facts.check_completions(connection, [r.ranking_row(answer)])
        changed = connection.execute(update(t.gold).where(t.gold.c.prompt_id == prompt_id).values(**values))
        if not changed.rowcount:
            connection.execute(insert(t.gold).values(prompt_id=prompt_id, **values))
        close(connection, prompt_id)  # who meets it as gold must not have met it before


def claim(store: Store, labeler: str, config: LabelConfig, now: float) -> Assignment | None:
    """The labeler's task: the one they hold, or the next one; ``None`` where there is nothing to do.

    What they hold has its lease renewed. Else the quiz comes first, then a repeat or a gold item if
    one is due, then the open task of best priority that they have not had. Leases that ended are
    given back first. A task whose lease they let end is theirs again, draft and all, while it has room.
    Whatever ``config.protocol`` cannot ask about is not handed out, and a lease on it ends.
    """
    with store.database.write() as connection:
        quiz = may_label(connection, labeler)
        row = None
        if quiz is not None:
            row = _held(connection, labeler, config)
            if row is not None:
                row = renew(connection, row, now, 60 * config.lease_minutes)
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


def _held(connection: Connection, labeler: str, config: LabelConfig) -> Row | None:
    """What the labeler holds, the latest; leases from under another protocol end."""
    a = t.assignments.c
    # what was taken back comes before what was under way, the latest first
    order = a.feedback_id.is_(None), a.leased_at.desc(), a.number.desc()
    mine = select(t.assignments).where(a.labeler == labeler, a.state == "leased").order_by(*order)
    for row in list(r.stream(connection, mine)):
        if goes_on(connection, row, config):
            return row
        end(connection, row)
    return None


def _next(connection: Connection, labeler: str, config: LabelConfig, quiz: str, now: float) -> Row | None:
    a = t.assignments.c
    lease = 60 * config.lease_minutes
    mine = select(t.assignments).where(a.labeler == labeler)
    number = (connection.execute(select(func.max(a.number)).where(a.labeler == labeler)).scalar() or 0) + 1
    item = None
    if config.ranks:
        ours = a.state == "expired", a.purpose.in_(MEASURES), askable(config, a.shown)
        left = one(connection, mine.where(*ours).limit(1))
        if left is not None:  # nobody else can answer it
            return renew(connection, left, now, lease)
        if quiz == "open" or (number == 1 and start_quiz(connection, labeler, config)):
            item = next_quiz(connection, labeler, config)
            if item is None and grade_quiz(connection, labeler, config) == "failed":
                return None
        item = item or next_repeat(connection, labeler, number, config)
        item = item or next_gold(connection, labeler, number, config)
    item = item or _open_task(connection, labeler, number, config)
    if item is None:
        return None
    if item["queue_id"] is not None:
        take = update(t.queue).where(t.queue.c.id == item["queue_id"])
        connection.execute(take.values(taken=t.queue.c.taken + 1))
        left = one(connection, mine.where(a.queue_id == item["queue_id"], a.purpose == LABEL))
        if left is not None:
            shown = left["shown"]
            if set(shown) != set(item["shown"]):  # the task was made anew since
                shown = shuffled(item["shown"], labeler, left["id"])
            return renew(connection, left, now, lease, arm=item["arm"], shown=shown)
    return _lease(connection, labeler, number, item, now, now + lease)


def _lease(
    connection: Connection, labeler: str, number: int, item: Row, now: float, expires_at: float
) -> Row:
    id = uuid4().hex
    row = {
        "id": id,
        "labeler": labeler,
        "number": number,
        "state": "leased",
        "leased_at": now,
        "expires_at": expires_at,
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
        found = connection.execute(_best_open(labeler, config, reserved)).first()
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


def _best_open(labeler: str, config: LabelConfig, reserved: bool) -> Select[Any]:
    q, a = t.queue.c, t.assignments.c
    had = exists().where(a.queue_id == q.id, a.labeler == labeler, a.purpose == LABEL, a.state != "expired")
    ours = q.criterion == config.criterion, askable(config, q.completions)
    return (
        select(t.queue)
        .where(*ours, q.reserved == reserved, q.taken < q.wanted, ~had)
        .order_by(q.priority.desc(), q.id)
        .limit(1)
    )


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
        held = row if row["state"] == "leased" else retake(connection, row)
        if held is not None:
            row = renew(connection, held, now, row["expires_at"] - row["leased_at"])
        if revision > row["draft_revision"]:
            kept = tables.plain(draft, "draft")
            row = change(connection, row, draft=kept, draft_revision=revision)
        return row["draft_revision"]


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
