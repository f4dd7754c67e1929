"""Who may sign in, and as what: people, invitations, passwords, sessions and tokens.

Of each secret (a session's cookie, an invitation's link, a program's token) only the SHA-256 is kept:
who reads the database can use none of them. The secrets have 256 random bits, so a plain hash is
enough; passwords, which have few, are hashed by scrypt with a salt.

Times are seconds since 1970, UTC.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets as random
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from accord.errors import DataError
from accord.store import state as t
from accord.store.store import Store

DAY = 86_400.0
TOKEN_DAYS = 3650
SESSION_DAYS = 14
NAME_LENGTH = 60
PASSWORD_LENGTH = (8, 1000)
SCRYPT = {"n": 2**14, "r": 8, "p": 5}
"""Cost of a password's hash, 16 MiB and some 0.2 s (OWASP's password storage cheat sheet)."""


class Role(StrEnum):
    """What a person may do."""

    OWNER = "owner"
    """Everything: people, prompts, progress, answers, export."""
    REVIEWER = "reviewer"
    """Sees all answers and settles disagreements; does not label."""
    LABELER = "labeler"
    """Labels, and sees nothing of models or of other people."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may sign in. ``name`` is the labeler's name in the facts."""

    id: str
    name: str
    role: Role
    status: str
    """active or paused; a paused person is not let in."""
    acknowledged: str | None
    """Version of the guidelines that the person has acknowledged."""
    quiz: str
    """"" (none asked), open, passed or failed."""

    @property
    def active(self) -> bool:
        return self.status == "active"


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in person; every unsafe request of a browser must repeat ``csrf``."""

    person: Person
    csrf: str


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a link that is still good lets its bearer be: a new person of ``role``, or ``person``."""

    role: Role
    person: Person | None


# -- people ------------------------------------------------------------------------------------


def add_person(
    store: Store,
    name: str,
    role: Role,
    now: float,
    *,
    password: str | None = None,
    invited_by: str | None = None,
) -> Person:
    """A new person; without a password they come in by a link (:func:`sign_in_link`) or a token.

    Raises :class:`DataError` for a name that is taken or empty and for a password that is too short.
    """
    hashed = None if password is None else hash_password(password)
    with store.database.write() as connection:
        return _add(connection, clean_name(name), role, now, hashed, invited_by)


def people(store: Store) -> list[Person]:
    """Everybody, in the order they came."""
    with store.database.read() as connection:
        rows = connection.execute(select(t.people).order_by(t.people.c.created_at, t.people.c.name))
        return [_person(row) for row in rows.mappings()]


def person(store: Store, name: str) -> Person:
    """The person called ``name``. Raises :class:`DataError` where there is none."""
    with store.database.read() as connection:
        return _person(_row(connection, name))


def set_status(store: Store, name: str, status: str) -> Person:
    """Make a person ``active`` or ``paused``; the last active owner stays active.

    A paused person's sessions and tokens are refused, and are good again when the pause ends.
    """
    if status not in ("active", "paused"):
        raise DataError(f"status is {status!r}; it must be active or paused")
    p = t.people.c
    with store.database.write() as connection:
        row = _row(connection, name)
        owners = select(func.count()).where(p.role == Role.OWNER, p.status == "active", p.id != row["id"])
        if status == "paused" and row["role"] == Role.OWNER and not connection.execute(owners).scalar_one():
            raise DataError(f"{name!r} is the only active owner; make another owner first")
        connection.execute(update(t.people).where(p.id == row["id"]).values(status=status))
        return _person({**row, "status": status})


def acknowledge(store: Store, name: str, guidelines_version: str, now: float) -> None:
    """Record that a person has read and accepted a version of the guidelines."""
    store.guidelines(guidelines_version)  # an unknown version is an error
    values = {"acknowledged": guidelines_version, "acknowledged_at": now}
    with store.database.write() as connection:
        connection.execute(
            update(t.people).where(t.people.c.id == _row(connection, name)["id"]).values(values)
        )


# -- invitations -------------------------------------------------------------------------------


def invite(store: Store, role: Role, by: str | None, now: float, days: float = 7, uses: int = 1) -> str:
    """The secret of a link that lets ``uses`` new people join with ``role`` within ``days``."""
    if not 1 <= uses <= 1000:
        raise DataError(f"uses is {uses}; an invitation is for 1 to 1000 people")
    if not 0 < days <= 365:
        raise DataError(f"days is {days}; an invitation lasts up to 365 days")
    with store.database.write() as connection:
        inviter = None if by is None else _row(connection, by)["id"]
        until = now + days * DAY
        return _keep(connection, "invite", now, until, person_id=inviter, role=role.value, uses=uses)


def sign_in_link(store: Store, name: str, now: float, minutes: float = 60) -> str:
    """The secret of a link that signs in the person called ``name``, once; for owners, and lost passwords."""
    with store.database.write() as connection:
        row = _row(connection, name)
        until = now + minutes * 60
        return _keep(connection, "link", now, until, person_id=row["id"], role=row["role"], uses=1)


