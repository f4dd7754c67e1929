"""The API: programs that label and the owner's side; who may what; and what labelers must not see."""

import json
import re

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from accord.feedback.labeling import people, webhooks
from accord.feedback.labeling.people import DAY, Role
from accord.store import state
from accord.store.store import Store
from labeling_app import ORIGIN, acknowledge, addresses

V1 = "/api/v1"


def answer(task: dict, key: str = "k1", **changes: object) -> dict:
    ids = [each["id"] for each in task["completions"]]
    return {
        "key": key,
        "tiers": [[ids[0]], [ids[1], ids[2]]],
        "fails": [ids[3]],
        "guidelines": task["guidelines"],
        "note": "",
        "seconds": 12.5,
        **changes,
    }


def claim(program: TestClient) -> dict:
    given = program.post(f"{V1}/tasks/claim")
    assert given.status_code == 200, given.text
    return given.json()


@pytest.fixture
def ann(project):
    return acknowledge(project, project.program("ann"))


@pytest.fixture
def bob(project):
    return acknowledge(project, project.program("bob"))


@pytest.fixture
def olga(project):
    return project.program("olga", Role.OWNER)


def test_a_program_labels_from_claim_to_stored(project, ann):
    assert ann.get(f"{V1}/me").json() == {"name": "ann", "role": "labeler"}
    task = claim(ann)
    kept = ann.post(f"{V1}/tasks/{task['id']}/draft", json={"revision": 1, "draft": {"tray": []}})
    assert kept.json() == {"revision": 1}
    assert claim(ann)["draft"] == {"tray": []}
    sent = answer(task)
    first = ann.post(f"{V1}/tasks/{task['id']}/submit", json=sent)
    again = ann.post(f"{V1}/tasks/{task['id']}/submit", json=sent)
    assert first.status_code == again.status_code == 200
    assert first.json()["ids"] == again.json()["ids"]
    (ranking,) = project.store.rankings()
    assert ranking.labeler == "ann"
    assert [list(tier) for tier in ranking.tiers] == sent["tiers"]
    assert list(ranking.fails) == sent["fails"]
    assert list(ranking.shown) == [each["id"] for each in task["completions"]]
    assert ranking.guidelines == task["guidelines"]
    assert ann.post(f"{V1}/stored", json={"keys": ["k1", "k2"]}).json() == {"stored": ["k1"]}
    assert ann.post(f"{V1}/tasks/back").status_code == 200
    opened = claim(ann)
    assert opened["id"] == task["id"]
    assert opened["answer"]["tiers"] == sent["tiers"]
    better = answer(task, "k2", tiers=[[each["id"]] for each in task["completions"]], fails=[])
    assert ann.post(f"{V1}/tasks/{task['id']}/submit", json=better).status_code == 200
    assert [list(r.tiers) for r in project.store.rankings()] == [[(i,) for [i] in better["tiers"]]]
    second = claim(ann)
    said = {"key": "k3", "reason": "not my field", "note": ""}
    assert ann.post(f"{V1}/tasks/{second['id']}/skip", json=said).status_code == 200
    assert claim(ann)["id"] != second["id"]


def test_guidelines_come_first_and_by_version(project):
    program = project.program("ann")
    early = program.post(f"{V1}/tasks/claim")
    assert (early.status_code, "not acknowledged" in early.json()["error"]) == (409, True)
    assert program.post(f"{V1}/guidelines/acknowledge", json={"version": "0" * 16}).status_code == 409
    found = program.get(f"{V1}/guidelines").json()
    assert not found["acknowledged"]
    accepted = program.post(f"{V1}/guidelines/acknowledge", json={"version": found["version"]})
    assert accepted.json()["acknowledged"]
    task = claim(program)
    (project.workspace.path / "guidelines.md").write_text("Be fairer.")
    assert program.post(f"{V1}/tasks/claim").status_code == 409
    late = program.post(f"{V1}/tasks/{task['id']}/submit", json=answer(task, guidelines="invented"))
    assert (late.status_code, list(project.store.rankings())) == (409, [])


# -- who may what ------------------------------------------------------------------------------


def operations(app) -> list[tuple[str, str]]:
    return [(method.upper(), path) for path, ops in app.openapi()["paths"].items() for method in ops]


EVERYBODY = frozenset(Role)
LABELERS = frozenset({Role.OWNER, Role.LABELER})
READERS = frozenset({Role.OWNER, Role.REVIEWER})
MAY = {"me": EVERYBODY, "tasks": LABELERS, "stored": LABELERS, "progress": READERS, "export": READERS}
"""By the part of the address; what is not named is the owner's alone."""


