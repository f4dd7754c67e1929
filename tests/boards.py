"""A leaderboard of three planted models on two suites, for the tests of what is made of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accord.evaluate.asking import Contestant, ask
from accord.evaluate.compare import EvaluateConfig
from accord.evaluate.contamination import overlap
from accord.evaluate.leaderboard import leaderboard, section_of
from accord.evaluate.standings import Leaderboard, Model
from accord.evaluate.suite import FigureTable, ScorerTable, Suite, SuiteTable
from accord.types import Completion, Prompt, Score, Stop

WORDS = ("alas", "dear", "customer", "the", "parcel", "left", "on", "monday", "and", "comes", "soon")


class Planted:
    """Answers whose first word is a number: the score they are to get."""

    def __init__(self, mean: float, seed: int, length: int = 8) -> None:
        self.mean, self.seed, self.length = mean, seed, length

    def sample(self, prompts: Sequence[Prompt], n: int = 1) -> list[list[Completion]]:
        rng = np.random.default_rng(self.seed)
        return [[self._one(rng) for _ in range(n)] for _ in prompts]

    def _one(self, rng: np.random.Generator) -> Completion:
        text = " ".join([f"{self.mean + rng.normal():.4f}", *rng.choice(WORDS, self.length)])
        return Completion(text, tuple(range(self.length)), (), Stop.EOS)


class First:
    """The number an answer begins with."""

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        return [Score(float(c.text.split()[0]), {"high": float(float(c.text.split()[0]) > 1)}, "as it says")
                for c in completions]  # fmt: skip


def suite(name: str = "care", n: int = 60, better: str = "higher") -> Suite:
    prompts = tuple(
        Prompt.from_text(f"Where is parcel number {i} that I sent?", meta={"kind": f"kind {i % 3}"})
        for i in range(n)
    )
    figures = (
        FigureTable.build({"name": "score", "of": "first", "better": better}),
        FigureTable.build({"name": "high", "of": "first.high", "percent": True}),
        FigureTable.build({"name": "words", "of": "words", "better": "neither"}),
        FigureTable.build({"name": "distinct", "of": "distinct_2"}),
    )
    table = SuiteTable(about="Planted scores.", by="kind", samples=2)
    return Suite(name, table, prompts, {"first": ScorerTable(kind="first")}, figures, hash="0123")


def board(means: Sequence[float] = (0.0, 0.1, 1.0), n: int = 60, better: str = "higher") -> Leaderboard:
    """Models ``m0``, ``m1``, ... of these means on the suite ``care``."""
    config, one = EvaluateConfig(rounds=400), suite(n=n, better=better)
    models = [Contestant(f"m{i}", Planted(mean, i)) for i, mean in enumerate(means)]
    ticks = iter(range(100))
    answers = [
        ask(one, one.prompts, model, {"first": First()}, lambda: float(next(ticks))) for model in models
    ]
    seen = overlap(one.prompts, ["Where is parcel number 7 that I sent? It left."])
    section = section_of(one, one.prompts, answers, config, seen)
    records = [Model(m.name, "abcd", {"temperature": 1.0, "seed": 0}) for m in models]
    return leaderboard(records, [section], config)
