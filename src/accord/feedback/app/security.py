"""What stands before every page: headers, the refusal of other sites' forms, sizes and rates."""

from __future__ import annotations

import threading
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    (
        "default-src 'self'",  # no inline script or style, and nothing from elsewhere
        "img-src 'self' data:",  # a completion's remote image would tell its host who labels what, and when
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # an invitation's secret stands in its address
    "Cross-Origin-Opener-Policy": "same-origin",
}
BODY = 32 * 2**20
"""Bytes of a request, at most: room for a thousand prompts with their completions."""
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
KEYS_KEPT = 10_000


class Guard:
    """ASGI middleware: security headers on every answer, and no unsafe request from another site.

    A browser says where a request comes from (``Sec-Fetch-Site``; older ones and plain http: ``Origin``
    against ``Host``), so a foreign page can neither submit for a labeler nor log one in as somebody
    else. Programs send neither header, and no cookie: they pass, and their token decides.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                # scripts may be kept, but are asked after each time: an upgrade must not meet old ones
                kept = scope["path"].startswith("/static/")
                headers.setdefault("Cache-Control", "no-cache" if kept else "no-store")
            await send(message)

        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if scope["method"] not in SAFE and foreign(headers):
            await FOREIGN(scope, receive, send_with_headers)
        elif length.isdigit() and int(length) > BODY:
            await TOO_LARGE(scope, receive, send_with_headers)
        else:
            await self.app(scope, _bounded(receive), send_with_headers)


FOREIGN = JSONResponse(
    {
        "error": "the request comes from a page of another site",
        "what_to_do": "open the labelling app itself and try again",
    },
    403,
)
TOO_LARGE = JSONResponse(
    {"error": "the request is too large", "value": f"over {BODY} bytes", "what_to_do": "send it in parts"},
    413,
)


def _bounded(receive: Receive) -> Receive:
    """``receive`` that ends with 413 where a body of unsaid length grows too large."""
    left = BODY

    async def bounded() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, "the request is too large; send it in parts")
        return message

    return bounded


def foreign(headers: Headers) -> bool:
    """Whether a browser says that a page of another origin made the request."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


class Limit:
    """Token buckets: each key may do ``burst`` things at once and ``per_second`` in the long run.

    Kept in memory: a restart forgives. Safe for many threads.
    """

    def __init__(self, burst: float, per_second: float) -> None:
        self.burst, self.per_second = burst, per_second
        self._left: dict[str, tuple[float, float]] = {}  # key -> things left, when that was so
        self._lock = threading.Lock()

    def wait(self, key: str, now: float) -> float:
        """Seconds until ``key`` may do one more thing; 0 if it may now."""
        with self._lock:
            return max(0.0, (1.0 - self._now(key, now)) / self.per_second)

    def take(self, key: str, now: float) -> float:
        """Count one thing if it is allowed and return 0, else the seconds to wait."""
        with self._lock:
            left = self._now(key, now)
            if left < 1.0:
                return (1.0 - left) / self.per_second
            self._left[key] = (left - 1.0, now)
            if len(self._left) > KEYS_KEPT:
                self._left = {k: v for k, v in self._left.items() if self._now(k, now) < self.burst}
            return 0.0

    def _now(self, key: str, now: float) -> float:
        left, then = self._left.get(key, (self.burst, now))
        return min(self.burst, left + max(0.0, now - then) * self.per_second)
