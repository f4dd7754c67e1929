"""Models behind any OpenAI-compatible URL: asked politely, each answer kept so that it is paid for once.

    POST {url}/chat/completions   {"model": ..., "messages": [...], "max_tokens": ..., "temperature": ...,
                                   "seed": ..., and what ``extra`` says}

How it is asked, and what is tried again, is ``accord.posting``. With a ``cache`` every answer is on disk
before it is used: a run that was killed asks only for what it has no answer to. An answer is known by the
digest of its address and whole request, so one of another model or other settings never stands in.

What a server says is data: an answer that was cut, refused, empty or is no chat completion at all comes back
as an ``Answer`` that says so. A server that cannot be used is an error. Loads no torch;
``accord.chat_chooser`` makes a judge of it.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field

from accord.errors import ConfigError, DataError, ModelError, StoreError
from accord.posting import Poster, PostingConfig, Refused
from accord.types import Completion, Origin, Prompt, Stop, digest

PATH = "/chat/completions"
TAKEN_FOR_ANOTHER = 10
"""So many answers in a row that are no chat completions, and the address is taken for something else."""
TURNED_AWAY = ("content_filter", "content_policy", "context_length_exceeded", "maximum context length")
"""What a server says with a status of 400 where one text is at fault and not the settings."""
HINTS = {
    400: "; a field it does not know can be left out (leave_out), or another one sent (extra)",
    401: "; put the token into an environment variable and name it in token_env",
    403: "; the token may not use this model",
    404: "; the address ends where /chat/completions is added, and the model is named as the server names it",
}


class ChatConfig(PostingConfig):
    """Which model, where, and how it answers."""

    model: str
    """Its name at the server."""
    seconds: float = Field(120.0, gt=0, allow_inf_nan=False)
    """Longest wait for the server to say something."""
    max_tokens: int = Field(1024, ge=1)
    """Longest answer."""
    temperature: float | None = Field(None, ge=0)
    """Of its answers; unless given, 1 where it writes and 0 where it judges."""
    seed: int = 0
    """Sent along; the k-th answer to one prompt has seed + k."""
    parallel: int = Field(4, ge=1)
    """Requests on the way at once."""
    cache: str = ""
    """File that keeps every answer; none is kept unless given."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further fields of a request (max_completion_tokens, a grammar of the server's)."""
    leave_out: tuple[str, ...] = ()
    """Fields that the server does not take (seed, temperature, max_tokens)."""


class Ended(StrEnum):
    """How an answer came to its end."""

    WHOLE = "whole"
    CUT = "cut"
    """The length limit cut it off."""
    REFUSED = "refused"
    """The model or a filter would not answer, or the question is too long."""
    MALFORMED = "malformed"
    """What came is no chat completion."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an answer; log-probs in nats."""

    text: str
    logprob: float
    top: Mapping[str, float]
    """The likeliest in its place, as many as were asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to one request."""

    text: str
    """The model's words; of a refusal its words, of what is malformed the first characters."""
    ended: Ended
    thought: str = ""
    """Its reasoning, where the server tells it apart."""
    tokens: tuple[Token, ...] = ()
    """Empty where the server gives no log-probs."""
    fingerprint: str = ""
    """What the server calls this state of the model."""


Request = tuple[Prompt, Mapping[str, Any], int]
"""A prompt, fields beside the config's, and which of several answers to it is wanted (0 for one)."""


