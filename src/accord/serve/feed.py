"""A run's files as they grow: figures, verdicts and samples, in step. Loads no torch and changes nothing.

The figures' line is the last thing that a step writes, so a step whose line is there has its verdict and its
samples. A run that is resumed rewrites the files from its checkpoint; the feed notices and begins anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from accord.align.samples import FILE as SAMPLES

METRICS = "metrics.jsonl"
VERDICTS = "verdicts.jsonl"
PACE = 8
"""Latest arrivals from which the time of a step is taken."""
Row = dict[str, Any]


class Tail:
    """The whole lines of a file that grows, each once, until the file turns out to be another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.forget()

    def forget(self) -> None:
        """Begin at the start of the file again."""
        self.offset = 0
        self._file: tuple[int, int] | None = None  # device and inode
        self._last = b""

    def read(self) -> tuple[bool, list[tuple[int, bytes]]]:
        """Whether the file is another than before, and its new lines with the places they begin at.

        It is another where it was replaced, is shorter, or has changed in the last line that was read.
        """
        try:
            with self.path.open("rb") as file:
                other = self._is_other(file)
                if other:
                    self.forget()
                stat = os.fstat(file.fileno())
                self._file = (stat.st_dev, stat.st_ino)
                file.seek(self.offset)
                return other, list(self._lines(file.read()))
        except FileNotFoundError:
            other = self.offset > 0
            self.forget()
            return other, []

    def _is_other(self, file: IO[bytes]) -> bool:
        stat = os.fstat(file.fileno())
        if self._file is not None and self._file != (stat.st_dev, stat.st_ino):
            return True
        file.seek(self.offset - len(self._last))
        return file.read(len(self._last)) != self._last

    def _lines(self, text: bytes) -> Iterator[tuple[int, bytes]]:
        for line in text.splitlines(keepends=True):
            if not line.endswith(b"\n"):  # still being written, or torn by a kill
                return
            yield self.offset, line
            self.offset += len(line)
            self._last = line


@dataclass(frozen=True)
class Step:
    """What a viewer is told of a step."""

    mark: str
    """Number and digest: the same for the same step, whichever server tells of it."""
    row: Row
    """Its figures; null where one is not finite."""
    verdict: Row | None


class Feed:
    """The steps of a run's folder so far. One thread calls :meth:`read`; any may look."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self.clock = folder, clock
        self.steps: list[Step] = []
        """Replaced by another list where the run began anew, else only appended to."""
        self.problem = ""
        """What in the files cannot be read, in words."""
        self._metrics, self._samples = Tail(folder / METRICS), Tail(folder / SAMPLES)
        self._places: dict[int, tuple[int, int]] = {}  # of each step's samples: where they begin and end
        self._arrived: deque[tuple[float, int]] = deque(maxlen=PACE)
        self._begun = False

    def read(self) -> bool:
        """Take up what is new; whether anything is."""
        before, self.problem = self.problem, ""
        anew, lines = self._metrics.read()  # first: what it tells of is in the other files by now
        verdicts = self._verdicts() if lines else {}
        self._index()
        rows = [row for _, line in lines if (row := self._parse(line, METRICS)) is not None]
        told = [Step(mark_of(row), plain(row), verdicts.get(row.get("step", 0))) for row in rows]
        if anew:
            self.steps = told
            self._arrived.clear()
        else:
            self.steps.extend(told)
        if told and self._begun:  # what was there at the first look tells nothing of the pace
            self._arrived.append((self.clock(), len(self.steps)))
        self._begun = True
        return anew or bool(told) or self.problem != before

    def seconds_a_step(self) -> float | None:
        """From the latest arrivals; ``None`` before two were seen."""
        if len(self._arrived) < 2:
            return None
        (then, first), (now, last) = self._arrived[0], self._arrived[-1]
        return (now - then) / (last - first)

    def quiet(self) -> float | None:
        """Seconds since the last figures were written, by the file's own time; ``None`` without any."""
        try:
            return max(0.0, time.time() - (self.folder / METRICS).stat().st_mtime)
        except FileNotFoundError:
            return None

    def samples(self, step: int) -> list[Row]:
        """The kept rollouts of a step, empty where there are none."""
        place = self._places.get(step)
        if place is None:
            return []
        with (self.folder / SAMPLES).open("rb") as file:
            file.seek(place[0])
            text = file.read(place[1] - place[0])
        try:
            rows = [json.loads(line) for line in text.splitlines()]
        except ValueError:  # the file was rewritten since; the next look finds the new places
            return []
        return [plain(row) for row in rows if row.get("step") == step]

    def _verdicts(self) -> dict[int, Row]:
        try:
            text = (self.folder / VERDICTS).read_bytes()
        except FileNotFoundError:
            return {}
        rows = [self._parse(line, VERDICTS) for line in text.splitlines()]
        return {row["step"]: row for row in rows if row is not None and "step" in row}

    def _index(self) -> None:
        anew, lines = self._samples.read()
        if anew:
            self._places = {}
        for at, line in lines:
            row = self._parse(line, SAMPLES)
            if row is not None and isinstance(row.get("step"), int):
                begin = self._places.get(row["step"], (at, at))[0]
                self._places[row["step"]] = (begin, at + len(line))

    def _parse(self, line: bytes, name: str) -> Row | None:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            shown = repr(line[:60])
            self.problem = f"a line of {self.folder.name}/{name} cannot be read and is left out: {shown}"
            return None
        return row


def mark_of(row: Row) -> str:
    """A step's number with the digest of its figures."""
    return f"{row.get('step', 0)}-{hashlib.sha256(json.dumps(row).encode()).hexdigest()[:12]}"


def after(steps: list[Step], mark: str) -> int:
    """How many of the steps a viewer knows who has seen all up to ``mark``; 0 where it saw another run."""
    number = mark.partition("-")[0]
    at = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0
    return at if 0 < at <= len(steps) and steps[at - 1].mark == mark else 0


def plain(value: Any) -> Any:
    """The value for a browser: JSON there knows no number that is not finite, so such a one is null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
