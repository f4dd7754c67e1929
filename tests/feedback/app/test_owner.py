"""The project's pages by requests: who may see them, what they say, what their forms do."""

import json
import time

import pytest

from accord.feedback.app import owner as pages
from accord.feedback.app import owner_data, owner_people, owner_review
from accord.feedback.labeling import monitor_study, people
from accord.feedback.labeling.answers import Answer
from accord.feedback.labeling.people import Role
from accord.feedback.labeling.queue import claim, fill, set_gold
from accord.feedback.labeling.submit import flag, refuse, submit
from accord.feedback.labeling.webhooks import announce
from accord.store.store import Store
from accord.types import Completion, Prompt
from labeling_app import hidden

PAGES = ["", "/agreement", "/labelers", "/disagreements", "/gold", "/guidelines", "/people", "/data"]
OWNERS = {"/guidelines", "/people", "/data"}


def rank(project, name, times=1, turned=()):
    """Label as ``name``, in the order of the texts; the other way round on the prompts ``turned``."""
    config = project.app.state.desk.config
    for _ in range(times):
        task = claim(project.store, name, config, project.clock())
        order = sorted(task.completions, key=lambda c: c.text, reverse=task.prompt.id in turned)
        answer = Answer(tuple((c.id,) for c in order), note=f"{name} says so", seconds=30.0)
        submit(project.store, name, task.id, answer, f"k{task.id}", "v", config, project.clock())
    return task.prompt.id


@pytest.fixture
def owner(project):
    return project.browser("Olga", Role.OWNER)


@pytest.fixture
def quarrel(project, monkeypatch):
    """Two labelers who ranked all six prompts; on the last two, one put the answers the other way round."""
    monkeypatch.setattr(monitor_study, "LEAST_PAUSE", 0.0)
    monkeypatch.setattr(monitor_study, "REST", 0.0)
    for name in ("ann", "ben"):
        project.browser(name)
    order = [rank(project, "ann") for _ in range(6)]
    for _ in range(6):
        rank(project, "ben", turned=order[4:])
    return project


def wait_for(browser, path, words, tries=40):
    """The page once it says ``words``: a study is on its way."""
    for _ in range(tries):
        page = browser.get(path)
        if words in page.text:
            return page.text
        time.sleep(0.1)
    raise AssertionError(f"{words!r} never came: {page.text[-3000:]}")


def test_a_labeler_gets_403_on_every_page_and_form(project):
    labeler = project.browser("ann")
    inner = [route for each in (owner_data, owner_people, owner_review) for route in each.router.routes]
    outer = [route for route in pages.router.routes if hasattr(route, "methods")]
    routes = [(f"/owner{route.path}", method) for route in inner for method in route.methods]
    routes += [(route.path, method) for route in outer for method in route.methods]
    assert len(routes) > 18
    for path, method in routes:
        answer = labeler.request(method, path, headers={"X-CSRF-Token": labeler.csrf})
        assert answer.status_code == 403, (path, method)
        assert "answer 0" not in answer.text


def test_nobody_who_is_not_signed_in_sees_anything(project):
    stranger = project.browser()
    stranger.headers["accept"] = "text/html"
    for path in PAGES:
        assert stranger.get(f"/owner{path}").headers["location"].startswith("/login")


def test_a_reviewer_sees_answers_and_not_people(project):
    reviewer = project.browser("Rosa", Role.REVIEWER)
    for path in PAGES:
        assert reviewer.get(f"/owner{path}").status_code == (403 if path in OWNERS else 200)
    page = reviewer.get("/owner").text
    assert "/owner/people" not in page


def test_an_empty_project_says_what_to_do_and_undefined_figures_say_why(project, owner):
    for path in PAGES:
        assert owner.get(f"/owner{path}").status_code == 200, path
    page = wait_for(owner, "/owner/agreement", "There is no consensus yet")
    assert "no rankings" in page
    assert "nan" not in page.lower().replace("nanny", "")


def test_one_labeler_alone_has_no_agreement_and_the_page_says_why(project, owner):
    project.browser("ann")
    rank(project, "ann", 3)
    page = wait_for(owner, "/owner/agreement", "Not defined")
    assert "two labelers" in page
    assert "NaN" not in page


