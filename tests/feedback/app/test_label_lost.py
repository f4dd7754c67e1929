"""No label is lost: the server away, the page closed, answers taken back, a store that lacks some."""

from __future__ import annotations

import sqlite3

import pytest
from playwright.sync_api import Page, expect

from accord.types import Prompt
from labeling_browser import Live, assignment_of, next_task, open_task, ready, shown_of

TWO = [(Prompt.from_text(f"q{i}"), ["one", "two"]) for i in range(3)]


def rank(page: Page, first: str = "1", second: str = "2") -> None:
    page.keyboard.press(first)
    page.keyboard.press("j")
    page.keyboard.press(second)


def states(page: Page) -> list[str]:
    return page.evaluate(
        "() => Object.entries(localStorage).filter(([k]) => k.startsWith('accord:sent:'))"
        ".map(([, v]) => JSON.parse(v).state)"
    )


def test_the_server_away_at_submit_and_back_later(live, visit) -> None:
    app = live(TWO)
    page = visit(app)
    task = open_task(page, app)
    a, b = shown_of(page)
    rank(page, "2", "1")
    app.stop()
    page.keyboard.press("Enter")
    expect(page.locator("#net")).to_contain_text("One answer is saved here and will be sent.")
    expect(page.locator("#reason")).to_have_text("Saved here. Sending…")
    page.keyboard.press("1")  # what is on its way is not changed
    page.keyboard.press("Enter")
    app.start()
    next_task(page, task)
    (ranking,) = app.rankings()
    assert ranking.tiers == ((b,), (a,))
    assert states(page) == ["stored"]
    expect(page.locator("#net")).to_be_hidden()


def test_closed_while_the_server_is_away_and_opened_again(live, visit) -> None:
    app = live(TWO)
    page = visit(app)
    open_task(page, app)
    rank(page)
    app.stop()
    page.keyboard.press("Enter")
    expect(page.locator("#net")).to_be_visible()
    context = page.context
    page.close()
    app.start()
    page = context.new_page()
    page.goto(f"{app.url}/label")  # the same task first, for nothing was stored of it; then the next
    expect(page.locator("#mine")).to_contain_text("1 answer,", timeout=20_000)
    assert len(app.rankings()) == 1


def test_an_answer_that_arrived_without_word_of_it_is_stored_once(live, visit) -> None:
    app = live(TWO)
    page = visit(app)
    task = open_task(page, app)
    rank(page)

    def lose_the_answer(route) -> None:
        route.fetch()  # the server stores it
        route.abort()  # and the network breaks

    page.route("**/submit", lose_the_answer, times=1)
    page.keyboard.press("Enter")
    next_task(page, task)
    assert len(app.rankings()) == 1
    assert states(page) == ["stored"]


def test_what_the_store_lacks_is_sent_again(live, visit) -> None:
    """As after a crash that lost the last transactions: the journal of the browser brings them back."""
    app = live(TWO)
    page = visit(app)
    task = open_task(page, app)
    rank(page)
    page.keyboard.press("Enter")
    next_task(page, task)
    (before,) = app.rankings()
    app.stop()
    undo_last_submission(app)
    assert app.rankings() == []
    app.start()
    with page.expect_response("**/submit") as answer:
        page.reload()
    assert answer.value.json()["stored"]
    assert [ranking.tiers for ranking in app.rankings()] == [before.tiers]


def undo_last_submission(app: Live) -> None:
    """Take the last answer out of the database behind the app's back."""
    with sqlite3.connect(app.workspace.path / "accord.db") as db:
        for (trigger,) in db.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            db.execute(f'drop trigger "{trigger}"')
        db.execute(
            "update assignments set state = 'leased', feedback_id = null where feedback_id is not null"
        )
        db.execute("delete from submissions")
        db.execute("delete from feedback")


