"""A server of chat completions, its bodies built with the types of OpenAI's own client."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from accord.chat import Chat, ChatConfig
from told import telling


def completion(
    text: str | None,
    tokens: Sequence[tuple[str, Mapping[str, float]]] | None = None,
    finish: str = "stop",
    **message: Any,
) -> str:
    """A body; ``tokens`` are the answer's, each with the probabilities of the likeliest in its place."""
    from openai.types.chat import ChatCompletion

    def top(probs: Mapping[str, float]) -> list[dict[str, Any]]:
        return [{"token": t, "logprob": math.log(p), "bytes": list(t.encode())} for t, p in probs.items()]

    logprobs = None
    if tokens is not None:
        content = [{**top({t: probs[t]})[0], "top_logprobs": top(probs)} for t, probs in tokens]
        logprobs = {"content": content, "refusal": None}
    body = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "finish_reason": finish, "logprobs": logprobs,
                     "message": {"role": "assistant", "content": text, "refusal": None, **message}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    }  # fmt: skip
    return ChatCompletion.model_validate(body).model_dump_json()


def asked_of(body: Mapping[str, Any]) -> str:
    """The last message of a request, read as OpenAI's client types one."""
    from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
    from pydantic import TypeAdapter

    TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(body)
    return body["messages"][-1]["content"]


@contextmanager
def chat_server(should: Callable[[str], str] = lambda said: completion(f"re: {said}")) -> Iterator[Any]:
    """A listening server; ``should`` turns the last message into a body."""
    with telling(lambda body: should(asked_of(body)), "/v1") as listening:
        yield listening


def chat(server: Any, **config: Any) -> Chat:
    """A client of it that does not pause long."""
    return Chat(ChatConfig(url=server.url, **{"model": "m", "pause": 0.01, "seconds": 30.0, **config}))


def choose(p_first: float, said: str = "A") -> str:
    """A body that says a letter, with the probabilities of both."""
    return completion(said, [(said, {"A": p_first, "B": 1 - p_first})])


def broken(body: str) -> list[str]:
    """Ways in which a body is no chat completion."""
    whole = json.loads(body)
    choice = whole["choices"][0]
    return [
        "", "<html>busy</html>", body[: len(body) // 2], "[" * 100_000, "null", "[]", "{}",
        json.dumps({**whole, "choices": []}),
        json.dumps({**whole, "choices": None}),
        json.dumps({**whole, "choices": [{**choice, "message": None}]}),
        json.dumps({**whole, "choices": [{**choice, "message": {"content": 3}}]}),
        json.dumps({"error": {"message": "overloaded", "code": 529}}),
    ]  # fmt: skip
