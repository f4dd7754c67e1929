"""Conditions that fail an evaluation: ``toxicity > baseline``, ``refusal/fit measurably < baseline - 0.05``.

    condition = figure ["measurably"] ("<" | "<=" | ">" | ">=") (number | "baseline" [("+" | "-") number
    ["%"]]) figure    = [suite "/"] name

The baseline is the first model; each other model is held against it (against a number, the first too). With
``measurably`` a model fails only where its interval lies wholly on the failing side: without it, of two equal
models one fails half the time. Nothing of a condition is ever run as code.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from accord.errors import ConfigError
from accord.evaluate.figures import number, signed
from accord.evaluate.standings import Cell, FigureRow, Leaderboard, Section

_CONDITION = re.compile(
    r"\s*(?P<figure>[^<>=]+?)(?P<sure>\s+measurably)?\s*(?P<op><=|>=|<|>)\s*"
    r"(?:(?P<base>baseline)(?:\s*(?P<sign>[+-])\s*(?P<off>\d+(?:\.\d+)?)\s*(?P<share>%)?)?|(?P<number>-?\d+(?:\.\d+)?))\s*",
    re.I,
)
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, read."""

    text: str
    figure: str
    op: str
    measurably: bool = False
    number: float | None = None
    """What the figure is held against; ``None``: the baseline..."""
    offset: float = 0.0
    """...plus so much..."""
    share: float = 0.0
    """...or plus this share of it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A model that fails a condition."""

    condition: str
    model: str
    text: str


def read_condition(text: str) -> Condition:
    """A condition from its text; :class:`ConfigError` says how one is written."""
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"--fail-if {text!r} is no condition; write FIGURE > baseline, FIGURE measurably < baseline "
            "- 0.05, "
            "FIGURE >= 0.1, with <, <=, > or >= and FIGURE or SUITE/FIGURE"
        )
    off = float(found["off"] or 0.0) * (-1 if found["sign"] == "-" else 1)
    return Condition(
        text,
        found["figure"].strip(),
        found["op"],
        found["sure"] is not None,
        None if found["number"] is None else float(found["number"]),
        0.0 if found["share"] else off,
        off / 100 if found["share"] else 0.0,
    )


def check(conditions: Sequence[Condition], figures: Mapping[str, Sequence[str]]) -> None:
    """Refuse a condition on a figure that no suite has, before anything is run: suite -> its figures.

    Raises:
        ConfigError: the figure is unknown (the nearest is named), or stands in several suites.
    """
    for condition in conditions:
        _place(condition.figure, figures)


def failures(conditions: Sequence[Condition], board: Leaderboard) -> list[Failure]:
    """Every model that fails a condition.

    Raises:
        ConfigError: a figure is unknown or ambiguous, or ``measurably`` is asked of one without an interval.
    """
    figures = {section.suite: [row.name for row in section.rows] for section in board.sections}
    failed = []
    for condition in conditions:
        suite, name = _place(condition.figure, figures)
        section = board.section(suite)
        for at in range(0 if condition.number is not None else 1, len(board.models)):
            told = _fails(condition, section, section.row(name), at)
            if told:
                failed.append(Failure(condition.text, board.models[at].name, told))
    return failed


def _place(figure: str, figures: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    every = [(suite, name) for suite, names in figures.items() for name in names]
    exact = [(s, n) for s, n in every if figure in (n, f"{s}/{n}")]
    if len(exact) == 1:
        return exact[0]
    if exact:
        raise ConfigError(
            f"--fail-if: the figure {figure!r} stands in several suites; write "
            f"{' or '.join(f'{s}/{n}' for s, n in exact)}"
        )
    known = [*(n for _, n in every), *(f"{s}/{n}" for s, n in every)]
    near = difflib.get_close_matches(figure, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(dict.fromkeys(n for _, n in every))}"
    raise ConfigError(f"--fail-if: there is no figure {figure!r}; {hint}")


def _fails(condition: Condition, section: Section, row: FigureRow, at: int) -> str:
    """Why the model fails; "" where it does not. A figure that could not be had fails."""
    compare, cell, base = _COMPARE[condition.op], row.cells[at], row.cells[0]
    if cell.value is None or (condition.number is None and base.value is None):
        return f"{row.name} could not be measured"
    if condition.number is not None:
        limit = condition.number
    else:
        assert base.value is not None
        limit = base.value + condition.offset + condition.share * abs(base.value)
    if not compare(cell.value, limit):
        return ""
    if condition.measurably and not _surely(condition, section, row, cell, at, limit):
        return ""
    said = f"{row.name} is {number(cell.value)}"
    if condition.number is None:
        assert base.value is not None
        return f"{said}, the baseline's {number(base.value)} ({signed(cell.value - base.value)})"
    return said


def _surely(
    condition: Condition, section: Section, row: FigureRow, cell: Cell, at: int, limit: float
) -> bool:
    """Whether all of the interval fails: the figure's own against a number, the difference's against the
    baseline."""
    if condition.number is not None:
        low, high, against = cell.low, cell.high, limit
    else:
        pairs = [p for p in section.pairs if p.figure == row.name and (p.first, p.second) == (0, at)]
        low, high = (pairs[0].low, pairs[0].high) if pairs and row.take != "exp" else (None, None)
        against = limit - (row.cells[0].value or 0.0)
    if low is None or high is None:
        raise ConfigError(
            f"--fail-if {condition.text!r}: {row.name!r} has no interval here, so nothing of it is "
            "measurable; "
            "drop `measurably`"
        )
    return all(_COMPARE[condition.op](end, against) for end in (low, high))
