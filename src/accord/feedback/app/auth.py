"""Coming in and going out: the pages to log in, to join by an invitation, and to log out."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import anyio.to_thread
from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from accord.errors import DataError
from accord.feedback.app.deps import COOKIE, Desk, SignedIn, TheDesk, slow_down
from accord.feedback.app.security import Limit
from accord.feedback.labeling import people
from accord.feedback.labeling.people import SESSION_DAYS

router = APIRouter(include_in_schema=False)
Field = Annotated[str, Form(max_length=2000)]


class Doorkeeper:
    """How often one may fail to log in; only failures count, so a class that signs in together may.

    Three counts, since each alone is easy to get round or turns into a way to lock somebody out: one
    name from one address, one name from anywhere, one address with any name.
    """

    def __init__(self) -> None:
        self.pairs = Limit(burst=10, per_second=1 / 30)
        self.names = Limit(burst=60, per_second=1 / 30)
        self.addresses = Limit(burst=60, per_second=1 / 5)
        # hashing takes a processor for a while: few at once, and not on the threads of those who label
        self.hashers = anyio.CapacityLimiter(2)

    def wait(self, name: str, address: str, now: float) -> float:
        """Seconds before this name may be tried from this address."""
        keys = self._keys(name, address)
        return max(limit.wait(key, now) for limit, key in keys)

    def failed(self, name: str, address: str, now: float) -> None:
        """Count a failure."""
        for limit, key in self._keys(name, address):
            limit.take(key, now)

    def _keys(self, name: str, address: str) -> tuple[tuple[Limit, str], ...]:
        name = name.strip().casefold()[:100]
        return (self.pairs, f"{address} {name}"), (self.names, name), (self.addresses, address)


@router.get("/login")
def login_page(request: Request, at: TheDesk, next: str = "/") -> Response:
    """The log-in page."""
    return at.page(request, "login.html", next=inner(next), error="", name="")


@router.post("/login")
async def login(
    request: Request, at: TheDesk, name: Field = "", password: Field = "", next: Field = "/"
) -> Response:
    """Log in by name and password; a wrong pair shows the page again, whatever was wrong."""
    door, address, now = _door(request), _address(request), at.clock()
    slow_down(door.wait(name, address, now))
    try:
        secret, _ = await anyio.to_thread.run_sync(
            people.log_in, at.store, name, password, now, limiter=door.hashers
        )
    except DataError as error:
        door.failed(name, address, now)
        return at.page(request, "login.html", 401, next=inner(next), error=str(error), name=name)
    return _enter(request, inner(next), secret)


@router.get("/join/{secret}")
def join_page(request: Request, at: TheDesk, secret: str) -> Response:
    """What a link offers. Looking uses nothing up: chat programs fetch links to preview them."""
    return _join_page(request, at, secret)


@router.post("/join/{secret}")
async def join(
    request: Request, at: TheDesk, secret: str, name: Field = "", password: Field = ""
) -> Response:
    """Join by an invitation, or sign in by a link of one's own."""
    door, address, now = _door(request), _address(request), at.clock()
    slow_down(door.wait("", address, now))

    def enter() -> str:
        who = people.accept(at.store, secret, name, password or None, now)
        return people.open_session(at.store, who, now)

    try:
        session = await anyio.to_thread.run_sync(enter, limiter=door.hashers)
    except DataError as error:
        door.failed("", address, now)
        return await anyio.to_thread.run_sync(_join_page, request, at, secret, str(error), name)
    return _enter(request, "/", session)


@router.post("/logout")
def logout(request: Request, at: TheDesk, session: SignedIn) -> Response:
    """End the session, here and in the browser."""
    people.log_out(at.store, request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer


def inner(address: str) -> str:
    """The address if it is a path of this app, else "/": a log-in never leads to another site."""
    parts = urlsplit(address)
    plain = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if plain and not parts.netloc and not parts.scheme else "/"


def _enter(request: Request, where: str, secret: str) -> Response:
    """Go on with a session that is new: what cookie the browser had before plays no part (fixation)."""
    answer = RedirectResponse(where, 303)
    answer.set_cookie(
        COOKIE,
        secret,
        max_age=int(SESSION_DAYS * people.DAY),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return answer


def _join_page(request: Request, at: Desk, secret: str, error: str = "", name: str = "") -> Response:
    found = people.invitation(at.store, secret, at.clock())
    status = 400 if error else 200
    if found is None:
        status, error = (
            410,
            "this link has expired or was used already; ask the project's owner for a new one",
        )
    return at.page(request, "join.html", status, invitation=found, secret=secret, error=error, name=name)


def _door(request: Request) -> Doorkeeper:
    return request.app.state.door


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
