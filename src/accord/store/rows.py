"""Between records and rows, both ways, and the one way rows get into a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, Table, insert, select

from accord.errors import DataError
from accord.judgements import LATER, Ranking, Remark, Thumb
from accord.store.tables import Row, plain, seal
from accord.types import Completion, Message, Origin, Prompt, Stop, digest

T = TypeVar("T")
PAGE = 1000


def now() -> str:
    """The time in UTC, ISO 8601, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def chunks(items: Iterable[T], size: int = PAGE) -> Iterator[list[T]]:
    """``items`` in lists of at most ``size``: databases bound the variables of one statement."""
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def stream(connection: Connection, query: Select[Any]) -> Iterator[Row]:
    """Rows of ``query``, a page in memory at a time."""
    result = connection.execute(query, execution_options={"yield_per": PAGE})
    names = list(result.keys())
    for row in result:
        yield dict(zip(names, row, strict=True))


def fetch(connection: Connection, table: Table, key: str, values: Iterable[str]) -> Iterator[Row]:
    """Rows whose column ``key`` is one of ``values``, each chunk in the order of ``seq``."""
    for chunk in chunks(dict.fromkeys(values)):
        query = select(table).where(table.c[key].in_(chunk)).order_by(table.c.seq)
        yield from stream(connection, query)


