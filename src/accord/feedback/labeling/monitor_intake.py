"""Received = stored: what came in, what was stored, what was refused, and whether to raise an alarm.

The judgement is pure (:func:`alarms`): counts in, words out. An outage seldom shows as an error. It shows as
submits refused more often than usual, as tasks that are handed out and never come back, or as a label that
one table knows and another does not; each has its alarm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scipy import stats

from accord.stats.intervals import wilson

HOUR = 3600.0
WEEK = 7 * 24 * HOUR
RARE = 1e-3
"""An hour this improbable under the usual share raises an alarm."""
PRIOR = (1, 20)
"""Bad ones of how many, as if seen before the first hour."""
LEAST = 3
"""Bad ones below which nothing is unusual: anybody's page may be a day old."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What came in during some time."""

    stored: int = 0
    """Submissions stored."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Submits refused (each kept whole), by reason."""
    returned: int = 0
    """Tasks handed out and answered, skipped or flagged."""
    lapsed: int = 0
    """Tasks handed out whose time ran out."""

    @property
    def received(self) -> int:
        return self.stored + sum(self.refused.values())


@dataclass(frozen=True, slots=True)
class Intake:
    """The last hour beside the week before, the whole, and what is wrong."""

    total: Flow
    hour: Flow
    week: Flow
    """The seven days before that hour."""
    gaps: tuple[str, ...]
    """Tables that contradict one another, in words; empty in a sound database."""
    alarms: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not self.alarms


def alarms(hour: Flow, week: Flow, gaps: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Why somebody should look now; empty where nothing stands out."""
    found = [f"{gap}. Stop labelling, copy the database and look at the server's log" for gap in gaps]
    refused, before = sum(hour.refused.values()), sum(week.refused.values())
    if unusual(refused, hour.received, before, week.received):
        most = max(hour.refused, key=lambda reason: hour.refused[reason])
        found.append(
            f"{refused} of {hour.received} submits of the last hour were refused, "
            f"{_usual(before, week.received)}; the most frequent reason: {most}. "
            "Nothing is lost: each is kept whole"
        )
    handed, handed_before = hour.lapsed + hour.returned, week.lapsed + week.returned
    if unusual(hour.lapsed, handed, week.lapsed, handed_before):
        found.append(
            f"{hour.lapsed} of {handed} tasks handed out came back unanswered in the last hour, "
            f"{_usual(week.lapsed, handed_before)}. Open a task as a labeler and see whether it can be "
            "submitted"
        )
    return tuple(found)


def unusual(bad: int, n: int, bad_before: int, n_before: int) -> bool:
    """Whether ``bad`` of ``n`` is too many after ``bad_before`` of ``n_before``.

    P(Binomial(n, p) >= bad) < :data:`RARE`, with p the upper Wilson bound of the share before and
    :data:`PRIOR`: little experience gives a high bound and a patient alarm.
    """
    if bad < LEAST:
        return False
    usual = wilson(bad_before + PRIOR[0], n_before + PRIOR[1]).high
    return float(stats.binom.sf(bad - 1, n, usual)) < RARE


def _usual(bad: int, n: int) -> str:
    return f"where {bad} of {n} in the week before were" if n else "and there is no week before to go by"
