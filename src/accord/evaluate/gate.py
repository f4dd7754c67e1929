"""Conditions that fail an evaluation: ``toxicity > baseline``, ``refusal/fit measurably < baseline - 0.05``.

    condition = figure ["measurably"] compare limit
    figure    = [suite "/"] name
    compare   = "<" | "<=" | ">" | ">="
    limit     = number ["%"] | "baseline" [("+" | "-") number ["%"]]

``toxic answers > 2%`` is the same as ``toxic answers > 0.02``; ``baseline + 5%`` is a twentieth more than the
baseline has. The baseline is the first model; each other model is held against it (against a
number, the first too). With ``measurably`` a model fails only where its interval lies wholly on the failing
side: without it, of two equal models one fails half the time. Nothing of a condition is ever run as code.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from accord.errors import ConfigError
from accord.evaluate.figures import signed
from accord.evaluate.honest import shown
from accord.evaluate.standings import COSTS, Cell, FigureRow, Leaderboard, Section
from accord.evaluate.suite import CORPUS_MEASURES, FigureTable, Take

_CONDITION = re.compile(
    r"\s*(?P<figure>[^<>=]+?)(?P<sure>\s+measurably)?\s*(?P<op><=|>=|<|>)\s*"
    r"(?:(?P<base>baseline)(?:\s*(?P<sign>[+-])\s*(?P<off>\d+(?:\.\d+)?)\s*(?P<share>%)?)?|(?P<number>-?\d+(?:\.\d+)?)\s*(?P<percent>%)?)\s*",
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
    percent: bool = False
    """Whether the number was written in percent."""


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
        None if found["number"] is None else float(found["number"]) / (100 if found["percent"] else 1),
        0.0 if found["share"] else off,
        off / 100 if found["share"] else 0.0,
        found["percent"] is not None,
    )


def check(
    conditions: Sequence[Condition],
    figures: Mapping[str, Sequence[FigureTable]],
    models: int,
    sampled: Collection[str] = (),
) -> None:
    """Refuse what could not be held, before anything is run: suite -> its figures, and which suites sample.

    Raises:
        ConfigError: the figure is unknown (the nearest is named), stands in several suites or has no
            interval for ``measurably``; a number does not fit its unit; no model beside the baseline.
    """
    names = {
        suite: [*(f.name for f in own), *(COSTS if suite in sampled else ())]
        for suite, own in figures.items()
    }
    for condition in conditions:
        suite, name = _place(condition.figure, names)
        if condition.number is None and models < 2:
            raise ConfigError(
                f"--fail-if {condition.text!r}: there is no model beside the baseline, so it would always "
                "pass; name two models or more, the baseline first, or hold the figure against a number"
            )
        table = next((f for f in figures[suite] if f.name == name), None)
        _check_number(condition, table)
        if condition.measurably and not _has_interval(condition, table):
            raise ConfigError(_no_interval(condition, name))


def _check_number(condition: Condition, table: FigureTable | None) -> None:
    """Refuse a number in another unit than the figure's, which every model or none would pass."""
    percent = table is not None and table.percent
    if condition.percent and not percent:
        raise ConfigError(
            f"--fail-if {condition.text!r}: {condition.figure!r} is not in percent; write a plain number, or "
            "baseline + 10%"
        )
    if percent and condition.number is not None and not 0 <= condition.number <= 1:
        raise ConfigError(
            f"--fail-if {condition.text!r}: {condition.figure!r} is a share and lies in 0..1; for ten "
            "percent write 10% or 0.1"
        )


def _has_interval(condition: Condition, table: FigureTable | None) -> bool:
    if table is None or table.of in CORPUS_MEASURES or table.take in (Take.SD, Take.CALIBRATION):
        return False
    return condition.number is not None or (table.take is not Take.EXP and table.better != "neither")


def _no_interval(condition: Condition, name: str) -> str:
    return (
        f"--fail-if {condition.text!r}: {name!r} has no interval here, so nothing of it is measurable; "
        "drop `measurably`"
    )


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
    said = f"{row.name} is {shown(row, cell.value)}"
    if condition.number is None:
        assert base.value is not None
        scale, unit, digits = (100, " points", 1) if row.percent else (1, "", 3)
        less = signed(scale * (cell.value - base.value), digits)
        return f"{said}, the baseline's {shown(row, base.value)} ({less}{unit})"
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
        raise ConfigError(_no_interval(condition, row.name))
    return all(_COMPARE[condition.op](end, against) for end in (low, high))
