"""The other ways to ask on the same page: pairs, thumbs, a better answer; skip and report."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from accord.feedback.labeling.queue import fill
from accord.types import Completion, Prompt
from labeling_browser import PHONE, assignment_of, next_task, open_task, ready, shown_of

PAIRS = [(Prompt.from_text(f"q{i}"), ["one", "two"]) for i in range(9)]


def test_pairs_by_keyboard(live, visit) -> None:
    """Each point of the scale, a tie and both failing."""
    app = live(PAIRS, protocol="pair")
    page = visit(app)
    expected = {}
    open_task(page, app)
    keys = [*"1234567", "t", "f"]
    for key in keys:
        task, (a, b) = assignment_of(page), shown_of(page)
        expect(page.locator("#submit")).to_have_attribute("aria-disabled", "true")
        page.keyboard.press(key)
        page.keyboard.press("Enter")
        next_task(page, task)
        expected[task] = {
            "1": (((a,), (b,)), (), 1.0),
            "2": (((a,), (b,)), (), 2 / 3),
            "3": (((a,), (b,)), (), 1 / 3),
            "4": (((a, b),), (), 0.0),
            "5": (((b,), (a,)), (), 1 / 3),
            "6": (((b,), (a,)), (), 2 / 3),
            "7": (((b,), (a,)), (), 1.0),
            "t": (((a, b),), (), 0.0),
            "f": ((), (a, b), None),
        }[key]
    stored = {r.assignment: (r.tiers, r.fails, r.strength) for r in app.rankings()}
    assert stored == expected
    assert {r.protocol for r in app.rankings()} == {"pair"}


def test_pairs_by_touch_and_taken_back(live, visit) -> None:
    app = live(PAIRS[:2], protocol="pair")
    page = visit(app, viewport=PHONE, has_touch=True, is_mobile=True)
    task = open_task(page, app)
    a, b = shown_of(page)
    page.tap('#scale [value="2"]')
    page.tap("#submit")
    next_task(page, task)
    page.tap("#undo")
    next_task(page, assignment_of(page))
    expect(page.locator('#scale [value="2"]')).to_be_checked()
    page.tap("text=A is better")  # the button below the answer
    page.tap("#submit")
    next_task(page, task)
    (ranking,) = app.rankings()
    assert (ranking.tiers, ranking.strength) == (((a,), (b,)), 2 / 3)


@pytest.mark.parametrize("how", ["keys", "drag"])
def test_thumbs(live, visit, how: str) -> None:
    app = live([(Prompt.from_text("q"), ["one", "two", "three"])], protocol="thumb")
    page = visit(app)
    task = open_task(page, app)
    a, b, c = shown_of(page)
    if how == "keys":
        for key in ("1", "j", "2", "j", "1", "u", "2"):
            page.keyboard.press(key)
    else:
        for id, lane in ((a, "good"), (b, "bad"), (c, "bad")):
            page.drag_and_drop(f'.chip[data-id="{id}"]', f'[data-lane="{lane}"]')
    page.keyboard.press("Enter")
    next_task(page, task)
    assert {thumb.completion_id: thumb.up for thumb in app.store.thumbs()} == {a: True, b: False, c: False}


def test_a_better_answer_starts_from_a_copy_on_request(live, visit) -> None:
    app = live([(Prompt.from_text("q"), ["one", "two"])], protocol="edit")
    page = visit(app)
    task = open_task(page, app)
    b = shown_of(page)[1]
    better = page.locator("#better")
    expect(better).to_have_value("")
    expect(better).to_be_disabled()
    expect(page.locator("#reason")).to_have_text("Choose the answer to start from.")
    page.keyboard.press("j")
    page.keyboard.press("e")
    expect(better).to_be_focused()
    text = page.locator(f'.answer[data-id="{b}"] .raw').text_content()
    expect(better).to_have_value(text)
    expect(page.locator("#reason")).to_have_text("Change the text, or skip the task.")
    page.keyboard.press("End")
    page.keyboard.type(" and more")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    next_task(page, task)
    (ranking,) = app.rankings()
    (better_id,), (of,) = ranking.tiers
    assert of == b
    texts = {each.id: each.text for each in app.store.completions()[ranking.prompt_id]}
    assert texts[better_id] == f"{text} and more"


def test_skip_with_a_reason_brings_the_next_task(live, visit) -> None:
    app = live(PAIRS[:2])
    page = visit(app)
    task = open_task(page, app)
    page.keyboard.press("s")
    page.check("text=I cannot judge this")
    page.fill("#skip-note", "chess")
    page.click("#skip-dialog button.primary")
    next_task(page, task)
    (remark,) = app.remarks()
    assert (remark.kind, remark.reason, remark.note, remark.labeler) == (
        "skip",
        "cannot judge",
        "chess",
        "ada",
    )
    assert app.rankings() == []


def test_a_report_leaves_the_task_as_it_is(live, visit) -> None:
    app = live(PAIRS[:1])
    page = visit(app)
    task = open_task(page, app)
    page.keyboard.press("1")
    page.click("text=Report the prompt…")
    page.check("text=somebody’s private data")
    page.click("#flag-dialog button.primary")
    expect(page.locator("#said")).to_have_text("Reported, thank you. You can still answer the task.")
    expect(page.locator("#place-A")).to_have_text("Tier 1")
    assert assignment_of(page) == task
    assert [(remark.kind, remark.reason) for remark in app.remarks()] == [("flag", "private data")]


def test_the_waiting_page_finds_a_new_task(live, visit) -> None:
    app = live(PAIRS[:1])
    page = visit(app)
    page.clock.install()
    task = open_task(page, app)
    for key in ("1", "j", "2", "Enter"):
        page.keyboard.press(key)
    next_task(page, task)
    expect(page.locator("h1")).to_have_text("Nothing to do right now")
    app.store.add_groups([(Prompt.from_text("new"), [Completion("one"), Completion("two")])])
    fill(app.store, app.config)
    with page.expect_navigation():
        page.clock.fast_forward(10_500)
    ready(page)
    expect(page.locator(".turn .md")).to_have_text("new")


def test_the_last_answer_can_be_taken_back_from_the_waiting_page(live, visit) -> None:
    app = live(PAIRS[:1])
    page = visit(app)
    task = open_task(page, app)
    for key in ("1", "j", "2", "Enter"):
        page.keyboard.press(key)
    next_task(page, task)
    page.click("text=Take back your last answer")
    ready(page)
    assert assignment_of(page) == task


def test_differences_between_two_answers(live, visit) -> None:
    app = live([(Prompt.from_text("q"), ["the red cat sat", "the blue cat sat down"])])
    page = visit(app)
    open_task(page, app)
    page.keyboard.press("d")

    def marks(box: str, tag: str) -> list[str]:
        return page.eval_on_selector_all(f"#{box} {tag}", "all => all.map(e => e.textContent)")

    shown = page.locator("#diff-before").text_content()
    red, blue = (["red"], ["blue", " down"])
    if "blue" in shown:
        red, blue = blue, red
    assert [word.strip() for word in marks("diff-before", "del")] == [word.strip() for word in red]
    assert [word.strip() for word in marks("diff-after", "ins")] == [word.strip() for word in blue]
    page.select_option("#diff-right", label="A")
    expect(page.locator("#diff-said")).to_have_text("The two are the same, word for word.")
    page.keyboard.press("Escape")
    expect(page.locator("#diff-dialog")).to_be_hidden()
