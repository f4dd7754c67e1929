"""What answers a policy: the protocol of tools, games and dialogues. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from accord.types import Prompt


@dataclass(frozen=True, slots=True)
class Turn:
    """An environment's answer: its words, what it pays for the text it was given, whether that was all."""

    text: str = ""
    paid: float = 0.0
    over: bool = False


@runtime_checkable
class Environment(Protocol):
    """Anything that answers back: the text so far is the state, the policy's text is the action."""

    def begin(self, prompt: Prompt, seed: int) -> Callable[[str], Turn]:
        """An episode: called with each text of the policy, it answers. Its chance comes from ``seed``."""
        ...