def invitation(store: Store, secret: str, now: float) -> Invitation | None:
    """What the link would do, without using it up; ``None`` if it is unknown, expired or used up."""
    with store.database.read() as connection:
        return _invitation(connection, secret, now)


def accept(store: Store, secret: str, name: str, password: str | None, now: float) -> Person:
    """Use an invitation: a new person with ``name`` and ``password``, or the person whom the link is for.

    A link of a person's own needs no name; a password, if given, becomes theirs and ends their other
    sessions. Raises :class:`DataError` for a link that is not good any more and for a bad name or password;
    the link is then not used up.
    """
    if invitation(store, secret, now) is None:  # before a hash is computed for a guessed link
        raise _spent()
    hashed = None if password is None else hash_password(password)
    c = t.secrets.c
    with store.database.write() as connection:
        given = _invitation(connection, secret, now)
        if given is None:
            raise _spent()
        mine = c.hash == _digest(secret)
        connection.execute(update(t.secrets).where(mine).values(uses=c.uses - 1, used_at=now))
        if given.person is not None:
            if hashed is not None:
                _set_password(connection, given.person.id, hashed)
            return given.person
        if hashed is None:
            raise DataError(f"a password is missing; choose one of at least {PASSWORD_LENGTH[0]} characters")
        by = connection.execute(select(c.person_id).where(mine)).scalar_one()
        return _add(connection, clean_name(name), given.role, now, hashed, by)


def _invitation(connection: Connection, secret: str, now: float) -> Invitation | None:
    row = _secret(connection, "invite", secret, now) or _secret(connection, "link", secret, now)
    if row is None or row["uses"] < 1:
        return None
    if row["kind"] == "invite":
        return Invitation(Role(row["role"]), None)
    bearer = _person(_by_id(connection, row["person_id"]))
    return Invitation(bearer.role, bearer) if bearer.active else None


def _spent() -> DataError:
    return DataError("this link has expired or was used already; ask the project's owner for a new one")


# -- passwords and sessions --------------------------------------------------------------------


def log_in(store: Store, name: str, password: str, now: float) -> tuple[str, Person]:
    """A new session's secret, and who it is. Raises :class:`DataError`, the same for every wrong pair."""
    with store.database.read() as connection:
        row = _find(connection, name)
    stored = row["password"] if row is not None and row["password"] else nobody()
    # the same work for a name that is unknown: the answer's time tells nobody which names exist
    if not check_password(password, stored) or row is None or not row["password"]:
        raise DataError("name or password is wrong; try again, or ask the project's owner for a sign-in link")
    who = _person(row)
    if not who.active:
        raise DataError(f"{who.name!r} is paused; ask the project's owner")
    return open_session(store, who, now), who


def open_session(store: Store, who: Person, now: float) -> str:
    """The secret of a new session; sessions that have expired are cleared away."""
    c = t.secrets.c
    with store.database.write() as connection:
        connection.execute(
            delete(t.secrets).where(c.kind == "session", c.person_id == who.id, c.expires_at <= now)
        )
        csrf = random.token_urlsafe(32)
        return _keep(connection, "session", now, now + SESSION_DAYS * DAY, person_id=who.id, csrf=csrf)


def session(store: Store, secret: str, now: float) -> Session | None:
    """The session behind a cookie; ``None`` if it is unknown, expired, or its person is paused."""
    row = _bearer(store, "session", secret, now)
    return None if row is None else Session(_person(row), row["csrf"])


def log_out(store: Store, secret: str) -> None:
    """End a session; an unknown one is ended already."""
    with store.database.write() as connection:
        found = t.secrets.c.hash == _digest(secret), t.secrets.c.kind == "session"
        connection.execute(delete(t.secrets).where(*found))


def hash_password(password: str) -> str:
    """``scrypt$n$r$p$salt$hash``. Raises :class:`DataError` for a password too short or absurdly long."""
    low, high = PASSWORD_LENGTH
    if not low <= len(password) <= high:
        raise DataError(f"the password has {len(password)} characters; choose one of {low} to {high}")
    salt = random.token_bytes(16)
    return _stored(salt, _scrypt(password, salt, **SCRYPT))


def check_password(password: str, stored: str) -> bool:
    """Whether a password is the one hashed; takes as long for a wrong one."""
    _, n, r, p, salt, hashed = stored.split("$")
    given = _scrypt(password[: PASSWORD_LENGTH[1] + 1], b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(given, b64decode(hashed))


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    text = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)


def _set_password(connection: Connection, person_id: str, hashed: str) -> None:
    connection.execute(update(t.people).where(t.people.c.id == person_id).values(password=hashed))
    c = t.secrets.c
    connection.execute(delete(t.secrets).where(c.kind == "session", c.person_id == person_id))


def nobody() -> str:
    """Stands for the hash of a person who does not exist; no password is known that fits."""
    return _stored(bytes(16), bytes(32))


def _stored(salt: bytes, hashed: bytes) -> str:
    texts = (b64encode(each).decode() for each in (salt, hashed))
    return "$".join(("scrypt", str(SCRYPT["n"]), str(SCRYPT["r"]), str(SCRYPT["p"]), *texts))


