"""The labeler's routes by plain requests: who may, what is refused and kept, what a repeat does."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest
from sqlalchemy import select

from accord.feedback.labeling.people import Role
from accord.store import state as t


@pytest.fixture
def ada(project):
    """A labeler who has read the guidelines, in a browser."""
    return reader(project, "ada")


def reader(project, name: str, role: Role = Role.LABELER):
    browser = project.browser(name, role)
    browser.send_form("/guidelines/acknowledge", version=project.workspace.guidelines()[0])
    return browser


def facts(browser) -> dict:
    page = browser.get("/label").text
    return json.loads(re.search(r'id="facts">(.*?)</script>', page).group(1))


def answer(task: dict, key: str = "k1", **changes) -> dict:
    tiers = [[id] for id in task["shown"]]
    return {"key": key, "tiers": tiers, "fails": [], "note": "", "seconds": 3.5} | {
        "guidelines": task["guidelines"],
        **changes,
    }


def refusals(project) -> list[tuple[str, dict]]:
    with project.store.database.read() as connection:
        rows = connection.execute(select(t.refusals).order_by(t.refusals.c.at)).mappings()
        return [(row["reason"], row["body"]) for row in rows]


def test_no_task_before_the_guidelines_are_accepted(project) -> None:
    browser = project.browser("ada")
    assert browser.get("/label").headers["location"] == "/guidelines"
    assert browser.send_form("/guidelines/acknowledge", version="old").headers["location"] == "/guidelines"
    assert browser.get("/label").status_code == 303
    version = project.workspace.guidelines()[0]
    assert browser.send_form("/guidelines/acknowledge", version=version).headers["location"] == "/label"
    assert browser.get("/label").status_code == 200


def test_each_role_starts_at_its_page(project) -> None:
    for role, start in ((Role.LABELER, "/label"), (Role.OWNER, "/owner"), (Role.REVIEWER, "/owner")):
        assert project.browser(role.value, role).get("/").headers["location"] == start
    assert project.browser("reviewer", Role.REVIEWER).get("/label").status_code == 403
    stranger = project.browser().get("/label", headers={"accept": "text/html"})
    assert stranger.headers["location"] == "/login?next=%2Flabel"


def test_an_answer_is_stored_once_however_often_it_is_sent(project, ada) -> None:
    task = facts(ada)
    path = f"/label/{task['assignment']}/submit"
    first, again = (ada.send_json(path, answer(task)) for _ in range(2))
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert first.json()["stored"] is True
    (ranking,) = project.store.rankings()
    assert ranking.tiers == tuple((id,) for id in task["shown"])
    assert ranking.shown == tuple(task["shown"])
    assert (ranking.guidelines, ranking.seconds) == (task["guidelines"], 3.5)
    assert ada.send_json("/label/stored", {"keys": ["k1", "k2"]}).json() == {"stored": ["k1"]}
    assert refusals(project) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"tiers": [["nobody"]]},
        {"tiers": []},
        {"tiers": "all"},
        {"key": ""},
        {"key": 7},
        {"strength": 0.5},
        {"seconds": -1},
        {"shown": ["b", "a"]},
    ],
)
def test_what_is_refused_is_kept_whole_with_the_reason(project, ada, wrong: dict) -> None:
    task = facts(ada)
    sent = answer(task, **wrong)
    got = ada.send_json(f"/label/{task['assignment']}/submit", sent)
    assert got.status_code == 400
    ((reason, body),) = refusals(project)
    assert got.json()["error"] in reason
    assert body == sent | {"assignment": task["assignment"]}
    assert list(project.store.rankings()) == []
    good = ada.send_json(f"/label/{task['assignment']}/submit", answer(task))
    assert good.json()["stored"] is True  # and the key is not spent


def test_another_labelers_task_is_out_of_reach(project, ada) -> None:
    task = facts(ada)
    eve = reader(project, "eve")
    base = f"/label/{task['assignment']}"
    assert eve.send_json(f"{base}/submit", answer(task)).status_code == 400
    assert eve.send_json(f"{base}/draft", {"revision": 9, "draft": {"x": 1}}).status_code == 400
    assert eve.send_json(f"{base}/skip", {"key": "s", "reason": "other"}).status_code == 400
    assert eve.send_json("/label/back", {}).status_code == 409
    ada.send_json(f"{base}/submit", answer(task))
    assert eve.send_json("/label/stored", {"keys": ["k1"]}).json() == {"stored": []}


def test_a_foreign_form_without_the_token_is_refused(project, ada) -> None:
    task = facts(ada)
    got = ada.send_json(f"/label/{task['assignment']}/submit", answer(task), csrf="forged")
    assert got.status_code == 403
    assert list(project.store.rankings()) == []


def test_guidelines_that_were_not_accepted_are_409_and_a_repeat_is_not(project, ada) -> None:
    task = facts(ada)
    path = f"/label/{task['assignment']}/submit"
    got = ada.send_json(path, answer(task, guidelines="another"))
    assert (got.status_code, got.json()["link"]) == (409, "/guidelines")
    assert len(refusals(project)) == 1
    ada.send_json(path, answer(task))
    (project.workspace.path / "guidelines.md").write_text("# New\n")
    ada.send_form("/guidelines/acknowledge", version=project.workspace.guidelines()[0])
    assert ada.send_json(path, answer(task)).json()["stored"] is True  # it was stored under the old ones


def test_who_never_accepted_guidelines_is_told_so_and_refuses_no_label(project, ada) -> None:
    task = facts(ada)
    eve = project.browser("eve")
    for assignment in (task["assignment"], "invented", "\x00"):
        got = eve.send_json(f"/label/{quote(assignment)}/submit", answer(task))
        assert (got.status_code, got.json()["link"]) == (409, "/guidelines")
        assert "you have not accepted the guidelines yet" in got.json()["error"]
    assert refusals(project) == [], "no alarm counts it"
    eve = reader(project, "eve")
    got = eve.send_json(f"/label/{task['assignment']}/submit", answer(task, guidelines="another"))
    assert (got.status_code, "is not one of yours" in got.json()["error"]) == (400, True)


def test_the_newest_draft_wins_and_comes_back_with_the_page(ada) -> None:
    task = facts(ada)
    path = f"/label/{task['assignment']}/draft"
    assert ada.send_json(path, {"revision": 2, "draft": {"note": "two"}}).json() == {"revision": 2}
    assert ada.send_json(path, {"revision": 1, "draft": {"note": "one"}}).json() == {"revision": 2}
    assert facts(ada)["draft"] == {"note": "two"}
    for bad in (
        {},
        {"revision": "2", "draft": {}},
        {"revision": 3, "draft": []},
        {"revision": -1, "draft": {}},
    ):
        assert ada.send_json(path, bad).status_code == 400


def test_the_waiting_page_is_told_to_load_again_when_there_is_a_task(ada) -> None:
    got = ada.get("/label", headers={"hx-request": "true"})
    assert (got.status_code, got.headers["hx-refresh"]) == (204, "true")


def test_keys_are_asked_for_in_parts(ada) -> None:
    assert ada.send_json("/label/stored", {"keys": ["k"] * 501}).status_code == 400
    assert ada.send_json("/label/stored", {"keys": [1]}).status_code == 400
