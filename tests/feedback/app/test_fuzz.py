"""Whatever is sent, the app answers and does not break: no status above 499, and nothing half stored.

The API by its own schema (schemathesis), and the addresses of a task, held by its labeler, by bodies of
any shape and by bodies that are nearly right.
"""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from starlette.testclient import TestClient

from accord.feedback.app.main import create_app
from accord.feedback.labeling import people
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.people import Role
from labeling_app import Clock, Project, acknowledge, fill_workspace

RELAXED = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.explicit, Phase.generate],
}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    """A project for all examples of this module, with nothing that slows a flood down."""
    workspace = fill_workspace(tmp_path_factory.mktemp("fuzz") / "w", prompts=40)
    app = create_app(workspace, LabelConfig(), Clock(1_800_000_000.0))
    app.state.desk.acts.burst = float("inf")
    with TestClient(app):
        yield Project(workspace, app, app.state.desk.clock)
    workspace.store.close()


@pytest.fixture(scope="module")
def described(fuzzed):
    return schemathesis.openapi.from_asgi("/api/openapi.json", fuzzed.app)


@pytest.fixture(scope="module")
def token(fuzzed):
    """An owner's: it opens every operation."""
    acknowledge(fuzzed, fuzzed.program("olga", Role.OWNER))
    people.add_person(fuzzed.store, "otto", Role.OWNER, 1.0)  # so that olga can be paused, and is not alone
    return people.issue_token(fuzzed.store, "otto", 1.0)


def operations(described) -> list:
    return [found.ok() for found in described.get_all_operations()]


def fuzz(operation, token: str, examples: int) -> None:
    """Send what the operation's schema allows, and what it forbids."""

    @settings(max_examples=examples, **RELAXED)
    @given(operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def answers(case):
        answer = case.call(headers={"authorization": f"Bearer {token}"})
        assert answer.status_code < 500, (case.as_curl_command(), answer.text)
        if answer.status_code >= 400:
            assert set(answer.json()) >= {"error", "what_to_do"}

    answers()


def test_the_api_answers_whatever_its_schema_allows_or_forbids(fuzzed, described, token):
    found = operations(described)
    assert len(found) > 20
    for operation in found:
        fuzz(operation, token, examples=6)
    assert people.person_of_token(fuzzed.store, token, 1.0), "the token opened the doors to the end"


@pytest.mark.slow
def test_the_api_answers_at_length(described, token):
    for operation in operations(described):
        fuzz(operation, token, examples=300)


# -- the addresses of a task -------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20), st.sampled_from(["\x00", "\ud800", "k1", "rank", "0" * 32]),
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS, lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=8), each, max_size=4)
)


@st.composite
def nearly_right(draw):
    """An answer with some of its fields bent; ids stand for their place on the screen until it is sent."""
    tiers = [[0], [1, 2]]
    right = {"key": draw(st.uuids()).hex, "tiers": tiers, "fails": [3], "note": "", "seconds": 3.0,
             "guidelines": "VERSION", "revision": 1, "draft": {"tray": [0]}, "reason": "why"}  # fmt: skip
    for name in draw(st.lists(st.sampled_from([*right, "strength", "thumbs", "edited", "odd"]), max_size=3)):
        right[name] = draw(ANYTHING)
    for name in draw(st.lists(st.sampled_from(list(right)), max_size=2)):
        right.pop(name, None)
    return right


def placed(value, ids):
    """Places on the screen turned into ids."""
    if isinstance(value, list):
        return [placed(each, ids) for each in value]
    return ids[value] if type(value) is int and 0 <= value < len(ids) else value


def store_is_sound(project) -> None:
    """What came in is whole: each completion shown stands in its place, once."""
    for ranking in project.store.rankings():
        assert {id for tier in ranking.tiers for id in tier} | set(ranking.fails) == set(ranking.shown)


@pytest.fixture(scope="module")
def ann(fuzzed):
    """Ann's program and her browser."""
    return acknowledge(fuzzed, fuzzed.program("ann")), fuzzed.browser("ann")


@settings(max_examples=60, **RELAXED)
@given(st.sampled_from(["draft", "submit", "skip", "flag"]), nearly_right() | ANYTHING)
def test_a_tasks_addresses_answer_whatever_is_sent(fuzzed, ann, path, body):
    program, browser = ann
    given = program.post("/api/v1/tasks/claim")
    if given.status_code == 204:
        return
    task = given.json()
    ids = [each["id"] for each in task["completions"]]
    if isinstance(body, dict):
        body = {
            key: placed(value, ids) if key in ("tiers", "fails") else value for key, value in body.items()
        }
        body = {key: task["guidelines"] if value == "VERSION" else value for key, value in body.items()}
    content = json.dumps(body)
    headers = {"content-type": "application/json"}
    answer = program.post(f"/api/v1/tasks/{task['id']}/{path}", content=content, headers=headers)
    assert answer.status_code < 500
    same = browser.post(
        f"/label/{task['id']}/{path}", content=content, headers={**headers, "X-CSRF-Token": browser.csrf}
    )
    assert same.status_code < 500
    store_is_sound(fuzzed)
