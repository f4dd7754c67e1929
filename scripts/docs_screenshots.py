#!/usr/bin/env python3
"""The documentation's pictures of the labelling app and of the live page of training, taken in Chromium.

    scripts/docs_screenshots.py          writes docs/figures/label-*.png and watch.png
    scripts/docs_screenshots.py label    the former alone; watch: the latter

The app runs on a workspace of the help desk, whose seven labelers are simulated: over three days they
answer what the app hands them. Then the script signs in and looks. The training is PPO on the same desk,
whose reward is planted to be hacked: it pays for words, whatever they say. Needs accord's test extra and a
Chromium (ACCORD_CHROMIUM, or on PATH). Ids are drawn anew each time, so the pictures differ in detail.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from accord.feedback.app.main import create_app
from accord.feedback.labeling import people
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.people import Role
from accord.feedback.labeling.queue import Assignment, claim, fill, set_gold
from accord.feedback.labeling.submit import Answer, skip, submit
from accord.recipes.helpdesk.demo import MODELS
from accord.recipes.helpdesk.judge import GoldJudge
from accord.recipes.helpdesk.labelers import Labeler, make_labelers, must_fail
from accord.recipes.helpdesk.world import good_reply, make_prompts, write_reply
from accord.recipes.labeling import listen
from accord.recipes.steps import AlignStepConfig, align
from accord.recipes.watching import WatchConfig
from accord.recipes.watching import page as live_page
from accord.types import Completion, Prompt, Score
from accord.workspace import Workspace

OUT = Path(__file__).resolve().parent.parent / "docs" / "figures"
NOW = 1_795_000_000.0
DAY = 86_400.0
PROMPTS = 130
GOLD = 8
LABELS = 330
"""Some three for each of nine prompts in ten."""
CONFIG = LabelConfig(port=0, gold_share=0.06, repeat_share=0.06)
DESK = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 780}
TALL = {"width": 1280, "height": 1000}
TRAINING_STEPS, TRAINING_SHOWN = 30, 24
LARGEST = 150_000
ONE_FAIL = ([False, True, False, False], [False, False, True, False])
"""Which of the four answers shown is one to fail."""


class AsShown(random.Random):
    """Draws, but leaves completions in the order in which the app shows them."""

    def sample(self, population: Sequence[Any], k: int, **_: Any) -> list[Any]:
        return list(population[:k])


def main() -> None:
    asked = sys.argv[1:] or ["label", "watch"]
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        if "label" in asked:
            workspace = make_workspace(Path(folder) / "desk")
            label(workspace)
            with serve(workspace) as address:
                take(browser, workspace, address)
        if "watch" in asked:
            take_training(browser, Path(folder) / "training")


def make_workspace(folder: Path) -> Workspace:
    """Prompts with four replies each, one of them good."""
    workspace = Workspace.create(folder)
    rng = random.Random("screenshots")
    prompts = make_prompts(PROMPTS, 5, "train")
    groups = []
    for prompt in prompts:
        texts = [good_reply(prompt, rng)]
        while len(texts) < 4:
            texts = list(dict.fromkeys([*texts, write_reply(prompt, rng)]))
        groups.append((prompt, [Completion(text) for text in texts]))
    workspace.store.add_groups(groups)
    held = workspace.store.completions([prompt.id for prompt in prompts])
    for prompt in prompts[:GOLD]:
        worth = {each.id: score.value for each, score in judged(prompt, held[prompt.id])}
        best, *rest = sorted(worth, key=lambda id: -worth[id])
        set_gold(workspace.store, prompt.id, [[best], rest], criterion=CONFIG.criterion)
    return workspace


def judged(prompt: Prompt, completions: Sequence[Completion]) -> list[tuple[Completion, Score]]:
    """Each completion with its gold score."""
    return list(zip(completions, GoldJudge().score(prompt, completions), strict=True))


def label(workspace: Workspace) -> None:
    """Three days of simulated work, everybody at their own times, with few prompts left."""
    store, labelers = workspace.store, make_labelers(3)
    version, _ = workspace.guidelines()
    for each in labelers:
        people.add_person(store, each.name, Role.LABELER, NOW - 3 * DAY)
        people.acknowledge(store, each.name, version, NOW - 3 * DAY)
    fill(store, CONFIG)
    rng = AsShown("labelers")
    for n in range(LABELS):
        who = rng.choice(labelers)
        now = NOW - 2.9 * DAY * (1 - n / LABELS) ** 1.4 - rng.uniform(1, 300)
        task = claim(store, who.name, CONFIG, now)
        if task is None:
            continue
        if rng.random() < 0.01:
            skip(store, who.name, task.id, "cannot judge", "", f"key-{n}", now)
            continue
        submit(store, who.name, task.id, answer(who, task, rng), f"key-{n}", version, CONFIG, now)


def answer(who: Labeler, task: Assignment, rng: random.Random) -> Answer:
    """What a simulated labeler says of a task."""
    ranking = who.rank(task.prompt, task.completions, rng)
    return Answer(ranking.tiers, ranking.fails, seconds=ranking.seconds)


@contextmanager
def serve(workspace: Workspace) -> Iterator[str]:
    """The app's address; it runs while the context lasts."""
    app = create_app(workspace, CONFIG, lambda: NOW)
    with listen(CONFIG) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@contextmanager
