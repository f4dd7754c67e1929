"""The page in a real browser: it fits a phone, complains of nothing, asks for nothing, can be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from accord.evaluate.report import write_report
from accord.evaluate.reportdata import ReportData
from pages import COMPLAINTS, CONTRAST

if TYPE_CHECKING:
    from conftest import Browser


@pytest.fixture(scope="module")
def page(report_data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, report_data)
    return path


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_sideways_scroll_no_complaint_no_request(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width)
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert [e for e in browser.events if e["method"] in COMPLAINTS] == []
    asked = [
        e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"
    ]
    assert asked == [page.as_uri()]


def test_hostile_texts_fit_and_run_nothing(browser: Browser, report_data: ReportData, tmp_path: Path) -> None:
    long = (
        "W" * 3000
        + "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
    )
    text = report_data.to_json().replace("The lamp arrived broken.", long.replace('"', '\\"'))
    text = text.replace("sim-anna", "\u202e" + "anna" * 60).replace("starter-decoder", "m/" * 300)
    write_report(tmp_path / "hostile.html", ReportData.from_json(text))
    browser.open(tmp_path / "hostile.html", 390)
    assert browser.js("document.documentElement.scrollWidth") <= 390
    assert browser.js("document.title") == report_data.title
    assert [e for e in browser.events if e["method"] in COMPLAINTS] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(browser: Browser, page: Path, scheme: str) -> None:
    browser.open(page, 1280, scheme)
    browser.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.js(CONTRAST) == []


def test_the_page_follows_the_scheme(browser: Browser, page: Path) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        browser.open(page, 1280, scheme)
        colours[scheme] = browser.js(
            "[getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.querySelector('svg text')).fill]"
        )
    assert colours["light"][0] != colours["dark"][0]
    assert colours["light"][1] != colours["dark"][1]


def test_wide_tables_scroll_in_their_own_box(browser: Browser, page: Path) -> None:
    browser.open(page, 390)
    boxes = browser.js("[...document.querySelectorAll('.wide')].map(e => e.scrollWidth > e.clientWidth)")
    assert any(boxes)
