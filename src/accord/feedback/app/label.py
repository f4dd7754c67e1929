"""The labeler's screens: the guidelines, the task, and what its page sends.

A page of the browser may send the same thing again until it hears that it is stored; keys make that
harmless. What is refused is kept whole and answered with the reason: an error loses no label.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Form, Request
from pydantic import Field
from sqlalchemy import func, select
from starlette.responses import JSONResponse, RedirectResponse, Response

from accord.config import Config
from accord.errors import ConfigError, DataError
from accord.feedback.app.deps import Desk, SignedIn, TheDesk, role
from accord.feedback.app.labelwords import REMARKS, TITLES, key_help, lanes
from accord.feedback.app.markdown import visible
from accord.feedback.labeling import people
from accord.feedback.labeling.answers import Answer
from accord.feedback.labeling.leases import own
from accord.feedback.labeling.people import Role, Session
from accord.feedback.labeling.queue import Assignment, claim, save_draft
from accord.feedback.labeling.submit import Receipt, flag, refuse, skip, stored, submit, take_back
from accord.store import state as t
from accord.store.store import Store

router = APIRouter(include_in_schema=False)
Labeler = Annotated[Session, Depends(role(Role.LABELER, Role.OWNER))]
Sent = Annotated[dict[str, Any], Body()]
DAY = 86_400.0
KEYS_ASKED = 500


class Submission(Config):
    """What the task page sends as an answer."""

    key: str
    guidelines: str
    tiers: tuple[tuple[str, ...], ...] = ()
    fails: tuple[str, ...] = ()
    strength: float | None = None
    thumbs: dict[str, bool] = Field(default_factory=dict)
    edited: str = ""
    edited_of: str = ""
    note: str = ""
    seconds: float | None = None

    @property
    def answer(self) -> Answer:
        return Answer(**self.model_dump(exclude={"key", "guidelines"}))


class Said(Config):
    """What the task page sends to skip a task or to report its prompt."""

    key: str
    reason: str = Field(min_length=1, max_length=200)
    note: str = ""
    completion_id: str = ""


# -- pages -------------------------------------------------------------------------------------


@router.get("/")
def start(session: SignedIn) -> Response:
    """To the page of one's role."""
    return RedirectResponse("/label" if session.person.role == Role.LABELER else "/owner", 303)


@router.get("/guidelines")
def guidelines_page(request: Request, at: TheDesk, session: SignedIn) -> Response:
    """The guidelines in full; who labels accepts each version once."""
    version, text = at.workspace.guidelines()
    read = session.person.acknowledged
    return at.page(
        request,
        "label/guidelines.html",
        version=version,
        text=text,
        needed=session.person.role != Role.REVIEWER and read != version,
        changed=read is not None and read != version,
    )


@router.post("/guidelines/acknowledge")
def acknowledge(at: TheDesk, session: Labeler, version: Annotated[str, Form(max_length=100)]) -> Response:
    """Accept the version that was on the screen; if it has changed since, the page comes again."""
    now_valid, _ = at.workspace.guidelines()
    if version == now_valid:
        people.acknowledge(at.store, session.person.name, version, at.clock())
    return RedirectResponse("/label" if version == now_valid else "/guidelines", 303)


@router.get("/label")
def task_page(request: Request, at: TheDesk, session: Labeler) -> Response:
    """The labeler's task, or a page that waits for one."""
    who = session.person
    version, text = at.workspace.guidelines()
    if who.acknowledged != version:
        return RedirectResponse("/guidelines", 303)
    task = claim(at.store, who.name, at.config, at.clock())
    total, lately = counts(at.store, who.name, at.clock())
    mine = f"You: {total} {'answer' if total == 1 else 'answers'}, {lately} in the last day." if total else ""
    facts: dict[str, Any] = {"labeler": who.id, "can_take_back": total > 0}
    if task is None:
        over = people.person(at.store, who.name).quiz == "failed"
        return at.page(request, "label/idle.html", over=over, mine=mine, facts=facts)
    if request.headers.get("hx-request"):  # the waiting page asks: there is a task now
        return Response(status_code=204, headers={"HX-Refresh": "true"})
    protocol = at.config.protocol
    count = len(task.completions)
    return at.page(
        request,
        "label/task.html",
        assignment=task,
        protocol=protocol,
        lanes=lanes(protocol, count),
        titles=TITLES,
        key_help=key_help(protocol),
        remarks=REMARKS,
        visible=visible,
        version=version,
        text=text,
        mine=mine,
        facts=facts | task_facts(task, at, version),
    )


def task_facts(task: Assignment, at: Desk, version: str) -> dict[str, Any]:
    """What the page's scripts need to know of the task; nothing of models, arms or purposes."""
    answer = task.answer
    return {
        "assignment": task.id,
        "protocol": at.config.protocol,
        "partial": at.config.partial,
        "tie_share": at.config.tie_share,
        "shown": [each.id for each in task.completions],
        "texts": {each.id: visible(each.text) for each in task.completions},
        "guidelines": version,
        "draft": task.draft,
        "draft_revision": task.draft_revision,
        "revises": revises(at.store, task.id),
        "answer": answer
        and {
            "tiers": answer.tiers,
            "fails": answer.fails,
            "strength": answer.strength,
            "note": answer.note,
        },
    }


