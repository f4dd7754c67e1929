"""Any scorer behind HTTP, for ``reward.remote`` to ask; the protocol stands there.

One request is judged at a time: most scorers hold one model, and two passes at once would share its memory.
"""

from __future__ import annotations

import hmac
import math
import threading
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from accord.errors import AccordError, ConfigError
from accord.types import Completion, Message, Prompt, Scorer, score_groups


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AskedMessage(_Strict):
    """One turn."""

    role: str
    content: str


class AskedPrompt(_Strict):
    """A prompt as it comes."""

    id: str = ""
    messages: list[AskedMessage] = Field(min_length=1)
    meta: dict[str, Any] = Field(default_factory=dict)


class AskedGroup(_Strict):
    """A prompt with its completions' texts."""

    prompt: AskedPrompt
    completions: list[str]


class Asked(_Strict):
    """A request."""

    version: int = Field(1, ge=1, le=1)
    groups: list[AskedGroup]


def create_app(scorer: Scorer, token: str = "") -> FastAPI:
    """An app with ``POST /score`` and ``GET /health``, for any ASGI server.

    With ``token``, a request needs the header ``Authorization: Bearer TOKEN``. What the scorer raises is
    answered with 422 (an error of accord's: these texts cannot be scored) or 500, and its message.
    """
    app = FastAPI(title="accord scorer", docs_url=None, redoc_url=None, openapi_url=None)
    one_at_a_time = threading.Lock()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"scorer": type(scorer).__name__}

    @app.post("/score")
    def score(asked: Asked, authorization: Annotated[str, Header()] = "") -> dict[str, Any]:
        if token and not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "a token is needed: Authorization: Bearer TOKEN")
        groups = [
            (
                Prompt(
                    tuple(Message(m.role, m.content) for m in g.prompt.messages), g.prompt.meta, g.prompt.id
                ),
                [Completion(text) for text in g.completions],
            )
            for g in asked.groups
        ]
        try:
            with one_at_a_time:
                scored = score_groups(scorer, groups)
        except AccordError as error:
            raise HTTPException(422, str(error)) from None
        for (_, completions), scores in zip(groups, scored, strict=True):
            for completion, each in zip(completions, scores, strict=True):
                if not math.isfinite(each.value):  # JSON has no word for it
                    raise HTTPException(422, f"the score of {completion.text[:120]!r} is {each.value}")
        return {
            "scores": [
                [{"value": s.value, "parts": dict(s.parts), "why": s.why} for s in scores]
                for scores in scored
            ]
        }

    return app


def serve(scorer: Scorer, port: int = 8081, host: str = "127.0.0.1", token: str = "") -> None:
    """Serve ``scorer`` until Ctrl-C.

    Raises:
        ConfigError: it would listen beyond this machine without a token.
    """
    import uvicorn

    if not token and host not in ("127.0.0.1", "::1", "localhost"):
        raise ConfigError(
            f"a scorer on {host} without a token answers anybody; pass a token, or stay on 127.0.0.1"
        )
    uvicorn.run(create_app(scorer, token), host=host, port=port, log_level="warning")