@pytest.mark.parametrize("role", list(Role))
def test_every_operation_lets_in_its_roles_and_no_other(project, role):
    """Asked with a body that no operation accepts: 403 is for the role, anything else is past that door."""
    program = project.program(role.value, role)
    for method, path in operations(project.app):
        may = MAY.get(path.split("/")[3], {Role.OWNER})
        if "/guidelines" in path:
            may = EVERYBODY if method == "GET" else LABELERS
        answer = program.request(method, re.sub(r"\{\w+\}", "x", path), json={"odd": 1})
        assert (answer.status_code == 403) == (role not in may), (method, path, answer.text)
    assert len(operations(project.app)) > 20


def test_no_operation_answers_without_a_good_token(project):
    ann = people.add_person(project.store, "ann", Role.LABELER, project.clock())
    cookie = people.open_session(project.store, ann, project.clock())
    short = people.issue_token(project.store, "ann", project.clock(), days=1)
    project.clock.now += DAY
    program = TestClient(project.app)
    tries = [{}, {"authorization": "Bearer invented"}, {"authorization": f"Bearer {short}"},
             {"authorization": f"Bearer {cookie}"}, {"cookie": f"accord_session={cookie}"},
             {"authorization": "Basic YTpi"}, {"authorization": "Bearer "}]  # fmt: skip
    for method, path in operations(project.app):
        for headers in tries:
            answer = program.request(method, re.sub(r"\{\w+\}", "x", path), headers=headers, json={})
            assert answer.status_code == 401, (method, path, headers)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert set(answer.json()) == {"error", "what_to_do"}


def test_another_labelers_task_is_out_of_reach(project, ann, bob):
    """Each operation on a task, as bob, with the id and the keys of ann's."""
    task = claim(ann)
    ann.post(f"{V1}/tasks/{task['id']}/draft", json={"revision": 7, "draft": {"secret": "ann's draft"}})
    invented = "0" * 32
    for path, body in {
        "draft": {"revision": 8, "draft": {}},
        "submit": answer(task),
        "skip": {"key": "b1", "reason": "r"},
        "flag": {"key": "b2", "reason": "r"},
    }.items():
        theirs = bob.post(f"{V1}/tasks/{task['id']}/{path}", json=body)
        nobodys = bob.post(f"{V1}/tasks/{invented}/{path}", json=body)
        assert theirs.status_code == nobodys.status_code == 400
        assert theirs.text.replace(task["id"], invented) == nobodys.text, "not even that it exists is told"
        assert "ann" not in theirs.text
    assert bob.post(f"{V1}/tasks/back").status_code == 409
    assert claim(ann)["draft"] == {"secret": "ann's draft"}
    sent = answer(task)
    assert ann.post(f"{V1}/tasks/{task['id']}/submit", json=sent).status_code == 200
    assert bob.post(f"{V1}/stored", json={"keys": ["k1"]}).json() == {"stored": []}
    mine = claim(bob)
    replayed = bob.post(f"{V1}/tasks/{mine['id']}/submit", json=answer(mine))  # ann's key
    assert (replayed.status_code, "was used" in replayed.text) == (400, True)
    assert [each.labeler for each in project.store.rankings()] == ["ann"]


def test_a_used_key_stores_nothing_else(project, ann):
    task = claim(ann)
    assert ann.post(f"{V1}/tasks/{task['id']}/submit", json=answer(task)).status_code == 200
    turned = answer(task, tiers=[[each["id"]] for each in reversed(task["completions"])], fails=[])
    assert ann.post(f"{V1}/tasks/{task['id']}/submit", json=turned).status_code == 400
    other = claim(ann)
    assert ann.post(f"{V1}/tasks/{other['id']}/submit", json=answer(other)).status_code == 400
    assert len(list(project.store.rankings())) == 1


def test_the_order_shown_is_the_servers_and_a_forged_one_is_refused(project, ann):
    task = claim(ann)
    stranger = project.store.completions()
    others = [each.id for group in stranger.values() for each in group if each.text not in str(task)]
    for forged in (
        answer(task, shown=["x"]),
        answer(task, labeler="bob"),
        answer(task, tiers=[[others[0]]], fails=[]),
        answer(task, tiers=[], fails=[]),
        answer(task, key=""),
        answer(task, seconds=-1),
    ):
        refused = ann.post(f"{V1}/tasks/{task['id']}/submit", json=forged)
        assert refused.status_code == 400, forged
    assert list(project.store.rankings()) == []


# -- labelers are blind ------------------------------------------------------------------------

SECRETS = (ORIGIN.model, ORIGIN.model_hash, ORIGIN.adapter_hash, ORIGIN.rendered, "0.123456", "secret-meta",
           "logprob", '"random"', '"gold"', "purpose", "arm\"", "ann-secret-note")  # fmt: skip


