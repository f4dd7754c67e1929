"""The app's chances, all functions of names: the same task looks the same after a restart."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from math import floor


def uniform(*names: object) -> float:
    """A number in [0, 1) that depends on ``names`` alone."""
    return _number(*names) / 2**64


def shuffled(items: Sequence[str], *names: object) -> list[str]:
    """``items`` in an order that depends on them and ``names`` alone, each order equally likely."""
    order = sorted(items)  # so that the order they came in says nothing about the one shown
    random.Random(_number(*names)).shuffle(order)
    return order


def last_due(share: float, number: int, *names: object) -> int:
    """The latest of a labeler's claims, up to ``number``, at which a ``share`` of them falls due; 0 for none.

    Claims count from 1. There is one due claim in each stretch of 1 / share, at a random place within
    it, so the share is exact and the next one cannot be foreseen by counting.
    """
    if share <= 0:
        return 0
    stretch = floor(number * share)
    for each in (stretch, stretch - 1):
        # the last claim's worth of a stretch stays free, so that two stretches never fall due at once
        place = (each + uniform(*names, each) * (1 - share)) / share
        if each >= 0 and place < number:
            return floor(place) + 1
    return 0


def _number(*names: object) -> int:
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