def test_progress_counts_and_names_flags(project, owner):
    project.browser("ann")
    assert "Invite labelers" in owner.get("/owner").text
    rank(project, "ann", 2)
    assert "Invite labelers" not in owner.get("/owner").text
    task = claim(project.store, "ann", project.app.state.desk.config, project.clock())
    flag(project.store, "ann", task.id, "personal data", "<b>street</b>", "", "f1", project.clock())
    page = owner.get("/owner").text
    assert "0 of 6 prompts settled" in page
    assert "&lt;b&gt;street&lt;/b&gt;" in page
    assert "<b>3</b> received = <b>3</b> stored + <b>0</b> refused" in page


def test_an_outage_is_an_alarm_on_the_first_page(project, owner):
    assert "Alarm." not in owner.get("/owner").text
    for n in range(9):
        refuse(project.store, "ann", "the disk is full", {"n": n}, project.clock())
    page = owner.get("/owner").text
    assert 'role="alert"><b>Alarm.</b> 9 of 9 submits of the last hour were refused' in page


# -- disagreements ---------------------------------------------------------------------------------


def test_the_queue_of_disagreements_leads_to_a_final_ranking(quarrel, owner):
    reviewer = quarrel.browser("Rosa", Role.REVIEWER)
    page = wait_for(reviewer, "/owner/disagreements", "2 prompts open")
    prompt = page.split('href="/owner/case?prompt=')[1].split('"')[0]
    at = reviewer.get(f"/owner/case?prompt={prompt}").text
    assert "<dt>ann</dt>" in at
    assert "<dt>ben</dt>" in at
    assert "ben says so" in at
    assert "secret-model" not in at
    assert "secret-meta" not in at
    ids = [part.split('"')[0] for part in at.split('name="place:')[1:]]
    assert len(ids) == 4
    assert "selected" not in at.split('id="settle"')[0], "nothing is filled in beforehand"
    places = {f"place:{id}": word for id, word in zip(ids, ("2", "1", "2", "fail"), strict=True)}
    done = reviewer.send_form("/owner/case", prompt=prompt, note=" the facts decide ", **places)
    assert done.status_code == 303
    (final,) = [r for r in quarrel.store.rankings() if r.arm == "adjudicated"]
    assert final.labeler == "Rosa"
    assert [set(tier) for tier in final.tiers] == [{ids[1]}, {ids[0], ids[2]}]
    assert (final.fails, final.note) == ((ids[3],), "the facts decide")
    assert final.guidelines == quarrel.workspace.guidelines()[0]
    assert len(list(quarrel.store.rankings())) == 13
    again = reviewer.get(done.headers["location"]).text
    assert "The prompt is closed" in again
    assert "Settled by Rosa: the facts decide" in again
    wait_for(reviewer, "/owner/disagreements", "1 settled by a reviewer")


def test_an_incomplete_final_ranking_is_refused_and_what_was_entered_stays(quarrel, owner):
    prompt = next(iter(quarrel.store.rankings())).prompt_id
    ids = [c.id for c in quarrel.store.completions([prompt])[prompt]]
    page = owner.send_form(
        "/owner/case", prompt=prompt, note="half a thought", **{f"place:{ids[0]}": "1", f"place:{ids[1]}": ""}
    )
    assert page.status_code == 400
    assert "give each one a place" in page.text
    assert "half a thought" in page.text
    assert '<option value="1" selected>' in page.text
    assert not [r for r in quarrel.store.rankings() if r.arm == "adjudicated"]


def test_a_foreign_completion_or_an_unknown_prompt_is_refused(quarrel, owner):
    one, other = list(dict.fromkeys(r.prompt_id for r in quarrel.store.rankings()))[:2]
    ids = [c.id for c in quarrel.store.completions([other])[other]]
    page = owner.send_form("/owner/case", prompt=one, **{f"place:{id}": "1" for id in ids})
    assert page.status_code == 400
    assert owner.get("/owner/case?prompt=nowhere").status_code == 400
    assert not [r for r in quarrel.store.rankings() if r.arm == "adjudicated"]


