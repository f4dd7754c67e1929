"""A small project with its app, and people who use it through real requests."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from starlette.testclient import TestClient

from accord.feedback.labeling import people
from accord.feedback.labeling.people import Role
from accord.types import Completion, Origin, Prompt
from accord.workspace import Workspace

PASSWORD = "correct horse battery"
ORIGIN = Origin("secret-model-7b", "ab" * 8, "cd" * 8, "<|rendered|>", (1, 7), {"temperature": 0.7}, 11)


class Clock:
    """Time that passes when the test says so."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Project:
    """A workspace, its app, and a way in for each role."""

    workspace: Workspace
    app: object
    clock: Clock

    @property
    def store(self):
        return self.workspace.store

    def browser(self, name: str | None = None, role: Role = Role.LABELER) -> "Browser":
        """A browser; signed in as ``name``, who is made if need be."""
        browser = Browser(self.app, base_url="http://desk:8080", follow_redirects=False)
        if name is not None:
            if name not in {each.name for each in people.people(self.store)}:
                people.add_person(self.store, name, role, self.clock())
            secret = people.open_session(self.store, people.person(self.store, name), self.clock())
            browser.cookies.set("accord_session", secret)
            found = people.session(self.store, secret, self.clock())
            browser.csrf = found.csrf
            browser.headers["accept"] = "text/html"
        return browser

    def program(self, name: str, role: Role = Role.LABELER) -> TestClient:
        """A program with a token of ``name``'s, who is made if need be."""
        if name not in {each.name for each in people.people(self.store)}:
            people.add_person(self.store, name, role, self.clock())
        token = people.issue_token(self.store, name, self.clock())
        headers = {"authorization": f"Bearer {token}"}
        return TestClient(self.app, base_url="http://desk:8080", follow_redirects=False, headers=headers)


class Browser(TestClient):
    """A client with cookies that repeats its session's CSRF token, as the app's pages do."""

    csrf = ""

    def send_json(self, path: str, body: object, csrf: str | None = None, **headers: str):
        token = self.csrf if csrf is None else csrf
        return self.post(path, json=body, headers={"X-CSRF-Token": token, "accept": "*/*", **headers})

    def send_form(self, path: str, csrf: str | None = None, **fields: str):
        token = self.csrf if csrf is None else csrf
        return self.post(path, data={"csrf": token, **fields})


def hidden(page: str, name: str) -> str:
    """The value of a hidden field of a page."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, f"no field {name}"
    return found.group(1)


def fill_workspace(folder: Path, prompts: int = 6, completions: int = 4) -> Workspace:
    workspace = Workspace.create(folder)
    workspace.store.add_groups(
        [
            (
                Prompt.from_text(f"question {i}?", meta={"gold": "secret-meta"}),
                [
                    Completion(f"answer {i}.{k}", (3, 4 + k), (-0.123456, -2.5), origin=ORIGIN)
                    for k in range(completions)
                ],
            )
            for i in range(prompts)
        ]
    )
    return workspace


def acknowledge(project: Project, program: TestClient) -> TestClient:
    """The program, after it has acknowledged the guidelines."""
    version = program.get("/api/v1/guidelines").json()["version"]
    assert program.post("/api/v1/guidelines/acknowledge", json={"version": version}).status_code == 200
    return program


def addresses(routes, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every method and path pattern that the app answers, those left out of the API's schema too."""
    for route in routes:
        included = getattr(route, "original_router", None)  # newer versions of FastAPI keep routers nested
        if included is not None:
            yield from addresses(included.routes, prefix + route.include_context.prefix)
        for method in sorted(getattr(route, "methods", None) or ()):
            yield method, prefix + route.path
