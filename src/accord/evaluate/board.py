"""The leaderboard's page: one HTML file with everything inside, no script, no request to anywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from accord.evaluate.figures import between, count, enough_digits, number, signed
from accord.evaluate.gate import Failure
from accord.evaluate.honest import bounds, difference, paragraph, shown, unproven
from accord.evaluate.report import Pair as TextPair
from accord.evaluate.report import environment, interval_bar, pair_shown
from accord.evaluate.standings import Cell, FigureRow, Leaderboard, Pair, Section

TITLES = {"gain": "Largest gains", "loss": "Largest losses", "random": "Drawn at random"}


@dataclass(frozen=True, slots=True)
class CellShown:
    """One figure of one model."""

    value: str
    interval: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True)
class RowShown:
    """One figure on every model."""

    name: str
    about: str
    better: str
    cells: list[CellShown]


@dataclass(frozen=True, slots=True)
class RankShown:
    """One model's place."""

    place: str
    name: str
    bar: Markup
    value: str
    interval: str


@dataclass(frozen=True, slots=True)
class PairShown:
    """Second less first."""

    first: str
    second: str
    difference: str
    interval: str
    bar: Markup
    p: str
    claim: str
    tone: str
    win: str
    win_interval: str
    won: str
    equal: str
    equal_interval: str


@dataclass(frozen=True, slots=True)
class SliceShown:
    """The main figure on one kind of prompts."""

    name: str
    prompts: str
    cells: list[CellShown]


@dataclass(frozen=True, slots=True)
class PartShown:
    """Two models' answers."""

    first: str
    second: str
    groups: list[tuple[str, list[TextPair]]]


@dataclass(frozen=True, slots=True)
class SectionShown:
    """One suite."""

    key: str
    section: Section
    main: FigureRow
    ranked: list[RankShown]
    scale: str
    rows: list[RowShown]
    pairs: list[PairShown]
    wins: bool
    beside: str
    slices: list[SliceShown]
    parts: list[PartShown]


def write_board(
    path: Path, board: Leaderboard, failed: Sequence[Failure] = (), subtitle: str = "", date: str = ""
) -> None:
    """Write :func:`render_board`'s page, making its folder where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_board(board, failed, subtitle, date), encoding="utf-8")


def render_board(
    board: Leaderboard, failed: Sequence[Failure] = (), subtitle: str = "", date: str = ""
) -> str:
    """The page as HTML: self-contained, every text escaped, the same bytes for the same data."""
    names = [model.name for model in board.models]
    title = f"{', '.join(names[:-1])} and {names[-1]}, compared" if len(names) > 1 else names[0]
    return (
        environment()
        .get_template("board.html.j2")
        .render(
            title=title if len(title) < 90 else f"{len(names)} models, compared",
            subtitle=subtitle,
            date=date,
            board=board,
            failed=failed,
            told=paragraph(board),
            unproven=unproven(board),
            shown=[_section(board, section, names) for section in board.sections],
        )
    )


def _section(board: Leaderboard, section: Section, names: Sequence[str]) -> SectionShown:
    main = section.row(section.main)
    pairs = [p for p in section.pairs if p.figure == section.main]
    reach = max([abs(x) for p in pairs for x in (p.low, p.high)] or [1.0]) or 1.0
    bars, scale = _scale(main)
    ranked = [
        RankShown(_place(section.ranks[m]), names[m], bars[m], shown(main, main.cells[m].value),
                  bounds(main, main.cells[m]))
        for m in section.order()
    ]  # fmt: skip
    return SectionShown(
        key="suite-" + re.sub(r"[^a-z0-9]+", "-", section.suite.lower()).strip("-"),
        section=section,
        main=main,
        ranked=ranked,
        scale=scale,
        rows=[_row(row) for row in section.rows],
        pairs=[_pair(main, p, names, reach) for p in pairs],
        wins=any(p.win_rate is not None for p in pairs),
        beside=_beside(section, names),
        slices=[
            SliceShown(s.name, count(s.prompts), _cells(main, [Cell(v) for v in s.values]))
            for s in section.slices
        ],
        parts=[
            PartShown(names[part.first], names[part.second], [
                (title, [pair_shown(e, {}) for e in part.examples if e.why == why])
                for why, title in TITLES.items() if any(e.why == why for e in part.examples)
            ])
            for part in section.parts
        ],
    )  # fmt: skip


def _place(rank: tuple[int, int]) -> str:
    return str(rank[0]) if rank[0] == rank[1] else f"{rank[0]}–{rank[1]}"


def _scale(row: FigureRow) -> tuple[list[Markup], str]:
    """A bar for each model on a common scale, and the scale in words."""
    ends = [x for c in row.cells for x in (c.value, c.low, c.high) if x is not None] or [0.0]
    low, high = (0.0, 1.0) if row.percent else (min(ends), max(ends))
    if low == high:
        low, high = low - 0.5, high + 0.5
    base = row.cells[0].value if row.cells[0].value is not None else low
    bars = [
        interval_bar(c.value or 0.0, c.value or 0.0 if c.low is None else c.low,
                     c.value or 0.0 if c.high is None else c.high, low, high, base)
        for c in row.cells
    ]  # fmt: skip
    ticks = f"from {shown(row, low)} to {shown(row, high)}"
    return (
        bars,
        f"{'Lower' if row.better == 'lower' else 'Higher'} is better. Bars run {ticks}; the dashed tick "
        "is the first model.",
    )


def _row(row: FigureRow) -> RowShown:
    return RowShown(row.name, row.about, row.better, _cells(row, row.cells))


def _cells(row: FigureRow, cells: Sequence[Cell]) -> list[CellShown]:
    known = [c.value for c in cells if c.value is not None]
    best = None
    if known and row.better != "neither" and min(known) < max(known):
        best = min(known) if row.better == "lower" else max(known)
    return [CellShown(shown(row, c.value), bounds(row, c), c.value is not None and c.value == best)
            for c in cells]  # fmt: skip


def _pair(row: FigureRow, p: Pair, names: Sequence[str], reach: float) -> PairShown:
    scale, unit = (100, " points") if row.percent else (1, "")
    parts = [scale * x for x in (p.difference, p.low, p.high)]
    digits = enough_digits(1 if row.percent else 3, *parts)
    good = (p.difference > 0) == (row.better == "higher")
    tone, claim = "flat", "no"
    if p.claimed:
        tone, claim = ("better", "▲ better") if good else ("worse", "▼ worse")
    return PairShown(
        names[p.first],
        names[p.second],
        signed(parts[0], digits) + unit,
        between(parts[1], parts[2], digits),
        interval_bar(p.difference, p.low, p.high, -reach, reach),
        "< 0.001" if p.p_holm < 0.001 else number(p.p_holm, 3),
        claim,
        tone,
        _percent(p.win_rate),
        _ends(p.win_low, p.win_high),
        "–" if p.prompts_won is None else f"{p.prompts_won}, {p.prompts_lost}",
        _percent(p.equal_length),
        _ends(p.equal_low, p.equal_high),
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.0%} to {high:.0%}"


def _beside(section: Section, names: Sequence[str]) -> str:
    """The other figures' differences that may be claimed."""
    claimed = [p for p in section.pairs if p.figure != section.main and p.claimed]
    told = [
        f"{p.figure}, {names[p.second]} less {names[p.first]}: {difference(section.row(p.figure), p)}"
        for p in claimed
    ]
    return "; ".join(told) + "." if told else ""