def test_a_script_in_a_completion_or_prompt_is_text(project, owner):
    prompt = Prompt.from_text("<script>alert(1)</script>")
    texts = ["<img src=x onerror=alert(2)>", "[x](javascript:alert(3))"]
    project.store.add_groups([(prompt, [Completion(text) for text in texts])])
    fill(project.store, project.app.state.desk.config)
    page = owner.get(f"/owner/case?prompt={prompt.id}").text
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert 'href="javascript' not in page


# -- gold ------------------------------------------------------------------------------------------


def test_a_final_ranking_becomes_gold_and_gold_a_quiz_item(quarrel, owner):
    prompt = list(quarrel.store.rankings())[5].prompt_id
    ids = [c.id for c in quarrel.store.completions([prompt])[prompt]]
    before = owner.send_form("/owner/gold", prompt=prompt, source="final", use="mixed")
    assert before.status_code == 400
    owner.send_form("/owner/case", prompt=prompt, **{f"place:{id}": str(n + 1) for n, id in enumerate(ids)})
    done = owner.send_form("/owner/gold", prompt=prompt, source="final", use="mixed")
    assert done.status_code == 303
    page = owner.get("/owner/gold").text
    assert "mixed in" in page
    owner.send_form("/owner/gold", prompt=prompt, source="gold", use="quiz")
    assert '<td data-label="Use">quiz</td>' in owner.get("/owner/gold").text
    wait_for(owner, "/owner/disagreements", "1 prompt open")


# -- labelers --------------------------------------------------------------------------------------


def test_the_table_of_labelers_leads_to_each_and_pauses_them(quarrel, owner):
    page = wait_for(owner, "/owner/labelers", "name=ann")
    assert "name=ben" in page
    detail = owner.get("/owner/labeler?name=ann").text
    assert "First shown comes out on top" in detail
    assert "Pause ann" in detail
    done = owner.send_form("/owner/labeler/pause", name="ann", again="true")
    assert "done=again" in done.headers["location"]
    assert not people.person(quarrel.store, "ann").active
    assert "Set ann back to work" in owner.get(done.headers["location"]).text
    assert "0 of 6 prompts settled" in owner.get("/owner").text
    assert len(list(quarrel.store.rankings())) == 12
    owner.send_form("/owner/labeler/resume", name="ann")
    assert people.person(quarrel.store, "ann").active


def test_only_owners_pause_and_nobody_themselves(project, owner):
    project.browser("ann")
    reviewer = project.browser("Rosa", Role.REVIEWER)
    assert reviewer.send_form("/owner/labeler/pause", name="ann").status_code == 403
    assert owner.send_form("/owner/labeler/pause", name="Olga").status_code == 400
    assert owner.get("/owner/labeler?name=nobody").status_code == 404
    assert owner.send_form("/owner/labeler/pause", csrf="forged", name="ann").status_code == 403
    assert people.person(project.store, "ann").active


# -- people and guidelines -------------------------------------------------------------------------


def test_an_invitation_is_shown_once_and_lets_somebody_in(project, owner):
    page = owner.send_form("/owner/invite", role="labeler", uses="1", days="7").text
    link = page.split('value="http://desk:8080/join/')[1].split('"')[0]
    assert link not in owner.get("/owner/people").text
    guest = project.browser()
    done = guest.post(f"/join/{link}", data={"name": "cat", "password": "eight letters"})
    assert done.status_code == 303
    assert people.person(project.store, "cat").role == Role.LABELER
    assert ">cat</a>" in owner.get("/owner/people").text


@pytest.mark.parametrize("wrong", [{"role": "king"}, {"uses": "0"}, {"days": "9999"}, {"uses": "many"}])
def test_an_invitation_that_cannot_be_is_refused(project, owner, wrong):
    answer = owner.send_form("/owner/invite", **{"role": "labeler", "uses": "1", "days": "7"} | wrong)
    assert answer.status_code in (400, 422)


def test_a_sign_in_link_is_for_one_person(project, owner):
    project.browser("ann")
    page = owner.send_form("/owner/link", name="ann").text
    link = page.split('value="http://desk:8080/join/')[1].split('"')[0]
    assert people.invitation(project.store, link, project.clock()).person.name == "ann"


