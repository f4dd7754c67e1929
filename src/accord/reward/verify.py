"""Verifiers: 1 where an answer checks out and 0 where it does not, with the reason.

What cannot be checked fails: a text without a number, a pattern that takes too long, JSON too deep to
read. A prompt that lacks what its answers are checked against is an error, for that is nobody's answer.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import Any, Literal

import regex
from pydantic import Field, field_validator

from accord.errors import ConfigError, DataError
from accord.reward.rules import Rule
from accord.types import Completion, Prompt, Score

# -- numbers -----------------------------------------------------------------------------------

LONGEST = 40
"""Digits of a number that is read; a longer run of digits is no answer."""
_DIGITS = r"(?:\d{1,3}(?:[,_'\u00a0\u202f\u2009]\d{3})+(?!\d)|\d+)"
NUMBER = re.compile(
    rf"""
    \\[dt]?frac\s*\{{\s*(?P<top>-?\d+)\s*\}}\s*\{{\s*(?P<bottom>\d+)\s*\}}
    | (?<![^\W_])(?<!\d\.)                      # not the 12 of B12, nor the 3 of 1.2.3
    (?P<minus>(?<![\w)\]%.])[-\u2212\u2013])?   # 3-4 and (3)-4 are no negative numbers
    (?:[$\u20ac\u00a3\u00a5](?P<inner>-)?)?
    (?: (?P<mixed>\d+)\s+(?P<n>\d+)/(?P<d>\d+)(?!\.?\d|/)
      | (?<!/)(?P<over>{_DIGITS})\s?/\s?(?P<under>\d+)(?!\.?\d|/)
      | (?>(?P<plain>{_DIGITS}(?:\.\d+)?|\.\d+)(?:[eE](?P<power>[-+]?\d{{1,2}})(?!\w))?)(?![eE][-+]?\d)
    )
    """,
    re.X,
)
_SEPARATOR = re.compile(r"[,_'\u00a0\u202f\u2009]")


def numbers_in(text: str) -> list[Fraction]:
    """The numbers of ``text`` in order, exact.

    Read are signs, thousands separators (comma, apostrophe, underscore, narrow spaces), decimals, powers
    of ten, fractions (``3/4``, ``1 1/2``, ``\\frac{3}{4}``); currency signs and units around them are left
    aside. A comma is never a decimal point.
    """
    found = (_value(match) for match in NUMBER.finditer(text))
    return [value for value in found if value is not None]


def _value(match: re.Match[str]) -> Fraction | None:
    """The number of a match; ``None`` for a division by zero and for more digits than a number has."""
    if len(match.group()) > LONGEST:
        return None
    got = match.groupdict()
    sign = -1 if (got["minus"] is None) != (got["inner"] is None) else 1
    if got["top"] is not None:
        return _ratio(got["top"], got["bottom"])
    if got["mixed"] is not None:
        part = _ratio(got["n"], got["d"])
        return None if part is None else sign * (int(got["mixed"]) + part)
    if got["over"] is not None:
        value = _ratio(_SEPARATOR.sub("", got["over"]), got["under"])
        return None if value is None else sign * value
    return sign * Fraction(_SEPARATOR.sub("", got["plain"])) * Fraction(10) ** int(got["power"] or 0)


def _ratio(top: str, bottom: str) -> Fraction | None:
    return Fraction(int(top), int(bottom)) if int(bottom) else None


class NumberMatch(Rule):
    """1 where the answer's number equals the prompt's reference, else 0.

    The answer's number is the last one of the text, or the first behind the last ``marker``.
    """

    reference: str = "answer"
    """The right number stands in ``prompt.meta[reference]``: a number, or a text whose last number it is."""
    marker: str = ""
    """Only what follows its last occurrence counts, such as "####" or "the answer is"; case is ignored."""
    relative: float = Field(1e-12, ge=0, allow_inf_nan=False)
    """Allowed difference as a share of the reference; the default forgives a float's rounding only."""
    absolute: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Allowed difference in the number's own unit."""

    def judge(self, prompt: Prompt, completion: Completion) -> Score:
        """1 or 0; DataError for a prompt without a reference."""
        right = self._reference(prompt)
        text = completion.text
        if self.marker:
            found = list(re.finditer(re.escape(self.marker), text, re.I))
            if not found:
                return Score(0.0, {}, f"no {self.marker!r} in the answer")
            text = text[found[-1].end() :]
        read = numbers_in(text)
        if not read:
            return Score(0.0, {}, "no number in the answer")
        answer = read[0] if self.marker else read[-1]
        allowed = max(Fraction(self.absolute), Fraction(self.relative) * abs(right))
        equal = abs(answer - right) <= allowed
        return Score(float(equal), {}, f"{_shown(answer)} {'is' if equal else 'is not'} {_shown(right)}")

    def _reference(self, prompt: Prompt) -> Fraction:
        given = prompt.meta.get(self.reference)
        if isinstance(given, int | float) and not isinstance(given, bool) and abs(given) < float("inf"):
            return Fraction(repr(given))  # 0.1 means a tenth, not the nearest binary fraction
        read = numbers_in(given) if isinstance(given, str) else []
        if not read:
            raise DataError(
                f"prompt {prompt.id!r} has no number in meta[{self.reference!r}] (it is {given!r}); import "
                "the prompts with their right answers, or name where they stand in `reference`"
            )
        return read[-1]


