"""Planted judges, of which it is known how good they are and what they like."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from accord.judging import Asked, Choice, TextLogprob
from accord.types import Prompt


class PlantedJudge:
    """Takes the first with chance ``bias``; else the right one ("good") with chance ``accuracy``."""

    def __init__(self, accuracy: float, bias: float, seed: int) -> None:
        self.accuracy, self.bias = accuracy, bias
        self.rng = np.random.default_rng(seed)

    def choose(self, asked: Sequence[Asked]) -> list[Choice]:
        return [self._one(one.first, one.second) for one in asked]

    def _one(self, first: str, second: str) -> Choice:
        if self.rng.random() < self.bias:
            return Choice(0.9, "A")
        right = self.rng.random() < self.accuracy
        takes_first = (first == "good") == right if first != second else self.rng.random() < 0.5
        return Choice(0.9 if takes_first else 0.1)


def pairs(n: int) -> tuple[list[Asked], list[bool]]:
    better = [i % 2 == 0 for i in range(n)]
    return [
        Asked(Prompt.from_text(f"q{i}"), "good" if b else "bad", "bad" if b else "good")
        for i, b in enumerate(better)
    ], better


class Letters:
    """Likelihoods that like "A" by ``liking`` and the answer "good" by 2."""

    def __init__(self, liking: float) -> None:
        self.liking = liking
        self.seen: list[str] = []

    def logprobs(self, asked):
        out = []
        for prompt, labels in asked:
            self.seen.append(prompt.text)
            assert tuple(labels) == ("A", "B")
            gap = self.liking + (2 if "Answer A:\ngood" in prompt.text else -2)
            out.append([TextLogprob(math.log(special.expit(g)), 1) for g in (gap, -gap)])
        return out
