"""A scorer on another machine, by HTTP; ``reward.served`` is the other end.

    POST URL   Content-Type: application/json, Idempotency-Key: digest of the body,
               Authorization: Bearer TOKEN where an environment variable is named for it

    {"version": 1, "groups": [{"prompt": {"id": ..., "messages": [{"role": ..., "content": ...}], "meta": {}},
                               "completions": ["text", ...]}, ...]}

    {"scores": [[{"value": 0.5, "parts": {"length": 3}, "why": "..."}, ...], ...]}

One list a group and one score a completion, in order; a bare number stands for a score too. Asking again is
harmless, because a score is a function of the request. How it is asked is ``accord.posting``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from accord.errors import ModelError, NumericsError
from accord.posting import Poster, PostingConfig
from accord.types import Completion, Group, Prompt, Score, digest


class RemoteConfig(PostingConfig):
    """Where a remote scorer is and how it is asked."""

    batch: int = Field(64, ge=1)
    """Completions a request, at most; a prompt's completions are never parted."""
    meta: bool = False
    """Send the prompts' meta too (the right answers, say); only to a server that may know them."""


class RemoteReward:
    """A ``Scorer`` that asks a server."""

    def __init__(self, config: RemoteConfig) -> None:
        self.config = config
        self._poster = Poster(config, "scores")

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
        scored: list[list[Score]] = []
        for part in _batches(groups, self.config.batch):
            body = json.dumps({"version": 1, "groups": [self._group(*group) for group in part]}).encode()
            scored += self._read(self._poster.post(body, digest(body.decode())), part)
        return scored

    def _group(self, prompt: Prompt, completions: Sequence[Completion]) -> dict[str, Any]:
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        meta = dict(prompt.meta) if self.config.meta else {}
        return {
            "prompt": {"id": prompt.id, "messages": messages, "meta": meta},
            "completions": [c.text for c in completions],
        }

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


def _finite(number: Any) -> bool:
    known = isinstance(number, int | float) and not isinstance(number, bool)
    return known and abs(number) < 1e300 and math.isfinite(number)