class Chat:
    """One model at one address.

    ``spent`` counts ``asked`` (answers over the wire, malformed ones left out), ``kept`` (those the cache
    had), and the server's ``prompt_tokens`` and ``completion_tokens``.
    """

    def __init__(self, config: ChatConfig) -> None:
        self.config = config
        base = config.url.rstrip("/")
        self._poster = Poster(config, "answers", base if base.endswith(PATH) else base + PATH)
        self._kept = AnswerFile(Path(config.cache)) if config.cache else None
        self._counting = threading.Lock()
        self.spent: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """URL#MODEL."""
        return f"{self.config.url}#{self.config.model}"

    def ask(self, requests: Sequence[Request], temperature: float) -> list[Answer]:
        """One answer a request, in order; ``temperature`` where the config says none. Equal requests are
        asked once.

        Raises:
            ConfigError: the token's environment variable is not set.
            ModelError: the server cannot be reached, refuses, or does not speak this protocol. What was
                answered before is in the cache.
        """
        bodies = [self._body(prompt, fields, index, temperature) for prompt, fields, index in requests]
        keys = [
            digest(self._poster.url, body, index)
            for body, (_, _, index) in zip(bodies, requests, strict=True)
        ]
        wanted = dict(zip(keys, bodies, strict=True))
        found = {key: read_answer(said) for key in wanted if (said := self._known(key)) is not None}
        self.spent["kept"] += len(found)
        found |= self._fetch_all({key: body for key, body in wanted.items() if key not in found})
        return [found[key] for key in keys]

    def _known(self, key: str) -> Any:
        return self._kept.get(key) if self._kept else None

    def _fetch_all(self, missing: Mapping[str, dict[str, Any]]) -> dict[str, Answer]:
        found: dict[str, Answer] = {}
        strange = 0
        with ThreadPoolExecutor(self.config.parallel) as pool:
            asked = {pool.submit(self._fetch, key, body): key for key, body in missing.items()}
            try:
                for done in as_completed(asked):
                    answer = found[asked[done]] = done.result()
                    strange = strange + 1 if answer.ended is Ended.MALFORMED else 0
                    if strange == TAKEN_FOR_ANOTHER:
                        raise self._another(answer)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # those on the way are paid for, and kept
                raise
        return found

    def _body(
        self, prompt: Prompt, fields: Mapping[str, Any], index: int, temperature: float
    ) -> dict[str, Any]:
        config = self.config
        body = {
            "model": config.model,
            "messages": [{"role": m.role, "content": m.content} for m in prompt.messages],
            "max_tokens": config.max_tokens,
            "temperature": temperature if config.temperature is None else config.temperature,
            "seed": config.seed + index,
            **fields,
            **config.extra,
        }
        return {name: value for name, value in body.items() if name not in config.leave_out}

    def _fetch(self, key: str, body: dict[str, Any]) -> Answer:
        try:
            raw = self._poster.post(json.dumps(body).encode(), key)
        except Refused as error:
            if error.status == 400 and any(sign in error.detail for sign in TURNED_AWAY):
                return Answer("", Ended.REFUSED, thought=error.detail)  # the server's words, not the model's
            raise ModelError(f"{error}{HINTS.get(error.status, '')}") from None
        try:
            said = json.loads(raw)
        except (ValueError, RecursionError):
            said = None
        answer = read_answer(said)
        if answer.ended is Ended.MALFORMED:
            return replace(answer, text=raw[:500].decode("utf-8", "replace"))
        if self._kept:
            self._kept.add(key, said)
        self._count(said.get("usage"))
        return answer

    def _count(self, usage: Any) -> None:
        counts = usage if isinstance(usage, dict) else {}
        with self._counting:
            self.spent["asked"] += 1
            for name in ("prompt_tokens", "completion_tokens"):
                count = counts.get(name)
                self.spent[name] += count if isinstance(count, int) else 0

    def _another(self, answer: Answer) -> ModelError:
        return ModelError(
            f"{self._poster.url} gave {TAKEN_FOR_ANOTHER} answers in a row that are no chat completions, the "
            f"last: {answer.text[:120]!r}; is it the address of an OpenAI-compatible server?"
        )


def read_answer(said: Any) -> Answer:
    """A chat completion's first choice; whatever is none is an answer that says so."""
    try:
        choice = said["choices"][0]
        message = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
        if not isinstance(content, str | None) or not isinstance(refusal, str | None):
            raise TypeError
        thought = message.get("reasoning_content") or message.get("reasoning") or ""
        finish = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        return Answer("", Ended.MALFORMED)
    ended = Ended.CUT if finish == "length" else Ended.WHOLE
    if refusal or finish == "content_filter":
        ended = Ended.REFUSED
    return Answer(
        _clean(content or refusal or ""),
        ended,
        _clean(thought) if isinstance(thought, str) else "",
        tuple(_tokens(choice)),
        str(said.get("system_fingerprint") or ""),
    )


def _clean(text: str) -> str:
    """Without halves of characters, which JSON can carry and no file can."""
    return text.encode("utf-8", "replace").decode()


