"""Two texts side by side with their differences marked, as escaped HTML."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from markupsafe import Markup, escape

MAX_TOKENS = 1200
"""Longer texts are shown unmarked: the comparison takes quadratic time."""
MIN_SHARED = 0.1
"""Below this share of common words a text is new altogether, and marks would cover all of it."""

# Punctuation stands alone; everything else stays whole, so that no mark falls inside a grapheme.
_TOKEN = re.compile(r"\s+|[.,;:!?]+|[^\s.,;:!?]+")
_CONTROL = {c: 0x2400 + c for c in range(0x20) if c not in (0x09, 0x0A)} | {0x7F: 0x2421}
_INVALID = re.compile("[\ud800-\udfff\x80-\x9f\ufdd0-\ufdef\ufffe\uffff]")


def clean(text: str) -> str:
    """``text`` without what HTML cannot carry: control characters become their pictures, the rest U+FFFD."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _INVALID.sub("\ufffd", text).translate(_CONTROL)


@dataclass(frozen=True, slots=True)
class Marked:
    """Both texts as HTML, removed words in ``<del>`` before and added ones in ``<ins>`` after."""

    before: Markup
    after: Markup
    note: str
    """Why nothing is marked, or how much the two share."""


def mark(before: str, after: str) -> Marked:
    """Mark the words in which two texts differ; unmarked, with the reason, where marks would not help."""
    before, after = clean(before), clean(after)
    tokens_b, tokens_a = _TOKEN.findall(before), _TOKEN.findall(after)
    plain = (escape(before), escape(after))
    if before == after:
        return Marked(*plain, "The two are the same.")
    if not before.strip() or not after.strip():
        return Marked(*plain, "One of the two is empty.")
    if max(len(tokens_b), len(tokens_a)) > MAX_TOKENS:
        return Marked(*plain, "Too long to mark the differences.")
    matcher = difflib.SequenceMatcher(None, tokens_b, tokens_a, autojunk=False)
    shared = _shared(tokens_b, tokens_a, matcher)
    if shared < MIN_SHARED:
        return Marked(
            *plain, f"The two share {shared:.0%} of their words: rewritten throughout, so nothing is marked."
        )
    runs = _runs(tokens_b, tokens_a, matcher)
    left = [_wrap(b, "del") if changed else escape(b) for changed, b, _ in runs]
    right = [_wrap(a, "ins") if changed else escape(a) for changed, _, a in runs]
    return Marked(
        Markup("").join(left), Markup("").join(right), f"The two share {shared:.0%} of their words."
    )


def _wrap(text: str, tag: str) -> Markup:
    """``text`` in ``tag``, the spaces at its ends outside; a bare space stays bare."""
    core = text.strip()
    if not core:
        return escape(text)
    head, tail = text[: text.index(core)], text[text.index(core) + len(core) :]
    return Markup("{}<{}>{}</{}>{}").format(head, Markup(tag), core, Markup(tag), tail)


def _shared(tokens_b: list[str], tokens_a: list[str], matcher: difflib.SequenceMatcher[str]) -> float:
    """Words in common over all words, in [0, 1] (Ratcliff and Obershelp's ratio, without the spaces)."""
    common = sum(
        sum(not t.isspace() for t in tokens_b[block.a : block.a + block.size])
        for block in matcher.get_matching_blocks()
    )
    return 2 * common / sum(not t.isspace() for t in (*tokens_b, *tokens_a))


def _runs(
    tokens_b: list[str], tokens_a: list[str], matcher: difflib.SequenceMatcher[str]
) -> list[tuple[bool, str, str]]:
    """Runs (changed, before, after) in order; a lone shared word between two changes belongs to them."""
    runs: list[tuple[bool, str, str]] = []
    codes = matcher.get_opcodes()
    for i, (tag, b0, b1, a0, a1) in enumerate(codes):
        lone = 0 < i < len(codes) - 1 and sum(not t.isspace() for t in tokens_b[b0:b1]) < 2
        changed = tag != "equal" or lone
        b, a = "".join(tokens_b[b0:b1]), "".join(tokens_a[a0:a1])
        if runs and runs[-1][0] == changed:
            runs[-1] = (changed, runs[-1][1] + b, runs[-1][2] + a)
        else:
            runs.append((changed, b, a))
    return runs
