"""Who takes part, by which links, and the guidelines they work by. For owners."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Form, Query, Request
from sqlalchemy import func, select
from starlette.responses import Response

from accord.errors import DataError
from accord.feedback.app.deps import Desk, TheDesk
from accord.feedback.app.owner_desk import Owner, back, show
from accord.feedback.labeling import people
from accord.feedback.labeling.people import Role
from accord.store import state as t
from accord.store import tables
from accord.types import digest
from accord.workspace import GUIDELINES

router = APIRouter()
LONGEST = 200_000
"""Characters of guidelines, at most."""
QUIZ = {"": "none", "open": "under way", "passed": "passed", "failed": "failed"}


class Version(NamedTuple):
    """A version of the guidelines, and who works by it."""

    id: str
    at: str
    """When it was stored, ISO 8601 in UTC."""
    text: str
    readers: Sequence[str]
    """People whose latest acknowledgement it is."""


# -- people ------------------------------------------------------------------------------------


@router.get("/people")
def people_page(request: Request, at: TheDesk, session: Owner) -> Response:
    """Everybody, and the form of an invitation."""
    return _people_page(request, at, session)


@router.post("/invite")
def invite(
    request: Request,
    at: TheDesk,
    session: Owner,
    role: Annotated[Role, Form()],
    uses: Annotated[int, Form()] = 1,
    days: Annotated[float, Form()] = 7,
) -> Response:
    """Make an invitation and show its link, this once: only a hash of it is kept."""
    secret = people.invite(at.store, role, session.person.name, at.clock(), days, uses)
    words = f"Lets {uses} {'person' if uses == 1 else 'people'} join as {role} within {days:g} days"
    return _people_page(request, at, session, link=_link(request, secret), link_words=words)


@router.post("/link")
def sign_in_link(
    request: Request, at: TheDesk, session: Owner, name: Annotated[str, Form(max_length=200)]
) -> Response:
    """Make a link that signs a person in, for a lost password, and show it once."""
    secret = people.sign_in_link(at.store, name, at.clock())
    words = f"Signs {name} in, once, within an hour; a new password can be set then"
    return _people_page(request, at, session, link=_link(request, secret), link_words=words)


def _people_page(request: Request, at: Desk, session: Owner, **more: Any) -> Response:
    a = t.assignments.c
    answered = select(a.labeler, func.count(), func.max(a.submitted_at)).where(
        a.state.in_(["submitted", "aside"])
    )
    with at.store.database.read() as connection:
        work = {name: (n, last) for name, n, last in connection.execute(answered.group_by(a.labeler))}
    return show(
        request,
        at,
        session,
        "people.html",
        "/owner/people",
        people=people.people(at.store),
        work=work,
        version=at.workspace.guidelines()[0],
        quiz=QUIZ,
        roles=list(Role)[::-1],
        **more,
    )


def _link(request: Request, secret: str) -> str:
    return f"{request.base_url}join/{secret}"


# -- guidelines --------------------------------------------------------------------------------


@router.get("/guidelines")
def guidelines_page(
    request: Request, at: TheDesk, session: Owner, version: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    """The guidelines, their versions and who acknowledged which; an older one by ``version``."""
    return _guidelines_page(request, at, session, chosen=version)


@router.post("/guidelines")
def edit_guidelines(
    request: Request,
    at: TheDesk,
    session: Owner,
    text: Annotated[str, Form()],
    base: Annotated[str, Form(max_length=100)],
) -> Response:
    """Write guidelines.md anew and store the version; labelers acknowledge it before their next task.

    If the file has changed since the page was loaded, nothing is written and both texts are shown.
    """
    text = "\n".join(text.splitlines()).strip() + "\n"  # a form's line ends are CR LF
    version, before = at.workspace.guidelines()
    if not text.strip() or len(text) > LONGEST:
        error = f"the guidelines have {len(text.strip())} characters; write 1 to {LONGEST:,}"
        return _guidelines_page(request, at, session, error=error, draft=text)
    if digest(text) == version or text.strip() == before.strip():
        return back("/owner/guidelines", "unchanged")
    if base != version:
        error = "the guidelines have changed since you opened them; your text is kept below, compare and save"
        return _guidelines_page(request, at, session, error=error, draft=text)
    write_guidelines(at.workspace.path / GUIDELINES, text)
    at.workspace.guidelines()
    return back("/owner/guidelines", "guidelines")


def write_guidelines(file: Path, text: str) -> None:
    """Replace the file whole: who reads it meanwhile gets the old text or the new one."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(name, file.stat().st_mode & 0o777)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _guidelines_page(
    request: Request, at: Desk, session: Owner, chosen: str = "", error: str = "", draft: str = ""
) -> Response:
    version, text = at.workspace.guidelines()
    everybody = [each for each in people.people(at.store) if each.role != Role.REVIEWER]
    readers: dict[str, list[str]] = {}
    for each in everybody:
        readers.setdefault(each.acknowledged or "", []).append(each.name)
    g = tables.guidelines.c
    with at.store.database.read() as connection:
        rows = connection.execute(select(g.id, g.at, g.text).order_by(g.seq.desc())).all()
    versions = [Version(id, when, words, readers.get(id, [])) for id, when, words in rows]
    older = next((each for each in versions if each.id == chosen and chosen != version), None)
    if chosen and older is None and chosen != version:
        raise DataError(f"there is no version {chosen!r:.40} of the guidelines; choose one of the list")
    return show(
        request,
        at,
        session,
        "guidelines.html",
        "/owner/guidelines",
        400 if error else 200,
        error=error,
        version=version,
        text=text,
        draft=draft or text,
        versions=versions,
        older=older,
        unread=sum(each.active and each.acknowledged != version for each in everybody),
    )
