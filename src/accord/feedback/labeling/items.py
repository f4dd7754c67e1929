"""Tasks that measure the labeler: the quiz, gold items, and prompts they ranked before.

They look like any other task, fill no prompt's overlap, and come when ``chance.last_due`` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from sqlalchemy import Connection, Select, exists, func, select, update

from accord.feedback.labeling.chance import last_due, uniform
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.fit import askable
from accord.judgements import Ranking
from accord.stats.rankings import levels
from accord.store import rows as r
from accord.store import state as t
from accord.store import tables

REST = 5
"""Tasks between a prompt and its repeat, at least: what was entered just before is still remembered."""
Row = dict[str, Any]


def next_repeat(connection: Connection, labeler: str, number: int, config: LabelConfig) -> Row | None:
    """A task the labeler answered at least ``REST`` before claim ``number`` and has not met again, if due."""
    if not _is_due(connection, labeler, number, "repeat", config.repeat_share):
        return None
    a = t.assignments.c
    again = t.assignments.alias("again")
    repeated = exists().where(
        again.c.labeler == labeler, again.c.prompt_id == a.prompt_id, again.c.purpose == "repeat"
    )
    answered = select(a.prompt_id, a.shown).where(
        a.labeler == labeler,
        a.purpose == "label",
        a.state == "submitted",
        a.criterion == config.criterion,
        askable(config, a.shown),
        a.number <= number - REST,
        ~repeated,
    )
    start = int(uniform("repeat", labeler, number) * number)
    for query in (
        answered.where(a.number >= start).order_by(a.number),
        answered.where(a.number < start).order_by(a.number.desc()),
    ):
        found = connection.execute(query.limit(1)).first()
        if found is not None:
            return _item("repeat", found.prompt_id, found.shown, config)
    return None


def next_gold(connection: Connection, labeler: str, number: int, config: LabelConfig) -> Row | None:
    """A gold item that the labeler has not met, if one is due."""
    if not _is_due(connection, labeler, number, "gold", config.gold_share):
        return None
    return _unmet(connection, labeler, "gold", config)


def start_quiz(connection: Connection, labeler: str, config: LabelConfig) -> bool:
    """Open the quiz of a labeler at their first task, if there are items for one; owners are not examined."""
    if next_quiz(connection, labeler, config) is None:
        return False
    p = t.people.c
    examined = update(t.people).where(p.name == labeler, p.role == "labeler", p.quiz == "")
    return connection.execute(examined.values(quiz="open")).rowcount == 1


def next_quiz(connection: Connection, labeler: str, config: LabelConfig) -> Row | None:
    """The next item of the labeler's quiz; ``None`` when all were given, or there is no other."""
    if _times(connection, labeler, "quiz") >= config.quiz:
        return None
    return _unmet(connection, labeler, "quiz", config)


def grade_quiz(connection: Connection, labeler: str, config: LabelConfig) -> str:
    """Close the labeler's quiz if it is over; returns its state: open, passed, failed, or empty.

    The score is the share of the gold answers' ordered pairs that the labeler put in that order; a tie,
    a completion left out and a skipped item get none right.
    """
    p, a = t.people.c, t.assignments.c
    state = connection.execute(select(p.quiz).where(p.name == labeler)).scalar() or ""
    given = select(t.assignments).where(a.labeler == labeler, a.purpose == "quiz")
    rows = list(r.stream(connection, given))
    if state != "open" or not rows or any(row["state"] not in ("submitted", "skipped") for row in rows):
        return state
    if next_quiz(connection, labeler, config) is not None:
        return state
    ids = [row["feedback_id"] for row in rows if row["feedback_id"]]
    answers = {row["id"]: r.to_ranking(row) for row in r.fetch(connection, tables.feedback, "id", ids)}
    golds = {row["prompt_id"]: row for row in r.stream(connection, select(t.gold))}
    right = total = 0
    for row in rows:
        pairs = ordered_pairs(golds[row["prompt_id"]], row["shown"])
        total += len(pairs)
        right += len(pairs & _placed_pairs(answers.get(row["feedback_id"])))
    state = "passed" if right >= config.quiz_pass * total else "failed"
    connection.execute(update(t.people).where(p.name == labeler).values(quiz=state))
    return state


def ordered_pairs(gold: Mapping[str, Any], shown: Sequence[str]) -> set[tuple[str, str]]:
    """(better, worse) for each pair of ``shown`` that a gold answer orders."""
    answer = Ranking(gold["prompt_id"], "gold", tuple(map(tuple, gold["tiers"])), tuple(gold["fails"]))
    return {pair for pair in _placed_pairs(answer) if set(pair) <= set(shown)}


def _placed_pairs(ranking: Ranking | None) -> set[tuple[str, str]]:
    placed = {} if ranking is None else levels(ranking)
    pairs = combinations(sorted(placed, key=lambda id: placed[id]), 2)
    return {(a, b) for a, b in pairs if placed[a] < placed[b]}


def _is_due(connection: Connection, labeler: str, number: int, purpose: str, share: float) -> bool:
    due = last_due(share, number, purpose, labeler)
    a = t.assignments.c
    had = select(func.max(a.number)).where(a.labeler == labeler, a.purpose == purpose)
    return due > (connection.execute(had).scalar() or 0)


def _times(connection: Connection, labeler: str, purpose: str) -> int:
    a = t.assignments.c
    mine: Select[Any] = select(func.count()).where(a.labeler == labeler, a.purpose == purpose)
    return connection.execute(mine).scalar_one()


def _unmet(connection: Connection, labeler: str, purpose: str, config: LabelConfig) -> Row | None:
    g, a = t.gold.c, t.assignments.c
    met = exists().where(a.labeler == labeler, a.prompt_id == g.prompt_id)
    query = select(t.gold).where(g.quiz == (purpose == "quiz"), g.criterion.in_(["", config.criterion]), ~met)
    found = list(r.stream(connection, query))
    if not found:
        return None
    row = min(found, key=lambda row: uniform(purpose, labeler, row["prompt_id"]))
    tiers = [*row["tiers"], *([row["fails"]] if row["fails"] else [])]
    ids = [id for tier in tiers for id in tier]
    return _item(purpose, row["prompt_id"], [ids[0], ids[-1]] if config.protocol == "pair" else ids, config)


def _item(purpose: str, prompt_id: str, shown: list[str], config: LabelConfig) -> Row:
    return {
        "queue_id": None,
        "prompt_id": prompt_id,
        "purpose": purpose,
        "arm": purpose,
        "criterion": config.criterion,
        "shown": shown,
    }
