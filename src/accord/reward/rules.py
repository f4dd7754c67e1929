"""Rewards that are rules on the text: length, repetition, forbidden words, and any Python function.

A rule is a frozen config and a ``Scorer`` in one: its settings are what it does. It judges each
completion alone and says why.
"""

from __future__ import annotations

import importlib
import math
import numbers
import re
import sys
import unicodedata
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from accord.config import Config
from accord.errors import ConfigError, DataError, NumericsError
from accord.stats.words import repetition, words
from accord.types import Completion, Prompt, Score, Scorer


class Rule(Config):
    """A scorer that judges each completion for itself."""

    @abstractmethod
    def judge(self, prompt: Prompt, completion: Completion) -> Score:
        """The score of one completion."""

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """One score a completion, in order."""
        return [self.judge(prompt, completion) for completion in completions]


class Length(Rule):
    """1 inside a band of lengths, falling linearly to 0 over ``margin`` outside of it."""

    unit: Literal["words", "characters"] = "words"
    """What is counted."""
    shortest: int = Field(0, ge=0)
    """The band's lower end."""
    longest: int = Field(..., ge=0)
    """The band's upper end."""
    margin: int = Field(0, ge=0)
    """How far outside of the band the value reaches 0; 0: at once."""

    @model_validator(mode="after")
    def _band(self) -> Length:
        if self.shortest > self.longest:
            raise ConfigError(f"shortest {self.shortest} is above longest {self.longest}; no text could fit")
        return self

    def judge(self, prompt: Prompt, completion: Completion) -> Score:
        """1 in the band, less outside; the length in ``parts``."""
        length = len(words(completion.text)) if self.unit == "words" else len(completion.text)
        outside = max(self.shortest - length, length - self.longest, 0)
        value = 0.0 if outside > self.margin else 1.0 - outside / (self.margin + 1)
        why = f"{length} {self.unit}, asked for {self.shortest} to {self.longest}" if outside else ""
        return Score(value, {"length": float(length)}, why)


class Repetition(Rule):
    """Minus the share of n-grams that occurred earlier in the same text, in (-1, 0]."""

    n: int = Field(3, ge=1)
    """Words in an n-gram."""

    def judge(self, prompt: Prompt, completion: Completion) -> Score:
        """0 where nothing comes twice."""
        share = repetition(completion.text, self.n)
        return Score(-share, {}, f"{share:.0%} of the {self.n}-grams come again" if share else "")


class Forbidden(Rule):
    """-1 where the text holds a forbidden word, else 0.

    Letters are compared without case, width and style (NFKC), accents written apart, and invisible
    characters: a zero-width space inside a word hides nothing. Respellings (``w0rd``) are not seen.
    """

    words: tuple[str, ...] = Field(..., min_length=1)
    """Words or phrases."""
    inside: bool = False
    """Also where one stands inside a longer word."""

    @model_validator(mode="after")
    def _some(self) -> Forbidden:
        empty = [word for word in self.words if not plain_letters(word).strip()]
        if empty:
            raise ConfigError(f"the forbidden word {empty[0]!r} is empty and would stand in every text")
        return self

    def judge(self, prompt: Prompt, completion: Completion) -> Score:
        """-1 with the words found, 0 without; their number in ``parts``."""
        text = plain_letters(completion.text)
        found = [word for word in self.words if self._pattern(word).search(text)]
        return Score(-1.0 if found else 0.0, {"found": float(len(found))}, ", ".join(found))

    def _pattern(self, word: str) -> re.Pattern[str]:
        body = r"\s+".join(re.escape(part) for part in plain_letters(word).split())
        return re.compile(body if self.inside else rf"(?<!\w){body}(?!\w)")


def plain_letters(text: str) -> str:
    """Case-folded NFKC without invisible format characters."""
    shown = (c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFKC", "".join(shown).casefold())


# -- functions ---------------------------------------------------------------------------------

Judge = Callable[[Prompt, Completion], Any]


class FunctionReward:
    """A Python function of a prompt and a completion that returns a number or a ``Score``."""

    def __init__(self, function: Judge, name: str = "") -> None:
        self.function = function
        self.name = name or getattr(function, "__qualname__", repr(function))

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """What the function says of each completion.

        Raises:
            DataError: the function raised, or returned what is no number; the text is shown.
            NumericsError: it returned a number that is not finite.
        """
        return [self._judge(prompt, completion) for completion in completions]

    def _judge(self, prompt: Prompt, completion: Completion) -> Score:
        where = f"the completion {completion.text[:120]!r} of prompt {prompt.id!r}"
        try:
            said = self.function(prompt, completion)
        except Exception as error:
            kind = type(error).__name__
            raise DataError(
                f"the function {self.name} raised {kind}: {error}; it was given {where}"
            ) from error
        score = said if isinstance(said, Score) else _number(said)
        if score is None:
            raise DataError(
                f"the function {self.name} returned {said!r} for {where}; return a number or a Score"
            )
        if not math.isfinite(score.value):
            raise NumericsError(f"the function {self.name} returned {score.value} for {where}")
        return score


def _number(said: Any) -> Score | None:
    """A score of any real number (numpy's and torch's scalars too)."""
    if isinstance(said, numbers.Real):
        return Score(float(said))
    if getattr(said, "shape", None) == () and hasattr(said, "item"):
        return Score(float(said.item()))
    return None


def load_function(name: str, folder: str | Path | None = None) -> Scorer:
    """The scorer ``MODULE:NAME``: a function of (prompt, completion), a Scorer, or a class of one.

    Modules in ``folder`` are found too. Only name code that you trust: it runs as you.

    Raises:
        ConfigError: no such module or name, or nothing that could score.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise ConfigError(f"a function is named MODULE:NAME, such as my_rules:polite; got {name!r}")
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        target: Any = importlib.import_module(module_name)
    except Exception as error:  # whatever a module does when it is imported
        raise ConfigError(
            f"{name}: the module {module_name} could not be imported ({type(error).__name__}: {error})"
        ) from error
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise ConfigError(f"{name}: {module_name} has no {attribute!r}; check the spelling")
        target = getattr(target, part)
    if isinstance(target, type):
        try:
            target = target()
        except Exception as error:
            raise ConfigError(f"{name} is a class that cannot be made without arguments: {error}") from error
    if isinstance(target, Scorer):
        return target
    if not callable(target):
        raise ConfigError(f"{name} is {target!r}, neither a function nor a Scorer")
    return FunctionReward(target, name)
