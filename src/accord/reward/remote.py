"""A scorer on another machine, by HTTP; ``reward.served`` is the other end.

    POST URL   Content-Type: application/json, Idempotency-Key: digest of the body,
               Authorization: Bearer TOKEN where an environment variable is named for it

    {"version": 1, "groups": [{"prompt": {"id": ..., "messages": [{"role": ..., "content": ...}], "meta": {}},
                               "completions": ["text", ...]}, ...]}

    {"scores": [[{"value": 0.5, "parts": {"length": 3}, "why": "..."}, ...], ...]}

One list a group and one score a completion, in order; a bare number stands for a score too. Asking again is
harmless, because a score is a function of the request: what may pass (429, 5xx, a lost connection, a
time-out) is tried again with the same key and growing pauses, anything else is an error at once. Redirects
are not followed, so that neither texts nor the token go where nobody sent them.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import math
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from accord.config import Config
from accord.errors import ConfigError, ModelError, NumericsError
from accord.types import Completion, Group, Prompt, Score, digest

LARGEST = 64 * 2**20
"""Bytes of an answer that are read."""
LONGEST_PAUSE = 60.0


class RemoteConfig(Config):
    """Where a remote scorer is and how it is asked."""

    url: str
    """http or https address that takes the POST."""
    token_env: str = ""
    """Environment variable that holds the token; none is sent unless given."""
    batch: int = Field(64, ge=1)
    """Completions a request, at most; a prompt's completions are never parted."""
    seconds: float = Field(30.0, gt=0, allow_inf_nan=False)
    """Longest wait for the server to say something."""
    tries: int = Field(5, ge=1)
    """Requests for one batch before giving up."""
    pause: float = Field(0.5, ge=0, allow_inf_nan=False)
    """Seconds before the second try; doubled each time, or what the server asks for."""
    meta: bool = False
    """Send the prompts' meta too (the right answers, say); only to a server that may know them."""

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