def test_edited_guidelines_are_a_new_version_that_must_be_accepted(project, owner):
    before, text = project.workspace.guidelines()
    people.add_person(project.store, "ann", Role.LABELER, project.clock())
    people.acknowledge(project.store, "ann", before, project.clock())
    page = owner.get("/owner/guidelines").text
    base = hidden(page, "base")
    assert base == before
    done = owner.send_form("/owner/guidelines", base=base, text="# New\r\n\r\nBe <b>kind</b>.")
    assert "done=guidelines" in done.headers["location"]
    version, stored = project.workspace.guidelines()
    assert stored == "# New\n\nBe <b>kind</b>.\n"
    assert version != before
    assert project.store.guidelines(before) == text
    labeler = project.browser("ann")
    assert labeler.get("/label").headers["location"] == "/guidelines"
    after = owner.get("/owner/guidelines").text
    assert "2 people have not accepted" in after  # ann and Olga, who may label
    assert text.splitlines()[2] in owner.get(f"/owner/guidelines?version={before}").text
    assert not list(project.workspace.path.glob(".guidelines*")), "no temporary file is left"


def test_an_edit_of_a_version_that_is_gone_keeps_the_text_and_writes_nothing(project, owner):
    base = hidden(owner.get("/owner/guidelines").text, "base")
    owner.send_form("/owner/guidelines", base=base, text="first")
    page = owner.send_form("/owner/guidelines", base=base, text="second")
    assert page.status_code == 400
    assert "second" in page.text
    assert project.workspace.guidelines()[1] == "first\n"
    same = owner.send_form("/owner/guidelines", base=base, text="first")
    assert "done=unchanged" in same.headers["location"]
    assert owner.send_form("/owner/guidelines", base=base, text="  ").status_code == 400


# -- data ------------------------------------------------------------------------------------------


def test_the_event_log_is_whole_and_makes_the_store_again(quarrel, owner, tmp_path):
    answer = owner.get("/owner/export/events.jsonl")
    events = [json.loads(line) for line in answer.text.splitlines()]
    again = Store(f"sqlite:///{tmp_path / 'again.db'}", tmp_path)
    again.add_events(events)
    assert list(again.rankings()) == list(quarrel.store.rankings())
    assert not again.verify()
    again.close()


def test_exports_for_trainers_hold_what_was_ranked(quarrel, owner):
    answer = owner.get("/owner/export?format=trl-preference")
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert len(rows) == 6 * 6 * 2
    assert {"prompt", "chosen", "rejected"} <= rows[0].keys()
    rankings = owner.get("/owner/export?format=rankings").text.splitlines()
    assert len(rankings) == 12
    assert owner.get("/owner/export?format=etc-passwd").status_code == 400


def test_an_export_of_nothing_says_so(project, owner):
    answer = owner.get("/owner/export?format=trl-preference")
    assert answer.status_code == 400


def test_webhooks_are_added_shown_and_stopped(project, owner):
    page = owner.send_form("/owner/webhooks", url="https://example.org/hook", events="label.created").text
    secret = page.split('value="whsec_')[1].split('"')[0]
    listed = owner.get("/owner/data").text
    assert secret not in listed
    assert "https://example.org/hook" in listed
    hook = hidden(listed, "webhook")
    assert owner.send_form("/owner/webhooks/active", webhook=hook, active="false").status_code == 303
    assert "stopped" in owner.get("/owner/data").text
    bad = owner.send_form("/owner/webhooks", url="file:///etc/passwd")
    assert "not an address" in bad.text
    with project.store.database.write() as connection:
        announce(connection, "label.created", {"id": "r1"}, project.clock())
    assert "label.created" in owner.get("/owner/data").text.split("Last deliveries")[1]


def test_gold_by_hand_counts_its_answers(project, owner):
    prompt = project.store.prompts()[0].id
    ids = [c.id for c in project.store.completions([prompt])[prompt]]
    set_gold(project.store, prompt, [[ids[0]], ids[1:]])
    assert "mixed in" in owner.get("/owner/gold").text
