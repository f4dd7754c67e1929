"""A growing run, its page on a real port, and a real browser before it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from accord.serve import watch
from accord.serve.watch import Server, WatchConfig
from labeling_browser import DESK, chromium_browser
from watched_run import GrowingRun


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with chromium_browser() as browser:
        yield browser


@pytest.fixture
def run(tmp_path: Path) -> GrowingRun:
    return GrowingRun(tmp_path / "align-3")


@pytest.fixture
def served(run: GrowingRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(watch, "LOOK", 0.05)
    server = Server(WatchConfig(port=0))
    server.start(run.look)
    yield server
    server.stop()


@pytest.fixture
def visit(chromium: Browser, served: Server) -> Iterator[Callable[..., Page]]:
    """Opens the page in a context of its own: visit(viewport=PHONE, color_scheme="dark")."""
    contexts = []

    def enter(**settings) -> Page:
        context = chromium.new_context(**{"viewport": DESK, "reduced_motion": "reduce", **settings})
        context.set_default_timeout(20_000)
        contexts.append(context)
        return context.new_page()

    yield enter
    for context in contexts:
        context.close()