def _shown(number: Fraction) -> str:
    return str(number.numerator) if number.denominator == 1 else f"{float(number):.12g}"


# -- form --------------------------------------------------------------------------------------


class Pattern(Rule):
    """1 where a regular expression matches the text, else 0; no match within ``seconds`` counts as none.

    Patterns that backtrack without end (``(a+)+$``) are cut off by the clock of the ``regex`` module.
    """

    pattern: str = Field(..., min_length=1)
    """The expression; flags stand in it, as in ``(?si)``."""
    whole: bool = True
    """The whole text has to match, not some part of it."""
    seconds: float = Field(0.25, gt=0)
    """Time a match may take."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            regex.compile(pattern)
        except regex.error as error:
            raise ConfigError(f"{pattern!r} is no regular expression: {error}") from None
        return pattern

    def judge(self, prompt: Prompt, completion: Completion) -> Score:
        """1 or 0; ``parts`` says whether the time was up."""
        compiled = regex.compile(self.pattern)  # regex keeps what it compiled
        match = compiled.fullmatch if self.whole else compiled.search
        try:
            found = match(completion.text, timeout=self.seconds) is not None
        except TimeoutError:
            return Score(0.0, {"timed_out": 1.0}, f"no match found within {self.seconds:g} s")
        return Score(float(found), {"timed_out": 0.0}, "" if found else "does not match the pattern")


Kind = Literal["text", "number", "integer", "bool", "list", "object", "any"]
_KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "number": (int, float),
    "integer": (int,),
    "bool": (bool,),
    "list": (list,),
    "object": (dict,),
    "any": (object,),
}
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.S)


class JsonShape(Rule):
    """1 where the text is one JSON object with these keys and kinds of values, else 0."""

    keys: dict[str, Kind] = Field(default_factory=dict)
    """Each key that must be there: text, number, integer, bool, list, object or any."""
    more: bool = True
    """Whether other keys may be there too."""
    fenced: bool = False
    """Read the last block between ``` marks, and not the whole text."""

    def judge(self, prompt: Prompt, completion: Completion) -> Score:
        """1 or 0, with what is wrong."""
        text = completion.text
        if self.fenced:
            blocks = _FENCE.findall(text)
            if not blocks:
                return Score(0.0, {}, "no block between ``` marks")
            text = blocks[-1]
        fault = self._fault(text)
        return Score(float(not fault), {}, fault)

    def _fault(self, text: str) -> str:
        try:
            value = json.loads(text, parse_constant=_no_number, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            return f"not JSON: {str(error)[:120]}"
        if not isinstance(value, dict):
            return f"JSON, but not an object: a {type(value).__name__}"
        for key, kind in self.keys.items():
            if key not in value:
                return f"no key {key!r}"
            wrong_bool = isinstance(value[key], bool) and kind not in ("bool", "any")
            if wrong_bool or not isinstance(value[key], _KINDS[kind]):
                return f"{key!r} is no {kind}"
        extra = sorted(value.keys() - self.keys.keys())
        return f"an unexpected key {extra[0]!r}" if extra and not self.more else ""


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys each stand once: of two, readers disagree which counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
