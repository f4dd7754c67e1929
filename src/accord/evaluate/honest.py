"""The paragraph an honest author would write about a leaderboard: what holds, what does not, what was not
asked."""

from __future__ import annotations

from collections.abc import Sequence

from accord.evaluate.figures import between, count, enough_digits, number, signed
from accord.evaluate.standings import Cell, FigureRow, Leaderboard, Pair, Section

MANY = 0.05
"""Share of prompts found in the training text from which the suite's figures are doubted aloud."""


def paragraph(board: Leaderboard) -> tuple[str, ...]:
    """Sentences, in order: what was done, what each suite shows, what is not proven. The page shows them as
    two paragraphs, the last for what is not proven (:func:`unproven`)."""
    names = [model.name for model in board.models]
    prompts = sum(section.prompts for section in board.sections)
    suites = f"{len(board.sections)} suites" if len(board.sections) > 1 else board.sections[0].suite
    same = "the same " if len(names) > 1 else ""
    told = [f"{_listed(names)} answered {same}{count(prompts)} prompts of {suites}{_decoding(board)}."]
    for section in board.sections:
        told += _shown(section, names, board.confidence)
        told += _unread(section, names)
    return tuple(told)


def unproven(board: Leaderboard) -> tuple[str, ...]:
    """What a reader might take for shown and is not."""
    names = [model.name for model in board.models]
    said = []
    for section in board.sections:
        said += _open(section, names)
        said += _found(section)
        said += _cost_of_lead(section, names)
    tests = sum(board.tests)
    if tests > 1:
        said.append(
            f"{count(tests)} comparisons were made, {board.tests[0]} of them of main figures; a claim is "
            "one that "
            f"survives Holm's correction among its kind, so that the chance of any false one is "
            f"{number(100 * (1 - board.confidence), 0)}% at most for each kind."
        )
    said.append(
        "All of this is one run with one seed: it says how these models answer these prompts, decoded "
        "so. Another "
        "training run of the same recipe may come out otherwise, and the scorers can be wrong together."
    )
    return tuple(said)


def shown(row: FigureRow, value: float | None) -> str:
    """A figure as its row is shown."""
    if value is None:
        return "–"
    if row.percent:
        return f"{number(100 * value, 1)}%"
    return number(value, 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3)


def bounds(row: FigureRow, cell: Cell) -> str:
    """A figure's interval as its row is shown; empty where it has none."""
    if cell.low is None or cell.high is None:
        return ""
    return f"{shown(row, cell.low)} to {shown(row, cell.high)}"


def difference(row: FigureRow, pair: Pair) -> str:
    """A difference with its interval, in the row's unit."""
    scale, unit = (100, " points") if row.percent else (1, "")
    parts = [scale * x for x in (pair.difference, pair.low, pair.high)]
    digits = enough_digits(1 if row.percent else 3, *parts)
    logs = " in logs" if row.take == "exp" else ""
    return f"{signed(parts[0], digits)}{unit}{logs} ({between(parts[1], parts[2], digits)})"


def _shown(section: Section, names: Sequence[str], confidence: float) -> list[str]:
    row, order = section.row(section.main), section.order()
    lead = order[0]
    better = "lowest" if row.better == "lower" else "highest"
    of = f"{section.prompts} prompts" + (
        f" of {section.clusters} questions" if section.clusters < section.prompts else ""
    )
    values = _listed([f"{names[m]} {shown(row, row.cells[m].value)}" for m in order])
    if len(names) == 1:
        cell = row.cells[0]
        interval = f" ({bounds(row, cell)}; interval at {number(100 * confidence, 0)}%)" * bool(
            bounds(row, cell)
        )
        return [f"On {section.suite} ({of}), {row.name} is {shown(row, cell.value)}{interval}."]
    told = f"On {section.suite} ({of}), {row.name} is {better} for {names[lead]}: {values}."
    claimed = [p for p in section.pairs if p.figure == section.main and p.claimed]
    if len({cell.value for cell in row.cells}) == 1:
        return [f"On {section.suite} ({of}), {row.name} is {shown(row, row.cells[0].value)} for every model."]
    if not claimed:
        what = "the two" if len(names) == 2 else "any two of them"
        return [f"{told} The data do not tell {what} apart."]
    best = [p for p in (_pair(section, other, lead) for other in order[1:]) if p is not None and p.claimed]
    if not best:
        return [f"{told} That lead itself is not measurable; other differences are, and stand in the table."]
    beaten = _listed([f"{names[p.first]} by {difference(row, p)}" for p in best])
    open_ = [names[o] for o in order[1:] if o not in {p.first for p in best}]
    rest = f" From {_listed(open_)} it cannot be told apart." if open_ else ""
    return [
        f"{told} {names[lead]} is measurably better than {beaten}; intervals at "
        f"{number(100 * confidence, 0)}%.{rest}"
    ]


