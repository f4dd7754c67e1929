"""Rows of a file, a folder or a hub data set, and rows to a file. Knows nothing of feedback.

File kinds go by suffix: ``.jsonl`` (or ``.ndjson``), ``.json`` (one list), ``.csv``, each also with
``.gz``, and ``.parquet``. Text is UTF-8, with or without a byte order mark.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any, cast

from accord.errors import ConfigError, DataError
from accord.feedback.formats.gather import clip

Row = dict[str, Any]
HUB = "hf:"
KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
_CELL = 1 << 30  # characters; the csv module's own limit of 131,072 is shorter than some completions


def file_kind(path: Path) -> str:
    """jsonl, json, csv or parquet, by the suffix; a :class:`DataError` lists the known ones."""
    kind = KINDS.get(Path(path.name.lower().removesuffix(".gz")).suffix)
    if kind is None or (kind == "parquet" and path.name.lower().endswith(".gz")):
        raise DataError(f"{path}: unknown suffix; use one of {', '.join(KINDS)} (text kinds also with .gz)")
    return kind


def numbered_rows(source: str | Path) -> Iterator[tuple[str, Row | DataError]]:
    """Each row with its place, or the error of a row that cannot be read; in order, one at a time.

    Raises:
        DataError: the source is missing, damaged, not UTF-8, or holds no rows.
        ConfigError: reading it needs a package that is not installed.
    """
    if str(source).startswith(HUB):
        name, _, split = str(source).removeprefix(HUB).partition(":")
        return _hub_rows(name, split)
    path = Path(source)
    if path.is_dir():
        return _hub_rows(str(path), "")
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a file, a folder, or {HUB}owner/name for a hub data set")
    readers = {"jsonl": _jsonl_rows, "json": _json_rows, "csv": _csv_rows, "parquet": _parquet_rows}
    return _guarded(path, readers[file_kind(path)](path))


def _guarded(
    path: Path, rows: Iterator[tuple[str, Row | DataError]]
) -> Iterator[tuple[str, Row | DataError]]:
    """The rows, with what a damaged file raises turned into a :class:`DataError`."""
    try:
        yield from rows
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: the gzip data is damaged or cut off ({error}); copy the file again"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 text (byte {error.object[error.start]:#04x}); convert it, or rename it if "
            "the suffix does not say what it is"
        ) from error


def _open_binary(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Row | DataError]]:
    with _open_binary(path) as lines:
        # Bytes are split at \n only: str.splitlines would also cut at U+2028 inside a text.
        for number, line in enumerate(lines, start=1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if text.strip():
                yield f"{path}:{number}", _parsed(text)


def _parsed(text: str) -> Row | DataError:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return DataError(f"not a JSON object: {clip(text)} ({error})")
    if not isinstance(row, dict):
        return DataError(f"not a JSON object: {clip(text)}")
    return row


def _json_rows(path: Path) -> Iterator[tuple[str, Row | DataError]]:
    with _open_binary(path) as file:
        text = file.read().decode("utf-8-sig")
    try:
        rows = json.loads(text) if text.strip() else []
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); one object a line belongs in a .jsonl file") from error
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds a JSON {type(rows).__name__}, not a list of rows")
    for number, row in enumerate(rows, start=1):
        bad = DataError(f"not a JSON object: {clip(row)}")
        yield f"{path}: row {number}", row if isinstance(row, dict) else bad


def _csv_rows(path: Path) -> Iterator[tuple[str, Row | DataError]]:
    csv.field_size_limit(_CELL)
    with _open_binary(path) as file:
        table = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True)
        try:
            header = next(table, None)
            if header is not None and len(set(header)) < len(header):
                raise DataError(f"{path}:1: a column name stands twice in {header}; rename one")
            for cells in table:
                if not cells:
                    continue
                where = f"{path}:{table.line_num}"
                if len(cells) != len(header or ()):
                    yield where, DataError(f"{len(cells)} cells under {len(header or ())} column names")
                else:
                    yield where, dict(zip(header or (), cells, strict=True))
        except csv.Error as error:
            raise DataError(
                f"{path}:{table.line_num}: not CSV ({error}); a quote may be left open"
            ) from error


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row | DataError]]:
    pyarrow, parquet = _pyarrow()
    try:
        batches = parquet.ParquetFile(path).iter_batches(batch_size=1024)
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield f"{path}: row {number}", row
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable parquet file ({error})") from error


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("parquet needs pyarrow: pip install 'accord[data]', or use .jsonl") from error
    return pyarrow, pyarrow.parquet


def _hub_rows(name: str, split: str) -> Iterator[tuple[str, Row | DataError]]:
    """Rows of a data set by name or of a folder of data files, streamed."""
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(f"reading {name!r} needs datasets: pip install 'accord[data]'") from error
    folder = Path(name)
    saved = any((folder / file).is_file() for file in ("dataset_dict.json", "state.json"))
    try:
        found = datasets.load_from_disk(name) if saved else datasets.load_dataset(name, streaming=True)
    except (OSError, ValueError, RuntimeError) as error:  # datasets' own errors are among these
        raise DataError(
            f"the data set {name!r} could not be loaded ({type(error).__name__}: {clip(str(error), 200)}); "
            "check the name and the connection, or download it and give the folder"
        ) from error
    if isinstance(found, dict):
        wanted = split or (next(iter(found)) if len(found) == 1 else "")
        if wanted not in found:
            raise DataError(
                f"the data set {name!r} has the splits {', '.join(found)}, not {split!r}; "
                f"choose one: {HUB}{name}:{next(iter(found))}"
            )
        found = found[wanted]
    for number, row in enumerate(found, start=1):
        yield f"{HUB}{name}: row {number}", row


def write_rows(path: Path, rows: Iterable[Row], *, overwrite: bool = False) -> int:
    """Write the rows to a new file, whole or not at all, and return their number.

    All rows have the same keys. Lists go into csv cells as JSON.

    Raises:
        DataError: the file exists, there are no rows, or a value cannot be written as JSON.
    """
    kind = file_kind(path)
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists; choose another name or ask to overwrite it")
    writers = {"jsonl": _write_jsonl, "json": _write_json, "csv": _write_csv, "parquet": _write_parquet}
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as file:
            with _packed(path, file) as target:
                count = writers[kind](target, rows)
            file.flush()
            os.fsync(file.fileno())
        if not count:
            raise DataError(f"{path}: there is nothing to write in this format")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return count


def _packed(path: Path, file: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    if not path.name.lower().endswith(".gz"):
        return nullcontext(file)
    # No name and time in the gzip header: the same feedback gives the same bytes.
    return cast("AbstractContextManager[IO[bytes]]", gzip.GzipFile("", "wb", fileobj=file, mtime=0))


def _json_text(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise DataError(f"{clip(value)} cannot be written as JSON ({error})") from error
    return text


def _write_jsonl(file: IO[bytes], rows: Iterable[Row]) -> int:
    count = 0
    for row in rows:
        file.write(_json_text(row).encode() + b"\n")
        count += 1
    return count


def _write_json(file: IO[bytes], rows: Iterable[Row]) -> int:
    whole = list(rows)
    file.write(_json_text(whole).encode() + b"\n")
    return len(whole)


def _write_csv(file: IO[bytes], rows: Iterable[Row]) -> int:
    text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
    table = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    count = 0
    for row in rows:
        if not count:
            table.writerow(row)
        table.writerow([_cell(value) for value in row.values()])
        count += 1
    text.detach()
    return count


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _json_text(value)


def _write_parquet(file: IO[bytes], rows: Iterable[Row]) -> int:
    pyarrow, parquet = _pyarrow()
    whole = list(rows)
    if whole:
        parquet.write_table(pyarrow.Table.from_pylist(whole), file)
    return len(whole)
