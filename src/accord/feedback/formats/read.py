"""Feedback in: one function for every format, file kind and data set.

What each format carries (``write`` is its mirror). *Ids* are those of prompts; *origin* is how a
completion was sampled (model, token ids, log-probs); ties come as p_chosen = 0.5.

| format         | rankings | ties    | FAIL   | thumbs | labeler | ids | origin | lost besides    |
|----------------|----------|---------|--------|--------|---------|-----|--------|-----------------|
| events         | whole    | yes     | yes    | yes    | yes     | yes | yes    | runs, models    |
| rankings       | whole    | yes     | yes    | no     | yes     | yes | no     | texts not shown |
| trl-preference | as pairs | if kept | pairs  | no     | yes     | yes | no     | order, notes    |
| openrlhf       | as pairs | if kept | pairs  | no     | yes     | yes | no     | order, notes    |
| trl-implicit   | as pairs | if kept | pairs  | no     | yes     | yes | no     | order, notes    |
| hh             | as pairs | if kept | pairs  | no     | yes     | yes | no     | system turns    |
| trl-unpaired   | no       | no      | thumbs | yes    | yes     | yes | no     | what was ranked |

trl-implicit is written as messages, for strings do not show where their prompt ends; read from
strings, the prompt is the words that both begin with.

``tasks`` is written for labelers to fill in and read back as rankings; rows still empty are counted.

A file of prompts alone (``prompts``: prompt, and prompt_id if wanted) is read too and never written.

A file made elsewhere often has no more than the first columns; then the labeler is "imported", the
source "import:<format>", and prompts and completions get the digest of their content as id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from accord.errors import ConfigError, DataError
from accord.feedback.formats.events import read_event
from accord.feedback.formats.files import file_kind, numbered_rows
from accord.feedback.formats.gather import Collector, Feedback, Format, Problem
from accord.feedback.formats.rows import KNOWN, READERS, typed_cells
from accord.feedback.formats.transcript import is_transcript

Row = Mapping[str, Any]
_JUDGED = {"chosen", "rejected", "completion", "completions", "label", "input", "kind"}
"""Columns of a judgement; a row that has none of them is a prompt to be answered."""


def read_feedback(
    source: str | Path,
    format: str = "auto",
    *,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> Feedback:
    """Read judgements from a file, a folder of data files, or ``hf:owner/name[:split]``.

    ``columns`` maps a format's column to the file's name for it (``{"prompt": "question"}``).
    ``limit`` rows are read at most. A malformed row is an error; with ``on_error="skip"`` it is
    left out and listed in ``problems``. Columns that a format does not take are counted in ``notes``.

    Raises:
        DataError: the source is missing, damaged or empty, its format is not to be told from its
            columns, or a row is malformed (with file and line, the value, and what to do).
        ConfigError: an unknown format or column, or a package that is not installed.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; it must be at least 1")
    if on_error not in ("raise", "skip"):
        raise ConfigError(f"on_error is {on_error!r}; it must be 'raise' or 'skip'")
    known = None if format == "auto" else _format(format)
    into, problems, read = Collector(), [], 0
    for where, row in islice(_named_rows(source, columns or {}), limit):
        read += 1
        try:
            if isinstance(row, DataError):
                raise row
            known = known or _detected(where, row)
            (read_event if known is Format.EVENTS else READERS[known])(row, into, known)
            _note_unused(row, known, into)
        except _Undetected:
            raise
        except DataError as error:
            if on_error == "raise":
                raise DataError(f"{where}: {error}. Correct it, or skip malformed rows.") from error
            problems.append(Problem(where, str(error)))
    if not read:
        raise DataError(f"{source}: there are no rows in it")
    if len(problems) == read:
        raise DataError(
            f"{source}: all {read} rows are malformed as {known}; the first: {problems[0].reason}"
        )
    return into.feedback(str(known), read, problems)


def detect(row: Row) -> Format:
    """The format a row's columns show.

    Raises:
        DataError: no format fits, or more than one.
    """
    names = {name for name, value in row.items() if value is not None}
    pair = {"chosen", "rejected"} <= names
    transcripts = pair and (is_transcript(row["chosen"]) or is_transcript(row.get("prompt")))
    fits = {
        Format.PROMPTS: "prompt" in names and not names & _JUDGED,
        Format.EVENTS: {"kind", "version"} <= names or {"event", "sha256"} <= names,
        Format.RANKINGS: "completions" in names and bool({"tiers", "rank"} & names),
        Format.TRL_UNPAIRED: {"completion", "label"} <= names,
        Format.HH: transcripts,
        Format.TRL_PREFERENCE: pair and "prompt" in names and not transcripts,
        Format.OPENRLHF: pair and "input" in names and not transcripts,
        Format.TRL_IMPLICIT: pair and not {"prompt", "input"} & names and not transcripts,
    }
    found = [format for format, fit in fits.items() if fit]
    if len(found) == 1:
        return found[0]
    held = f"the columns are {', '.join(row) or 'none'}"
    if found:
        raise DataError(f"{held}: it could be {' or '.join(found)}; name the format")
    raise DataError(f"{held}: no format has these; name the format ({', '.join(Format)}) and map its columns")


class _Undetected(DataError):
    """The format is not to be told; skipping rows would not help."""


def _detected(where: str, row: Row) -> Format:
    try:
        return detect(row)
    except DataError as error:
        raise _Undetected(f"{where}: {error}") from error


def _format(name: str) -> Format:
    if name == Format.TASKS:
        raise ConfigError("tasks are written to be filled in; read the filled file as rankings")
    try:
        return Format(name)
    except ValueError as error:
        raise ConfigError(f"unknown format {name!r}; the formats are auto, {', '.join(Format)}") from error


def _named_rows(source: str | Path, columns: Mapping[str, str]) -> Iterator[tuple[str, Row | DataError]]:
    """Rows with the file's column names replaced by the format's, csv cells turned into values."""
    allowed = set().union(*KNOWN.values())
    for ours in columns:
        if ours not in allowed:
            raise ConfigError(
                f"columns: no format has a column {ours!r}; they are {', '.join(sorted(allowed))}"
            )
    path = Path(source)
    is_csv = path.is_file() and file_kind(path) == "csv"
    for where, row in numbered_rows(source):
        if isinstance(row, DataError):
            yield where, row
            continue
        try:
            named = _renamed(row, columns)
            yield where, typed_cells(named) if is_csv else named
        except DataError as error:
            yield where, error


def _renamed(row: Row, columns: Mapping[str, str]) -> Row:
    if not columns:
        return row
    for ours, theirs in columns.items():
        if theirs not in row:
            raise DataError(f"there is no column {theirs!r} (for {ours!r}); the columns are {', '.join(row)}")
    taken = set(columns.values())
    # A column of the file whose name is given to another one stays, under a name that notes can show.
    kept = {
        f"{name} (the file's own)" if name in columns else name: value
        for name, value in row.items()
        if name not in taken
    }
    return kept | {ours: row[theirs] for ours, theirs in columns.items()}


def _note_unused(row: Row, format: Format, into: Collector) -> None:
    if format is Format.EVENTS:
        return  # unknown keys of an event are errors
    for name in row.keys() - KNOWN[format]:
        if row[name] is not None:
            into.notes[f"column {name!r} not used"] += 1
