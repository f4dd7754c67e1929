"""What every route needs: the desk, who is signed in, which role, and how a page is rendered."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Request
from fastapi.templating import Jinja2Templates
from starlette.exceptions import HTTPException
from starlette.responses import Response

from accord.feedback.app.security import SAFE, Limit
from accord.feedback.labeling import people
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.people import Role, Session
from accord.store.store import Store
from accord.workspace import Workspace

HERE = Path(__file__).parent
COOKIE = "accord_session"


class SignInNeeded(Exception):
    """Nobody is signed in; a page sends its reader to the log-in page, a program gets 401."""


@dataclass(frozen=True)
class Desk:
    """What the app works on; the same for every request."""

    workspace: Workspace
    config: LabelConfig
    templates: Jinja2Templates
    clock: Callable[[], float]
    """Seconds since 1970."""
    acts: Limit = field(default_factory=lambda: Limit(burst=300, per_second=10))
    """Unsafe requests of one person: far above the fastest labeler and a journal sent again."""

    @property
    def store(self) -> Store:
        return self.workspace.store

    def page(self, request: Request, name: str, /, status: int = 200, **context: Any) -> Response:
        """The template ``name``, with the session (or None) of the request as ``session``."""
        context.setdefault("session", getattr(request.state, "session", None))
        context.setdefault("config", self.config)
        return self.templates.TemplateResponse(request, name, context, status_code=status)


async def desk(request: Request) -> Desk:
    """The app's desk. Async as all that waits for nothing: a plain function costs a turn on a thread."""
    return request.app.state.desk


TheDesk = Annotated[Desk, Depends(desk)]


async def csrf_given(request: Request) -> str:
    """The CSRF token that the request repeats: the header X-CSRF-Token, or the form field csrf."""
    given = request.headers.get("x-csrf-token")
    if given is not None or request.method in SAFE:
        return given or ""
    kind = request.headers.get("content-type", "")
    if kind.startswith(("application/x-www-form-urlencoded", "multipart/form-data")):
        field = (await request.form()).get("csrf")
        return field if isinstance(field, str) else ""
    return ""


def signed_in(request: Request, at: TheDesk, csrf: Annotated[str, Depends(csrf_given)]) -> Session:
    """The session of the request's cookie; an unsafe request must repeat its CSRF token.

    Raises :class:`SignInNeeded`, 403 for a missing or wrong CSRF token, 429 for a flood.
    """
    now = at.clock()
    secret = request.cookies.get(COOKIE)
    found = people.session(at.store, secret, now) if secret else None
    if found is None:
        raise SignInNeeded
    if request.method not in SAFE:
        if not hmac.compare_digest(csrf.encode(), found.csrf.encode()):
            raise HTTPException(
                403, "this page is from another session; load it again, what you entered is kept"
            )
        slow_down(at.acts.take(found.person.id, now))
    request.state.session = found
    return found


SignedIn = Annotated[Session, Depends(signed_in)]


def role(*allowed: Role) -> Callable[[Session], Awaitable[Session]]:
    """A dependency that lets in the signed-in person if they have one of the roles, else 403."""

    async def check(session: SignedIn) -> Session:
        return let_in(session, allowed)

    return check


def let_in(session: Session, allowed: Collection[Role]) -> Session:
    """The session, if its person has one of the roles; else 403."""
    if session.person.role not in allowed:
        needed = " or ".join(allowed)
        raise HTTPException(403, f"this is for the {needed}; you are signed in as a {session.person.role}")
    return session


def slow_down(wait: float) -> None:
    """Raise 429 with Retry-After where ``wait`` seconds are to pass before the next request."""
    if wait > 0:
        seconds = math.ceil(wait)
        raise HTTPException(
            429,
            f"too many requests; try again in {seconds} s, nothing that was entered is lost",
            {"Retry-After": str(seconds)},
        )


def login_address(request: Request) -> str:
    """The log-in page, which leads back to the page asked for."""
    if request.method != "GET" or request.url.path == "/":
        return "/login"
    query = f"?{request.url.query}" if request.url.query else ""
    return f"/login?next={quote(request.url.path + query, safe='')}"


def make_templates() -> Jinja2Templates:
    """The pages' templates, escaped, with ``static(name)`` and ``markdown(text)``."""
    from accord.feedback.app.markdown import markdown

    templates = Jinja2Templates(HERE / "templates")
    templates.env.globals.update(static=static, markdown=markdown)
    return templates


def static(name: str) -> str:
    """The address of a static file, with its digest: browsers keep it until it changes."""
    file = HERE / "static" / name
    stamp = file.stat().st_mtime_ns
    known = _DIGESTS.get(name)
    if known is None or known[0] != stamp:
        known = _DIGESTS[name] = (stamp, hashlib.sha256(file.read_bytes()).hexdigest()[:12])
    return f"/static/{name}?v={known[1]}"


_DIGESTS: dict[str, tuple[int, str]] = {}
