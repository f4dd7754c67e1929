"""A constitution: principles by which a model's answers are criticised, mended and chosen among.

A readable TOML file:

    name = "our shop"
    version = "1"

    [[principle]]
    name = "respect"
    critique = "Point out where the last answer is rude."     # what to look for
    revision = "Write the answer again without rude words."   # how to mend it
    choose = "Choose the answer that is kinder."              # what makes one of two the better
    weight = 2.0                                              # drawn twice as often as one of weight 1

    [[principle.example]]
    prompt = "Where is my order?"
    response = "Go away."
    critique = "It sends the customer away."
    revision = "Thank you for asking. It arrives tomorrow."

A principle with ``critique`` and ``revision`` serves the supervised phase, one with ``choose`` the choice
between two answers, one with all three both (Bai et al. 2022, arXiv:2212.08073, sections 3.1 and 4.1). The
paper's own principles, as published in JSON lines, are read as well.
"""

from __future__ import annotations

import gzip
import json
import tomllib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from pydantic import Field, model_validator

from accord.config import Config
from accord.errors import ConfigError, DataError
from accord.types import digest

DEFAULT = Path(__file__).parent / "default.toml"
"""The constitution that is taken where none is named: helpful, honest, harmless, in the project's words."""
LARGEST = 4 * 2**20
"""Bytes of a file that are read."""
PAPER_FIELDS = {
    "id": "name",
    "critique_request": "critique",
    "revision_request": "revision",
    "instruction": "choose",
}


class Example(Config):
    """How a principle is applied once: shown to a model that has to learn the form from examples."""

    prompt: str
    """What was asked."""
    response: str
    """The first answer."""
    critique: str
    """What is wrong with it by the principle."""
    revision: str
    """The answer mended."""


class Principle(Config):
    """One principle."""

    name: str
    """Short and its own."""
    critique: str = ""
    """The request for a critique: what to look for."""
    revision: str = ""
    """The request for a revision: how to mend it."""
    choose: str = ""
    """The request for a choice between two answers."""
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    """How often it is drawn beside the others."""
    example: tuple[Example, ...] = ()
    """Worked examples of its critique and revision."""

    @model_validator(mode="after")
    def _whole(self) -> Principle:
        if not self.name.strip():
            raise ConfigError("a principle has no name; give it a short one")
        if bool(self.critique.strip()) != bool(self.revision.strip()):
            there, missing = ("critique", "revision") if self.critique.strip() else ("revision", "critique")
            raise ConfigError(
                f"principle {self.name!r} has a {there} request and no {missing} request; a revision needs "
                "both"
            )
        return self


class Constitution(Config):
    """Principles with a name and a version; ``hash`` is of all they say."""

    name: str
    """Of the whole."""
    version: str = "1"
    """Raised by its authors when they change it."""
    principle: tuple[Principle, ...] = ()
    """In the file's order."""

    @model_validator(mode="after")
    def _distinct(self) -> Constitution:
        names = [one.name for one in self.principle]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"{len(twice)} names stand more than once: {', '.join(map(repr, twice[:5]))}")
        return self

    @cached_property
    def hash(self) -> str:
        """Digest of name, version and principles: what a chain or a comparison was made with."""
        return digest(self.model_dump(mode="json"))

    @property
    def critics(self) -> tuple[Principle, ...]:
        """Those that criticise and mend."""
        return tuple(one for one in self.principle if one.critique.strip())

    @property
    def choosers(self) -> tuple[Principle, ...]:
        """Those that choose between two answers."""
        return tuple(one for one in self.principle if one.choose.strip())

    def named(self, name: str) -> Principle:
        """The principle called ``name``; ConfigError with all names where there is none."""
        for one in self.principle:
            if one.name == name:
                return one
        raise ConfigError(
            f"{self.name}: no principle {name!r}; there are {', '.join(one.name for one in self.principle)}"
        )


def draw(principles: Sequence[Principle], key: str, count: int = 1) -> list[Principle]:
    """``count`` principles by their weights, as different as there are; a function of ``key`` alone.

    Raises:
        DataError: there is none.
    """
    if not principles:
        raise DataError("the constitution has no principle for this; see `accord constitute check`")
    rng, drawn, left = Random(key), list[Principle](), list[Principle]()
    for _ in range(count):
        left = left or list(principles)
        drawn.append(rng.choices(left, [one.weight for one in left])[0])
        left.remove(drawn[-1])
    return drawn


# -- files -------------------------------------------------------------------------------------


def read(source: str | Path = "") -> Constitution:
    """A constitution from a TOML file, or from JSON lines with the published fields; ours without a name.

    Raises:
        DataError: no such file, too large, or not to be read; the place in it is named.
        ConfigError: unknown keys, a principle without its half, two of one name.
    """
    path = Path(source) if source else DEFAULT
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; a constitution is a .toml file or .jsonl")
    if path.stat().st_size > LARGEST:
        raise DataError(
            f"{path} has {path.stat().st_size >> 20} MiB; a constitution has {LARGEST >> 20} at most"
        )
    try:
        if path.name.endswith((".jsonl", ".jsonl.gz")):
            return _published(path)
        return Constitution.build(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _published(path: Path) -> Constitution:
    """Rows with id and critique_request, revision_request, or instruction (Bai et al.'s repository)."""
    opened = gzip.open if path.suffix == ".gz" else open
    rows: list[Mapping[str, Any]] = []
    with opened(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not JSON ({error})") from None
            if not isinstance(row, dict) or not PAPER_FIELDS.keys() & row.keys() - {"id"}:
                raise DataError(
                    f"{path}, line {number}: has "
                    f"{sorted(row) if isinstance(row, dict) else type(row).__name__}; wanted "
                    "critique_request with revision_request, or instruction"
                )
            rows.append({ours: row[theirs] for theirs, ours in PAPER_FIELDS.items() if theirs in row})
    named = [{"name": f"principle {n}", **row} for n, row in enumerate(rows, 1)]
    return Constitution.build({"name": path.name.split(".")[0], "principle": named}, str(path))


def joined(name: str, parts: Sequence[Constitution]) -> Constitution:
    """Several as one: the paper's two files, say."""
    return Constitution(name=name, principle=tuple(one for part in parts for one in part.principle))
