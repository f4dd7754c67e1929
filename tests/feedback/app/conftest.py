"""A small project with its app, by requests and in a real browser."""

import pytest
from starlette.testclient import TestClient

from accord.feedback.app.main import create_app
from accord.feedback.labeling import people
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.people import Role
from labeling_app import Clock, Project, fill_workspace
from labeling_browser import DESK, Live, chromium_browser


@pytest.fixture
def cheap_hashes(monkeypatch):
    """A password's hash costs nothing; its full cost is tested in test_people."""
    monkeypatch.setitem(people.SCRYPT, "n", 16)
    monkeypatch.setitem(people.SCRYPT, "p", 1)


@pytest.fixture
def project(tmp_path, cheap_hashes):
    workspace = fill_workspace(tmp_path / "w")
    clock = Clock(1_800_000_000.0)
    app = create_app(workspace, LabelConfig(), clock)
    with TestClient(app):  # start and stop, as a server does
        yield Project(workspace, app, clock)
    workspace.store.close()


@pytest.fixture(scope="session")
def chromium():
    """A real Chromium; each test opens contexts of its own in it."""
    with chromium_browser() as browser:
        yield browser


@pytest.fixture
def live(tmp_path):
    """Makes apps on real ports: live([(prompt, texts), ...], partial=True, ...)."""
    made = []

    def start(prompts, **settings):
        made.append(Live(tmp_path / f"live-{len(made)}", prompts, **settings))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture
def visit(chromium):
    """Opens a page of a context of its own: visit(live, name="ada", viewport=PHONE, ...)."""
    contexts = []

    def enter(live, name="ada", role=Role.LABELER, read=True, **settings):
        context = chromium.new_context(**{"viewport": DESK, "reduced_motion": "reduce", **settings})
        context.set_default_timeout(20_000)
        contexts.append(context)
        live.sign_in(context, name, role, read)
        return context.new_page()

    yield enter
    for context in contexts:
        context.close()
