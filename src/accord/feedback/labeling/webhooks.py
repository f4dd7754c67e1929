"""Telling other programs what happens: an outbox in the database, signed and delivered with retries.

An event is written in the transaction of what it tells (:func:`announce`), so it exists exactly when
that does, whatever dies after. A thread delivers what is due (:func:`deliver`), at least once: the
receiver knows a repetition by its ``webhook-id``. Signatures are those of the Standard Webhooks scheme
(standardwebhooks.com): HMAC-SHA256 over ``id.timestamp.body`` with the base64 part of ``whsec_...``.

The owner names the addresses, and an owner may export everything anyway, so addresses inside a private
network are allowed. Redirects are not followed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import logging
import secrets as random
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, insert, select, update

from accord.errors import DataError
from accord.store import state as t
from accord.store.store import Store

log = logging.getLogger(__name__)

EVENTS = ("label.created", "label.superseded", "prompt.complete", "queue.complete")
TIMEOUT = 20.0
"""Seconds a receiver may take to answer."""
BACKOFF = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Seconds until the next attempt, of the scheme's own example; after the last one it is given up."""
BATCH = 50


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is told of ``events`` (all of them where empty)."""

    id: str
    url: str
    events: tuple[str, ...]
    active: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one address."""

    id: str
    webhook_id: str
    event: str
    payload: Mapping[str, Any]
    attempts: int
    next_at: float
    state: str
    """waiting, sent, or failed (given up)."""
    error: str | None
    created_at: float


# -- addresses ---------------------------------------------------------------------------------


def add_webhook(store: Store, url: str, events: Sequence[str], now: float) -> tuple[Webhook, str]:
    """Tell ``url`` of ``events``; returns the webhook and its secret ``whsec_...`` for the receiver.

    The secret has to be kept as it is, since it signs. Raises :class:`DataError` for an address that is
    not http(s) or has a name and password in it, and for an event that does not exist.
    """
    _check_url(url)
    unknown = [event for event in events if event not in EVENTS]
    if unknown:
        raise DataError(f"there is no event {unknown[0]!r}; the events are {', '.join(EVENTS)}")
    secret = "whsec_" + base64.b64encode(random.token_bytes(32)).decode()
    hook = Webhook(uuid4().hex, url, tuple(dict.fromkeys(events)), True, now)
    row = {
        "id": hook.id,
        "url": url,
        "secret": secret,
        "events": list(hook.events),
        "active": True,
        "created_at": now,
    }
    with store.database.write() as connection:
        connection.execute(insert(t.webhooks).values(row))
    return hook, secret


def webhooks(store: Store) -> list[Webhook]:
    """All webhooks, oldest first; their secrets are not among what can be read."""
    query = select(t.webhooks).order_by(t.webhooks.c.created_at, t.webhooks.c.id)
    with store.database.read() as connection:
        rows = connection.execute(query).mappings()
        return [
            Webhook(row["id"], row["url"], tuple(row["events"]), row["active"], row["created_at"])
            for row in rows
        ]


def set_active(store: Store, webhook_id: str, active: bool) -> None:
    """Stop or resume a webhook; what waits for it goes out when it resumes."""
    with store.database.write() as connection:
        changed = update(t.webhooks).where(t.webhooks.c.id == webhook_id).values(active=active)
        if connection.execute(changed).rowcount == 0:
            raise DataError(f"there is no webhook {webhook_id!r}; list them to see their ids")


def deliveries(store: Store, state: str | None = None, limit: int = 100) -> list[Delivery]:
    """The latest deliveries, newest first; those in ``state`` if given."""
    d = t.deliveries.c
    query = select(t.deliveries).order_by(d.created_at.desc(), d.id).limit(limit)
    if state is not None:
        query = query.where(d.state == state)
    with store.database.read() as connection:
        return [Delivery(**row) for row in connection.execute(query).mappings()]


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        named, _ = parts.hostname, parts.port
    except ValueError as error:
        raise DataError(f"{url!r:.200} is not an address ({error}); write https://host/path") from error
    if parts.scheme not in ("https", "http") or not named or not url.isprintable() or " " in url:
        raise DataError(f"{url!r:.200} is not an address that can be told; write https://host/path")
    if parts.username is not None:
        raise DataError("the address holds a name or password; leave them out, deliveries are signed")


# -- the outbox --------------------------------------------------------------------------------


