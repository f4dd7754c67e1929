"""The leaderboard's page: self-contained, escaped, the same bytes for the same data, and fit for a phone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from accord.evaluate.board import render_board, write_board
from accord.evaluate.gate import Failure
from accord.evaluate.standings import Leaderboard
from boards import board
from pages import COMPLAINTS, CONTRAST, Page

if TYPE_CHECKING:
    from conftest import Browser

FAILED = [Failure("score < baseline", "m1", "score is 0.1, the baseline's 0.2")]


@pytest.fixture(scope="module")
def found() -> Leaderboard:
    return board()


def test_the_page_is_whole_and_the_same_each_time(found: Leaderboard) -> None:
    html = render_board(found, FAILED, "run evaluate-1", "2026-01-01")
    Page(html)
    assert html == render_board(found, FAILED, "run evaluate-1", "2026-01-01")
    assert "<script" not in html
    assert "http-equiv" in html
    for text in ("m2 is measurably better", "What is not proven", "the gate failed", "Where each wins"):
        assert text in html
    assert "the gate failed" not in render_board(found)


def test_hostile_names_and_texts_are_escaped(found: Leaderboard) -> None:
    evil = "<script>alert(1)</script>"
    models = (replace(found.models[0], name=evil), *found.models[1:])
    part = found.sections[0].parts[0]
    texts = replace(part, examples=(replace(part.examples[0], prompt=evil, before=evil),))
    section = replace(found.sections[0], about=evil, parts=(texts,))
    assert "<script" not in render_board(replace(found, models=models, sections=(section,)))


@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_and_asks_for_nothing(
    browser: Browser, found: Leaderboard, tmp_path: Path, width: int
) -> None:
    path = tmp_path / "board.html"
    models = (replace(found.models[0], name="a-model/with-a-very-long-name" * 4), *found.models[1:])
    write_board(path, replace(found, models=models), FAILED)
    browser.open(path, width)
    browser.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.js("document.documentElement.scrollWidth") <= width
    assert [e for e in browser.events if e["method"] in COMPLAINTS] == []
    asked = [
        e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"
    ]
    assert asked == [path.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read(browser: Browser, found: Leaderboard, tmp_path: Path, scheme: str) -> None:
    write_board(tmp_path / "board.html", found, FAILED)
    browser.open(tmp_path / "board.html", 1280, scheme)
    browser.js("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.js(CONTRAST) == []
