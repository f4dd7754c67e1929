"""Rows of a file as a suite's prompts: which of them, and what of a row is the prompt's text, id and meta."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from accord.config import Config
from accord.errors import AccordError, DataError
from accord.evaluate.contamination import OWN
from accord.evaluate.transcripts import parted
from accord.types import Message, Prompt, digest

COLUMN = r"\{(\w+)\}"
"""A column's place in a prompt's text."""
Rows = Callable[[Path], Iterable[tuple[str, Mapping[str, Any] | DataError]]]
"""The rows of a file, each with where it stands."""


class PromptsTable(Config):
    """Where prompts come from."""

    file: str = ""
    """Rows: beside the suite, or in the folder of data the caller names."""
    source: Literal["", "workspace", "people"] = ""
    """"workspace": the workspace's own prompts. "people": its pairs of answers that people agree on, with
    ``better`` and ``worse`` in their meta."""
    text: str = "{prompt}"
    """The prompt; {column} is replaced with the row's value."""
    transcripts: tuple[str, str] | None = None
    """Instead: two columns, a better and a worse transcript that share all but their last turn
    (``evaluate.transcripts``)."""
    id: str = ""
    """The column of ids; unless given, ids come from the text."""
    cluster: str = ""
    """Prompts with the same value here are one question to the statistics."""
    where: dict[str, str | int | float | bool | list[str]] = Field(default_factory=dict)
    """Only rows with these values (one of them, where it is a list)."""
    limit: int | None = Field(None, ge=1)
    """Only so many, picked by a digest of their text: always the same ones..."""
    of_each: str = ""
    """...so many of each value of this column."""


def look_for(name: str, file: Path, data: Sequence[Path], where: str) -> Path:
    """The file beside the suite or in a folder of data; DataError says where it was looked for."""
    places = [folder / name for folder in (file.resolve().parent, *data)]
    for place in places:
        if place.exists():
            return place
    raise DataError(
        f"{where}: there is no file {name!r}; looked for {', '.join(str(p) for p in places)}. Name the "
        "folder of data with --data, or set ACCORD_DATA"
    )


def prompts_of_rows(table: PromptsTable, path: Path, rows: Rows, where: str) -> tuple[Prompt, ...]:
    """The prompts of a file's rows.

    Raises:
        DataError: a row that cannot be read or lacks a column, two prompts of one id, or no row is left.
    """
    prompts = [_from_row(row, place, table) for place, row in _kept(rows(path), table)]
    if not prompts:
        raise DataError(f"{where}: no row of {path} is left; see its `where` = {table.where}")
    return tuple(_limited(_once(prompts, where), table))


def _kept(
    rows: Iterable[tuple[str, Mapping[str, Any] | DataError]], table: PromptsTable
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for place, row in rows:
        if isinstance(row, AccordError):
            raise DataError(f"{place}: {row}")
        _has_columns(row, place, table.where)
        if matches(row, table.where):
            yield place, row


def matches(row: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether a row (a prompt's meta) has these values, or one of them where it is a list."""
    return all(row.get(k) in v if isinstance(v, list) else row.get(k) == v for k, v in where.items())


def _from_row(row: Mapping[str, Any], place: str, table: PromptsTable) -> Prompt:
    named = (table.id, table.cluster, table.of_each)
    columns: list[str] = [] if table.transcripts else re.findall(COLUMN, table.text)
    _has_columns(row, place, [*columns, *(table.transcripts or ()), *(key for key in named if key)])
    text = re.sub(COLUMN, lambda match: str(row[match[1]]), table.text)
    meta = dict(row)
    if table.transcripts:
        text, answers = parted(row, table.transcripts, place)
        meta |= answers
    if not text.strip():
        raise DataError(f"{place}: the prompt is empty")
    if table.cluster:
        meta["cluster"] = row[table.cluster]
    own = "\n".join(str(row[key]) for key in columns)
    if columns and own != text:
        meta[OWN] = own
    id = str(row[table.id]) if table.id else digest(text, answers) if table.transcripts else ""
    return Prompt((Message("user", text),), meta, id)


def _has_columns(row: Mapping[str, Any], place: str, keys: Iterable[str]) -> None:
    for key in keys:
        if key not in row:
            raise DataError(f"{place}: no column {key!r}; the columns are {', '.join(row)}")


def _once(prompts: Iterable[Prompt], where: str) -> list[Prompt]:
    """Without the same prompt twice; two of one id are an error."""
    known: dict[str, Prompt] = {}
    for prompt in prompts:
        if known.setdefault(prompt.id, prompt).text != prompt.text:
            raise DataError(
                f"{where}: the id {prompt.id!r} stands on two prompts, {known[prompt.id].text[:60]!r} and "
                f"{prompt.text[:60]!r}; take another column of ids, or none"
            )
    return list(known.values())


def _limited(prompts: list[Prompt], table: PromptsTable) -> list[Prompt]:
    if table.limit is None:
        return prompts
    picked: dict[Any, set[str]] = {}
    for prompt in sorted(prompts, key=lambda p: digest("limit", p.text)):
        group = picked.setdefault(prompt.meta.get(table.of_each) if table.of_each else None, set())
        if len(group) < table.limit:
            group.add(prompt.id)
    kept = set().union(*picked.values())
    return [prompt for prompt in prompts if prompt.id in kept]