def announce(connection: Connection, event: str, payload: Mapping[str, Any], now: float) -> None:
    """Put an event in the outbox, within the caller's transaction; nothing where nobody listens."""
    if event not in EVENTS:
        raise DataError(f"there is no event {event!r}; the events are {', '.join(EVENTS)}")
    listening = select(t.webhooks.c.id, t.webhooks.c.events)
    rows = [
        {
            "id": f"msg_{uuid4().hex}",
            "webhook_id": webhook_id,
            "event": event,
            "payload": dict(payload),
            "attempts": 0,
            "next_at": now,
            "state": "waiting",
            "error": None,
            "created_at": now,
        }
        for webhook_id, wanted in connection.execute(listening)
        if not wanted or event in wanted
    ]
    if rows:
        connection.execute(insert(t.deliveries), rows)


def sign(secret: str, id: str, timestamp: int, body: str | bytes) -> str:
    """``v1,<base64>``: the signature of a delivery, by the Standard Webhooks scheme."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise DataError("the webhook's secret is not base64 behind whsec_; make the webhook anew") from error
    text = body.encode() if isinstance(body, str) else body
    signed = hmac.new(key, f"{id}.{timestamp}.".encode() + text, hashlib.sha256).digest()
    return "v1," + base64.b64encode(signed).decode()


def deliver(store: Store, now: float, clock: Callable[[], float] | None = None) -> int:
    """Try what is due, oldest first, each address on its own; returns how many were received.

    Each attempt stands in the database before it is made, with the time of the next: a process killed
    in the midst of it tries again then. After a failure the rest of that address waits for the next
    round, so that one that is down holds up nobody else and is not asked for everything at once.
    """
    d, w = t.deliveries.c, t.webhooks.c
    due = (
        select(w.id).join(t.deliveries, w.id == d.webhook_id).where(_due(now), w.active.is_(True)).distinct()
    )
    with store.database.read() as connection:
        hooks = list(connection.execute(due).scalars())
    if not hooks:
        return 0
    with ThreadPoolExecutor(min(len(hooks), 8), "accord-webhook") as pool:
        return sum(pool.map(lambda hook: _round(store, hook, now, clock or (lambda: now)), hooks))


def _due(now: float) -> ColumnElement[bool]:
    return (t.deliveries.c.state == "waiting") & (t.deliveries.c.next_at <= now)


def _round(store: Store, webhook_id: str, now: float, clock: Callable[[], float]) -> int:
    d, w = t.deliveries.c, t.webhooks.c
    mine = select(t.deliveries, w.url, w.secret).join(t.webhooks, w.id == d.webhook_id)
    mine = mine.where(_due(now), w.id == webhook_id).order_by(d.next_at, d.created_at, d.id).limit(BATCH)
    with store.database.write() as connection:
        rows = list(connection.execute(mine).mappings())
        for row in rows:
            later = now + BACKOFF[min(row["attempts"], len(BACKOFF) - 1)]
            _change(connection, row, attempts=row["attempts"] + 1, next_at=later)
    tried: list[str] = []
    for row in rows:
        tried.append(_post(row, clock()))
        if tried[-1]:
            break
    with store.database.write() as connection:
        for row, error in zip(rows, tried, strict=False):
            over = row["attempts"] == len(BACKOFF)
            state = "sent" if not error else "failed" if over else "waiting"
            _change(connection, row, state=state, error=error or None)
            if state == "failed":
                log.warning("webhook %s: given up on %s: %s", row["url"], row["id"], error)
        for row in rows[len(tried) :]:
            _change(connection, row, attempts=row["attempts"], next_at=row["next_at"])
    return tried.count("")


def _change(connection: Connection, row: Mapping[Any, Any], **values: Any) -> None:
    connection.execute(update(t.deliveries).where(t.deliveries.c.id == row["id"]).values(**values))


def _post(row: Mapping[Any, Any], now: float) -> str:
    """Send one delivery; returns what went wrong, "" if the receiver took it."""
    happened = {"type": row["event"], "timestamp": _iso(row["created_at"]), "data": row["payload"]}
    body = json.dumps(happened, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "accord-webhooks",
        "webhook-id": row["id"],
        "webhook-timestamp": str(int(now)),
        "webhook-signature": sign(row["secret"], row["id"], int(now), body),
    }
    parts = urlsplit(row["url"])
    secure = parts.scheme == "https"
    make = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = make(parts.hostname or "", parts.port, timeout=TIMEOUT)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read(1000)
    except (OSError, http.client.HTTPException, ssl.SSLError, ValueError) as error:
        return f"{type(error).__name__}: {error}"[:500]
    finally:
        connection.close()
    return (
        "" if 200 <= answer.status < 300 else f"the receiver answered {answer.status} {answer.reason}"[:500]
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
