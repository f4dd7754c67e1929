"""What the database holds against what the labelers know they sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from _load_people import Sent
from accord.store import rows as r
from accord.store import state as t
from accord.store import tables
from accord.store.store import Store

Rows = dict[str, dict[str, Any]]


def check(store: Store, sent: Mapping[str, Sent], overlap: int) -> dict[str, Any]:
    """Figures that must all be 0, and ``examples`` of what is wrong."""
    with store.database.read() as connection:

        def read(table: Any, key: str) -> Rows:
            return {row[key]: row for row in r.stream(connection, select(table))}

        submissions, assignments = read(t.submissions, "key"), read(t.assignments, "id")
        rankings = {id: row for id, row in read(tables.feedback, "id").items() if row["kind"] == "ranking"}
        tasks = read(t.queue, "id")
    answers = {key: row for key, row in submissions.items() if row["kind"] not in ("skip", "flag")}
    lost = [
        f"{key}: {why}"
        for key, each in sent.items()
        if (why := amiss(key, each, answers, rankings, assignments))
    ]
    doubled = twice(sent, answers, rankings, assignments)
    exceeded, miscounted = places(tasks, assignments, rankings, overlap)
    return {
        "lost": len(lost),
        "doubled": len(doubled),
        "overlap_exceeded": len(exceeded),
        "places_miscounted": len(miscounted),
        "examples": [*lost[:3], *doubled[:3], *exceeded[:3], *miscounted[:3]],
    }


def amiss(key: str, sent: Sent, answers: Rows, rankings: Rows, assignments: Rows) -> str:
    """Why a submission is not stored exactly as it was entered; "" where it is."""
    if key not in answers:
        return f"not stored ({sent.refused or 'acknowledged' if sent.done else 'never acknowledged'})"
    stored, ids = answers[key], answers[key]["feedback_ids"]
    if len(ids) != 1 or ids[0] not in rankings:
        return f"its feedback is {ids}"
    if sent.ids and list(sent.ids) != ids:
        return f"acknowledged as {sent.ids}, stored as {ids}"
    assignment, ranking = assignments[sent.task.assignment], rankings[ids[0]]
    entered = {name: sent.body[name] for name in ("tiers", "fails", "note", "seconds", "guidelines")}
    entered |= {"shown": [id for id, _ in sent.task.completions], "assignment": sent.task.assignment}
    found = {name: ranking["judgement"].get(name) for name in entered}
    entered |= {"labeler": sent.labeler, "prompt": assignment["prompt_id"], "of": sent.task.assignment}
    found |= {"labeler": ranking["labeler"], "prompt": ranking["prompt_id"], "of": stored["assignment_id"]}
    return "" if entered == found else f"entered {entered}, stored {found}"


def twice(sent: Mapping[str, Sent], answers: Rows, rankings: Rows, assignments: Rows) -> list[str]:
    """Answers stored more than once, or that nobody sent."""
    wrong = [f"{key}: nobody sent it" for key in answers.keys() - sent.keys()]
    named = Counter(id for row in answers.values() for id in row["feedback_ids"])
    wrong += [f"ranking {id} is of {named[id]} submissions" for id in rankings if named[id] != 1]
    replaced = {row["supersedes"] for row in rankings.values()}
    standing = [row["judgement"]["assignment"] for id, row in rankings.items() if id not in replaced]
    wrong += [f"assignment {id} has {n} standing answers" for id, n in Counter(standing).items() if n > 1]
    labels = [assignments[id] for id in set(standing) if assignments[id]["purpose"] == "label"]
    pairs = Counter((row["queue_id"], row["labeler"]) for row in labels)
    return wrong + [f"{pair} is labelled {n} times" for pair, n in pairs.items() if n > 1]


def places(
    tasks: Rows, assignments: Rows, rankings: Rows, overlap: int
) -> tuple[list[str], list[str]]:  # fmt: skip
    """Tasks with more labels than the overlap, and those whose counts do not add up."""
    labels = [row for row in assignments.values() if row["purpose"] == "label"]
    answered = {row["judgement"]["assignment"] for row in rankings.values()}
    done = Counter(row["queue_id"] for row in labels if row["id"] in answered)
    submitted = Counter(row["queue_id"] for row in labels if row["state"] == "submitted")
    leased = Counter(row["queue_id"] for row in labels if row["state"] == "leased")
    most = {id: min(overlap, row["wanted"]) for id, row in tasks.items()}
    exceeded = [f"task {id}: {n} labels of {most[id]}" for id, n in done.items() if n > most[id]]
    miscounted = [
        f"task {id}: taken {row['taken']}, done {row['done']}; {leased[id]} leased, {submitted[id]} submitted"
        for id, row in tasks.items()
        if (row["taken"], row["done"]) != (leased[id] + submitted[id], submitted[id])
    ]
    return exceeded, miscounted
