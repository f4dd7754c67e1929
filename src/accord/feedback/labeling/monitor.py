"""How far the labelling is: prompts, labels, pace, arms, what was skipped and flagged, and the intake.

Counts straight from the tables, milliseconds each; what needs the consensus is in ``monitor_study``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy import ColumnElement, Connection, Integer, and_, case, exists, func, or_, select

from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.monitor_intake import HOUR, WEEK, Flow, Intake, alarms
from accord.judgements import Remark
from accord.store import state as t
from accord.store import tables
from accord.store.store import Store

DAY = 24 * HOUR
DAYS = 14
"""Days of which the labels are counted apart."""
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
"""What makes each refusal's reason a reason of its own: ids and texts in quotes."""
LEAST_SPAN = 1 / 24
"""Days over which a rate is taken, at least: ten labels in the first minute are not 14,400 a day."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the project stands. A prompt counts once, gold items not at all."""

    settled: int
    """Prompts with all the labels they ask for."""
    open: int
    """Prompts that somebody labelled or is labelling."""
    untouched: int
    labels: int
    """Answers stored, those to repeats, gold and quiz items among them."""
    arms: Mapping[str, int]
    """Answers by why they were asked: random, active, repeat, gold, quiz, surplus, adjudicated."""
    left_least: int
    """Labels still to come, if each open prompt is settled by those it asks for now..."""
    left_most: int
    """...and if each asks for as many as it may."""
    per_day: float | None
    """Labels a day over the last week, or since the first of it; ``None`` without any."""
    daily: tuple[int, ...]
    """Labels of the last :data:`DAYS` days, stretches of 24 hours, the one that ends now last."""
    working: int
    """Tasks on somebody's screen now."""
    skipped: Mapping[str, int]
    """Skips by reason."""
    flagged: Mapping[str, int]
    """Flags by reason."""
    flags: tuple[Remark, ...]
    """The latest flags, newest first."""

    @property
    def prompts(self) -> int:
        return self.settled + self.open + self.untouched

    @property
    def days_left(self) -> tuple[float, float] | None:
        """Days until all is settled at the present pace, at least and at most."""
        if not self.per_day:
            return None
        return self.left_least / self.per_day, self.left_most / self.per_day


def progress(store: Store, config: LabelConfig, now: float, flags: int = 20) -> Progress:
    """The project's progress on ``config.criterion`` at ``now`` (seconds since 1970)."""
    a = t.assignments.c
    answered = and_(a.criterion == config.criterion, a.state.in_(["submitted", "aside"]))
    with store.database.read() as connection:
        settled, begun, untouched, least, most = _tasks(connection, config)
        by_arm = select(a.arm, func.count()).where(answered).group_by(a.arm)
        arms = {str(arm): int(n) for arm, n in connection.execute(by_arm)}
        edges = [now - DAY * n for n in range(DAYS, -1, -1)]
        daily = _buckets(connection, answered, edges)
        week = connection.execute(
            select(func.count(), func.min(a.submitted_at)).where(answered, a.submitted_at > now - WEEK)
        ).one()
        working = connection.execute(
            select(func.count()).where(a.state == "leased", a.expires_at > now)
        ).scalar_one()
    remarks = list(store.remarks())
    flagged = [remark for remark in remarks if remark.kind == "flag"]
    return Progress(
        settled,
        begun,
        untouched,
        sum(arms.values()),
        dict(sorted(arms.items(), key=lambda entry: -entry[1])),
        least,
        most,
        week[0] / max((now - week[1]) / DAY, LEAST_SPAN) if week[0] else None,
        daily,
        working,
        dict(Counter(remark.reason for remark in remarks if remark.kind == "skip").most_common()),
        dict(Counter(remark.reason for remark in flagged).most_common()),
        tuple(flagged[: -flags - 1 : -1]),
    )