def test_a_labeler_sees_nothing_of_models_or_of_others(project, ann, bob, olga):
    """Every address of the app, as bob, while ann has drafts and answers."""
    task = claim(ann)
    ann.post(f"{V1}/tasks/{task['id']}/submit", json=answer(task, note="ann-secret-note"))
    next_task = claim(ann)
    ann.post(f"{V1}/tasks/{next_task['id']}/draft", json={"revision": 1, "draft": {"n": "ann-secret-note"}})
    browser = project.browser("bob")
    mine = claim(bob)
    seen = [json.dumps(mine)]
    for method, pattern in addresses(project.app.routes):
        path = re.sub(r"\{\w+(:path)?\}", task["id"], pattern)
        if path == "/logout" or "openapi" in path or path == "/api/docs":
            continue
        for client, more in ((browser, {"X-CSRF-Token": browser.csrf}), (bob, {})):
            given = client.request(method, path, json={"key": "k9"}, headers=more)
            assert given.status_code < 500, (method, path)
            seen.append(given.text)
    assert len(seen) > 60
    assert any(mine["completions"][0]["text"] in page for page in seen), "the walk sees what bob may see"
    for secret in SECRETS:
        assert not [page for page in seen if secret in page], secret
    assert not [page for page in seen if re.search(r"\bann\b", page)]


def test_a_task_shows_text_and_nothing_else(ann):
    task = claim(ann)
    assert set(task) == {
        "id", "messages", "completions", "criterion", "protocol", "guidelines",
        "expires_at", "draft", "draft_revision", "answer",
    }  # fmt: skip
    assert {key for each in task["completions"] for key in each} == {"id", "text"}
    assert {key for each in task["messages"] for key in each} == {"role", "content"}


# -- the owner's -------------------------------------------------------------------------------


def test_prompts_come_in_and_can_be_labelled_at_once(project, olga, ann):
    new = {
        "split": "train",
        "prompts": [
            {"messages": [{"role": "user", "content": "new?"}], "completions": ["one", "two"], "id": "p:1"},
            {"messages": [{"role": "user", "content": "later?"}], "meta": {"gold": 3}},
        ],
    }
    given = olga.post(f"{V1}/prompts", json=new).json()
    assert (given["prompts"][0], given["tasks"]) == ("p:1", 1)
    assert olga.post(f"{V1}/prompts", json=new).json()["tasks"] == 0, "twice is once"
    assert [p.id for p in project.store.prompts("train")] == given["prompts"]
    assert [c.text for c in project.store.completions()["p:1"]] == ["one", "two"]
    taken = {**new, "prompts": [{**new["prompts"][0], "messages": [{"role": "user", "content": "other"}]}]}
    refused = olga.post(f"{V1}/prompts", json=taken)
    assert (refused.status_code, "stored with another" in refused.json()["error"]) == (400, True)


def test_prompts_are_stored_all_or_none(project, olga):
    before = project.store.counts()
    bad = {"prompts": [
        {"messages": [{"role": "user", "content": "fine"}], "completions": ["a", "b"]},
        {"messages": [{"role": "user", "content": "x"}], "meta": {"n": float("inf")}},
    ]}  # fmt: skip
    content = json.dumps(bad)
    refused = olga.post(f"{V1}/prompts", content=content, headers={"content-type": "application/json"})
    assert 400 <= refused.status_code < 500
    assert project.store.counts() == before


def test_people_are_invited_paused_and_given_tokens(project, olga):
    link = olga.post(f"{V1}/people/invitations", json={"uses": 2}).json()["link"]
    assert link.startswith("http://desk:8080/join/accord-invite-")
    browser = project.browser()
    joined = browser.post(link, data={"name": "cleo", "password": "long enough"})
    assert joined.status_code == 303
    made = olga.post(f"{V1}/people", json={"name": "dora", "role": "reviewer"}).json()
    assert made["person"]["role"] == "reviewer"
    assert project.browser().post(made["link"]).status_code == 303
    assert [each["name"] for each in olga.get(f"{V1}/people").json()] == ["cleo", "dora", "olga"]
    assert "password" not in olga.get(f"{V1}/people").text
    token = olga.post(f"{V1}/people/cleo/tokens", json={"days": 1}).json()["token"]
    cleo = TestClient(project.app, headers={"authorization": f"Bearer {token}"})
    assert cleo.get(f"{V1}/me").json()["name"] == "cleo"
    assert olga.post(f"{V1}/people/cleo/status", json={"status": "paused"}).json()["status"] == "paused"
    assert cleo.get(f"{V1}/me").status_code == 401
    assert browser.get("/label", headers={"accept": "text/html"}).headers["location"].startswith("/login")
    olga.post(f"{V1}/people/cleo/status", json={"status": "active"})
    assert cleo.get(f"{V1}/me").status_code == 200
    assert olga.delete(f"{V1}/people/cleo/tokens").json() == {"revoked": 1}
    assert cleo.get(f"{V1}/me").status_code == 401
    assert olga.post(f"{V1}/people/olga/status", json={"status": "paused"}).status_code == 400


