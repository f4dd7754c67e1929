"""Rankings entered in a real browser, by keyboard, mouse and touch: what is stored is what was entered."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from accord.types import Prompt
from labeling_browser import DESK, SMALL_PHONE, Live, assignment_of, next_task, open_task, shown_of

Places = dict[str, int | str]
SEEDS = [pytest.param(seed, marks=[] if seed == 0 else pytest.mark.slow) for seed in range(4)]
TASKS = 4


def prompts(rng: random.Random, count: int) -> list[tuple[Prompt, list[str]]]:
    """Prompts of 2 to 6 answers, some a line and some a page."""
    return [
        (
            Prompt.from_text(f"question {i}?"),
            [f"answer {i}.{k} " + "and so on " * rng.choice([0, 3, 150]) for k in range(rng.randint(2, 6))],
        )
        for i in range(count)
    ]


def draw(rng: random.Random, shown: list[str]) -> Places:
    """A random ranking: any tiers with gaps and ties, some FAIL."""
    return {id: "fail" if rng.random() < 0.2 else rng.randint(1, len(shown)) for id in shown}


def ordered(places: Places) -> tuple[list[set[str]], set[str]]:
    """The ranking that such places mean: tiers best first, and the FAILs."""
    tiers: dict[int, set[str]] = {}
    for id, at in places.items():
        if isinstance(at, int):
            tiers.setdefault(at, set()).add(id)
    return [tiers[at] for at in sorted(tiers)], {id for id, at in places.items() if at == "fail"}


def many_ties(places: Places, limit: float = 0.34) -> bool:
    """Whether the page must ask: tied pairs over pairs, FAIL with FAIL left out."""
    tiers, fails = ordered(places)
    pairs = lambda n: n * (n - 1) // 2  # noqa: E731
    total = pairs(len(places)) - pairs(len(fails))
    return bool(total) and sum(pairs(len(tier)) for tier in tiers) / total > limit


def enter_all(page: Page, app: Live, rng: random.Random, enter: Callable[..., None]) -> None:
    """Rank every task by ``enter``, with changes of mind, and compare what is stored."""
    entered = {}
    open_task(page, app)
    for _ in range(TASKS):
        shown, task = shown_of(page), assignment_of(page)
        places = draw(rng, shown)
        order = rng.sample(shown, len(shown))
        for id in order:
            if rng.random() < 0.25:
                enter(page, id, rng.randint(1, len(shown)))  # and then another thought
                if rng.random() < 0.5:
                    enter(page, id, "tray")
            enter(page, id, places[id])
            expect(page.locator(f'[data-lane="{places[id]}"] .chip[data-id="{id}"]')).to_have_count(1)
        entered[task] = (places, shown)
        submit(page, enter, many_ties(places))
        next_task(page, task)
    stored = {ranking.assignment: ranking for ranking in app.rankings()}
    assert len(app.rankings()) == len(stored) == TASKS
    for task, (places, shown) in entered.items():
        tiers, fails = ordered(places)
        assert [set(tier) for tier in stored[task].tiers] == tiers
        assert set(stored[task].fails) == fails
        assert list(stored[task].shown) == shown
        assert stored[task].guidelines == app.workspace.guidelines()[0]
        assert stored[task].seconds is not None


def submit(page: Page, enter: Callable[..., None], asks: bool) -> None:
    expect(page.locator("#submit")).to_have_attribute("aria-disabled", "false")
    if enter is by_keyboard:
        page.keyboard.press("Enter")
        if asks:
            expect(page.locator("#ties-dialog button:focus")).to_have_text("Look again")
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
        return
    press = page.tap if enter is by_touch else page.click
    press("#submit")
    if asks:
        press("#ties-submit")


def by_keyboard(page: Page, id: str, lane: int | str) -> None:
    """Walk to the answer with J and K, arrows or both, and press its key."""
    shown = shown_of(page)
    here = shown.index(page.eval_on_selector(".answer.current", "card => card.dataset.id"))
    for step in range(abs(shown.index(id) - here)):
        forward = shown.index(id) > here
        page.keyboard.press(("jk" if step % 2 else ["ArrowRight", "ArrowLeft"])[0 if forward else 1])
    page.keyboard.press({"fail": "f", "tray": "u"}.get(str(lane), str(lane)))


def by_mouse(page: Page, id: str, lane: int | str) -> None:
    """Drag the letter where its lane is in sight, from the board or from the answer; else the button."""
    target = page.locator(f'[data-lane="{lane}"]')
    chip = page.locator(f'.chip[data-id="{id}"]')
    if target.is_visible() and hash_of(id, lane) % 2:
        drag(page, chip, target)
    elif (button := page.locator(f'.answer[data-id="{id}"] [data-move="{lane}"]')).is_enabled():
        button.click()


def by_touch(page: Page, id: str, lane: int | str) -> None:
    chip, target = page.locator(f'.chip[data-id="{id}"]'), page.locator(f'[data-lane="{lane}"]')
    if target.is_visible() and hash_of(id, lane) % 2 and within_reach(page, chip, target):
        drag_finger(page, chip, target)
    elif (button := page.locator(f'.answer[data-id="{id}"] [data-move="{lane}"]')).is_enabled():
        button.tap()


def within_reach(page: Page, chip, target) -> bool:
    """Whether one finger finds both on the screen: with six completions the lanes are wider than a phone."""
    centre(chip)
    box = target.bounding_box()
    return 0 <= box["x"] + box["width"] / 2 < page.viewport_size["width"]


def hash_of(id: str, lane: int | str) -> int:
    """A coin that falls the same way on each run."""
    return random.Random(f"{id}{lane}").getrandbits(8)


def centre(locator) -> tuple[float, float]:
    locator.scroll_into_view_if_needed()
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: Page, source, target) -> None:
    x, y = centre(source)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 8, y + 8, steps=3)
    page.mouse.move(*centre(target), steps=6)
    page.mouse.up()


def drag_finger(page: Page, source, target) -> None:
    finger = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": x, "y": y} for x, y in points]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    x, y = centre(source)
    box = target.bounding_box()  # not scrolled to: that would move the source away
    to_x, to_y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch("touchStart", (x, y))
    for part in (0.1, 0.3, 0.6, 0.9, 1.0):
        touch("touchMove", (x + part * (to_x - x), y + part * (to_y - y)))
    touch("touchEnd")
    finger.detach()


@pytest.mark.parametrize("seed", SEEDS)
def test_keyboard_only(live, visit, seed: int) -> None:
    rng = random.Random(seed)
    app = live(prompts(rng, TASKS), completions=6)
    enter_all(visit(app, viewport=DESK), app, rng, by_keyboard)


@pytest.mark.parametrize("seed", SEEDS)
def test_mouse_buttons_and_drag(live, visit, seed: int) -> None:
    rng = random.Random(100 + seed)
    app = live(prompts(rng, TASKS), completions=6)
    enter_all(visit(app, viewport=DESK), app, rng, by_mouse)


@pytest.mark.parametrize("seed", SEEDS)
def test_touch_on_a_small_phone(live, visit, seed: int) -> None:
    rng = random.Random(200 + seed)
    app = live(prompts(rng, TASKS), completions=6)
    page = visit(app, viewport=SMALL_PHONE, has_touch=True, is_mobile=True)
    enter_all(page, app, rng, by_touch)


def test_the_answer_itself_can_be_dragged(live, visit) -> None:
    app = live([(Prompt.from_text("q"), ["a", "b"])])
    page = visit(app)
    open_task(page, app)
    drag(page, page.locator("#answer-A .badge"), page.locator('[data-lane="1"]'))
    expect(page.locator("#place-A")).to_have_text("Tier 1")
    expect(page.locator("#answer-A .badge")).to_have_text("A")
    expect(page.locator('[data-lane="1"] .chip')).to_have_count(1)


def test_nothing_is_placed_before_the_labeler_places_it(live, visit) -> None:
    app = live([(Prompt.from_text("q"), ["a", "b", "c"])])
    page = visit(app)
    open_task(page, app)
    expect(page.locator('[data-lane="tray"] .chip')).to_have_count(3)
    expect(page.locator("#reason")).to_have_text("Still to place: A, B, C.")
    page.keyboard.press("Enter")
    page.locator("#submit").click(force=True)  # it says that it is disabled, and why
    expect(page.locator("#said")).to_have_text("Still to place: A, B, C.")
    assert app.rankings() == []


def test_lanes_appear_as_they_are_needed(live, visit) -> None:
    app = live([(Prompt.from_text("q"), ["a", "b", "c", "d"])])
    page = visit(app)
    open_task(page, app)
    lanes = page.locator(".lane.tier:visible")
    expect(lanes).to_have_count(1)
    page.keyboard.press("1")
    expect(lanes).to_have_count(2)
    page.keyboard.press("3")
    expect(lanes).to_have_count(4)
    page.keyboard.press("u")
    expect(lanes).to_have_count(1)
    page.keyboard.press("9")  # no tier for it
    expect(page.locator("#said")).to_have_text("There are 4 answers, so tiers go from 1 to 4.")
    expect(page.locator('[data-lane="tray"] .chip')).to_have_count(4)


def test_shift_and_a_number_make_a_tier_between_two(live, visit) -> None:
    app = live([(Prompt.from_text("q"), ["a", "b", "c"])])
    page = visit(app)
    task = open_task(page, app)
    a, b, c = shown_of(page)
    for key in ("1", "j", "2", "j", "Shift+Digit2"):
        page.keyboard.press(key)
    expect(page.locator("#place-B")).to_have_text("Tier 3")
    page.keyboard.press("Enter")
    next_task(page, task)
    assert app.rankings()[0].tiers == ((a,), (c,), (b,))


def test_ties_are_asked_about_once_more(live, visit) -> None:
    app = live([(Prompt.from_text("q"), ["a", "b", "c"])])
    page = visit(app)
    task = open_task(page, app)
    for key in ("1", "j", "1", "j", "1", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#ties-said")).to_have_text("You put all answers on one tier: A = B = C.")
    page.keyboard.press("Enter")  # look again
    expect(page.locator("#ties-dialog")).to_be_hidden()
    assert app.rankings() == []
    page.keyboard.press("2")
    page.keyboard.press("Enter")  # one pair of three is within the budget
    next_task(page, task)
    assert [len(tier) for tier in app.rankings()[0].tiers] == [2, 1]


def test_partial_rankings_where_the_project_allows_them(live, visit) -> None:
    app = live([(Prompt.from_text("q"), ["a", "b", "c"])], partial=True)
    page = visit(app)
    task = open_task(page, app)
    a, b, _ = shown_of(page)
    page.keyboard.press("2")
    expect(page.locator("#reason")).to_have_text("Place at least two answers, or fail one.")
    page.keyboard.press("j")
    page.keyboard.press("1")
    expect(page.locator("#reason")).to_have_text("Ready; unranked answers count as not judged.")
    page.keyboard.press("Enter")
    next_task(page, task)
    assert app.rankings()[0].tiers == ((b,), (a,))


def test_a_note_is_kept_and_its_letters_are_no_commands(live, visit) -> None:
    app = live([(Prompt.from_text("q"), ["a", "b"])])
    page = visit(app)
    task = open_task(page, app)
    for key in ("1", "j", "f", "n"):
        page.keyboard.press(key)
    page.keyboard.type("fuzzy 123 dj?")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    next_task(page, task)
    (ranking,) = app.rankings()
    assert ranking.note == "fuzzy 123 dj?"
    assert [len(ranking.tiers), len(ranking.fails)] == [1, 1]


def test_single_letter_keys_can_be_turned_off(live, visit) -> None:
    app = live([(Prompt.from_text("q"), ["a", "b"])])
    page = visit(app)
    open_task(page, app)
    page.keyboard.press("?")
    page.uncheck("#keys-on")
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    expect(page.locator("#place-A")).to_have_text("Unranked")
    page.reload()
    page.wait_for_selector("#task[data-ready]")
    page.keyboard.press("f")
    expect(page.locator("#place-A")).to_have_text("Unranked")


@pytest.mark.parametrize("opens", ["?", "d", "s", "r"])
def test_the_key_after_a_closed_dialog_is_not_lost(live, visit, opens: str) -> None:
    """The browser leaves the focus on the closed dialog's field for a moment."""
    app = live([(Prompt.from_text("q"), ["a", "b"])])
    page = visit(app)
    open_task(page, app)
    for key in (opens, "Escape", "1", "j", "2"):
        page.keyboard.press(key)
    expect(page.locator("#reason")).to_have_text("Ready to submit.")
