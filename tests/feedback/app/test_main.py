"""The app as a whole: what starts with it, what every answer carries, and that torch stays out."""

import json
import re
import sqlite3
import subprocess
import sys
import time

import anyio.to_thread
import pytest
from fastapi import APIRouter
from sqlalchemy import event
from starlette.testclient import TestClient

from accord.errors import DataError, StoreError
from accord.feedback.app import background
from accord.feedback.app.background import Every, Filler
from accord.feedback.app.main import THREADS, create_app
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.people import Role
from accord.feedback.labeling.queue import fill
from accord.types import Completion, Prompt
from labeling_app import Clock, Project, addresses, fill_workspace


def until(condition, seconds=20.0):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


def add(workspace, text: str) -> None:
    workspace.store.add_groups([(Prompt.from_text(text), [Completion("yes"), Completion("no")])])


def test_starting_makes_tasks_of_what_is_there(project):
    assert fill(project.store, LabelConfig()) == 0, "the start made all six"


def test_new_completions_become_tasks_while_the_app_runs(project, monkeypatch):
    filler = Filler(project.store, LabelConfig())
    assert filler() == 0
    add(project.workspace, "later?")
    assert filler() == 1
    filled = []
    monkeypatch.setattr(background, "fill", lambda *given: filled.append(given) or 0)
    assert filler() == 0
    assert filled == [], "where nothing came, nobody's turn to write is taken"


def test_a_failure_in_the_background_is_tried_again():
    calls = []

    def act():
        calls.append(1)
        if len(calls) < 3:
            raise RuntimeError("for the moment")

    with Every(0.001, act, "test"):
        until(lambda: len(calls) >= 5)
    stopped = len(calls)
    time.sleep(0.02)
    assert len(calls) == stopped


def test_threads_stay_below_the_databases_connections(project):
    @project.app.get("/threads")
    async def threads() -> int:
        return int(anyio.to_thread.current_default_thread_limiter().total_tokens)

    with TestClient(project.app) as client:
        assert client.get("/threads").json() == THREADS
    pool = project.store.database.engine.pool
    assert pool.size() + pool._max_overflow > THREADS


def test_every_answer_carries_the_security_headers(project):
    browser = project.browser("ann")
    static = "/static/base.css"
    for path in ("/login", "/label", "/nothing", "/api/v1/me", "/api/docs", "/join/x", static):
        headers = browser.get(path).headers
        assert "script-src" not in headers["content-security-policy"]
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert headers.get("cache-control") == ("no-cache" if path == static else "no-store")


def test_no_page_holds_an_inline_script_or_style(project):
    browser = project.browser("olga", role=Role.OWNER)
    pages = 0
    for method, path in addresses(project.app.routes):
        if method != "GET" or "{" in path:
            continue
        page = browser.get(path)
        if not page.headers.get("content-type", "").startswith("text/html"):
            continue
        pages += 1
        assert not re.search(r"<script(?![^>]*\b(src|type=\"application/json\"))", page.text), path
        assert not re.search(r"<[^>]*\s(style|on\w+)=", page.text), path
        assert "<style" not in page.text, path
    assert pages >= 5


# -- requests that a page of the app did not make ----------------------------------------------


def unsafe(project) -> list[tuple[str, str]]:
    return [
        (method, path.replace("{assignment_id}", "0" * 32))
        for method, path in addresses(project.app.routes)
        if method not in ("GET", "HEAD") and not path.startswith(("/api/", "/login", "/join"))
    ]


def test_every_unsafe_address_of_a_session_asks_for_its_token(project):
    browser, other = project.browser("ann", role=Role.OWNER), project.browser("bob", role=Role.OWNER)
    asked = unsafe(project)
    assert len(asked) >= 7
    for method, path in asked:
        for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": other.csrf},
                        {"X-CSRF-Token": "ünsafe".encode("latin-1")}):  # fmt: skip
            refused = browser.request(method, path, json={}, headers={**headers, "accept": "*/*"})
            assert refused.status_code == 403, (method, path, headers)
            assert "another session" in refused.json()["error"]
        form = browser.request(method, path, data={"csrf": other.csrf})
        assert form.status_code == 403, (method, path)
        past = browser.request(method, path, json={}, headers={"X-CSRF-Token": browser.csrf})
        assert past.status_code != 403, (method, path)
        if path == "/logout":
            browser = project.browser("ann")


