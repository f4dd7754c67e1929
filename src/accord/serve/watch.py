"""The live page of a training run: its figures, samples and verdicts as they come. Loads no torch.

The server reads the run's files and its row of the store, and writes nothing. It runs in a thread of its own
beside the training, or in another process; the training never waits for it.

    GET /                the page
    GET /events          server-sent events: ``steps``, ``state``, and ``bye`` when the server stops
    GET /samples/STEP    the kept rollouts of a step, as JSON

``steps`` holds ``from`` (how many steps stay as they were) and the steps after them, so that a viewer who
was away goes on where they were, and one whose run was resumed drops what is no longer so.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread
import uvicorn
from fastapi import FastAPI, Request
from fastapi.templating import Jinja2Templates
from pydantic import Field
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles

from accord.config import Config
from accord.errors import AccordError
from accord.feedback.app import deps
from accord.feedback.app.security import Guard
from accord.serve.feed import Feed, Step, after
from accord.serve.listen import HERE, address_of, listen
from accord.store.lineage import Run, Status

PAGES = Path(__file__).parent
LOOK = 0.5
"""Seconds between two looks at the files."""
LOOK_STATE = 2.0
"""...and at the run's row in the store."""
BEAT = 10.0
"""Seconds after which a viewer is told the state though nothing has changed."""
AT_ONCE = 200
"""Steps of one event."""
GRACE = 2
"""Seconds that viewers have to hear of the end."""
log = logging.getLogger("accord.watch")


class WatchConfig(Config):
    """Where the live page of training listens."""

    host: str = "127.0.0.1"
    """Address the page listens on; who reaches it reads prompts and completions without signing in."""
    port: int = Field(8090, ge=0, le=65535)
    """Port the page listens on; 0 for any that is free."""


@dataclass
class Live:
    """What all viewers of a run share: its feed, its state, and a bell that rings when either changes."""

    look: Callable[[], Run]
    """The run as it stands."""
    run: Run
    feed: Feed
    closing: bool = False
    bell: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.AbstractEventLoop | None = None
    state: dict[str, Any] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, deep: bool) -> bool:
        """Look at the files, and where ``deep`` at the store; whether anything is new. Runs in a thread."""
        with self.lock:
            new = self.feed.read()
            if deep:
                try:
                    self.run = self.look()
                except AccordError as error:
                    log.warning("the run's state cannot be read: %s", error)
            before, self.state = self.state, self.told()
            return new or before != self.state

    def told(self) -> dict[str, Any]:
        """The run's state, for the page."""
        metrics, steps = self.run.metrics, self.feed.steps
        return {
            "status": self.run.status.value,
            "end": metrics.get("end") or "",
            "reason": metrics.get("reason") or metrics.get("error") or "",
            "kept": metrics.get("kept"),
            "step": len(steps),
            "steps": steps[-1].row.get("steps") if steps else self.run.config.get("steps"),
            "problem": self.feed.problem,
        }

    def pulse(self) -> dict[str, Any]:
        """The state with what changes by itself."""
        quiet = self.feed.quiet() if self.run.status is Status.RUNNING else None
        return {**self.state, "seconds_a_step": self.feed.seconds_a_step(), "quiet": quiet}

    def ring(self) -> None:
        """Wake everybody who waits."""
        rung, self.bell = self.bell, asyncio.Event()
        rung.set()

    def close(self) -> None:
        """Tell everybody how the run stands, and that there is no more. Called from another thread."""
        self.read(True)
        self.closing = True
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self.ring)


# -- the app -----------------------------------------------------------------------------------


def create_app(look: Callable[[], Run], config: WatchConfig) -> FastAPI:
    """The page of the run that ``look`` gives; its figures are in ``training/`` of the run's folder."""
    run = look()
    live = Live(look, run, Feed(run.path / "training"))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        live.loop = asyncio.get_running_loop()
        await anyio.to_thread.run_sync(live.read, True)
        task = asyncio.create_task(_follow(live))
        yield
        task.cancel()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.live = live
    app.add_middleware(Guard)
    if config.host in HERE:  # else a page elsewhere could have its own name point here and read along
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*HERE, "[::1]"])
    app.mount("/static/watch", StaticFiles(directory=PAGES / "static"), name="watch")
    app.mount("/static", StaticFiles(directory=deps.HERE / "static"), name="static")
    _routes(app, live)
    return app


