"""Markdown of models: everything is shown, nothing is obeyed."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.feedback.app.markdown import markdown, visible

HARMLESS = {"p", "br", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "hr", "a", "span"}
HARMLESS |= {"h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"}
ATTRIBUTES = {"href", "title", "target", "rel", "class", "start"}


class Audit(HTMLParser):
    """Every element and attribute of a page's piece, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(str(html))  # a Markup would escape what is added to it

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    "attack",
    [
        "<script>window.pwned = 1</script>",
        "<img src=x onerror=alert(1)>",
        "![x](http://evil.example/pixel.png)",
        "![x](data:image/png;base64,AAAA)",
        "[x](javascript:alert(1))",
        "[x](JAVASCRIPT:alert(1))",
        "[x](&#106;avascript:alert(1))",
        "[x](java\tscript:alert(1))",
        "[x](vbscript:x) [y](data:text/html,<script>alert(1)</script>)",
        "[x](//evil.example) [y](/logout)",
        "<javascript:alert(1)>",
        '[x](https://a.example "\\" onmouseover=\\"alert(1)")',
        "<style>body { display: none }</style>",
        '<div style="position:fixed">x</div>',
        "```html\n<script>alert(1)</script>\n```",
        '```"><script>alert(1)</script>\nx\n```',
        "<!-- --><iframe src=x></iframe>",
        "[a]: javascript:alert(1)\n\n[a]",
        "| <img src=x> | :-: |\n|:--|--:|\n| a | b |",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
    ],
)
def test_attacks_become_text(attack: str) -> None:
    check(markdown(attack))


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("<>&\"'`*_[]()!:|-#\n/\\"), max_size=120))
def test_no_text_makes_an_element_that_acts(text: str) -> None:
    check(markdown(text, shift=3))


def check(html: str) -> None:
    for tag, attributes in Audit(html).tags:
        assert tag in HARMLESS
        assert set(attributes) <= ATTRIBUTES
        if tag == "a":
            assert (attributes["href"] or "").lower().startswith(("http://", "https://", "mailto:"))
            assert attributes["target"] == "_blank"
            assert {"noopener", "noreferrer"} <= set((attributes["rel"] or "").split())


def test_markup_is_shown_as_it_was_written() -> None:
    assert Audit(markdown("a <b>bold</b> &amp; claim")).text.strip() == "a <b>bold</b> & claim"


def test_an_image_is_its_description_and_address() -> None:
    assert Audit(markdown("![a cat](http://h.example/c.png)")).text.strip() == (
        "[image: a cat http://h.example/c.png]"
    )


def test_line_breaks_stay_unless_the_text_is_prose() -> None:
    assert "<br" in markdown("one\ntwo")
    assert "<br" not in markdown("one\ntwo", breaks=False)


def test_an_answer_cannot_pose_as_the_pages_title() -> None:
    assert markdown("# Title\n\n##### Deep", shift=3) == "<h4>Title</h4>\n<h6>Deep</h6>\n"


def test_what_common_answers_use_is_rendered() -> None:
    html = markdown("**b** *i* ~~s~~ `c`\n\n1. x\n2. y\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    assert [tag for tag, _ in Audit(html).tags] == (
        [
            "p",
            "strong",
            "em",
            "s",
            "code",
            "ol",
            "li",
            "li",
            "table",
            "thead",
            "tr",
            "th",
            "th",
            "tbody",
            "tr",
            "td",
            "td",
        ]
    )


def test_hidden_characters_are_seen() -> None:
    assert visible("a\x00b\x1b[31m\r\nc\rd\t\u202eevil\ud800") == "a␀b␛[31m\nc\nd\t\ufffdevil\ufffd"
    visible("\ud800").encode()  # a page can be sent