def _unread(section: Section, names: Sequence[str]) -> list[str]:
    """What a model could not read, and so did not answer."""
    return [
        f"{count(long)} of the {count(section.prompts)} prompts of {section.suite} "
        f"{'is' if long == 1 else 'are'} longer than the context of {name}, and "
        f"count{'s' * (long == 1)} as not answered."
        for name, long in zip(names, section.unread, strict=False)
        if long
    ]


def _pair(section: Section, first: int, second: int) -> Pair | None:
    if not any(p.figure == section.main and {p.first, p.second} == {first, second} for p in section.pairs):
        return None
    return section.pair(first, second)


def _open(section: Section, names: Sequence[str]) -> list[str]:
    """For pairs not told apart, what could have been seen."""
    row = section.row(section.main)
    pairs = [
        p for p in section.pairs if p.figure == section.main and not p.claimed and p.detectable is not None
    ]
    if not pairs or row.take == "exp":
        return []
    least = max(p.detectable for p in pairs if p.detectable is not None)
    scale, unit = (100, " points") if row.percent else (1, "")
    which = _listed([f"{names[p.first]} and {names[p.second]}" for p in pairs[:3]])
    more = f", and {len(pairs) - 3} more pairs" if len(pairs) > 3 else ""
    return [
        f"That {which}{more} are equal on {section.suite}: by a test of its own, so many prompts find a "
        f"difference of {number(scale * least, 1 if row.percent else 3)}{unit} in {row.name} four times in "
        "five, and miss smaller ones mostly; Holm's correction asks for more."
    ]


def _found(section: Section) -> list[str]:
    """Whether the suite's prompts were trained on."""
    seen = section.overlap
    if seen is None:
        return [f"That {section.suite} was not trained on: no training text was given to look through."]
    short = f" {count(seen.too_short)} prompts were too short to be looked for." if seen.too_short else ""
    if len(seen.touched) >= MANY * max(1, seen.prompts):
        return [
            f"That {section.suite} measures what is new: {len(seen.touched)} of its {seen.prompts} "
            "prompts share a "
            f"run of {seen.n} words with the training text, {len(seen.whole)} stand there whole.{short}"
        ]
    where = f"the {count(seen.texts)} text{'' if seen.texts == 1 else 's'} looked through"
    if not seen.given:
        where += ", all of them prompts of alignment here: what models learned before was not given"
    return [f"That {section.suite} was not trained on outside of {where}.{short}"]


def _cost_of_lead(section: Section, names: Sequence[str]) -> list[str]:
    """A lead that length may explain, and figures beside the main one that the leader measurably loses."""
    lead, said = section.order()[0], []
    for p in section.pairs:
        if lead not in (p.first, p.second) or not p.claimed:
            continue
        other = p.second if p.first == lead else p.first
        turned = section.pair(other, lead, p.figure)
        row = section.row(p.figure)
        if p.figure == section.main:
            if turned.equal_low is not None and turned.equal_low <= 0.5 < (turned.win_low or 0):
                said.append(
                    f"That {names[lead]} beats {names[other]} on {section.suite} by more than length: at "
                    "equal "
                    f"length it wins {number(100 * (turned.equal_length or 0), 0)}%, which may be half."
                )
        elif (turned.difference < 0) == (row.better == "higher"):
            said.append(
                f"That {names[lead]} is better all round on {section.suite}: its {row.name} is worse than "
                f"{names[other]}'s by {difference(row, turned)}."
            )
    return said


def _decoding(board: Leaderboard) -> str:
    settings = [dict(model.decoding) for model in board.models]
    if not settings[0] or any(one != settings[0] for one in settings):
        return ""
    parts = [f"{key.replace('_', ' ')} {value}" for key, value in settings[0].items() if value is not None]
    own = [section.suite for section in board.sections if section.limit is not None]
    limits = "a length limit of its own" if len(own) == 1 else "length limits of their own"
    but = f"; {_listed(own)} with {limits}" if own else ""
    return f", decoded alike ({', '.join(parts)}{but})"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
