"""The labelling app: pages for labelers, reviewers and the owner, and the API, in one process."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

import accord
from accord.feedback.app import api, auth, label, owner
from accord.feedback.app.background import Every, Filler
from accord.feedback.app.deps import HERE, Desk, make_templates
from accord.feedback.app.problems import handle_errors
from accord.feedback.app.security import Guard
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.webhooks import deliver
from accord.workspace import Workspace

THREADS = 12
"""Requests under way at once; fewer than the database's connections (15), so that none waits in vain."""


def create_app(workspace: Workspace, config: LabelConfig, clock: Callable[[], float] = time.time) -> FastAPI:
    """The app over one workspace. Starting it makes tasks of all prompts that have completions."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        filler = Filler(workspace.store, config)
        await anyio.to_thread.run_sync(filler)
        with (
            Every(5.0, filler, "accord-tasks"),
            Every(2.0, lambda: deliver(workspace.store, clock(), clock), "accord-webhooks"),
        ):
            yield

    app = FastAPI(
        title="accord labelling app",
        version=accord.__version__,
        description=api.DESCRIPTION,
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere; ours is api.docs_page
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=lifespan,
    )
    app.state.desk = Desk(workspace, config, make_templates(), clock)
    app.state.door = auth.Doorkeeper()
    app.add_middleware(Guard)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.include_router(auth.router)
    app.include_router(label.router)
    app.include_router(owner.router)
    app.include_router(api.docs)
    app.include_router(api.router)
    handle_errors(app)
    return app