def _tasks(connection: Connection, config: LabelConfig) -> tuple[int, int, int, int, int]:
    """Prompts settled, begun, untouched; labels left, at least and at most."""
    q = t.queue.c
    ceiling = config.overlap if config.adaptive and config.ranks else 0
    unsettled = q.done < q.wanted
    top = case((q.wanted > ceiling, q.wanted), else_=ceiling)
    columns: list[ColumnElement[int]] = [
        _sum_where(~unsettled, 1),
        _sum_where(and_(unsettled, or_(q.taken > 0, q.done > 0)), 1),
        _sum_where(and_(unsettled, q.taken == 0, q.done == 0), 1),
        _sum_where(unsettled, q.wanted - q.done),
        _sum_where(unsettled, top - q.done),
    ]
    # a prompt that was made gold is no task any more, whatever it had
    gold = exists().where(t.gold.c.prompt_id == q.prompt_id)
    row = connection.execute(select(*columns).where(q.criterion == config.criterion, ~gold)).one()
    settled, begun, untouched, least, most = (int(value or 0) for value in row)
    return settled, begun, untouched, least, most


def _sum_where(condition: ColumnElement[bool], value: ColumnElement[int] | int) -> ColumnElement[int]:
    return func.sum(case((condition, value), else_=0), type_=Integer)


def _buckets(connection: Connection, where: ColumnElement[bool], edges: list[float]) -> tuple[int, ...]:
    at = t.assignments.c.submitted_at
    columns = [_sum_where(and_(at > low, at <= high), 1) for low, high in pairwise(edges)]
    row = connection.execute(select(*columns).where(where, at > edges[0])).one()
    return tuple(int(value or 0) for value in row)


def intake(store: Store, now: float) -> Intake:
    """What was received, stored and refused, and the alarms of it."""
    with store.database.read() as connection:
        hour = _flow(connection, now - HOUR, now)
        week = _flow(connection, now - HOUR - WEEK, now - HOUR)
        total = _flow(connection, float("-inf"), float("inf"))
        gaps = _gaps(connection)
    return Intake(total, hour, week, gaps, alarms(hour, week, gaps))


def _flow(connection: Connection, after: float, until: float) -> Flow:
    s, x, a = t.submissions.c, t.refusals.c, t.assignments.c
    within = [] if until == float("inf") else [s.at > after, s.at <= until]
    stored, ended = connection.execute(
        select(func.count(), _sum_where(s.kind != "flag", 1)).select_from(t.submissions).where(*within)
    ).one()
    within = [] if until == float("inf") else [x.at > after, x.at <= until]
    by_reason = select(x.reason, func.count()).where(*within).group_by(x.reason)
    refused: Counter[str] = Counter()
    for reason, n in connection.execute(by_reason):
        refused[QUOTED.sub("…", str(reason))] += n
    if until == float("inf"):
        lapsed = select(func.count()).where(a.state == "expired")
    else:
        over = a.expires_at > after, a.expires_at <= until, a.feedback_id.is_(None)
        lapsed = select(func.count()).where(a.state.in_(["leased", "expired"]), *over)
    return Flow(stored, dict(refused.most_common()), int(ended or 0), connection.execute(lapsed).scalar_one())


def _gaps(connection: Connection) -> tuple[str, ...]:
    """Answers that one table has and another lacks; none can be, unless a transaction was torn apart."""
    a, s, f = t.assignments.c, t.submissions.c, tables.feedback.c
    answered = a.state.in_(["submitted", "aside"])
    no_label = ~exists().where(f.id == a.feedback_id)
    no_receipt = ~exists().where(s.assignment_id == a.id)
    no_answer = and_(s.kind.not_in(["skip", "flag"]), a.feedback_id.is_(None))
    counted = [
        ("{} answered tasks have no stored label", select(func.count()).where(answered, no_label)),
        (
            "{} answered tasks have no record of what was received",
            select(func.count()).where(answered, a.purpose != "adjudicate", no_receipt),
        ),
        (
            "{} submissions were received for tasks that have no label",
            select(func.count())
            .select_from(t.submissions.join(t.assignments, s.assignment_id == a.id))
            .where(no_answer),
        ),
    ]
    numbers = [(words, connection.execute(query).scalar_one()) for words, query in counted]
    return tuple(words.format(n) for words, n in numbers if n)
