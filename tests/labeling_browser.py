"""The labelling app on a real port, and people with a real browser before it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from accord.feedback.app.main import create_app
from accord.feedback.labeling import people
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.people import Role
from accord.judgements import Ranking, Remark
from accord.types import Completion, Prompt
from accord.workspace import Workspace

CHROMIUM = os.environ.get("ACCORD_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
SMALL_PHONE = {"width": 360, "height": 740}
Prompts = Sequence[tuple[Prompt, Sequence[str]]]
# nothing but what is asked more than once, so that each task is a fresh one
PLAIN = {"overlap": 1, "adaptive": False, "repeat_share": 0.0, "gold_share": 0.0}


_RUNNING: list[Browser] = []


@contextmanager
def chromium_browser() -> Iterator[Browser]:
    """One Chromium for many contexts; skips, with the reason, where there is none.

    Playwright runs once in a process: where two folders of tests fall to one worker, they share it.
    """
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH (apt install chromium, or set ACCORD_CHROMIUM)")
    if _RUNNING:
        yield _RUNNING[0]
        return
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        _RUNNING.append(browser)
        yield browser
        _RUNNING.clear()
        browser.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


class Live:
    """The app over a workspace of its own, on a port that stays the same when it is stopped and started."""

    def __init__(
        self, folder: Path, prompts: Sequence[tuple[Prompt, Sequence[str]]], **settings: Any
    ) -> None:
        self.workspace = Workspace.create(folder)
        self.store = self.workspace.store
        self.store.add_groups([(prompt, [Completion(text) for text in texts]) for prompt, texts in prompts])
        self.config = LabelConfig(**{**PLAIN, **settings})
        self.app = create_app(self.workspace, self.config)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        self.server = _Server(
            uvicorn.Config(self.app, port=self.port, log_level="error", timeout_graceful_shutdown=1)
        )
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        assert self.server.up.wait(20), "the server did not start"

    def stop(self) -> None:
        """As when the machine goes down: no answers, no port."""
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()

    def close(self) -> None:
        self.stop()
        self.store.close()

    def sign_in(
        self, context: BrowserContext, name: str = "ada", role: Role = Role.LABELER, read: bool = True
    ) -> None:
        """Make the context a person's, who has read the guidelines unless told otherwise."""
        now = self.app.state.desk.clock()
        if name not in {each.name for each in people.people(self.store)}:
            people.add_person(self.store, name, role, now)
        if read:
            people.acknowledge(self.store, name, self.workspace.guidelines()[0], now)
        secret = people.open_session(self.store, people.person(self.store, name), now)
        context.add_cookies([{"name": "accord_session", "value": secret, "url": self.url}])

    def rankings(self) -> list[Ranking]:
        """The rankings that stand."""
        return list(self.store.rankings())

    def remarks(self) -> list[Remark]:
        return list(self.store.remarks())


def watch(page: Page, url: str) -> list[str]:
    """Complaints of the page from now on: errors, messages on the console, requests to elsewhere."""
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("console", lambda message: said.append(f"console: {message.text}"))
    own = urlsplit(url).netloc
    page.on(
        "request",
        lambda request: urlsplit(request.url).netloc == own or said.append(f"request: {request.url}"),
    )
    return said


def ready(page: Page) -> None:
    """Wait until the task page's scripts are at work."""
    page.wait_for_selector("#task[data-ready]")


def open_task(page: Page, live: Live) -> str:
    """Open the task page; returns the assignment's id."""
    page.goto(f"{live.url}/label")
    ready(page)
    return assignment_of(page)


def assignment_of(page: Page) -> str:
    return page.evaluate("JSON.parse(document.getElementById('facts').textContent).assignment")


def shown_of(page: Page) -> list[str]:
    """Ids of the completions in the order on the screen."""
    return page.eval_on_selector_all(".answer", "cards => cards.map(card => card.dataset.id)")


def next_task(page: Page, before: str) -> None:
    """Wait until another page than that of the assignment ``before`` is there, ready or idle."""
    page.wait_for_function(
        """before => {
            const facts = document.getElementById('facts');
            if (!facts || JSON.parse(facts.textContent).assignment === before) return false;
            return document.getElementById('idle') || document.querySelector('#task[data-ready]');
        }""",
        arg=before,
    )


def letters(text: str) -> list[str]:
    """The capital letters that stand alone in a sentence: answers' names."""
    return re.findall(r"\b[A-I]\b", text)