def test_a_pause_by_the_api_is_the_pause_of_the_page(project, olga, ann):
    def counts() -> list[tuple[int, int]]:
        with project.store.database.read() as connection:
            rows = connection.execute(select(state.queue.c.taken, state.queue.c.done))
            return sorted((taken, done) for taken, done in rows if taken)

    task = claim(ann)
    ann.post(f"{V1}/tasks/{task['id']}/submit", json=answer(task))
    claim(ann)
    assert counts() == [(1, 0), (1, 1)]
    olga.post(f"{V1}/people/ann/status", json={"status": "paused"})
    assert counts() == [(1, 1)], "the task on her screen is free"
    olga.post(f"{V1}/people/ann/status", json={"status": "paused", "again": True})
    assert counts() == [], "and what she labelled is asked again"
    olga.post(f"{V1}/people/ann/status", json={"status": "active"})
    assert counts() == [(1, 1)], "until she is back"
    assert project.store.verify() == []


def test_the_export_is_the_whole_store(project, olga, ann, tmp_path):
    task = claim(ann)
    ann.post(f"{V1}/tasks/{task['id']}/submit", json=answer(task, note="a ☃ and a \u2028"))
    given = olga.get(f"{V1}/export")
    assert given.headers["content-type"].startswith("application/jsonl")
    events = [json.loads(line) for line in given.content.decode().split("\n")[:-1]]
    assert events == list(project.store.events())
    copy = Store(f"sqlite:///{tmp_path}/copy.db")
    assert copy.add_events(events) == len(events)
    assert list(copy.rankings()) == list(project.store.rankings())
    assert copy.verify() == []


def test_progress_and_webhooks(project, olga, ann):
    figures = olga.get(f"{V1}/progress").json()
    assert figures["progress"]["untouched"] == 6
    assert figures["intake"]["total"]["stored"] == 0
    made = olga.post(f"{V1}/webhooks", json={"url": "https://host/hook", "events": ["label.created"]}).json()
    assert made["secret"].startswith("whsec_")
    assert made["secret"] not in olga.get(f"{V1}/webhooks").text
    task = claim(ann)
    ann.post(f"{V1}/tasks/{task['id']}/submit", json=answer(task))
    (waiting,) = olga.get(f"{V1}/deliveries", params={"state": "waiting"}).json()["deliveries"]
    assert (waiting["event"], waiting["webhook_id"]) == ("label.created", made["webhook"]["id"])
    stopped = olga.post(f"{V1}/webhooks/{made['webhook']['id']}/active", json={"active": False}).json()
    assert [each["active"] for each in stopped] == [False]
    assert not webhooks.webhooks(project.store)[0].active
    assert olga.post(f"{V1}/webhooks", json={"url": "ftp://host"}).status_code == 400
    assert olga.get(f"{V1}/progress").json()["intake"]["total"]["stored"] == 1


# -- errors and pages --------------------------------------------------------------------------


def test_errors_say_what_happened_the_value_and_what_to_do(olga):
    missing = olga.post(f"{V1}/people", json={"name": "x", "role": "boss"})
    assert missing.status_code == 422
    assert missing.json()["value"] == "'boss'"
    assert "role" in missing.json()["error"]
    for given in (
        olga.post(f"{V1}/people", json={"name": " "}),
        olga.get(f"{V1}/nothing"),
        olga.put(f"{V1}/people", json={}),
        olga.post(f"{V1}/people", content="{", headers={"content-type": "application/json"}),
        olga.post(f"{V1}/people/nobody/status", json={"status": "paused"}),
        olga.post(
            f"{V1}/people", content=b'{"name": "\\ud800"}', headers={"content-type": "application/json"}
        ),
    ):
        assert 400 <= given.status_code < 500
        assert given.json()["error"]
        assert given.json()["what_to_do"]


def test_a_flood_is_slowed_down_and_labels_pass(project, ann):
    for _ in range(300):
        project.app.state.desk.acts.take(people.person(project.store, "ann").id, project.clock())
    task = ann.post(f"{V1}/tasks/claim")
    assert task.status_code == 429
    assert task.headers["retry-after"] == "1"
    project.clock.now += 1
    assert ann.post(f"{V1}/tasks/claim").status_code == 200
    assert ann.get(f"{V1}/me").status_code == 200, "reading is never slowed down"


def test_the_docs_page_shows_every_operation_and_loads_nothing_from_elsewhere(project):
    page = project.browser().get("/api/docs")
    assert page.status_code == 200
    for method, path in operations(project.app):
        assert f"{method} {path}" in page.text
    assert not re.findall(r"""(?:src|href)=["'](?!/|#)""", page.text)
    assert "<script>" not in page.text
    assert project.browser().get("/api/openapi.json").json()["openapi"].startswith("3.")