@pytest.mark.parametrize("where", ["this browser", "another browser"])
def test_closed_midway_the_draft_is_there_again(live, visit, where: str) -> None:
    app = live(TWO)
    page = visit(app)
    task = open_task(page, app)
    page.keyboard.press("2")
    page.fill("#note", "half done")
    expect(page.locator("#draft-line")).to_have_text("Draft saved.")
    context = page.context
    page.close()
    page = context.new_page() if where == "this browser" else visit(app)
    assert open_task(page, app) == task
    expect(page.locator("#place-A")).to_have_text("Tier 2")
    expect(page.locator("#note")).to_have_value("half done")
    page.keyboard.press("z")
    expect(page.locator("#place-A")).to_have_text("Unranked")


def test_a_draft_made_while_the_server_is_away_survives_a_closed_page(live, visit) -> None:
    app = live(TWO)
    page = visit(app)
    open_task(page, app)
    app.stop()
    page.keyboard.press("f")
    expect(page.locator("#draft-line")).to_have_text("Draft saved in this browser; no connection.")
    context = page.context
    page.close()
    app.start()
    page = context.new_page()
    open_task(page, app)
    expect(page.locator("#place-A")).to_have_text("Fail")


def test_z_takes_back_the_last_move_and_then_the_last_answer(live, visit) -> None:
    app = live(TWO)
    page = visit(app)
    first = open_task(page, app)
    expect(page.locator("#undo")).to_be_disabled()
    a, b = shown_of(page)
    rank(page)
    page.keyboard.press("Enter")
    next_task(page, first)
    second = assignment_of(page)
    page.keyboard.press("3")  # clamped to nothing: two answers, no tier 3
    page.keyboard.press("1")
    expect(page.locator("#undo")).to_contain_text("Undo move")
    page.keyboard.press("z")
    expect(page.locator("#place-A")).to_have_text("Unranked")
    expect(page.locator("#undo")).to_contain_text("Take back last")
    page.keyboard.press("z")
    next_task(page, second)
    assert assignment_of(page) == first
    expect(page.locator(f'.answer[data-id="{a}"] .place')).to_have_text("Tier 1")
    page.locator(f'.answer[data-id="{a}"]').focus()
    page.keyboard.press("f")
    page.keyboard.press("Enter")
    next_task(page, first)
    assert assignment_of(page) == second
    (ranking,) = app.rankings()
    assert (ranking.tiers, ranking.fails) == (((b,),), (a,))
    assert ranking.supersedes is not None


def test_guidelines_that_changed_are_read_before_the_next_answer(live, visit) -> None:
    app = live(TWO)
    page = visit(app, read=False)
    page.goto(f"{app.url}/label")
    assert page.url == f"{app.url}/guidelines"  # no task before they are accepted
    old = app.workspace.guidelines()[0]
    page.click("text=I have read them")
    ready(page)
    task = assignment_of(page)
    rank(page)
    (app.workspace.path / "guidelines.md").write_text("# New rules\n\nBe kind.\n")
    page.keyboard.press("Enter")  # made beside the old ones, and recorded with them
    page.wait_for_url("**/guidelines")
    expect(page.locator(".notice")).to_contain_text("have changed")
    page.click("text=I have read them")
    ready(page)
    second = assignment_of(page)
    assert second != task
    rank(page)
    page.keyboard.press("Enter")
    next_task(page, second)
    assert [ranking.guidelines for ranking in app.rankings()] == [old, app.workspace.guidelines()[0]]


def test_a_refused_answer_is_kept_and_says_why(live, visit) -> None:
    app = live(TWO)
    page = visit(app)
    open_task(page, app)
    rank(page)
    page.route(  # each attempt: on a busy machine the first may find no connection, and another follows
        "**/submit",
        lambda route: route.continue_(
            post_data=route.request.post_data.replace('"tiers":[[', '"tiers":[["x"],[')
        ),
    )
    page.keyboard.press("Enter")
    expect(page.locator("#net")).to_contain_text("Not accepted", timeout=20_000)
    page.unroute("**/submit")
    expect(page.locator("#place-A")).to_have_text("Tier 1")  # still there to be sent again
    assert states(page) == ["refused"]
    page.click("text=Dismiss")
    expect(page.locator("#net")).to_be_hidden()
    task = assignment_of(page)
    page.keyboard.press("Enter")
    next_task(page, task)
    assert len(app.rankings()) == 1
