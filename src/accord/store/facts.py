"""Facts inside one transaction: what may be added, how it refers to what is stored, how it is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select

from accord.errors import DataError
from accord.judgements import Thumb
from accord.store import rows as r
from accord.store import tables as t
from accord.types import Completion, Origin, Prompt

JUDGEMENT = ("kind", "prompt_id", "labeler", "source", "judgement", "supersedes")
"""The columns that make up a judgement's content."""


def add_prompts(connection: Connection, prompts: Sequence[Prompt]) -> None:
    def same(new: t.Row, stored: t.Row) -> bool:
        return new["messages"] == stored["messages"] and new["meta"] in ({}, stored["meta"])

    r.insert_new(connection, t.prompts, [r.prompt_row(prompt) for prompt in prompts], same)


def load_prompts(connection: Connection, ids: Iterable[str]) -> dict[str, Prompt]:
    wanted = list(dict.fromkeys(ids))
    found = {row["id"]: r.to_prompt(row) for row in r.fetch(connection, t.prompts, "id", wanted)}
    for id in wanted:
        if id not in found:
            raise DataError(f"prompt {id!r} is not stored; add it first with add_prompts")
    return {id: found[id] for id in wanted}


def add_completions(
    connection: Connection, groups: Sequence[tuple[str, Sequence[Completion]]]
) -> list[list[str]]:
    origins: dict[str, t.Row] = {}
    rows = []
    for prompt_id, completions in groups:
        rows.append([_completion_row(prompt_id, each, origins) for each in completions])
    r.insert_new(connection, t.origins, list(origins.values()), lambda new, old: True)
    flat = [row for group in rows for row in group]
    r.insert_new(connection, t.completions, flat, r.equal_on("prompt_id", "origin_id", "text", "ids"))
    return [[row["id"] for row in group] for group in rows]


def _completion_row(prompt_id: str, completion: Completion, origins: dict[str, t.Row]) -> t.Row:
    origin_id = None
    if completion.origin is not None:
        row = r.origin_row(completion.origin)
        origin_id = row["id"]
        origins[origin_id] = row
    return r.completion_row(prompt_id, completion, origin_id)


def to_completions(
    connection: Connection, rows: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[str, Completion]]:
    origins: dict[str, Origin] = {}
    for chunk in r.chunks(rows):
        unknown = {row["origin_id"] for row in chunk} - {None} - origins.keys()
        origins |= {row["id"]: r.to_origin(row) for row in r.fetch(connection, t.origins, "id", unknown)}
        for row in chunk:
            origin = None if row["origin_id"] is None else origins[row["origin_id"]]
            yield row["prompt_id"], r.to_completion(row, origin)


def feedback(kinds: Sequence[str], current: bool) -> Select[Any]:
    query = select(t.feedback).where(t.feedback.c.kind.in_(kinds)).order_by(t.feedback.c.seq)
    return query.where(_not_superseded()) if current else query


def _not_superseded() -> ColumnElement[bool]:
    later = t.feedback.alias("later")
    return ~select(later.c.seq).where(later.c.supersedes == t.feedback.c.id).exists()


def add_feedback(connection: Connection, rows: Sequence[t.Row]) -> int:
    """Write judgements after their checks; returns how many were new."""
    check_completions(connection, rows)
    check_supersedes(connection, rows)
    return r.insert_new(connection, t.feedback, rows, r.equal_on(*JUDGEMENT))


def check_completions(connection: Connection, rows: Sequence[t.Row]) -> None:
    """Every completion a judgement speaks of is stored and belongs to its prompt."""
    prompts = load_prompts(connection, (row["prompt_id"] for row in rows))
    c = t.completions.c
    owner: dict[str, str] = {}
    for chunk in r.chunks(prompts):
        owner |= dict(connection.execute(select(c.id, c.prompt_id).where(c.prompt_id.in_(chunk))).all())
    for row in rows:
        for completion_id in r.named_completions(row):
            if owner.get(completion_id) != row["prompt_id"]:
                raise DataError(
                    f"{row['kind']} by {row['labeler']!r}: completion {completion_id!r} is not stored as one "
                    f"of prompt {row['prompt_id']!r}; add it first with add_completions"
                )