def revises(store: Store, assignment_id: str) -> str:
    """Id of the feedback that the assignment's next answer will supersede; "" for a first answer."""
    a = t.assignments.c
    with store.database.read() as connection:
        return connection.execute(select(a.feedback_id).where(a.id == assignment_id)).scalar() or ""


def is_theirs(store: Store, labeler: str, assignment_id: str) -> bool:
    """Whether there is such an assignment and it is this labeler's."""
    with store.database.read() as connection, suppress(DataError):
        return bool(own(connection, labeler, assignment_id))
    return False


def counts(store: Store, labeler: str, now: float) -> tuple[int, int]:
    """How many answers of the labeler stand, in all and of the last day."""
    a = t.assignments.c
    query = select(func.count(), func.count().filter(a.submitted_at > now - DAY))
    with store.database.read() as connection:
        row = connection.execute(query.where(a.labeler == labeler, a.state == "submitted")).one()
    return row[0], row[1]


# -- what the task page sends ------------------------------------------------------------------


@router.post("/label/back")
def back(at: TheDesk, session: Labeler) -> Response:
    """Open the labeler's last answer again; the task page shows it next."""
    if take_back(at.store, session.person.name, at.config, at.clock()) is None:
        return JSONResponse(_problem("there is no answer of yours to take back; go on with the task"), 409)
    return JSONResponse({"next": "/label"})


@router.post("/label/stored")
def which_are_stored(at: TheDesk, session: Labeler, sent: Sent) -> Response:
    """Which keys of the browser's journal the store has."""
    keys = sent.get("keys")
    if not isinstance(keys, list) or len(keys) > KEYS_ASKED or not all(isinstance(k, str) for k in keys):
        raise DataError(f"keys must be a list of up to {KEYS_ASKED} strings; send them in parts")
    return JSONResponse({"stored": sorted(stored(at.store, session.person.name, keys))})


@router.post("/label/{assignment_id}/draft")
def draft(at: TheDesk, session: Labeler, assignment_id: str, sent: Sent) -> Response:
    """Keep what is entered so far; answers with the revision that is kept."""
    revision, given = sent.get("revision"), sent.get("draft")
    if not isinstance(revision, int) or not isinstance(given, dict) or not 0 <= revision < 2**31:
        raise DataError("a draft needs a whole number as revision and an object as draft; send both")
    kept = save_draft(at.store, session.person.name, assignment_id, given, revision, at.clock())
    return JSONResponse({"revision": kept})


@router.post("/label/{assignment_id}/submit")
def submit_answer(at: TheDesk, session: Labeler, assignment_id: str, sent: Sent) -> Response:
    """Store an answer, with the version of the guidelines that stood beside it and that its labeler accepted.

    A version that was not accepted, or not as the last one, is 409: read the guidelines, submit again. Of
    somebody who never accepted any and holds no such task nothing is kept: it is no label that was refused.
    """
    who = session.person
    accepted = sent.get("guidelines") == who.acknowledged
    if not accepted and not stored(at.store, who.name, [str(sent.get("key"))]):  # unless it is sent again
        theirs = is_theirs(at.store, who.name, assignment_id)
        reason = "the guidelines changed while you worked; read them, then submit again"
        if who.acknowledged is None:
            reason = "you have not accepted the guidelines yet; read and accept them, then ask for a task"
        if theirs:
            refuse(at.store, who.name, reason, sent | {"assignment": assignment_id}, at.clock())
        if theirs or who.acknowledged is None:
            return JSONResponse(_problem(reason) | {"link": "/guidelines"}, 409)

    def take() -> Receipt:
        given = Submission.build(sent, where="an answer")
        return submit(
            at.store,
            who.name,
            assignment_id,
            given.answer,
            given.key,
            given.guidelines,
            at.config,
            at.clock(),
        )

    return _received(at, session, assignment_id, sent, take)


@router.post("/label/{assignment_id}/skip")
def skip_task(at: TheDesk, session: Labeler, assignment_id: str, sent: Sent) -> Response:
    """Give the task back, with a reason."""

    def take() -> Receipt:
        said = Said.build(sent, where="a skip")
        name, now = session.person.name, at.clock()
        return skip(at.store, name, assignment_id, said.reason, said.note, said.key, now)

    return _received(at, session, assignment_id, sent, take)


@router.post("/label/{assignment_id}/flag")
def flag_prompt(at: TheDesk, session: Labeler, assignment_id: str, sent: Sent) -> Response:
    """Tell the owner that something is wrong with the prompt; the task stays."""

    def take() -> Receipt:
        said = Said.build(sent, where="a report")
        name, now = session.person.name, at.clock()
        about = said.completion_id
        return flag(at.store, name, assignment_id, said.reason, said.note, about, said.key, now)

    return _received(at, session, assignment_id, sent, take)


def _received(
    at: Desk, session: Session, assignment_id: str, sent: dict[str, Any], take: Callable[[], Receipt]
) -> Response:
    """The answer to something sent once or again; what is refused is kept whole, with the reason."""
    try:
        receipt = take()
    except (DataError, ConfigError) as error:
        kept = sent | {"assignment": assignment_id}
        refuse(at.store, session.person.name, str(error), kept, at.clock())
        return JSONResponse(_problem(str(error)), 400)
    return JSONResponse({"stored": True, "ids": receipt.ids, "next": "/label"})


def _problem(message: str) -> dict[str, str]:
    error, _, advice = message.partition("; ")
    return {"error": error, "what_to_do": advice}
