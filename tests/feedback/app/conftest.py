"""A small project with its app, started as a server starts it."""

import pytest
from starlette.testclient import TestClient

from accord.feedback.app.main import create_app
from accord.feedback.labeling import people
from accord.feedback.labeling.config import LabelConfig
from labeling_app import Clock, Project, fill_workspace


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