def chromium() -> Iterator[Browser]:
    path = os.environ.get("ACCORD_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        sys.exit("no Chromium on PATH (apt install chromium, or set ACCORD_CHROMIUM)")
    with sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])


def take(browser: Browser, workspace: Workspace, address: str) -> None:
    """The four pictures; the owner's first, since looking for tasks to show skips others."""
    owner = visit(browser, workspace, address, "owner", Role.OWNER, DESK, "light")
    owner.goto(f"{address}/owner")
    picture(owner, "label-progress")
    owner.goto(f"{address}/owner/labelers")
    owner.wait_for_selector("table.lines", timeout=60_000)
    picture(owner, "label-labelers")
    desk = visit(browser, workspace, address, "new-labeler", Role.LABELER, DESK, "light")
    rank(desk, workspace, address, "new-labeler")
    desk.evaluate("scrollTo(0, 0)")
    picture(desk, "label-desktop")
    phone = visit(browser, workspace, address, "on-a-phone", Role.LABELER, PHONE, "dark")
    rank(phone, workspace, address, "on-a-phone")
    phone.locator(".answer").nth(1).scroll_into_view_if_needed()
    picture(phone, "label-phone")


def visit(
    browser: Browser, workspace: Workspace, address: str, name: str, role: Role, size: Any, scheme: Any
) -> Page:
    """A browser of somebody who has signed in and read the guidelines."""
    store = workspace.store
    who = people.add_person(store, name, role, NOW)
    people.acknowledge(store, name, workspace.guidelines()[0], NOW)
    context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    secret = people.open_session(store, who, NOW)
    context.add_cookies([{"name": "accord_session", "value": secret, "url": address}])
    return context.new_page()


def rank(page: Page, workspace: Workspace, address: str, name: str) -> None:
    """Open a task with one answer to fail, and place all answers but the last as the gold judge would."""
    task = claim(workspace.store, name, CONFIG, NOW)
    while task and [must_fail(s) for _, s in judged(task.prompt, task.completions)] not in ONE_FAIL:
        skip(workspace.store, name, task.id, "other", "", task.id, NOW)
        task = claim(workspace.store, name, CONFIG, NOW)
    assert task is not None, "no open prompt has one answer to fail; make more prompts"
    page.goto(f"{address}/label")
    page.wait_for_selector("#task[data-ready]")
    scored = judged(task.prompt, task.completions)
    kept = sorted({round(score.value, 1) for _, score in scored if not must_fail(score)}, reverse=True)
    for n, (_, score) in enumerate(scored[:-1]):
        page.locator(".answer").nth(n).focus()
        page.keyboard.press("f" if must_fail(score) else str(1 + kept.index(round(score.value, 1))))


class Enough(Exception):
    """The picture is taken; the rest of the training would show nothing more."""


def take_training(browser: Browser, folder: Path) -> None:
    """Train with the live page beside, and take it in the middle."""
    workspace = Workspace.create(folder)
    workspace.store.add_prompts(make_prompts(TRAINING_STEPS * 16, 3, "train"))
    (folder / "wordy.py").write_text(
        "def pay(prompt, completion):\n    return len(completion.text.split()) / 20\n"
    )
    (folder / "wordy.toml").write_text('[words]\nfunction = "wordy:pay"\n')
    config = AlignStepConfig(
        model=str(MODELS / "decoder"), reward="wordy.toml", steps=TRAINING_STEPS, prompts_per_step=16,
        minibatch=16, epochs=2, learning_rate=1.2e-3, critic_learning_rate=5e-3, lam=1.0, beta=0.02,
        max_new_tokens=64, truncation_penalty=0.2,
    )  # fmt: skip
    page = browser.new_context(viewport=TALL, color_scheme="light", reduced_motion="reduce").new_page()
    live = live_page(WatchConfig(port=0), lambda address: page.goto(address) and None)

    def progress(metrics: Mapping[str, float]) -> None:
        print(f"step {metrics['step']}: reward {metrics['reward']:.2f}", file=sys.stderr)
        if metrics["step"] == TRAINING_SHOWN:
            page.wait_for_selector(f"#samples[data-step='{TRAINING_SHOWN}']")
            picture(page, "watch")
            raise Enough

    with suppress(Enough):
        align(workspace, config, watch={"gold": GoldJudge()}, progress=progress, listeners=[live])


def picture(page: Page, name: str) -> None:
    """What is on the screen, as a PNG of 128 colours."""
    page.wait_for_timeout(700)  # drafts are saved, pages' scripts have drawn
    image = Image.open(BytesIO(page.screenshot())).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    file = OUT / f"{name}.png"
    image.save(file, optimize=True)
    if file.stat().st_size > LARGEST:
        sys.exit(f"{file} has {file.stat().st_size:,} bytes, more than {LARGEST:,}; make it smaller")
    print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