async def _follow(live: Live) -> None:
    looked = time.monotonic()
    while True:
        await asyncio.sleep(LOOK)
        deep = time.monotonic() - looked >= LOOK_STATE
        looked = time.monotonic() if deep else looked
        try:
            if await anyio.to_thread.run_sync(live.read, deep):
                live.ring()
        except Exception:  # a follower that died would leave every page standing still
            log.exception("the run's files cannot be read; trying again")


def _routes(app: FastAPI, live: Live) -> None:
    # base.html is the labelling app's, so that the house's pages look alike
    templates = Jinja2Templates([PAGES / "templates", deps.HERE / "templates"])
    templates.env.globals.update(static=deps.static)

    @app.get("/")
    async def page(request: Request) -> Response:
        config = {name: value for name, value in live.run.config.items() if value not in (None, "")}
        context = {"run": live.run, "settings": config, "session": None}
        return templates.TemplateResponse(request, "watch.html", context)

    @app.get("/events")
    async def events(request: Request) -> Response:
        known = request.headers.get("last-event-id") or request.query_params.get("after", "")
        return StreamingResponse(stream(live, known), media_type="text/event-stream")

    @app.get("/samples/{step}")
    def samples(step: int) -> Response:  # in a thread: it reads a file
        return JSONResponse(live.feed.samples(step))


async def stream(live: Live, known: str = "") -> AsyncIterator[str]:
    """A viewer's events; ``known`` is the mark of the last step they have."""
    steps = live.feed.steps
    sent = after(steps, known)
    yield "retry: 2000\n\n"
    yield _steps(steps[sent : sent + AT_ONCE], sent)  # what stays, said even where nothing is new
    sent = min(len(steps), sent + AT_ONCE)
    state: dict[str, Any] | None = None
    beat = 0.0
    while True:
        bell, closing = live.bell, live.closing
        if live.feed.steps is not steps:  # the run began anew
            steps, sent = live.feed.steps, 0
            yield _steps(steps[:AT_ONCE], 0)
            sent = min(len(steps), AT_ONCE)
        while sent < len(steps):
            yield _steps(steps[sent : sent + AT_ONCE], sent)
            sent = min(len(steps), sent + AT_ONCE)
        if state != live.state or time.monotonic() - beat >= BEAT or closing:
            state, beat = live.state, time.monotonic()
            yield _event("state", live.pulse())
        if closing:
            yield _event("bye", {})
            return
        try:
            await asyncio.wait_for(bell.wait(), BEAT)
        except TimeoutError:
            continue


def _steps(steps: list[Step], at: int) -> str:
    told = [{"row": step.row, "verdict": step.verdict} for step in steps]
    return _event("steps", {"from": at, "steps": told}, steps[-1].mark if steps else "")


def _event(kind: str, data: dict[str, Any], mark: str = "") -> str:
    name = f"id: {mark}\n" if mark else ""
    return f"{name}event: {kind}\ndata: {json.dumps(data, allow_nan=False)}\n\n"


# -- serving -----------------------------------------------------------------------------------


class Server:
    """The page of a run on a socket of its own, in a thread. A port that is taken is an error at once."""

    def __init__(self, config: WatchConfig) -> None:
        self.config = config
        self.socket = listen(config.host, config.port)
        self.address = address_of(config.host, self.socket.getsockname()[1])

    def start(self, look: Callable[[], Run]) -> None:
        """Serve the run that ``look`` gives, until :meth:`stop`; returns when it answers."""
        self.app = create_app(look, self.config)
        settings = uvicorn.Config(
            self.app,
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self.socket]}, name="accord-watch", daemon=True
        )
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)

    def stop(self) -> None:
        """Tell the viewers how the run stands at last, and end; nothing where it has ended."""
        if not self._thread.is_alive():
            return
        self.app.state.live.close()
        self._server.should_exit = True
        self._thread.join(GRACE + 5.0)
        self.socket.close()

    def wait(self, stopped: threading.Event | None = None) -> None:
        """Until the server ends, or ``stopped`` is set."""
        while self._thread.is_alive() and not (stopped and stopped.is_set()):
            self._thread.join(0.2)
