"""The labelling app: pages for labelers, reviewers and the owner, and the API, in one process."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from accord.errors import AccordError, StoreError
from accord.feedback.app import auth
from accord.feedback.app.deps import HERE, Desk, SignInNeeded, login_address, make_templates
from accord.feedback.app.security import Guard
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.queue import fill
from accord.workspace import Workspace

THREADS = 12
"""Requests under way at once; fewer than the database's connections (15), so that none waits in vain."""


def create_app(workspace: Workspace, config: LabelConfig, clock: Callable[[], float] = time.time) -> FastAPI:
    """The app over one workspace. Starting it makes tasks of all prompts that have completions."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        await anyio.to_thread.run_sync(fill, workspace.store, config)
        yield

    app = FastAPI(
        title="accord labelling app",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
    )
    app.state.desk = Desk(workspace, config, make_templates(), clock)
    app.state.door = auth.Doorkeeper()
    app.add_middleware(Guard)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.include_router(auth.router)
    app.add_exception_handler(SignInNeeded, _sign_in)
    app.add_exception_handler(AccordError, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    return app


# -- errors ------------------------------------------------------------------------------------


def wants_json(request: Request) -> bool:
    """Whether a program or a page's script asks, and not a reader who waits for a page."""
    given = request.headers.get("content-type", "").startswith("application/json")
    return (
        request.url.path.startswith("/api/") or given or "text/html" not in request.headers.get("accept", "")
    )


def problem(message: str) -> dict[str, str]:
    """accord's messages say what happened; then what to do."""
    error, _, advice = message.partition("; ")
    return {"error": error, "what_to_do": advice or "correct the request and send it again"}


def _answer(request: Request, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    if wants_json(request):
        return JSONResponse(problem(message), status, headers)
    at: Desk = request.app.state.desk
    page = at.page(request, "error.html", status, **problem(message))
    page.headers.update(headers or {})
    return page


def _sign_in(request: Request, _: Exception) -> Response:
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    if wants_json(request):
        return JSONResponse(problem("nobody is signed in; sign in at /login"), 401)
    return RedirectResponse(login_address(request), 303)


def _refused(request: Request, error: Exception) -> Response:
    # the database out of reach is ours to mend, and worth another try; the rest is the request's fault
    if isinstance(error, StoreError) and error.__cause__ is not None:
        return _answer(request, 503, str(error), {"Retry-After": "5"})
    return _answer(request, 400, str(error))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = str(error.detail)
    if error.status_code == 404 and message == "Not Found":
        message = f"there is no page {request.url.path}; start again at /"
    return _answer(request, error.status_code, message, dict(error.headers or {}))


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    value = repr(first.get("input"))[:200]
    if not wants_json(request):
        return _answer(request, 422, f"{where}: {first['msg']} (got {value}); go back and correct it")
    body = {
        "error": f"{where}: {first['msg']}",
        "value": value,
        "what_to_do": "correct the field and send it again",
    }
    return JSONResponse(body, 422)
