"""The live page in a real browser: curves, verdicts and samples as they come, keys, phone, dark, the end."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from accord.serve import watch
from accord.serve.watch import Server
from accord.store.lineage import Status
from labeling_browser import SMALL_PHONE
from labeling_browser import watch as complaints
from watched_run import GrowingRun

Visit = Callable[..., Page]
CHECK = (Path(__file__).parents[1] / "feedback" / "app" / "check_page.js").read_text()
GREW = "completions grew from 25 to 41 tokens"


def shows(page: Page, steps: int) -> None:
    """Wait until so many steps are drawn."""
    page.wait_for_selector(f"#board[data-steps='{steps}']")


def opened(page: Page, served: Server, steps: int) -> None:
    page.goto(served.address)
    page.wait_for_selector("#board[data-status]")
    shows(page, steps)


INK = """canvas => {
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const pen = copy.getContext("2d", { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0);
  return pen.getImageData(0, 0, copy.width, copy.height).data.filter((v, i) => i % 4 === 3 && v > 0).length;
}"""


def inked(page: Page, title: str) -> int:
    """Pixels of a chart's canvas that are not empty."""
    return page.locator("figure", has_text=title).locator("canvas").evaluate(INK)


def test_curves_samples_and_verdicts_come_without_a_reload(
    run: GrowingRun, served: Server, visit: Visit
) -> None:
    page = visit()
    said = complaints(page, served.address)
    opened(page, served, 0)
    expect(page.locator("#status")).to_have_text("Starting")
    expect(page.locator("#nothing")).to_be_visible()
    run.steps(1, 6)
    shows(page, 6)
    expect(page.locator("#status")).to_have_text("Running")
    expect(page.locator("#count")).to_have_text("step 6 of 40")
    expect(page.locator(".chart h2")).to_have_count(7)
    expect(page.locator("figure", has_text="Reward").locator(".legend")).to_contain_text("witness (watched)")
    before = inked(page, "Reward")
    assert before > 500, "the curve is drawn"
    run.step(7, ("warn", GREW))
    shows(page, 7)
    expect(page.locator("#verdicts li")).to_have_count(1)
    expect(page.locator("#verdicts li")).to_contain_text(GREW)
    assert inked(page, "Reward") > before, "the verdict is marked on the chart"
    run.step(8, ("warn", "one phrase spread"))
    shows(page, 8)
    expect(page.locator("#verdicts li")).to_contain_text("steps 7 to 8")
    expect(page.locator("#verdicts li")).to_contain_text(GREW)
    expect(page.locator("#verdicts .latest")).to_have_text("At step 8: one phrase spread")
    expect(page.locator("#samples[data-step='8'] .sample")).to_have_count(3)
    expect(page.locator(".sample").first).to_contain_text("Where is order 8?")
    expect(page.locator(".sample").first).to_contain_text("helpful 1.500".replace(" ", ""))
    assert said == []


def test_steps_are_browsed_by_keys_and_clicks_while_new_ones_come(
    run: GrowingRun, served: Server, visit: Visit
) -> None:
    run.steps(1, 9)
    run.step(10, ("raise beta", "three doubts"))
    run.steps(11, 14)
    page = visit()
    opened(page, served, 14)
    shown = page.locator("#shown")
    expect(shown).to_have_text("of step 14")
    for key, step in (
        ("ArrowLeft", 13),
        ("ArrowLeft", 12),
        ("ArrowRight", 13),
        ("Shift+V", 10),
        ("Home", 1),
        ("v", 10),
    ):
        page.keyboard.press(key)
        expect(shown).to_have_text(f"of step {step}")
    expect(page.locator("#samples[data-step='10'] .sample").first).to_contain_text("Where is order 10?")
    run.steps(15, 16)
    shows(page, 16)
    expect(shown).to_have_text("of step 10")
    page.keyboard.press("End")
    expect(shown).to_have_text("of step 16")
    expect(page.locator("#follow")).to_have_attribute("aria-pressed", "true")
    page.locator("#verdicts button").click()
    expect(shown).to_have_text("of step 10")
    page.locator("figure", has_text="Entropy").locator(".u-over").click(position={"x": 2, "y": 40})
    expect(shown).to_have_text("of step 1")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("#figures summary").click()
    expect(page.locator("#figures-body")).to_contain_text("witness agrees")


def test_what_a_model_says_is_shown_and_never_run(run: GrowingRun, served: Server, visit: Visit) -> None:
    evil = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
    path = run.training / "samples.jsonl"
    run.steps(1, 1)
    path.write_text(path.read_text().replace("Best paid: it left on Friday, 1.", evil.replace('"', '\\"')))
    run.step(2, ("warn", evil))
    page = visit()
    said = complaints(page, served.address)
    opened(page, served, 2)
    page.keyboard.press("Home")
    expect(page.locator(".answer").first).to_have_text(evil)
    expect(page.locator("#verdicts")).to_contain_text("onerror")
    assert "hacked" not in page.title()
    assert said == []


def test_a_resume_and_an_end_are_seen(run: GrowingRun, served: Server, visit: Visit, monkeypatch) -> None:
    monkeypatch.setattr(watch, "LOOK_STATE", 0.1)
    run.steps(1, 8)
    page = visit()
    opened(page, served, 8)
    run.rewrite(5)
    shows(page, 5)
    expect(page.locator("#shown")).to_have_text("of step 5")
    run.status = Status.DONE
    run.metrics = {
        "end": "rolled back by its guard",
        "reason": "the reward rises while witness falls",
        "kept": 3,
    }
    expect(page.locator("#status")).to_have_text("Rolled back")
    expect(page.locator("#word")).to_contain_text(
        "the reward rises while witness falls. The model has the weights after 3"
    )
    served.stop()
    page.wait_for_selector("#board[data-status='over']")
    expect(page.locator("#status")).to_have_text("Rolled back")
    assert inked(page, "Reward") > 500, "what was seen stays"


APART = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from accord.serve.watch import Server, WatchConfig
from watched_run import GrowingRun
server = Server(WatchConfig(port=int(sys.argv[3])))
server.start(GrowingRun(Path(sys.argv[2])).look)
print(server.address, flush=True)
server.wait()
"""


@contextmanager
def apart(run: GrowingRun, port: int) -> Iterator[str]:
    """The page served by another process, which is killed at the end; its address."""
    words = [sys.executable, "-c", APART, str(Path(__file__).parents[1]), str(run.folder), str(port)]
    paths = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
    ) as child:
        assert child.stdout is not None
        try:
            yield child.stdout.readline().strip()
        finally:
            child.kill()


def test_a_server_that_was_killed_is_missed_and_found_again(run: GrowingRun, visit: Visit) -> None:
    run.steps(1, 3)
    page = visit()
    with apart(run, 0) as address:
        page.goto(address)
        shows(page, 3)
    expect(page.locator("#status")).to_have_text("No connection")
    assert inked(page, "Reward") > 500, "what was seen stays"
    run.steps(4, 5)
    with apart(run, int(address.rsplit(":", 1)[1])):
        shows(page, 5)
        expect(page.locator("#status")).to_have_text("Running")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_and_a_machine_finds_no_fault(
    run: GrowingRun, served: Server, visit: Visit, scheme: str
) -> None:
    run.steps(1, 5)
    run.step(6, ("roll back", "a-very-long-word-without-a-break" * 9))
    page = visit(viewport=SMALL_PHONE, color_scheme=scheme)
    opened(page, served, 6)
    page.wait_for_selector(".sample")
    assert page.evaluate("document.documentElement.scrollWidth") <= SMALL_PHONE["width"]
    assert page.evaluate(CHECK) == []
