"""The base of every step's settings: frozen, validated, the meaning under each field.

Built from Python, a section of ``accord.toml`` or flags; all refuse an unknown key and name the nearest one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from accord.errors import ConfigError

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Frozen settings of one step. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def __init__(self, **values: Any) -> None:
        """A :class:`ConfigError` names the key, the value and the nearest known key."""
        unknown = [key for key in values if key not in type(self).model_fields]
        if unknown:
            raise ConfigError(_unknown_message(unknown[0], list(type(self).model_fields)))
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            message = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
            key = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"{key} = {first.get('input')!r}: {message}" if key else message) from error

    @classmethod
    def build(cls: type[C], values: Mapping[str, Any], where: str = "") -> C:
        """The same from a section of a file; errors begin with ``where``."""
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError(f"{where or cls.__name__}: {error}") from error


def _unknown_message(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
    return f"unknown key {key!r}; {hint}"
