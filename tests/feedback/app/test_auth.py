"""Coming in: passwords, links, sessions, and the attacks on each."""

import pytest

from accord.feedback.app.auth import inner
from accord.feedback.app.deps import COOKIE
from accord.feedback.labeling import people
from accord.feedback.labeling.people import DAY, Role
from labeling_app import PASSWORD


@pytest.fixture
def ann(project):
    return people.add_person(project.store, "ann", Role.LABELER, project.clock(), password=PASSWORD)


def test_log_in_opens_a_session_and_log_out_ends_it(project, ann):
    browser = project.browser()
    assert browser.get("/login").status_code == 200
    answer = browser.post("/login", data={"name": "ann", "password": PASSWORD, "next": "/guidelines"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/guidelines")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie, "the desk is reached by plain http here"
    secret = browser.cookies[COOKIE]
    session = people.session(project.store, secret, project.clock())
    assert session.person.name == "ann"
    assert browser.post("/logout").status_code == 403, "logging out needs the session's token"
    assert browser.send_form("/logout", csrf=session.csrf).status_code == 303
    assert people.session(project.store, secret, project.clock()) is None
    assert COOKIE not in browser.cookies


def test_the_cookie_is_secure_behind_https(project, ann):
    browser = project.browser()
    browser.base_url = "https://desk"
    answer = browser.post("/login", data={"name": "ann", "password": PASSWORD})
    assert "Secure" in answer.headers["set-cookie"]


def test_a_wrong_password_shows_the_page_again_and_keeps_the_name(project, ann):
    answer = project.browser().post("/login", data={"name": "ann", "password": "wrong", "next": "/x"})
    assert answer.status_code == 401
    assert 'value="ann"' in answer.text
    assert 'value="/x"' in answer.text
    assert "wrong; try again" in answer.text
    assert "set-cookie" not in answer.headers


def test_no_session_survives_from_before_the_log_in(project, ann):
    """Fixation: a cookie that somebody planted is worth nothing after its bearer logs in."""
    browser = project.browser()
    mallory = people.add_person(project.store, "mallory", Role.LABELER, project.clock())
    planted = people.open_session(project.store, mallory, project.clock())
    for cookie in ("chosen-by-mallory", planted):
        browser.cookies.clear()
        answer = browser.post(
            "/login", data={"name": "ann", "password": PASSWORD}, headers={"cookie": f"{COOKIE}={cookie}"}
        )
        assert answer.status_code == 303
        assert browser.cookies[COOKIE] != cookie
        assert people.session(project.store, "chosen-by-mallory", project.clock()) is None
        assert people.session(project.store, planted, project.clock()).person.name == "mallory"


def test_failures_slow_down_the_name_and_the_address_but_never_lock_out(project, ann):
    browser = project.browser()
    wrong = {"name": "ann", "password": "wrong"}
    right = {"name": "ann", "password": PASSWORD}
    for _ in range(50):
        assert browser.post("/login", data=right).status_code == 303, "what succeeds is not counted"
    assert [browser.post("/login", data=wrong).status_code for _ in range(10)] == [401] * 10
    blocked = browser.post("/login", data=right)
    assert blocked.status_code == 429
    assert 1 <= int(blocked.headers["retry-after"]) <= 30
    people.add_person(project.store, "bob", Role.LABELER, project.clock(), password=PASSWORD)
    assert browser.post("/login", data={"name": "bob", "password": PASSWORD}).status_code == 303
    project.clock.now += 30
    assert browser.post("/login", data=right).status_code == 303


def test_many_names_from_one_address_are_slowed_down_too(project):
    browser = project.browser()
    codes = [browser.post("/login", data={"name": f"n{i}", "password": "x"}).status_code for i in range(61)]
    assert codes == [401] * 60 + [429]


def test_an_invitation_is_seen_without_being_used_and_joins_once(project):
    secret = people.invite(project.store, Role.LABELER, None, project.clock())
    browser = project.browser()
    for _ in range(3):  # a chat program's preview
        page = browser.get(f"/join/{secret}")
        assert (page.status_code, "Join as labeler" in page.text) == (200, True)
    refused = browser.post(f"/join/{secret}", data={"name": "ann", "password": "short"})
    assert (refused.status_code, "5 characters" in refused.text) == (400, True)
    answer = browser.post(f"/join/{secret}", data={"name": "ann", "password": PASSWORD, "role": "owner"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    who = people.session(project.store, browser.cookies[COOKIE], project.clock()).person
    assert (who.name, who.role) == ("ann", Role.LABELER)
    again = project.browser().post(f"/join/{secret}", data={"name": "eve", "password": PASSWORD})
    assert (again.status_code, "used already" in again.text) == (410, True)


def test_an_expired_and_an_invented_invitation_are_refused(project):
    secret = people.invite(project.store, Role.LABELER, None, project.clock(), days=1)
    project.clock.now += DAY
    browser = project.browser()
    for bad in (secret, "invented", "x" * 3000, "%00", "accord-invite-"):
        assert browser.get(f"/join/{bad}").status_code == 410
        assert browser.post(f"/join/{bad}", data={"name": "eve", "password": PASSWORD}).status_code == 410
    assert people.people(project.store) == []


def test_the_owners_link_signs_in_once(project):
    people.add_person(project.store, "olga", Role.OWNER, project.clock())
    secret = people.sign_in_link(project.store, "olga", project.clock())
    browser = project.browser()
    assert "Sign in as olga" in browser.get(f"/join/{secret}").text
    assert browser.post(f"/join/{secret}").status_code == 303
    assert people.session(project.store, browser.cookies[COOKIE], project.clock()).person.name == "olga"
    assert project.browser().post(f"/join/{secret}").status_code == 410


def test_what_is_typed_comes_back_escaped(project, ann):
    evil = '"><script>alert(1)</script>'
    browser = project.browser()
    secret = people.invite(project.store, Role.LABELER, None, project.clock())
    pages = [
        browser.post("/login", data={"name": evil, "password": "x", "next": evil}),
        browser.get("/login", params={"next": "/" + evil}),
        browser.post(f"/join/{secret}", data={"name": evil, "password": "short"}),
        browser.get("/" + evil, headers={"accept": "text/html"}),
    ]
    for page in pages:
        assert "<script>alert" not in page.text


@pytest.mark.parametrize(
    ("address", "leads"),
    [
        ("/label", "/label"),
        ("/owner?tab=2#x", "/owner?tab=2#x"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("\\/evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("label", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
        ("/\t/evil.example", "/"),
        ("", "/"),
    ],
)
def test_a_log_in_leads_nowhere_but_here(address, leads):
    assert inner(address) == leads
