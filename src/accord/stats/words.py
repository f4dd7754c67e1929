"""Words of a text and how often they come again: what judging, rewarding and reporting all count.

Words are maximal runs of letters and digits, lower-cased (``[^\\W_]+``): on ASCII text the same words
as Google's ``rouge-score`` without stemming. Nothing is stemmed and no stop word is dropped, so the
figures hold for any language written with spaces.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

_WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """The lower-cased words of ``text``, in order."""
    return _WORD.findall(text.lower())


def ngrams(items: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    """Every run of ``n`` consecutive items; empty where there are fewer than ``n``."""
    if n < 1:
        raise ValueError(f"n is {n}; an n-gram needs n >= 1")
    return [tuple(items[i : i + n]) for i in range(len(items) - n + 1)]


def repetition(text: str, n: int = 3) -> float:
    """The share of a text's n-grams that occurred earlier in it (seq-rep-n, Welleck et al. 2020).

    ``1 - different / all``, in [0, 1); 0 where the text has fewer than ``n`` words.
    """
    grams = ngrams(words(text), n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