class RemoteReward:
    """A ``Scorer`` that asks a server."""

    def __init__(self, config: RemoteConfig) -> None:
        self.config = config
        parts = urlsplit(config.url)
        if config.token_env and parts.scheme == "http" and not _loopback(parts.hostname or ""):
            raise ConfigError(f"{config.url}: a token over plain http can be read on the way; use https")
        self._open = urllib.request.build_opener(_NoRedirect).open

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """One score a completion, in order."""
        return self.score_groups([(prompt, completions)])[0]

    def score_groups(self, groups: Sequence[Group]) -> list[list[Score]]:
        """Scores for many groups, in their order, batch by batch.

        Raises:
            ConfigError: the token's environment variable is not set.
            ModelError: the server cannot be reached, refuses, redirects, or answers what is no answer.
            NumericsError: a score is missing or not finite; the text is shown.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json"} | self._token()
        scored: list[list[Score]] = []
        for part in _batches(groups, self.config.batch):
            body = json.dumps({"version": 1, "groups": [self._group(*group) for group in part]}).encode()
            said = self._ask(body, {**headers, "Idempotency-Key": digest(body.decode())})
            scored += self._read(said, part)
        return scored

    def _token(self) -> dict[str, str]:
        if not self.config.token_env:
            return {}
        token = os.environ.get(self.config.token_env, "")
        if not token:
            raise ConfigError(
                f"the environment variable {self.config.token_env} is not set; it holds the token for "
                f"{self.config.url}"
            )
        return {"Authorization": f"Bearer {token}"}

    def _group(self, prompt: Prompt, completions: Sequence[Completion]) -> dict[str, Any]:
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        meta = dict(prompt.meta) if self.config.meta else {}
        return {
            "prompt": {"id": prompt.id, "messages": messages, "meta": meta},
            "completions": [c.text for c in completions],
        }

    # -- the request -------------------------------------------------------------------------

    def _ask(self, body: bytes, headers: dict[str, str]) -> bytes:
        """The answer's body, after as many tries as allowed."""
        config = self.config
        for attempt in range(config.tries):
            pause = config.pause * 2**attempt * random.uniform(0.5, 1.0)  # many askers must not come at once
            try:
                request = urllib.request.Request(config.url, body, headers, method="POST")
                with self._open(request, timeout=config.seconds) as answer:
                    said = answer.read(LARGEST + 1)
                if len(said) > LARGEST:
                    raise ModelError(f"{config.url} answered with more than {LARGEST >> 20} MiB")
                return said
            except urllib.error.HTTPError as error:
                with error:
                    detail = error.read(500).decode("utf-8", "replace").strip()
                fault = f"{error.code} {error.reason}{': ' + detail if detail else ''}"
                if 300 <= error.code < 400:
                    fault += "; redirects are not followed: name the address it leads to"
                if error.code != 429 and error.code < 500:
                    raise ModelError(f"{config.url} refused: {fault}") from None
                pause = max(pause, _asked_pause(error.headers.get("Retry-After")))
            except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
                fault = f"{getattr(error, 'reason', None) or error!r}"
            if attempt + 1 < config.tries:
                time.sleep(min(pause, LONGEST_PAUSE))
        raise ModelError(
            f"{config.url} gave no scores in {config.tries} tries, the last time: {fault}; look at the "
            "server, or give it more tries or seconds"
        )

    # -- the answer --------------------------------------------------------------------------

    def _read(self, said: bytes, groups: Sequence[Group]) -> list[list[Score]]:
        try:
            answer = json.loads(said)
        except (ValueError, RecursionError) as error:
            raise ModelError(
                f"{self.config.url} answered what is not JSON ({str(error)[:100]}): {said[:120]!r}"
            ) from None
        scores = answer.get("scores") if isinstance(answer, dict) else None
        if not isinstance(scores, list):
            raise ModelError(f'{self.config.url} answered without a list "scores": {said[:120]!r}')
        if len(scores) != len(groups):
            raise NumericsError(
                f"{self.config.url} answered {len(scores)} lists of scores for {len(groups)} groups"
            )
        return [self._scores(*pair) for pair in zip(groups, scores, strict=True)]

    def _scores(self, group: Group, said: Any) -> list[Score]:
        prompt, completions = group
        if not isinstance(said, list) or len(said) != len(completions):
            got = len(said) if isinstance(said, list) else repr(said)[:60]
            raise NumericsError(
                f"{self.config.url} answered {got} scores for the {len(completions)} completions of prompt "
                f"{prompt.id!r}; one for each is needed"
            )
        return [self._score(prompt, c, each) for c, each in zip(completions, said, strict=True)]

    def _score(self, prompt: Prompt, completion: Completion, said: Any) -> Score:
        each = said if isinstance(said, dict) else {"value": said}
        parts = each.get("parts") or {}
        numbers = [each.get("value"), *(parts.values() if isinstance(parts, dict) else [None])]
        if not all(_finite(number) for number in numbers):
            raise NumericsError(
                f"{self.config.url} answered {str(said)[:99]} for {completion.text[:99]!r}, a completion of "
                f"prompt {prompt.id!r}; a score's value and parts are finite numbers"
            )
        return Score(
            float(each["value"]), {str(k): float(v) for k, v in parts.items()}, str(each.get("why") or "")
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves 3xx an error."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _batches(groups: Sequence[Group], most: int) -> Iterator[list[Group]]:
    """Runs of groups of at most ``most`` completions; a group that is larger stands alone."""
    part: list[Group] = []
    size = 0
    for group in groups:
        if part and size + len(group[1]) > most:
            yield part
            part, size = [], 0
        part.append(group)
        size += len(group[1])
    if part:
        yield part


def _asked_pause(header: str | None) -> float:
    """Seconds of a Retry-After header; 0 where it gives none, or a date."""
    return float(header) if header and header.strip().isdigit() else 0.0


def _finite(number: Any) -> bool:
    known = isinstance(number, int | float) and not isinstance(number, bool)
    return known and abs(number) < 1e300 and math.isfinite(number)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
