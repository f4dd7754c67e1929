"""Posting JSON to a server with the manners that people's texts, tokens and money ask for. Loads no torch.

What may pass (408, 429, 5xx, a lost connection, a time-out) is tried again with the same Idempotency-Key and
growing pauses, or after what Retry-After says (seconds or a date), which is said on standard error; anything
else is an error at once, a longer wait than ``longest_pause`` too. Redirects are not
followed, so that neither texts nor the token go where nobody sent them. The token comes from an environment
variable and never travels over plain http to another machine. An answer's size has a bound.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import random
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from accord.config import Config
from accord.errors import ConfigError, ModelError
from accord.terminal import err

LARGEST = 64 * 2**20
"""Bytes of an answer that are read."""
LONGEST_OWN = 60.0
"""Seconds of a pause that no server asked for, at most."""
PASSING = (408, 429)
"""Refusals that may pass, beside 5xx."""


class PostingConfig(Config):
    """Where a server is and how it is asked."""

    url: str
    """http or https address."""
    token_env: str = ""
    """Environment variable that holds the token; none is sent unless given."""
    seconds: float = Field(30.0, gt=0, allow_inf_nan=False)
    """Longest wait for the server to say something."""
    tries: int = Field(5, ge=1)
    """Requests for one answer before giving up."""
    pause: float = Field(0.5, ge=0, allow_inf_nan=False)
    """Seconds before the second try; doubled each time, or what the server asks for."""
    longest_pause: float = Field(600.0, ge=0, allow_inf_nan=False)
    """Seconds that are waited where the server asks for them; more than that is an error."""

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is no http or https address")
        if parts.username or parts.password:
            raise ConfigError(
                "the address holds a user or password; name an environment variable in token_env"
            )
        return url


class Refused(ModelError):
    """The server would not take a request, and asking again will not help."""

    def __init__(self, message: str, status: int, detail: str) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status, 3xx or 4xx."""
        self.detail = detail
        """The first 500 characters it said."""


class Poster:
    """Asks one address; ``wanted`` is what its answers are called in errors ("scores")."""

    def __init__(self, config: PostingConfig, wanted: str, url: str = "") -> None:
        self.config = config
        self.wanted = wanted
        self.url = url or config.url
        parts = urlsplit(self.url)
        if config.token_env and parts.scheme == "http" and not _loopback(parts.hostname or ""):
            raise ConfigError(f"{self.url}: a token over plain http can be read on the way; use https")
        self._open = urllib.request.build_opener(_NoRedirect).open
        self._telling = threading.Lock()
        self._told = 0.0

    def post(self, body: bytes, key: str) -> bytes:
        """The answer's body, after as many tries as allowed; ``key`` is the request's Idempotency-Key.

        Raises:
            ConfigError: the token's environment variable is not set.
            Refused: a status that will not pass, redirects among them.
            ModelError: the server cannot be reached, its answer is too large, or it asks for a longer wait
                than ``longest_pause``.
        """
        config = self.config
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Idempotency-Key": key}
        headers |= self._token()
        for attempt in range(config.tries):
            pause = min(config.pause * 2**attempt, LONGEST_OWN)
            pause *= random.uniform(0.5, 1.0)  # many askers must not come at once
            try:
                request = urllib.request.Request(self.url, body, headers, method="POST")
                with self._open(request, timeout=config.seconds) as answer:
                    said = answer.read(LARGEST + 1)
                if len(said) > LARGEST:
                    raise ModelError(f"{self.url} answered with more than {LARGEST >> 20} MiB")
                if answer.length:  # read(n) takes a connection that was cut for the end
                    raise http.client.IncompleteRead(said, answer.length)
                return said
            except urllib.error.HTTPError as error:
                with error:
                    detail = _read(error)
                fault = f"{error.code} {error.reason}{': ' + detail if detail else ''}"
                if error.code not in PASSING and error.code < 500:
                    raise self._refused(error.code, fault, detail) from None
                pause = max(pause, self._asked_pause(error.headers, fault, attempt + 1 < config.tries))
            except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
                fault = f"{getattr(error, 'reason', None) or error!r}"
            if attempt + 1 < config.tries:
                time.sleep(pause)
        raise ModelError(
            f"{self.url} gave no {self.wanted} in {config.tries} tries, the last time: {fault}; look at the "
            "server, or give it more tries or seconds"
        )

    def _asked_pause(self, headers: Message | Mapping[str, str], fault: str, again: bool) -> float:
        """Seconds the server asks to wait, told where they will be waited."""
        asked = retry_after(headers)
        if not asked or not again:
            return 0.0
        if asked > self.config.longest_pause:
            raise ModelError(
                f"{self.url} asks to wait {asked:.0f} s, more than longest_pause = "
                f"{self.config.longest_pause:g}: {fault}; go on later, or raise longest_pause"
            )
        with self._telling:  # one line, however many requests are told the same
            until, told = time.monotonic() + asked, self._told
            self._told = max(told, until)
        if until > told + 1:
            err.print(f"{self.url} asks to wait {asked:.0f} s ({fault}); waiting", markup=False)
        return asked

    def _refused(self, status: int, fault: str, detail: str) -> Refused:
        if 300 <= status < 400:
            fault += "; redirects are not followed: name the address it leads to"
        return Refused(f"{self.url} refused: {fault}", status, detail)

    def _token(self) -> dict[str, str]:
        name = self.config.token_env
        if not name:
            return {}
        token = os.environ.get(name, "")
        if not token:
            raise ConfigError(
                f"the environment variable {name} is not set; it holds the token for {self.url}"
            )
        return {"Authorization": f"Bearer {token}"}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves 3xx an error."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _read(error: urllib.error.HTTPError) -> str:
    """What a refusal says, as far as it comes."""
    try:
        return error.read(500).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException):
        return ""


def retry_after(headers: Message | Mapping[str, str]) -> float:
    """Seconds of a Retry-After header, which gives them or a date (RFC 9110, section 10.2.3); else 0.

    A date is held against the server's own clock, where it tells the time.
    """
    said = (headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", said):  # the standard knows whole ones alone, servers do not
        return float(said)
    until = _date(said)
    now = _date(headers.get("Date") or "") or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds()) if until else 0.0


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