def _tokens(choice: Mapping[str, Any]) -> list[Token]:
    """The answer's tokens; none where their log-probs are missing or are no numbers."""
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    try:
        tokens = [
            Token(
                str(one["token"]),
                float(one["logprob"]),
                {str(o["token"]): float(o["logprob"]) for o in one.get("top_logprobs") or []},
            )
            for one in content or []
        ]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []
    return tokens if all(p < 1e-3 for t in tokens for p in (t.logprob, *t.top.values())) else []  # no NaN


class ChatSampler:
    """A ``Sampler``: answers, critiques and revisions by a model behind a URL.

    The same prompt twice in one call gets different seeds, as two samples of it do. What the server refused
    or left empty is a completion with the words it gave, or none; ``ended`` counts how answers came to
    their end.
    """

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.ended: Counter[Ended] = Counter()

    def sample(self, prompts: Sequence[Prompt], n: int = 1) -> list[list[Completion]]:
        """``n`` completions for each prompt, in the prompts' order.

        Raises:
            ModelError: as ``Chat.ask``.
        """
        seen: Counter[str] = Counter()
        requests: list[Request] = []
        for prompt in prompts:
            said = digest([(m.role, m.content) for m in prompt.messages])
            requests += [(prompt, {}, seen[said] + i) for i in range(n)]
            seen[said] += n
        answers = self.chat.ask(requests, temperature=1.0)
        self.ended.update(answer.ended for answer in answers)
        made = [self._completion(*pair) for pair in zip(requests, answers, strict=True)]
        return [made[i * n : (i + 1) * n] for i in range(len(prompts))]

    def _completion(self, request: Request, answer: Answer) -> Completion:
        config = self.chat.config
        temperature = 1.0 if config.temperature is None else config.temperature
        sampling = {"temperature": temperature, "max_new_tokens": config.max_tokens, **config.extra}
        origin = Origin(self.chat.name, answer.fingerprint, None, "", (), sampling, config.seed + request[2])
        stop = {Ended.WHOLE: Stop.EOS, Ended.CUT: Stop.LENGTH}.get(answer.ended, Stop.GIVEN)
        text = "" if answer.ended is Ended.MALFORMED else answer.text
        return Completion(text, stop=stop, origin=origin)


class AnswerFile:
    """Answers by the digest of their request, a JSON line each, on the disk before they are used.

    A line that a killed run left torn is passed over and its answer asked for again. Several runs may
    append to one file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = threading.Lock()
        self._at: dict[str, int] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_APPEND, 0o600))  # texts people wrote may be in it
            self._load()
        except OSError as error:
            raise ConfigError(
                f"the answers cannot be kept in {path}: {error.strerror}; name another cache"
            ) from error

    def _load(self) -> None:
        at = torn = 0
        line = b"\n"
        with self.path.open("rb") as file:
            for line in file:
                key = _key(line)
                torn += key is None
                if key is not None:
                    self._at[key] = at
                at += len(line)
        if torn > 1 and not self._at:
            raise DataError(
                f"{self.path}: none of its {torn} lines is a kept answer; name another file as cache"
            )
        if not line.endswith(b"\n"):
            self._append(b"\n")  # a torn line stays one of its own

    def _append(self, line: bytes) -> int:
        """Where the line begins, once it is on the disk."""
        with self.path.open("ab", buffering=0) as file:
            if file.write(line) != len(line):
                raise StoreError(f"the disk took a part of an answer for {self.path}; make room and go on")
            os.fsync(file.fileno())
            return file.tell() - len(line)

    def get(self, key: str) -> Any:
        """What the server said, as JSON data; ``None`` where nothing is kept."""
        if key not in self._at:
            return None
        with self.path.open("rb") as file:
            file.seek(self._at[key])
            return json.loads(file.readline())["said"]

    def add(self, key: str, said: Any) -> None:
        """Keep an answer; it is on the disk when this returns."""
        line = json.dumps({"key": key, "said": said}).encode() + b"\n"
        with self._writing:
            self._at[key] = self._append(line)


def _key(line: bytes) -> str | None:
    try:
        row = json.loads(line)
        return str(row["key"]) if "said" in row else None
    except (ValueError, KeyError, TypeError):
        return None
