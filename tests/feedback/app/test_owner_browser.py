"""The project's pages in a real browser: live figures, keyboard, phone widths, the content policy."""

import numpy as np
import pytest
from playwright.sync_api import expect

from accord.feedback.labeling.answers import Answer
from accord.feedback.labeling.people import Role
from accord.feedback.labeling.queue import claim
from accord.feedback.labeling.submit import submit
from accord.types import Prompt
from labeling_browser import PHONE, SMALL_PHONE, watch

LONG = "https://example.org/" + "a-very-long-address-without-a-break" * 6
PROMPTS = [
    (Prompt.from_text(f"Where is order {n}? {LONG if n == 0 else ''}"), [f"answer {n} {c}" for c in "abc"])
    for n in range(8)
]
PAGES = ("", "/agreement", "/labelers", "/labeler?name=ann", "/disagreements", "/gold", "/guidelines")
OWNERS = ("/people", "/data")


def label(live, name, times, rng=None):
    """Simulated labels: the order of the texts, or any order."""
    for _ in range(times):
        task = claim(live.store, name, live.config, live.app.state.desk.clock())
        order = sorted(task.completions, key=lambda c: c.text if rng is None else rng.random())
        answer = Answer(tuple((c.id,) for c in order), seconds=20.0)
        key, now = f"k{task.id}", live.app.state.desk.clock()
        submit(live.store, name, task.id, answer, key, "v", live.config, now)


@pytest.fixture
def shop(live):
    """Eight prompts, three labelers of whom one chooses by chance."""
    shop = live(PROMPTS, overlap=3)
    label(shop, "ann", 8)
    label(shop, "ben", 8)
    label(shop, "coin", 6, np.random.default_rng(1))
    return shop


def test_every_page_fits_a_phone_and_obeys_the_content_policy(shop, visit):
    page = visit(shop, "olga", Role.OWNER, viewport=SMALL_PHONE)
    said = watch(page, shop.url)
    page.goto(f"{shop.url}/owner/agreement")
    page.wait_for_selector(".cards")
    for path in (*PAGES, *OWNERS):
        page.goto(f"{shop.url}/owner{path}")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= SMALL_PHONE["width"], path
        assert page.locator(".owner > h1").count() == 1, path
    assert said == []


def test_progress_moves_without_a_reload(shop, visit):
    page = visit(shop, "olga", Role.OWNER)
    said = watch(page, shop.url)
    page.clock.install()
    page.goto(f"{shop.url}/owner")
    assert "6 of 8 prompts settled" in page.inner_text("#prompts")
    page.evaluate("window.same = true")
    label(shop, "coin", 1, np.random.default_rng(2))
    with page.expect_response(f"{shop.url}/owner"):
        page.clock.fast_forward(16_000)
    expect(page.locator("#prompts")).to_contain_text("7 of 8 prompts settled")
    assert page.evaluate("window.same"), "the page was not loaded anew"
    label(shop, "coin", 1, np.random.default_rng(2))
    with page.expect_response(f"{shop.url}/owner"):
        page.clock.fast_forward(16_000)
    expect(page.locator("#prompts")).to_contain_text("8 of 8 prompts settled")
    assert said == []


def test_a_reviewer_settles_a_dispute_with_the_keyboard_alone_on_a_phone(shop, visit):
    page = visit(shop, "rosa", Role.REVIEWER, viewport=PHONE)
    said = watch(page, shop.url)
    page.goto(f"{shop.url}/owner/agreement")
    page.wait_for_selector(".cards")
    page.goto(f"{shop.url}/owner/disagreements")
    page.locator(".queue a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#final")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    ids = page.eval_on_selector_all("#final select", "all => all.map(one => one.name.slice(6))")
    page.locator("#final select").first.focus()
    for key in ("2", "1", "F"):
        page.keyboard.press(key)
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "note"
    page.keyboard.type("the law decides")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector(".notice.good")
    (final,) = [ranking for ranking in shop.rankings() if ranking.arm == "adjudicated"]
    assert (final.labeler, final.note) == ("rosa", "the law decides")
    assert final.tiers == ((ids[1],), (ids[0],))
    assert final.fails == (ids[2],)
    assert final.shown == tuple(ids)
    assert said == []


def test_an_incomplete_final_ranking_is_not_sent(shop, visit):
    page = visit(shop, "rosa", Role.REVIEWER)
    prompt = shop.rankings()[0].prompt_id
    page.goto(f"{shop.url}/owner/case?prompt={prompt}")
    page.locator("#final select").first.select_option("1")
    page.get_by_role("button", name="Store the final ranking").click()
    assert page.evaluate("document.activeElement.name").startswith("place:")
    assert not [ranking for ranking in shop.rankings() if ranking.arm == "adjudicated"]
