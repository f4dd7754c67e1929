"""What owners and reviewers decide: a disputed prompt's final ranking, gold items, pauses.

Nothing here takes a label away. An adjudication is one more ranking, the reviewer's own, stored like any
other with the arm ``adjudicated``; it closes the prompt, and the consensus weighs it like a labeler's. A
paused person's labels stay where they are; if their prompts are asked again, their answers are set *aside*
in the queue's counts, and counted again when the pause ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, exists, func, insert, select, update
from sqlalchemy import case as choose

from accord.errors import DataError
from accord.feedback.labeling import people
from accord.feedback.labeling.answers import Answer
from accord.feedback.labeling.chance import shuffled
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.leases import LABEL, SURPLUS, close, end, one
from accord.feedback.labeling.people import Person
from accord.feedback.labeling.webhooks import announce
from accord.judgements import Ranking, Remark
from accord.stats.agreement import ADJUDICATED
from accord.stats.rankings import levels
from accord.store import facts, tables
from accord.store import rows as r
from accord.store import state as t
from accord.store.store import Store
from accord.types import Completion, Prompt, Stop

PURPOSE = "adjudicate"


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt with everybody's rankings, for owners and reviewers only."""

    prompt: Prompt
    completions: tuple[Completion, ...]
    """In this reviewer's own random order; text, stop and id alone: a reviewer is blind to models too."""
    rankings: tuple[Ranking, ...]
    """Each labeler's latest, in the order they came."""
    remarks: tuple[Remark, ...]
    final: Ranking | None
    """The latest adjudication."""
    gold: Mapping[str, Any] | None
    """The row of the gold table, if the prompt is gold."""


def case(store: Store, prompt_id: str, reviewer: str, criterion: str) -> Case:
    """All that was said of a prompt under a criterion. Raises :class:`DataError` for an unknown prompt."""
    with store.database.read() as connection:
        prompt = facts.load_prompts(connection, [prompt_id])[prompt_id]
        rankings = _rankings(connection, prompt_id, criterion)
        said = facts.feedback(["skip", "flag"], current=False).where(tables.feedback.c.prompt_id == prompt_id)
        remarks = tuple(r.to_remark(row) for row in r.stream(connection, said))
        gold = one(connection, select(t.gold).where(t.gold.c.prompt_id == prompt_id))
        ids = _shown(connection, prompt_id, criterion, rankings)
        found = {row["id"]: row for row in r.fetch(connection, tables.completions, "id", ids)}
    texts = [
        Completion(found[id]["text"], stop=Stop(found[id]["stop"]), id=id)
        for id in shuffled(ids, "case", reviewer, prompt_id)
    ]
    final = next((each for each in reversed(rankings) if each.arm == ADJUDICATED), None)
    latest = {each.labeler: each for each in rankings if each.arm != ADJUDICATED}
    return Case(prompt, tuple(texts), tuple(latest.values()), remarks, final, gold)


def adjudicate(
    store: Store,
    reviewer: str,
    prompt_id: str,
    answer: Answer,
    guidelines: str,
    config: LabelConfig,
    now: float,
) -> str:
    """Store a reviewer's final ranking of a prompt and close the prompt; returns the ranking's id.

    The reviewer's earlier adjudication of the prompt is superseded; the same one again changes nothing.
    Raises :class:`DataError` for a ranking that does not place every completion, each once.
    """
    with store.database.write() as connection:
        rankings = _rankings(connection, prompt_id, config.criterion)
        ids = _shown(connection, prompt_id, config.criterion, rankings)
        before = next((e for e in rankings if e.arm == ADJUDICATED and e.labeler == reviewer), None)
        id = before.assignment if before else uuid4().hex
        ranking = replace(
            _final(reviewer, prompt_id, answer, ids),
            shown=tuple(shuffled(ids, "case", reviewer, prompt_id)),
            criterion=config.criterion,
            guidelines=guidelines,
            seconds=answer.seconds,
            note=answer.note,
            arm=ADJUDICATED,
            assignment=id,
        )
        if before and before.note == answer.note and levels(before) == levels(ranking):
            return before.id
        stored = r.ranking_row(replace(ranking, supersedes=before.id if before else None))
        facts.add_feedback(connection, [stored])
        _assign(connection, ranking, stored["id"], before is not None, now)
        close(connection, prompt_id, config.criterion)
        _announce(connection, ranking, stored, now)
    return stored["id"]


def _final(reviewer: str, prompt_id: str, answer: Answer, ids: Sequence[str]) -> Ranking:
    try:
        ranking = Ranking(prompt_id, reviewer, answer.tiers, answer.fails)
    except ValueError as error:
        raise DataError(f"the ranking cannot be: {error}") from error
    placed = {id for tier in ranking.tiers for id in tier} | set(ranking.fails)
    if placed != set(ids):
        missing, odd = set(ids) - placed, placed - set(ids)
        raise DataError(
            f"{len(missing)} of {len(ids)} completions have no place and {len(odd)} placed ones are not the "
            "task's; a final ranking places each of them, or fails it"
        )
    return ranking