def test_nobody_gets_in_without_a_session(project):
    browser = project.browser()
    for method, path in unsafe(project):
        assert browser.request(method, path, json={}, headers={"accept": "*/*"}).status_code == 401
    page = browser.get("/label?x=1", headers={"accept": "text/html"})
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=%2Flabel%3Fx%3D1")
    partial = browser.get("/label", headers={"accept": "text/html", "HX-Request": "true"})
    assert (partial.status_code, partial.headers["hx-redirect"]) == (401, "/login")
    browser.cookies.set("accord_session", "invented")
    assert browser.get("/label").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://other.desk:8080"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
    ],
)
def test_a_page_of_another_site_can_send_nothing(project, headers):
    """Not even with the right token, and not to the log-in, where it would sign its reader in as another."""
    browser = project.browser("ann")
    for path in ("/label/back", "/login", "/join/x", "/api/v1/stored"):
        refused = browser.post(path, json={}, headers={"X-CSRF-Token": browser.csrf, **headers})
        assert (refused.status_code, "another site" in refused.json()["error"]) == (403, True)
    assert browser.get("/login", headers=headers).status_code == 200, "a link from elsewhere is no attack"


def test_a_body_beyond_measure_is_refused(project):
    browser = project.browser("ann")
    headers = {"X-CSRF-Token": browser.csrf, "content-type": "application/json"}
    said, unsaid = b"x" * 40_000_000, (b"x" * 1_000_000 for _ in range(40))
    for content in (said, unsaid):
        refused = browser.post("/label/stored", content=content, headers=headers)
        assert refused.status_code == 413
        assert refused.json()["what_to_do"] == "send it in parts"


# -- errors ------------------------------------------------------------------------------------


def test_errors_are_pages_for_readers_and_json_for_programs(project):
    router = APIRouter()

    @router.get("/refused")
    def refused():
        raise DataError("the value 7 is odd; send an even one")

    @router.get("/unreachable")
    def unreachable():
        raise StoreError("database gone; try again") from OSError("gone")

    project.app.include_router(router)
    browser = project.browser("ann")
    page = browser.get("/refused")
    assert page.status_code == 400
    assert page.headers["content-type"].startswith("text/html")
    assert "the value 7 is odd" in page.text
    assert "send an even one" in page.text
    program = browser.get("/refused", headers={"accept": "application/json"})
    assert program.json() == {"error": "the value 7 is odd", "what_to_do": "send an even one"}
    away = browser.get("/unreachable")
    assert (away.status_code, away.headers["retry-after"]) == (503, "5")
    lost = browser.get("/nothing")
    assert (lost.status_code, "there is no page /nothing" in lost.text) == (404, True)


def test_a_database_that_is_locked_by_another_program_is_worth_another_try(project):
    browser = project.browser("ann")
    event.listen(
        project.store.database.engine, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout = 1")
    )
    project.store.close()
    version = project.workspace.guidelines()[0]
    other = sqlite3.connect(project.workspace.path / "accord.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused = browser.send_form("/guidelines/acknowledge", version=version)
    other.execute("ROLLBACK")
    other.close()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert browser.send_form("/guidelines/acknowledge", version=version).status_code == 303


# -- torch -------------------------------------------------------------------------------------


def test_the_app_serves_without_torch(tmp_path):
    workspace = fill_workspace(tmp_path / "w", prompts=1)
    workspace.store.close()
    code = (
        "import sys\n"
        "from starlette.testclient import TestClient\n"
        "from accord.cli import VERBS\n"
        "from accord.feedback.app.main import create_app\n"
        "from accord.feedback.labeling.config import LabelConfig\n"
        "from accord.workspace import Workspace\n"
        "VERBS['label'](['-w', sys.argv[1]])\n"
        "with TestClient(create_app(Workspace.open(sys.argv[1]), LabelConfig())) as client:\n"
        "    codes = [client.get(p).status_code for p in ('/login', '/api/docs', '/api/v1/me')]\n"
        "print(codes, [name for name in ('torch', 'transformers') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "w")], capture_output=True, text=True)
    assert done.stdout.strip() == "[200, 200, 401] []", done.stderr


def test_two_apps_on_one_workspace_serve_the_same_people(tmp_path, cheap_hashes):
    """A restart, or a second process: sessions are in the database."""
    workspace = fill_workspace(tmp_path / "w")
    clock = Clock(1.0)
    first, second = (create_app(workspace, LabelConfig(), clock) for _ in range(2))
    browser = Project(workspace, first, clock).browser("ann")
    other = TestClient(second, cookies=dict(browser.cookies), follow_redirects=False)
    assert other.get("/guidelines", headers={"accept": "text/html"}).status_code == 200
    assert json.loads(other.get("/api/openapi.json").text)["paths"]
