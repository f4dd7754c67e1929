"""The task page for everybody: contrast, names, focus, small screens; and nothing in a text is obeyed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from accord.feedback.app.deps import HERE
from accord.types import Message, Prompt
from labeling_browser import DESK, PHONE, SMALL_PHONE, assignment_of, next_task, open_task, ready, watch

CHECK = Path(__file__).with_name("check_page.js").read_text()
CSS = (HERE / "static" / "base.css").read_text()
PALETTE = dict(re.findall(r"--([\w-]+): light-dark\(([^)]*)\)", CSS))
TEXT_ON = [
    ("ink", "paper surface plain-wash accent-wash ins del good-wash bad-wash warn-wash"),
    ("muted", "paper surface plain-wash"),
    ("accent", "paper surface plain-wash accent-wash"),
    ("on-accent", "accent"),
    ("good", "surface paper plain-wash good-wash"),
    ("bad", "surface paper plain-wash bad-wash"),
    ("warn", "warn-wash surface paper"),
    ("surface", "good bad"),
]
HOSTILE = (
    "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>"
    "![x](http://evil.example/pixel.png) [click](javascript:window.pwned=1) </script></pre></textarea>"
    "<svg onload=window.pwned=1> \u202e" + "W" * 600
)


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb by WCAG 2.2."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def colours(name: str, scheme: int) -> str:
    return PALETTE[name].split(",")[scheme].strip()


def test_contrast_of_known_colours() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_the_palette_meets_wcag_aa(scheme: int) -> None:
    for front, behind in TEXT_ON:
        for back in behind.split():
            assert contrast(colours(front, scheme), colours(back, scheme)) >= 4.5, (front, back)
    for part, back in [("edge", "surface"), ("edge", "paper"), ("accent", "surface"), ("accent", "paper")]:
        assert contrast(colours(part, scheme), colours(back, scheme)) >= 3, (part, back)


@pytest.mark.parametrize("protocol", ["rank", "pair", "thumb", "edit"])
def test_texts_names_targets_and_width(live, visit, protocol: str) -> None:
    app = live([prompt("Where is it?")], protocol=protocol)
    page = visit(app, viewport=SMALL_PHONE)
    complaints = watch(page, app.url)
    open_task(page, app)
    page.keyboard.press("1")
    for width in (320, 360, 390, 768, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        check_page(page)
        for dialog in ("keys", "skip", "flag", "diff"):
            page.evaluate("id => document.getElementById(id).showModal()", f"{dialog}-dialog")
            check_page(page)
            page.keyboard.press("Escape")
    assert complaints == []


def test_the_check_sees_planted_faults(live, visit) -> None:
    app = live([prompt("q")])
    page = visit(app)
    open_task(page, app)
    page.evaluate(
        """() => {
          const plant = (html) => document.querySelector('.work').insertAdjacentHTML('beforeend', html);
          plant('<button></button>');
          plant('<p class="pale" id="note">pale</p>');
          plant('<p aria-describedby="nowhere">lost</p>');
          document.querySelector('.pale').style.color = '#aaa';
        }"""
    )
    faults = " ".join(page.evaluate(CHECK))
    for fault in ("no name: <button>", "contrast 2.", "id twice: note", "refers to nothing: nowhere"):
        assert fault in faults


def check_page(page: Page) -> None:
    assert page.evaluate(CHECK) == []


def prompt(text: str, *answers: str) -> tuple[Prompt, list[str]]:
    """A conversation, with two answers unless they are given."""
    turns = (
        Message("system", "Be brief."),
        Message("user", "Hello"),
        Message("assistant", "Hi"),
        Message("user", text),
    )
    return Prompt(turns), list(
        answers or ("# It is *here*\n\n1. a\n2. b", "Look:\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    )


def test_tab_walks_through_every_control_and_out_again_and_focus_is_seen(live, visit) -> None:
    app = live([prompt("q")])
    page = visit(app)
    open_task(page, app)
    walked: list[str] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        walked.append(page.evaluate(FOCUS))
        if walked[-1].startswith("body"):
            break
    assert walked[-1].startswith("body"), "the focus never leaves the page"
    unseen = [place for place in walked[:-1] if place.endswith("no outline")]
    assert unseen == []
    names = " ".join(walked)
    order = ["Answer A on tier 1", "Answer B on tier 1", "Go to answer", "submit", "guidelines"]
    assert [names.find(each) for each in order] == sorted(names.find(each) for each in order)
    assert -1 not in [names.find(each) for each in order]
    page.keyboard.press("Shift+Tab")
    assert not page.evaluate(FOCUS).startswith("body")


FOCUS = """
() => {
  const e = document.activeElement;
  if (e === document.body) return 'body';
  const style = getComputedStyle(e);
  const seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
  return `${e.tagName} ${e.id} ${e.ariaLabel ?? ''} ${seen ? 'outlined' : 'no outline'}`;
}
"""


def test_each_move_is_said(live, visit) -> None:
    app = live([prompt("q")])
    page = visit(app)
    open_task(page, app)
    said = page.locator("#said")
    for key, words in [
        ("1", "Answer A on tier 1. Still to place: B."),
        ("j", None),
        ("1", "Answer B on tier 1, tied with A. Ready to submit."),
        ("f", "Answer B fails. Ready to submit."),
        ("u", "Answer B unranked. Still to place: B."),
        ("z", "Last move undone."),
    ]:
        page.keyboard.press(key)
        if words:
            expect(said).to_have_text(words)
    expect(page.locator("#answer-B [data-move=fail]")).to_have_attribute("aria-pressed", "true")


def test_a_screen_reader_reads_the_board_as_it_is(live, visit) -> None:
    app = live([prompt("q")])
    page = visit(app)
    open_task(page, app)
    page.keyboard.press("1")
    expect(page.locator(".board")).to_match_aria_snapshot("""
      - list:
        - listitem:
          - text: 1 · best
          - list "1 · best":
            - listitem:
              - button "Go to answer A"
    """)


def test_nothing_in_a_text_is_obeyed(live, visit) -> None:
    app = live([prompt(HOSTILE, HOSTILE, f"{HOSTILE} too")])
    page = visit(app, viewport=PHONE)
    complaints = watch(page, app.url)
    task = open_task(page, app)
    for key in ("1", "j", "2", "d", "Escape"):
        page.keyboard.press(key)
    for button in page.locator("[data-raw]").all():
        button.click()
    expect(page.locator("#text-A .raw")).to_contain_text("<script>window.pwned = 1</script>")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.locator("#answer-A").focus()
    page.keyboard.press("Enter")
    next_task(page, task)
    assert page.evaluate("window.pwned") is None
    assert complaints == []
    assert len(app.rankings()) == 1


def test_no_word_of_models_arms_or_purposes_reaches_the_page(project) -> None:
    browser = project.browser("ada")
    version = project.workspace.guidelines()[0]
    browser.send_form("/guidelines/acknowledge", version=version)
    page = browser.get("/label").text
    assert "answer 0." in page or "answer" in page
    for secret in ("secret-model", "secret-meta", "rendered", "purpose", "random", "gold", "0.123456"):
        assert secret not in page


def test_the_switch_of_light_and_dark_is_remembered(live, visit) -> None:
    app = live([prompt("q")])
    page = visit(app, color_scheme="light")
    open_task(page, app)
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.click("[data-theme-switch]")
    dark = page.evaluate(background)
    assert light != dark
    page.reload()
    ready(page)
    assert page.evaluate(background) == dark
    page.click("[data-theme-switch]")
    assert page.evaluate(background) == light


def test_guidelines_are_beside_the_task_or_a_sheet_on_a_phone(live, visit) -> None:
    app = live([prompt("q")])
    page = visit(app, viewport=DESK)
    open_task(page, app)
    guide = page.locator("#guide")
    expect(guide).to_be_visible()
    page.set_viewport_size(PHONE)
    expect(guide).to_be_hidden()
    page.click("button:has-text('Guidelines')")
    expect(guide).to_be_visible()
    page.keyboard.press("1")  # keys rest while the sheet is open
    page.keyboard.press("Escape")
    expect(guide).to_be_hidden()
    expect(page.locator("#place-A")).to_have_text("Unranked")
    assert assignment_of(page)


def test_vendored_files_are_those_of_the_table() -> None:
    folder = HERE / "static" / "vendor"
    table = dict(
        re.findall(r"^\| `(\S+\.js)` .*`([0-9a-f]{64})` \|$", (folder / "README.md").read_text(), re.M)
    )
    assert table == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.js")}
    assert table
    for licence in ("htmx.LICENSE", "sortable.LICENSE"):
        assert (folder / licence).stat().st_size > 500
