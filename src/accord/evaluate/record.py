"""The records of an evaluation: plain, frozen, JSON and back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Literal

from pydantic import TypeAdapter

from accord.errors import DataError, NumericsError
from accord.types import Stop


class Kind(StrEnum):
    """Where a row's figure comes from."""

    SCORER = "scorer"
    """A scorer's value."""
    PART = "part"
    """One part of a scorer's value; the row is named ``scorer.part``."""
    TEXT = "text"
    """Measured on the text of each completion or on a prompt's samples."""
    CORPUS = "corpus"
    """Measured on a whole side at once; no interval."""


Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, before and after. Means are over prompts of the prompt's mean."""

    name: str
    kind: Kind
    better: Better
    before_mean: float
    before_sd: float | None
    """Standard deviation over all completions (prompts, for ``diversity``); ``None`` for a corpus row."""
    after_mean: float
    after_sd: float | None
    difference: float
    """``after_mean - before_mean``."""
    low: float | None
    """Lower end of the difference's interval: paired bootstrap over prompts; ``None`` for a corpus row, and
    where all prompts are one cluster."""
    high: float | None
    win_rate: float | None = None
    """How often a sample of after beats a sample of before on the same prompt, ties half; scorers only."""
    win_low: float | None = None
    win_high: float | None = None
    p: float | None = None
    """Two-sided, of no difference: a sign-flip test over prompts; ``None`` for a corpus row."""
    p_holm: float | None = None
    """The same after Holm's correction among all rows but the criterion; ``None`` for the criterion."""
    detectable: float | None = None
    """The smallest difference that so many prompts would find four times in five."""


@dataclass(frozen=True, slots=True)
class KL:
    """KL(after || before), measured by the caller, in nats a completion."""

    exact: float
    """Summed over the whole vocabulary at each position; never negative."""
    sampled: float
    """Mean of log p_after - log p_before of the sampled tokens; may be negative by chance."""
    per_token: float | None = None
    """The exact one in nats a token."""

    def __post_init__(self) -> None:
        if not (isfinite(self.exact) and isfinite(self.sampled)):
            raise NumericsError(f"KL is not finite: exact {self.exact}, sampled {self.sampled}")
        if self.exact < -1e-6:
            raise NumericsError(
                f"the exact KL is {self.exact}; it cannot be negative: check that both models score "
                "the same tokens with the same mask"
            )


@dataclass(frozen=True, slots=True)
class Figure:
    """One row's figure for one pair of texts."""

    name: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt's first sample on either side, with what each scorer said."""

    prompt_id: str
    prompt: str
    why: Literal["gain", "loss", "random"]
    before: str
    after: str
    before_stop: Stop
    after_stop: Stop
    figures: tuple[Figure, ...]
    before_note: str = ""
    """The criterion's reason in words, where it gives one."""
    after_note: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome of ``compare.evaluate``; survives ``to_json`` and ``from_json`` unchanged."""

    prompts: int
    samples: int
    criterion: str
    confidence: float
    rounds: int
    seed: int
    rows: tuple[Row, ...]
    examples: tuple[Example, ...]
    example_rule: str
    """How the examples were chosen, in words."""
    kl: KL | None = None

    def row(self, name: str) -> Row:
        """The row called ``name``; :class:`DataError` lists the rows there are."""
        for row in self.rows:
            if row.name == name:
                return row
        raise DataError(
            f"the evaluation has no row {name!r}; its rows: {', '.join(r.name for r in self.rows)}"
        )

    def has(self, name: str) -> bool:
        """Whether there is a row called ``name``."""
        return any(row.name == name for row in self.rows)

    def to_json(self) -> str:
        """The evaluation as one JSON object."""
        return _ADAPTER.dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """Read what :meth:`to_json` wrote; :class:`DataError` where it is something else."""
        try:
            return _ADAPTER.validate_json(text)
        except ValueError as error:
            raise DataError(f"this is not an evaluation: {error}; redo `accord evaluate`") from error


_ADAPTER = TypeAdapter(Evaluation)