def check_comparisons(connection: Connection, rows: Sequence[t.Row]) -> None:
    """Both completions of a comparison are stored and belong to its prompt."""
    load_prompts(connection, (row["prompt_id"] for row in rows))
    wanted = [row[side] for row in rows for side in ("chosen_id", "rejected_id")]
    owner = {row["id"]: row["prompt_id"] for row in r.fetch(connection, t.completions, "id", wanted)}
    for row in rows:
        for side in ("chosen_id", "rejected_id"):
            if owner.get(row[side]) != row["prompt_id"]:
                raise DataError(
                    f"a comparison names the completion {row[side]!r}, which is not stored as one of prompt "
                    f"{row['prompt_id']!r}; add it first with add_completions"
                )


def check_supersedes(connection: Connection, rows: Sequence[t.Row]) -> None:
    """A correction corrects an earlier judgement of its own kind, prompt and labeler, and only once."""
    named = [row["supersedes"] for row in rows if row["supersedes"] is not None]
    known = {row["id"]: row for row in r.fetch(connection, t.feedback, "id", named)}
    corrected = {row["supersedes"]: row["id"] for row in r.fetch(connection, t.feedback, "supersedes", named)}
    for row in rows:
        old = row["supersedes"]
        if old is not None:
            if old not in known:
                raise DataError(f"{row['kind']} {row['id']!r} supersedes {old!r}, which is not stored")
            for name in differing(row, known[old]):
                raise DataError(
                    f"{row['kind']} {row['id']!r} supersedes {old!r}, which is of another {name}; "
                    "a correction is the same labeler's, on the same matter"
                )
            if corrected.setdefault(old, row["id"]) != row["id"]:
                raise DataError(f"{old!r} is superseded by {corrected[old]!r} already; supersede that one")
        known.setdefault(row["id"], row)


def differing(row: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """In what a correction is not on the same matter as the row that it corrects."""
    names = [name for name in ("kind", "prompt_id", "labeler") if row[name] != old[name]]
    if not names and row["kind"] == "thumb" and r.named_completions(row) != r.named_completions(old):
        names.append("completion")
    return names


Vote = tuple[str, str]  # completion id, labeler


def place_votes(connection: Connection, thumbs: Sequence[Thumb]) -> list[t.Row]:
    """The row for each vote: the stored one where it is a repetition, else a new one at its chain's end."""
    rows = r.fetch(connection, t.feedback, "id", (thumb.id for thumb in thumbs if thumb.id))
    stored = {row["id"]: row for row in rows}
    latest: dict[Vote, t.Row] = {}
    for row in r.fetch(connection, t.feedback, "prompt_id", (thumb.prompt_id for thumb in thumbs)):
        if row["kind"] == "thumb":
            latest[row["judgement"]["completion_id"], row["labeler"]] = row
    placed = []
    for thumb in thumbs:
        row = _place_vote(thumb, stored, latest.get((thumb.completion_id, thumb.labeler)))
        stored[row["id"]] = row
        if "seq" not in row:
            latest[thumb.completion_id, thumb.labeler] = row
        placed.append(row)
    return placed


def _place_vote(thumb: Thumb, stored: dict[str, t.Row], before: t.Row | None) -> t.Row:
    row = r.thumb_row(thumb)
    if thumb.id in stored and thumb.supersedes is None:  # sent again: its place in the chain is known
        return {**stored[thumb.id], **row, "supersedes": stored[thumb.id]["supersedes"]}
    if thumb.supersedes is not None or before is None:
        return row
    if not thumb.id and r.equal_on("judgement", "source")(row, before):
        return before
    return r.thumb_row(replace(thumb, supersedes=before["id"]))