def _assign(connection: Connection, ranking: Ranking, feedback_id: str, known: bool, now: float) -> None:
    """Record the adjudication as a task that was answered, like every other ranking."""
    a = t.assignments.c
    answered = {"state": "submitted", "feedback_id": feedback_id, "submitted_at": now}
    if known:
        connection.execute(update(t.assignments).where(a.id == ranking.assignment).values(**answered))
        return
    last = select(func.max(a.number)).where(a.labeler == ranking.labeler)
    values = {
        **answered,
        "id": ranking.assignment,
        "shown": list(ranking.shown),
        "queue_id": None,
        "prompt_id": ranking.prompt_id,
        "labeler": ranking.labeler,
        "number": (connection.execute(last).scalar() or 0) + 1,
        "purpose": PURPOSE,
        "arm": ADJUDICATED,
        "criterion": ranking.criterion,
        "leased_at": now,
        "expires_at": now,
        "draft": None,
        "draft_revision": 0,
    }
    connection.execute(insert(t.assignments), [values])


def _announce(connection: Connection, ranking: Ranking, stored: Mapping[str, Any], now: float) -> None:
    """Tell who listens, as of any other answer; the prompt is complete by it."""
    payload = {
        "feedback": [stored["id"]],
        "assignment": ranking.assignment,
        "prompt": ranking.prompt_id,
        "labeler": ranking.labeler,
        "criterion": ranking.criterion,
        "arm": ranking.arm,
    }
    before = stored["supersedes"]
    if before is not None:
        announce(connection, "label.superseded", {**payload, "supersedes": before}, now)
        return
    announce(connection, "label.created", payload, now)
    q = t.queue.c
    done = select(q.done).where(q.prompt_id == ranking.prompt_id, q.criterion == ranking.criterion)
    matter = {"prompt": ranking.prompt_id, "criterion": ranking.criterion}
    labelers = connection.execute(done).scalar() or 0
    announce(connection, "prompt.complete", {**matter, "labelers": labelers}, now)


def _rankings(connection: Connection, prompt_id: str, criterion: str) -> list[Ranking]:
    query = facts.feedback(["ranking"], current=True).where(tables.feedback.c.prompt_id == prompt_id)
    found = [r.to_ranking(row) for row in r.stream(connection, query)]
    return [ranking for ranking in found if ranking.criterion == criterion]


def _shown(connection: Connection, prompt_id: str, criterion: str, rankings: Sequence[Ranking]) -> list[str]:
    """The completions at issue: the task's, and any that somebody ranked."""
    q = t.queue.c
    query = select(q.completions).where(q.prompt_id == prompt_id, q.criterion == criterion)
    ids: list[str] = list(connection.execute(query).scalar() or [])
    for ranking in rankings:
        ids += ranking.shown or [*(id for tier in ranking.tiers for id in tier), *ranking.fails]
    found = list(dict.fromkeys(ids))
    if len(found) < 2:
        raise DataError(f"prompt {prompt_id!r:.60} is no task and has no rankings; choose one that has")
    return found


# -- pauses ------------------------------------------------------------------------------------


def pause(store: Store, name: str, again: bool) -> tuple[Person, int]:
    """Pause a person. Tasks on their screen go to others at once, drafts are kept.

    With ``again`` the prompts they labelled are asked of one more labeler each, unless adjudicated or
    gold; returns how many that are. Their labels stay, and the consensus goes on weighing them.
    """
    person = people.set_status(store, name, "paused")
    a = t.assignments.c
    with store.database.write() as connection:
        held = select(t.assignments).where(a.labeler == person.name, a.state == "leased")
        for row in list(r.stream(connection, held)):
            end(connection, row)
        return person, _set_aside(connection, person.name) if again else 0


def resume(store: Store, name: str) -> Person:
    """End a person's pause; what was set aside counts again."""
    person = people.set_status(store, name, "active")
    a, q = t.assignments.c, t.queue.c
    with store.database.write() as connection:
        mine = a.labeler == person.name, a.state == "aside"
        tasks = select(a.queue_id).where(*mine)
        # somebody else may have answered meanwhile, and then more were asked than wanted at first
        wanted = choose((q.wanted > q.taken, q.wanted), else_=q.taken + 1)
        back = {"taken": q.taken + 1, "done": q.done + 1, "wanted": wanted}
        connection.execute(update(t.queue).where(q.id.in_(tasks)).values(**back))
        connection.execute(update(t.assignments).where(*mine).values(state="submitted"))
    return person


def _set_aside(connection: Connection, name: str) -> int:
    a, q = t.assignments.c, t.queue.c
    other = t.assignments.alias("other")
    adjudicated = exists().where(
        other.c.prompt_id == a.prompt_id, other.c.purpose == PURPOSE, other.c.criterion == a.criterion
    )
    gold = exists().where(t.gold.c.prompt_id == a.prompt_id)
    counted = (
        a.labeler == name,
        a.state == "submitted",
        a.purpose == LABEL,
        a.arm != SURPLUS,
    )
    mine = (*counted, ~adjudicated, ~gold)
    ids = list(connection.execute(select(a.id).where(*mine)).scalars())
    for chunk in r.chunks(ids):
        tasks = select(a.queue_id).where(a.id.in_(chunk))
        out = {"taken": q.taken - 1, "done": q.done - 1}
        connection.execute(update(t.queue).where(q.id.in_(tasks)).values(**out))
        connection.execute(update(t.assignments).where(a.id.in_(chunk)).values(state="aside"))
    return len(ids)
