"""The REST API: for programs that label, and for the owner's own. A Bearer token says who asks.

What programs send to label goes through the same functions as what the pages send (``app.label``), so
both obey the same rules. The owner's side: people, prompts, progress, export and webhooks.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from accord.feedback.app import apitypes as a
from accord.feedback.app import label
from accord.feedback.app.deps import TheDesk, let_in, slow_down
from accord.feedback.app.security import SAFE
from accord.feedback.labeling import monitor, monitor_review, people, queue, webhooks
from accord.feedback.labeling.people import Person, Role, Session
from accord.store import rows as r
from accord.store.store import Store

DESCRIPTION = """\
Programs act for a person by a token: `Authorization: Bearer accord-token-...`. The owner makes one with
`accord label token NAME`, or here. Whatever does not go is answered by `{error, what_to_do}`; 429 and 503
say in `Retry-After` when to try again. Sending a submission again with its `key` is harmless."""

scheme = HTTPBearer(auto_error=False, scheme_name="token", description="accord label token NAME")
refusals: dict[int | str, dict[str, Any]] = {
    code: {"model": a.Problem, "description": words}
    for code, words in {
        400: "refused; nothing was changed",
        401: "no token, or one that is not good any more",
        403: "not for this role",
        409: "something comes first",
        422: "a field is missing or wrong",
        429: "too many requests",
    }.items()
}
docs = APIRouter(include_in_schema=False)
router = APIRouter(prefix="/api/v1", responses=refusals)


def bearer(
    request: Request, at: TheDesk, given: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)]
) -> Session:
    """Whom the request's token acts for. Cookies count for nothing here, so there is nothing to forge."""
    now = at.clock()
    who = None if given is None else people.person_of_token(at.store, given.credentials, now)
    if who is None:
        message = "the token is missing, or not good any more; send Authorization: Bearer TOKEN"
        raise HTTPException(401, message, {"WWW-Authenticate": "Bearer"})
    if request.method not in SAFE:
        slow_down(at.acts.take(who.id, now))
    return Session(who, csrf="")


def token_of(*allowed: Role) -> Callable[[Session], Awaitable[Session]]:
    """A dependency that lets in the tokens of people who have one of the roles."""

    async def check(session: Annotated[Session, Depends(bearer)]) -> Session:
        return let_in(session, allowed)

    return check


Anybody = Annotated[Session, Depends(bearer)]
Labeler = Annotated[Session, Depends(token_of(Role.LABELER, Role.OWNER))]
Reader = Annotated[Session, Depends(token_of(Role.OWNER, Role.REVIEWER))]
Owner = Annotated[Session, Depends(token_of(Role.OWNER))]


