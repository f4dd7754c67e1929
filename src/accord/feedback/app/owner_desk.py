"""What the owner's and the reviewer's pages share: who may see them, the latest study, words for figures."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlencode

from fastapi import Depends, Request
from starlette.responses import RedirectResponse, Response

from accord.feedback.app.deps import Desk, role
from accord.feedback.consensus import AgreeConfig
from accord.feedback.labeling.monitor_study import Studies
from accord.feedback.labeling.people import Role, Session
from accord.stats.intervals import Interval

Viewer = Annotated[Session, Depends(role(Role.OWNER, Role.REVIEWER))]
"""An owner or a reviewer; a labeler gets 403, for labelers are blind to one another."""
Owner = Annotated[Session, Depends(role(Role.OWNER))]
PATIENCE = 0.8
"""Seconds a page waits for the consensus of a small pool, rather than to say that it is on its way."""


class Tab(NamedTuple):
    """One of the project's pages."""

    path: str
    title: str
    owner_only: bool = False


TABS = (
    Tab("/owner", "Progress"),
    Tab("/owner/agreement", "Agreement"),
    Tab("/owner/labelers", "Labelers"),
    Tab("/owner/disagreements", "Disagreements"),
    Tab("/owner/gold", "Gold"),
    Tab("/owner/guidelines", "Guidelines", owner_only=True),
    Tab("/owner/people", "People", owner_only=True),
    Tab("/owner/data", "Data", owner_only=True),
)
_first = threading.Lock()


def studies(request: Request) -> Studies:
    """The app's studies of the consensus, by the settings that ``accord agree`` would use."""
    state = request.app.state
    with _first:
        if not hasattr(state, "studies"):
            at: Desk = state.desk
            settings = at.workspace.section("agree") | {"criterion": at.config.criterion}
            state.studies = Studies(at.store, AgreeConfig.build(settings, "[agree]"), at.clock)
        return state.studies


def show(
    request: Request, at: Desk, session: Session, name: str, tab: str, status: int = 200, **context: Any
) -> Response:
    """The template ``owner/<name>`` with the project's tabs; ``tab`` is the path of the one it belongs to."""
    tabs = [each for each in TABS if session.person.role == Role.OWNER or not each.owner_only]
    said = request.query_params.get("done", "")
    context = {"done": DONE.get(said, "")} | context
    return at.page(
        request,
        f"owner/{name}",
        status,
        tabs=tabs,
        tab=tab,
        say=SAY,
        now=at.clock(),
        session=session,
        **context,
    )


def back(path: str, done: str = "", **query: str) -> RedirectResponse:
    """To a page after a form, with a word from :data:`DONE` on what was done; a reload repeats nothing."""
    query = {name: value for name, value in {**query, "done": done}.items() if value}
    return RedirectResponse(f"{path}?{urlencode(query)}" if query else path, 303)


DONE: Mapping[str, str] = {
    "paused": "Paused. Their labels stay; a task on their screen goes to somebody else.",
    "again": "Paused, and the prompts they labelled are asked of one more labeler each. Their labels stay.",
    "resumed": "Active again; what was set aside counts as before.",
    "adjudicated": "Stored. The prompt is closed, and your ranking counts beside the labelers'.",
    "gold": "Stored as gold. Who has not met the prompt may get it, looking like any other task.",
    "guidelines": "Stored as a new version. Labelers read and accept it before their next task.",
    "unchanged": "The text is the same as before, so there is no new version.",
    "webhook": "Changed.",
}
"""What a page says after a form; an address can choose among these and say nothing else."""


# -- words for figures -------------------------------------------------------------------------


def known(interval: Interval | None) -> bool:
    """Whether there is a figure with finite bounds."""
    return interval is not None and all(map(math.isfinite, (interval.value, interval.low, interval.high)))


def percent(value: float, digits: int = 0) -> str:
    """0.723 as 72 %."""
    return f"{100 * value:.{digits}f} %"


def range_percent(interval: Interval) -> str:
    """The bounds as 65 to 79 %."""
    return f"{100 * interval.low:.0f} to {100 * interval.high:.0f} %"


def two(value: float) -> str:
    """Two decimals, with a real minus sign."""
    return f"{value:.2f}".replace("-", "−")


def range_two(interval: Interval) -> str:
    """The bounds with two decimals."""
    return f"{two(interval.low)} to {two(interval.high)}"


def count(value: float) -> str:
    """12,345."""
    return f"{value:,.0f}"


def many(n: int, one: str, several: str = "") -> str:
    """1 prompt, 2 prompts."""
    return f"{count(n)} {one if n == 1 else several or one + 's'}"


def duration(seconds: float) -> str:
    """Seconds in the unit people would take: 45 s, 3 min, 2.5 h, 4 days."""
    for size, unit in ((86_400.0, "day"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size or (unit != "day" and seconds >= size):
            value = seconds / size
            number = f"{value:.0f}" if value >= 10 or unit == "min" else f"{value:.1f}".removesuffix(".0")
            return f"{number} {unit}{'s' if unit == 'day' else ''}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"


def days(low: float, high: float) -> str:
    """How long it may take, from days at least and at most."""
    first, last = duration(86_400 * low), duration(86_400 * high)
    return first if first == last else f"{first} to {last}"


def when(seconds: float) -> str:
    """2026-11-21 10:05 UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def clip(text: str, width: int = 160) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def place(value: float, low: float, high: float) -> float:
    """Where a value stands on an axis from ``low`` to ``high``, 0 to 100."""
    return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 2)


SAY = {
    each.__name__: each
    for each in (
        known, percent, range_percent, two, range_two, count, many, duration, days, when, clip, place,
    )
}  # fmt: skip
