"""The records of a comparison of any number of models: plain, frozen, JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from accord.errors import DataError
from accord.evaluate.contamination import Overlap
from accord.evaluate.record import Better, Example

COSTS = ("tokens an answer", "seconds an answer")
"""Rows that every suite with answers has beside its figures; tokens only where samplers count them."""


@dataclass(frozen=True, slots=True)
class Model:
    """One of the compared, by the name it goes under."""

    name: str
    hash: str
    """Digest of its weights."""
    decoding: Mapping[str, Any]
    """Temperature, length limit, seed."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure of one model; without ends where it has no unit to resample."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One figure on every model, in the models' order."""

    name: str
    about: str
    better: Better
    cells: tuple[Cell, ...]
    percent: bool = False
    beside: str = ""
    take: str = "mean"


@dataclass(frozen=True, slots=True)
class Pair:
    """Second less first on one figure. Of perplexity, a mean of logs, the difference is one of logs."""

    figure: str
    first: int
    second: int
    difference: float
    low: float
    high: float
    p: float
    """By a sign-flip test over prompts."""
    p_holm: float = 1.0
    claimed: bool = False
    """Whether they may be said to differ: after Holm, and by the interval."""
    detectable: float | None = None
    """The difference that so many prompts find four times in five."""
    win_rate: float | None = None
    """Second over first, ties half; of the main figure only."""
    win_low: float | None = None
    win_high: float | None = None
    prompts_won: int | None = None
    prompts_lost: int | None = None
    equal_length: float | None = None
    """The same at equal length (``winrate.length_controlled``)."""
    equal_low: float | None = None
    equal_high: float | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """The main figure on the prompts of one kind, by model."""

    name: str
    prompts: int
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """Answers of two models side by side."""

    first: int
    second: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One suite."""

    suite: str
    about: str
    hash: str
    prompts: int
    clusters: int
    """Questions behind them, where several prompts are one."""
    samples: int
    limit: int | None
    """Its own length limit of an answer in tokens; else the evaluation's."""
    main: str
    rows: tuple[FigureRow, ...]
    pairs: tuple[Pair, ...]
    ranks: tuple[tuple[int, int], ...]
    """Best and worst possible rank of each model on the main figure."""
    slices: tuple[Slice, ...] = ()
    parts: tuple[Part, ...] = ()
    overlap: Overlap | None = None
    """With what the models were trained on, where that is known."""
    unread: tuple[int, ...] = ()
    """By model, prompts longer than its context."""

    def row(self, name: str) -> FigureRow:
        """The figure called ``name``; :class:`DataError` lists those there are."""
        for row in self.rows:
            if row.name == name:
                return row
        raise DataError(
            f"the suite {self.suite} has no figure {name!r}; it has {', '.join(r.name for r in self.rows)}"
        )

    def order(self) -> list[int]:
        """The models, best first on the main figure."""
        row = self.row(self.main)
        sign = 1 if row.better == "lower" else -1
        # a model of which nothing could be measured comes last, whichever way is good
        values = [(cell.value is None, sign * (cell.value or 0.0)) for cell in row.cells]
        return sorted(range(len(values)), key=values.__getitem__)

    def pair(self, first: int, second: int, figure: str = "") -> Pair:
        """The pair of two models, turned where it was written the other way round."""
        for p in self.pairs:
            if p.figure == (figure or self.main) and {p.first, p.second} == {first, second}:
                return p if p.first == first else _turned(p)
        raise DataError(f"the suite {self.suite} has no pair {first}, {second} of {figure or self.main!r}")


def _turned(p: Pair) -> Pair:
    def one_less(x: float | None) -> float | None:
        return None if x is None else 1 - x

    return Pair(
        p.figure, p.second, p.first, -p.difference, -p.high, -p.low, p.p, p.p_holm, p.claimed, p.detectable,
        one_less(p.win_rate), one_less(p.win_high), one_less(p.win_low), p.prompts_lost, p.prompts_won,
        one_less(p.equal_length), one_less(p.equal_high), one_less(p.equal_low),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """The outcome; the first model is the baseline. Survives ``to_json`` and ``from_json`` unchanged."""

    models: tuple[Model, ...]
    sections: tuple[Section, ...]
    tests: tuple[int, int]
    """Tests behind Holm's correction: of main figures, of all others."""
    confidence: float
    rounds: int
    seed: int

    def section(self, suite: str) -> Section:
        """The section of a suite."""
        for section in self.sections:
            if section.suite == suite:
                return section
        raise DataError(
            f"the suite {suite!r} was not run; run were {', '.join(s.suite for s in self.sections)}"
        )

    def to_json(self) -> str:
        """One JSON object."""
        return _ADAPTER.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str) -> Leaderboard:
        """Read what :meth:`to_json` wrote; :class:`DataError` where it is something else."""
        try:
            return _ADAPTER.validate_json(text)
        except ValueError as error:
            raise DataError(f"this is not a leaderboard: {error}; redo `accord evaluate`") from error


_ADAPTER = TypeAdapter(Leaderboard)