def takes(body: type[BaseModel]) -> dict[str, Any]:
    """The schema of a body that the route reads itself, so that a refused one can be kept whole."""
    content = {"application/json": {"schema": body.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


@docs.get("/api/docs")
def docs_page(request: Request, at: TheDesk) -> Response:
    """What the API offers, rendered here: nothing is loaded from elsewhere."""
    return at.page(request, "api.html", schema=request.app.openapi())


@router.get("/me", tags=["labeling"])
def me(session: Anybody) -> a.Me:
    """Whom the token acts for."""
    return a.Me(name=session.person.name, role=session.person.role)


# -- labeling ----------------------------------------------------------------------------------


@router.get("/guidelines", tags=["labeling"])
def guidelines(at: TheDesk, session: Anybody) -> a.Guidelines:
    """The guidelines as they stand, and whether this person has acknowledged them."""
    version, text = at.workspace.guidelines()
    return a.Guidelines(version=version, text=text, acknowledged=session.person.acknowledged == version)


@router.post("/guidelines/acknowledge", tags=["labeling"])
def acknowledge(at: TheDesk, session: Labeler, read: a.Acknowledged) -> a.Guidelines:
    """Accept the version that was read; 409 if it is not the latest."""
    version, text = at.workspace.guidelines()
    if read.version != version:
        raise HTTPException(409, "the guidelines have changed; get and read them again")
    people.acknowledge(at.store, session.person.name, version, at.clock())
    return a.Guidelines(version=version, text=text, acknowledged=True)


@router.post(
    "/tasks/claim",
    tags=["labeling"],
    response_model=a.Task,
    responses={204: {"description": "nothing to do now"}},
)
def claim(at: TheDesk, session: Labeler) -> Any:
    """The labeler's task: the one they hold, or the next one; 409 before the guidelines are acknowledged."""
    version, _ = at.workspace.guidelines()
    if session.person.acknowledged != version:
        raise HTTPException(
            409, "the guidelines are not acknowledged; read GET guidelines, then POST guidelines/acknowledge"
        )
    task = queue.claim(at.store, session.person.name, at.config, at.clock())
    return Response(status_code=204) if task is None else a.Task.of(task, at.config.protocol, version)


@router.post("/tasks/back", tags=["labeling"])
def back(at: TheDesk, session: Labeler) -> Response:
    """Open the labeler's last answer again; the next claim returns it."""
    return label.back(at, session)


@router.post("/tasks/{assignment_id}/draft", tags=["labeling"], openapi_extra=takes(a.Draft))
def draft(at: TheDesk, session: Labeler, assignment_id: str, sent: label.Sent) -> Response:
    """Keep what is entered so far, and the task for this labeler."""
    return label.draft(at, session, assignment_id, sent)


@router.post("/tasks/{assignment_id}/submit", tags=["labeling"], openapi_extra=takes(label.Submission))
def submit(at: TheDesk, session: Labeler, assignment_id: str, sent: label.Sent) -> Response:
    """Store an answer, with the version of the guidelines acknowledged; a refused one is kept too."""
    return label.submit_answer(at, session, assignment_id, sent)


@router.post("/tasks/{assignment_id}/skip", tags=["labeling"], openapi_extra=takes(label.Said))
def skip(at: TheDesk, session: Labeler, assignment_id: str, sent: label.Sent) -> Response:
    """Give the task back, with a reason."""
    return label.skip_task(at, session, assignment_id, sent)


@router.post("/tasks/{assignment_id}/flag", tags=["labeling"], openapi_extra=takes(label.Said))
def flag(at: TheDesk, session: Labeler, assignment_id: str, sent: label.Sent) -> Response:
    """Tell the owner that something is wrong with the prompt or a completion; the task stays."""
    return label.flag_prompt(at, session, assignment_id, sent)


@router.post("/stored", tags=["labeling"], openapi_extra=takes(a.Keys))
def stored(at: TheDesk, session: Labeler, sent: label.Sent) -> Response:
    """Which keys are stored submissions of this labeler; send the others again."""
    return label.which_are_stored(at, session, sent)


# -- the owner's -------------------------------------------------------------------------------


@router.post("/prompts", tags=["project"])
def add_prompts(at: TheDesk, session: Owner, given: a.NewPrompts) -> a.Added:
    """Store prompts with their completions and make tasks of those that can be labelled."""
    groups = [each.group() for each in given.prompts]
    ids = at.store.add_prompts([prompt for prompt, _ in groups], given.split)
    at.store.add_groups(groups)
    return a.Added(prompts=ids, tasks=queue.fill(at.store, at.config))


@router.get("/progress", tags=["project"])
def progress(at: TheDesk, session: Reader) -> Response:
    """How far the labelling is, and whether all that was received is stored."""
    now = at.clock()
    figures = asdict(monitor.progress(at.store, at.config, now))
    return JSONResponse({"progress": figures, "intake": asdict(monitor.intake(at.store, now))})


@router.get("/export", tags=["project"], response_class=Response)
def export(at: TheDesk, session: Reader) -> Response:
    """Every fact of one snapshot as one JSON object a line, with its time and seal (``Store.add_events``)."""
    headers = {"Content-Disposition": 'attachment; filename="events.jsonl"'}
    return StreamingResponse(lines(at.store), media_type="application/jsonl", headers=headers)


def lines(store: Store) -> Iterator[bytes]:
    """The event log in pieces of many lines."""
    for chunk in r.chunks(store.events()):
        yield b"".join(
            json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for event in chunk
        )


@router.get("/people", tags=["people"])
def all_people(at: TheDesk, session: Owner) -> list[Person]:
    """Everybody, in the order they came."""
    return people.people(at.store)


@router.post("/people", tags=["people"])
def add_person(request: Request, at: TheDesk, session: Owner, given: a.NewPerson) -> a.Joined:
    """A new person, with a link by which they sign in once and may set a password."""
    now = at.clock()
    who = people.add_person(at.store, given.name, given.role, now, invited_by=session.person.id)
    return a.Joined(person=who, link=join_address(request, people.sign_in_link(at.store, who.name, now)))


@router.post("/people/invitations", tags=["people"])
def invite(request: Request, at: TheDesk, session: Owner, given: a.NewInvitation) -> a.Link:
    """A link by which people join."""
    secret = people.invite(
        at.store, given.role, session.person.name, at.clock(), days=given.days, uses=given.uses
    )
    return a.Link(link=join_address(request, secret))


@router.post("/people/{name}/link", tags=["people"])
def sign_in_link(request: Request, at: TheDesk, session: Owner, name: str) -> a.Link:
    """A link by which a person signs in once, for a lost password."""
    return a.Link(link=join_address(request, people.sign_in_link(at.store, name, at.clock())))


@router.post("/people/{name}/status", tags=["people"])
def set_status(at: TheDesk, session: Owner, name: str, given: a.NewStatus) -> Person:
    """Pause a person, or let them in again; what they labelled stays.

    What is on their screen goes to others. With `again` the prompts they labelled are asked of one more
    labeler each, and their answers count to the overlap again when the pause ends.
    """
    if given.status == "paused":
        return monitor_review.pause(at.store, name, given.again)[0]
    return monitor_review.resume(at.store, name)


@router.post("/people/{name}/tokens", tags=["people"])
def issue_token(at: TheDesk, session: Owner, name: str, given: a.NewToken) -> a.Token:
    """A token by which programs act for a person."""
    return a.Token(token=people.issue_token(at.store, name, at.clock(), given.days))


@router.delete("/people/{name}/tokens", tags=["people"])
def revoke_tokens(at: TheDesk, session: Owner, name: str) -> a.Revoked:
    """Make all tokens of a person worthless."""
    return a.Revoked(revoked=people.revoke_tokens(at.store, name))


@router.get("/webhooks", tags=["webhooks"])
def all_webhooks(at: TheDesk, session: Owner) -> list[webhooks.Webhook]:
    """All webhooks, oldest first."""
    return webhooks.webhooks(at.store)


@router.post("/webhooks", tags=["webhooks"])
def add_webhook(at: TheDesk, session: Owner, given: a.NewWebhook) -> a.MadeWebhook:
    """Tell an address of events, signed by the Standard Webhooks scheme."""
    hook, secret = webhooks.add_webhook(at.store, given.url, given.events, at.clock())
    return a.MadeWebhook(webhook=hook, secret=secret)


@router.post("/webhooks/{webhook_id}/active", tags=["webhooks"])
def set_active(at: TheDesk, session: Owner, webhook_id: a.Id, given: a.Active) -> list[webhooks.Webhook]:
    """Stop or resume a webhook; what waits for it goes out when it resumes."""
    webhooks.set_active(at.store, webhook_id, given.active)
    return webhooks.webhooks(at.store)


@router.get("/deliveries", tags=["webhooks"])
def deliveries(
    at: TheDesk,
    session: Owner,
    state: Literal["waiting", "sent", "failed"] | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> a.Deliveries:
    """The latest deliveries, with what went wrong."""
    return a.Deliveries(deliveries=webhooks.deliveries(at.store, state, limit))


def join_address(request: Request, secret: str) -> str:
    """The link as its bearer opens it, at the address that the request came to."""
    return f"{str(request.base_url).rstrip('/')}/join/{secret}"