# -- tokens of programs ------------------------------------------------------------------------


def issue_token(store: Store, name: str, now: float, days: float | None = None) -> str:
    """A program's token that acts as the person called ``name``; for ``days``, or until revoked."""
    check_days(days)
    expires = None if days is None else now + days * DAY
    with store.database.write() as connection:
        return _keep(connection, "token", now, expires, person_id=_row(connection, name)["id"])


def check_days(days: float | None) -> None:
    """Raise :class:`DataError` for days that no token lasts."""
    if days is not None and not 0 < days <= TOKEN_DAYS:
        raise DataError(f"days is {days}; a token lasts up to {TOKEN_DAYS} days; give none for no end")


def person_of_token(store: Store, secret: str, now: float) -> Person | None:
    """Whom a token acts as; ``None`` if it is unknown, expired, or the person is paused."""
    row = _bearer(store, "token", secret, now)
    return None if row is None else _person(row)


def revoke_tokens(store: Store, name: str) -> int:
    """Make all tokens of a person worthless; returns how many there were."""
    c = t.secrets.c
    with store.database.write() as connection:
        mine = c.kind == "token", c.person_id == _row(connection, name)["id"]
        return connection.execute(delete(t.secrets).where(*mine)).rowcount


# -- rows --------------------------------------------------------------------------------------


def clean_name(name: str) -> str:
    """The name as it is kept: composed characters, single spaces. Raises :class:`DataError` for a bad one."""
    cleaned = _normal(name)
    if not cleaned or len(cleaned) > NAME_LENGTH:
        raise DataError(
            f"the name {name!r:.80} has {len(cleaned)} characters; it must have 1 to {NAME_LENGTH}"
        )
    if not cleaned.isprintable():
        raise DataError(f"the name {name!r} holds characters that cannot be seen; leave them out")
    if "/" in cleaned:
        raise DataError(f"the name {name!r} holds a /, which parts addresses; leave it out")
    return cleaned


def _normal(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())


def _add(
    connection: Connection, name: str, role: Role, now: float, password: str | None, by: str | None
) -> Person:
    taken = {other.casefold() for other in connection.execute(select(t.people.c.name)).scalars()}
    if name.casefold() in taken:
        raise DataError(f"the name {name!r} is taken; choose another")
    row = {
        "id": uuid4().hex,
        "name": name,
        "role": role.value,
        "status": "active",
        "password": password,
        "acknowledged": None,
        "acknowledged_at": None,
        "quiz": "",
        "created_at": now,
        "invited_by": by,
    }
    connection.execute(insert(t.people).values(row))
    return _person(row)


def _keep(connection: Connection, kind: str, now: float, expires: float | None, **columns: Any) -> str:
    """Store the hash of a new secret; returns the secret, which cannot be had again."""
    secret = f"accord-{kind}-{random.token_urlsafe(32)}"
    row = {"hash": _digest(secret), "kind": kind, "created_at": now, "expires_at": expires, **columns}
    connection.execute(insert(t.secrets).values(row))
    return secret


def _secret(connection: Connection, kind: str, secret: str, now: float) -> Mapping[Any, Any] | None:
    c = t.secrets.c
    good = c.hash == _digest(secret), c.kind == kind, or_(c.expires_at.is_(None), c.expires_at > now)
    return connection.execute(select(t.secrets).where(*good)).mappings().first()


# each request asks this: one statement, built once, is a third of the cost of two that are built anew
BEARER = (
    select(t.people, t.secrets.c.csrf)
    .join(t.secrets, t.secrets.c.person_id == t.people.c.id)
    .where(
        t.secrets.c.hash == bindparam("hash"),
        t.secrets.c.kind == bindparam("kind"),
        or_(t.secrets.c.expires_at.is_(None), t.secrets.c.expires_at > bindparam("now")),
        t.people.c.status == "active",
    )
)


def _bearer(store: Store, kind: str, secret: str, now: float) -> Mapping[Any, Any] | None:
    """The active person behind a session's or a token's secret, with its CSRF token."""
    given = {"hash": _digest(secret), "kind": kind, "now": now}
    with store.database.read() as connection:
        return connection.execute(BEARER, given).mappings().first()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _row(connection: Connection, name: str) -> Mapping[Any, Any]:
    row = _find(connection, name)
    if row is None:
        raise DataError(f"there is nobody called {name!r:.80}; the owner's page lists the people")
    return row


def _find(connection: Connection, name: str) -> Mapping[Any, Any] | None:
    normal = _normal(name)
    if not normal.isprintable():  # PostgreSQL cannot compare with what it cannot hold
        return None
    return connection.execute(select(t.people).where(t.people.c.name == normal)).mappings().first()


def _by_id(connection: Connection, person_id: str) -> Mapping[Any, Any]:
    return connection.execute(select(t.people).where(t.people.c.id == person_id)).mappings().one()


def _person(row: Mapping[Any, Any]) -> Person:
    return Person(row["id"], row["name"], Role(row["role"]), row["status"], row["acknowledged"], row["quiz"])