def insert_sealed(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Write rows, each with its time and seal."""
    at = now()
    sealed = []
    for row in rows:
        row = {"at": at, **row}
        sealed.append({**row, "sha256": seal(table, row)})
    for chunk in chunks(sealed):
        connection.execute(insert(table), chunk)


def insert_new(
    connection: Connection,
    table: Table,
    rows: Sequence[Row],
    same: Callable[[Row, Row], bool],
    key: str = "id",
) -> int:
    """Write the rows whose ``key`` is not stored yet; returns how many.

    ``same(new, stored)`` says whether a row that meets a stored key is that very row (it is skipped);
    else :class:`DataError`, and nothing of the call is written.
    """
    stored = {row[key]: row for row in fetch(connection, table, key, (row[key] for row in rows))}
    fresh: dict[str, Row] = {}
    for row in rows:
        known = stored.get(row[key]) or fresh.setdefault(row[key], row)
        if not same(row, known):
            raise DataError(_clash(table, row, known, key))
    insert_sealed(connection, table, list(fresh.values()))
    return len(fresh)


def _clash(table: Table, row: Row, stored: Row, key: str) -> str:
    differing = [name for name in row if name not in ("seq", "at", "sha256") and row[name] != stored[name]]
    name = differing[0]
    return (
        f"{table.name}: {row[key]!r} is stored with another {name}, {stored[name]!r:.200}, "
        f"not {row[name]!r:.200}; rows are never changed, so give this one an id of its own"
    )


def equal_on(*names: str) -> Callable[[Row, Row], bool]:
    """Whether two rows agree on the columns ``names``."""
    return lambda new, stored: all(new[name] == stored[name] for name in names)


def prompt_row(prompt: Prompt) -> Row:
    return {
        "id": prompt.id,
        "messages": [[message.role, message.content] for message in prompt.messages],
        "meta": plain(prompt.meta, f"meta of prompt {prompt.id}"),
    }


def to_prompt(row: Mapping[str, Any]) -> Prompt:
    messages = tuple(Message(role, content) for role, content in row["messages"])
    return Prompt(messages, row["meta"], row["id"])


def origin_row(origin: Origin) -> Row:
    content = {
        "model": origin.model,
        "model_hash": origin.model_hash,
        "adapter_hash": origin.adapter_hash,
        "rendered": origin.rendered,
        "prompt_ids": [int(i) for i in origin.prompt_ids],
        "sampling": plain(origin.sampling, "sampling settings"),
        "seed": int(origin.seed),
    }
    return {"id": digest(content), **content}


def to_origin(row: Mapping[str, Any]) -> Origin:
    return Origin(
        row["model"],
        row["model_hash"],
        row["adapter_hash"],
        row["rendered"],
        tuple(row["prompt_ids"]),
        row["sampling"],
        row["seed"],
    )


def completion_row(prompt_id: str, completion: Completion, origin_id: str | None) -> Row:
    ids = [int(i) for i in completion.ids]
    logprobs = [float(x) for x in completion.logprobs]
    try:
        id = completion.id or digest(prompt_id, completion.text, ids, origin_id)
    except UnicodeEncodeError as error:
        raise DataError(
            f"a completion of prompt {prompt_id!r} holds a lone surrogate at character {error.start}; "
            "repair the text (errors='replace') and add it again"
        ) from error
    return {
        "id": id,
        "prompt_id": prompt_id,
        "origin_id": origin_id,
        "text": completion.text,
        "ids": ids,
        "logprobs": plain(logprobs, f"log-probs of a completion of prompt {prompt_id!r}"),
        "stop": str(completion.stop),
    }


def to_completion(row: Mapping[str, Any], origin: Origin | None) -> Completion:
    return Completion(
        row["text"], tuple(row["ids"]), tuple(row["logprobs"]), Stop(row["stop"]), origin, row["id"]
    )


def ranking_row(ranking: Ranking) -> Row:
    seconds = None if ranking.seconds is None else float(ranking.seconds)
    judgement = {
        "tiers": [list(tier) for tier in ranking.tiers],
        "fails": list(ranking.fails),
        "shown": list(ranking.shown),
        "criterion": ranking.criterion,
        "guidelines": ranking.guidelines,
        "seconds": plain(seconds, f"seconds of a ranking of prompt {ranking.prompt_id!r}"),
        "note": ranking.note,
    }
    judgement |= {
        name: plain(getattr(ranking, name), f"{name} of a ranking of prompt {ranking.prompt_id!r}")
        for name, default in LATER.items()
        if getattr(ranking, name) != default
    }
    return _feedback_row("ranking", ranking, judgement)


def to_ranking(row: Mapping[str, Any]) -> Ranking:
    judgement = row["judgement"]
    return Ranking(
        row["prompt_id"],
        row["labeler"],
        tuple(tuple(tier) for tier in judgement["tiers"]),
        tuple(judgement["fails"]),
        tuple(judgement["shown"]),
        judgement["criterion"],
        judgement["guidelines"],
        judgement["seconds"],
        judgement["note"],
        row["source"],
        row["supersedes"],
        row["id"],
        **{name: judgement[name] for name in LATER if name in judgement},
    )


def thumb_row(thumb: Thumb) -> Row:
    return _feedback_row("thumb", thumb, {"completion_id": thumb.completion_id, "up": bool(thumb.up)})


def to_thumb(row: Mapping[str, Any]) -> Thumb:
    judgement = row["judgement"]
    return Thumb(
        row["prompt_id"],
        judgement["completion_id"],
        row["labeler"],
        judgement["up"],
        row["source"],
        row["supersedes"],
        row["id"],
    )


def remark_row(remark: Remark) -> Row:
    judgement = {"reason": remark.reason, "note": remark.note, "completion_id": remark.completion_id}
    return _feedback_row(remark.kind, remark, judgement)


def to_remark(row: Mapping[str, Any]) -> Remark:
    judgement = row["judgement"]
    return Remark(
        row["prompt_id"],
        row["labeler"],
        row["kind"],
        judgement["reason"],
        judgement["note"],
        judgement["completion_id"],
        row["source"],
        row["id"],
    )


def _feedback_row(kind: str, given: Ranking | Thumb | Remark, judgement: dict[str, Any]) -> Row:
    content = {
        "kind": kind,
        "prompt_id": given.prompt_id,
        "labeler": given.labeler,
        "source": given.source,
        "judgement": judgement,
        "supersedes": None if isinstance(given, Remark) else given.supersedes,
    }
    return {"id": given.id or digest(content), **content}


def named_completions(row: Mapping[str, Any]) -> list[str]:
    """Every completion id that a row of feedback speaks of."""
    judgement = row["judgement"]
    if row["kind"] != "ranking":
        return [judgement["completion_id"]] if judgement["completion_id"] else []
    placed = [completion for tier in judgement["tiers"] for completion in tier]
    return [*placed, *judgement["fails"], *judgement["shown"]]
