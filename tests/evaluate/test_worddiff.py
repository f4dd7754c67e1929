"""Marks in paired texts: what they mark, what they keep, and that nothing escapes them."""

from __future__ import annotations

import re
from html import unescape

from hypothesis import given
from hypothesis import strategies as st

from accord.evaluate.worddiff import MAX_TOKENS, clean, mark


def plain(html: str) -> str:
    return unescape(re.sub(r"</?(ins|del)>", "", html))


def test_changed_words_are_marked_on_their_own_side() -> None:
    marked = mark(
        "Your order will surely come tomorrow, sir.", "Your order will probably come on Friday, sir."
    )
    assert marked.before == "Your order will <del>surely come tomorrow</del>, sir."
    assert marked.after == "Your order will <ins>probably come on Friday</ins>, sir."


def test_spaces_stay_outside_the_marks() -> None:
    marked = mark("one two three four", "one two three four five six")
    assert marked.before == "one two three four"
    assert marked.after == "one two three four <ins>five six</ins>"


def test_when_marks_would_not_help() -> None:
    assert mark("same", "same").note == "The two are the same."
    assert mark("", "something").note == "One of the two is empty."
    rewritten = mark("alpha beta gamma delta", "one two three four")
    assert "<del>" not in rewritten.before
    assert "rewritten throughout" in rewritten.note
    long = mark("a " * MAX_TOKENS, "b " * MAX_TOKENS)
    assert long.note == "Too long to mark the differences."
    assert plain(long.before) == "a " * MAX_TOKENS


def test_html_is_escaped_inside_and_outside_marks() -> None:
    marked = mark("keep this line <b>old</b> & so on", "keep this line <script>alert(1)</script> & so on")
    assert "<script>" not in marked.after
    assert "&lt;script&gt;" in marked.after
    assert "&amp; so on" in marked.before


def test_emoji_families_stay_whole() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    marked = mark(f"we are here {family} today all", f"we are here {family}\U0001f3fd today all")
    assert f"<del>{family}</del>" in marked.before


def test_clean_replaces_what_html_cannot_carry() -> None:
    assert clean("a\x00b\x1bc\x7f\x85\ud800\r\nd\re\tf") == "a␀b␛c␡\ufffd\ufffd\nd\ne\tf"


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_is_lost(before: str, after: str) -> None:
    marked = mark(before, after)
    assert plain(marked.before) == clean(before)
    assert plain(marked.after) == clean(after)


@given(
    st.lists(st.sampled_from(["a", "b", "<i>", "&", "\n"]), max_size=14), st.lists(st.sampled_from("abcd"))
)
def test_no_text_is_lost_in_related_texts(left: list[str], right: list[str]) -> None:
    before, after = " ".join(left), " ".join([*left[:7], *right])
    marked = mark(before, after)
    assert plain(marked.before) == clean(before)
    assert plain(marked.after) == clean(after)
    assert not re.search(r"<(?!/?(ins|del)>)", marked.before + marked.after)
