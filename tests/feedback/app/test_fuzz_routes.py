"""Every address of the app, pages and forms and API, answers whatever is put in its path, query and fields.

No status above 499, as owner, labeler and nobody, on SQLite and PostgreSQL: they differ in what they refuse,
such as NUL in a text or a number beyond 64 bits.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from accord.feedback.app.main import create_app
from accord.feedback.labeling import people, queue
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.people import Role
from accord.types import Completion, Prompt
from accord.workspace import Workspace
from labeling_app import Clock, Project, acknowledge, addresses

ODD = (
    "", " ", "\x00", "a\x00b", "\x1b[0m", "\ud800", "\u202e", "\u2028", "é", "e\u0301", "😀", "%", "%2e",
    "..", "'", '"><b>', "\\", "9" * 40, "-1", "0", "0.5", "1e999", "nan", "inf", "-inf", "2147483648",
    "9223372036854775808", "true", "null", "[]", "{}", "x" * 3000, "owner", "labeler", "pair", "events",
    "trl-preference", "otto", "http://[", "https://x", "label.created", "csrf",
)  # fmt: skip
"""What forms and addresses seldom hold; TASK, PROMPT and ANSWER stand for ids that there are."""
WORST = ("a\x00b", "\ud800")
"""Put everywhere at once, in each address."""
COMMON = ("tiers", "fails", "note", "name", "password", "next", "id", "key", "version", "limit", "state")
VALUES = st.sampled_from([*ODD, "TASK", "PROMPT", "ANSWER"])
JSON = st.recursive(
    VALUES | st.integers() | st.none() | st.booleans() | st.floats(), lambda each: st.lists(each, max_size=2)
)
SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck), "phases": [Phase.generate]}


@pytest.fixture
def project(database_url: str, tmp_path: Path):
    workspace = Workspace.create(tmp_path / "w", database_url)
    answers = [Completion(f"answer {n}") for n in range(3)]
    workspace.store.add_groups([(Prompt.from_text(f"question {n}?"), answers) for n in range(8)])
    app = create_app(workspace, LabelConfig(), Clock(1_800_000_000.0))
    app.state.desk.acts.burst = float("inf")
    queue.fill(workspace.store, LabelConfig())  # and no threads beside the requests
    yield Project(workspace, app, app.state.desk.clock)
    workspace.store.close()


def fields(app: Any) -> list[str]:
    """The names of all fields that some route reads, as far as its signature tells, and some more."""
    found: set[str] = set(COMMON)

    def look(routes: Any) -> None:
        for route in routes:
            if getattr(route, "original_router", None) is not None:
                look(route.original_router.routes)
            elif hasattr(route, "endpoint"):
                found.update(inspect.signature(route.endpoint).parameters)

    look(app.routes)
    return sorted(found - {"request", "at", "session", "self"})


def shape(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """What one request holds besides its address."""
    pairs = st.lists(st.tuples(st.sampled_from(names), VALUES), max_size=6)
    return st.fixed_dictionaries(
        {
            "path": st.lists(VALUES, min_size=2, max_size=2),
            "query": pairs,
            "form": pairs,
            "json": st.dictionaries(st.sampled_from(names), JSON, max_size=6),
            "kind": st.sampled_from(["form", "form", "json", "raw"]),
        }
    )


def as_bytes(value: str) -> str:
    return quote(value.encode("utf-8", "surrogatepass"), safe="")


def send(client: TestClient, method: str, pattern: str, case: dict, ids: dict[str, str]) -> None:
    """One request; the client raises what the app did not answer."""

    def text(value: Any) -> Any:
        if isinstance(value, list):
            return [text(each) for each in value]
        return ids.get(value, value) if isinstance(value, str) else value

    def coded(pairs: list[tuple[str, str]]) -> str:
        return "&".join(f"{name}={as_bytes(text(value))}" for name, value in pairs)

    parts = iter(case["path"])
    address = re.sub(r"\{\w+\}", lambda _: as_bytes(text(next(parts))) or "%00", pattern)
    csrf = getattr(client, "csrf", "")
    headers = {"X-CSRF-Token": csrf} if csrf else {}
    if case["kind"] == "form":
        headers["content-type"] = "application/x-www-form-urlencoded"
        body = coded([*case["form"], ("csrf", csrf)])
    elif case["kind"] == "json":
        headers["content-type"] = "application/json"
        sent = {name: text(value) for name, value in case["json"].items()}
        body = json.dumps(sent)  # NaN and Infinity too, as careless programs write them
    else:
        headers["content-type"] = "application/json"
        body = b"\xff\xfe\x00{"
    got = client.request(method, f"{address}?{coded(case['query'])}", content=body, headers=headers)
    assert got.status_code < 500, (method, address, case, got.text)


def ways_in(project: Project) -> list[TestClient]:
    """An owner, a labeler and nobody, by page and by token."""
    return [
        project.browser("olga", Role.OWNER),
        project.browser("ann"),
        project.browser(),
        project.program("olga"),
        project.program("ann"),
    ]


def real(project: Project, labeler: TestClient) -> dict[str, str]:
    """Ids that there are."""
    task = labeler.post("/api/v1/tasks/claim").json()
    prompt = next(iter(project.store.prompts())).id
    return {"TASK": task["id"], "ANSWER": task["completions"][0]["id"], "PROMPT": prompt}


def fuzz(clients: list, route: tuple[str, str], amount: settings, cases: Any, ids: dict[str, str]) -> None:
    """Each of the clients sends the same to one route."""

    @amount
    @given(cases)
    def answers(case: dict) -> None:
        for client in clients:
            send(client, *route, case, ids)

    answers()


def check(project: Project, examples: int) -> None:
    project.browser("olga", Role.OWNER)  # each person with their role
    ann = acknowledge(project, project.program("ann"))
    people.add_person(project.store, "otto", Role.OWNER, 1.0)  # so that one owner may go
    ids, names = real(project, ann), fields(project.app)
    routes = list(addresses(project.app.routes))
    assert len(routes) > 60
    for method, pattern in routes:
        clients = ways_in(project)  # anew: a log-out is among the routes
        own = clients[3:] if pattern.startswith("/api/v1") else clients[:3]
        for value in WORST:
            pairs = [(name, value) for name in names]
            same = {"path": [value] * 2, "query": pairs, "form": pairs, "json": dict(pairs), "kind": "json"}
            for client in own:
                send(client, method, pattern, same, ids)
        fuzz(own, (method, pattern), settings(max_examples=examples, **SETTINGS), shape(names), ids)
    assert project.store.verify() == []


def test_every_address_answers_whatever_is_sent(project: Project) -> None:
    check(project, examples=2)


@pytest.mark.slow
def test_every_address_answers_at_length(project: Project) -> None:
    check(project, examples=100)
