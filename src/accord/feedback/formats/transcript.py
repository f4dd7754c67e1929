"""Anthropic's HH transcripts: ``"\\n\\nHuman: ...\\n\\nAssistant: ..."`` to messages and back.

A turn's content is what follows the name and one space. A turn without that space is accepted and
would be written with it; everything else comes back to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from accord.errors import DataError
from accord.feedback.formats.gather import clip
from accord.types import Message

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_NAMES = {role: name for name, role in _ROLES.items()}


def is_transcript(text: object) -> bool:
    """Whether a value is a text that opens with a human turn."""
    return isinstance(text, str) and text.startswith(HUMAN)


def parse_prompt(text: str) -> tuple[Message, ...]:
    """The messages of a transcript that ends with ``"\\n\\nAssistant:"``."""
    if not is_transcript(text) or not text.endswith(ASSISTANT):
        raise DataError(
            f"an HH prompt begins with {HUMAN!r} and ends with {ASSISTANT!r}; this one is {clip(text)}"
        )
    parts = _TURN.split(text.removesuffix(ASSISTANT))
    return tuple(
        Message(_ROLES[name], content.removeprefix(" "))
        for name, content in zip(parts[1::2], parts[2::2], strict=True)
    )


def split_pair(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The prompt two full transcripts share, and what each one adds to it, to the letter.

    The prompt is the common beginning up to its last ``"\\n\\nAssistant:"``.
    """
    end = chosen.rfind(ASSISTANT, 0, shared_length(chosen, rejected))
    if end < 0 or not is_transcript(chosen):
        raise DataError(
            f"chosen {clip(chosen)} and rejected {clip(rejected)} share no beginning "
            f"{HUMAN!r} ... {ASSISTANT!r}"
        )
    end += len(ASSISTANT)
    return chosen[:end], chosen[end:], rejected[end:]


def write_prompt(messages: Sequence[Message]) -> str:
    """Messages as a transcript that ends with ``"\\n\\nAssistant:"``.

    Raises:
        DataError: the transcript would not be read back as these messages (another role, a turn's
            name inside a content, no human turn first).
    """
    others = sorted({m.role for m in messages} - set(_NAMES))
    if others:
        raise DataError(f"HH transcripts have user and assistant turns only, not {', '.join(others)}")
    text = "".join(f"\n\n{_NAMES[m.role]}: {m.content}" for m in messages) + ASSISTANT
    if parse_prompt(text) != tuple(messages):
        raise DataError(f"{clip(text)} holds a turn's name inside a message; HH transcripts cannot carry it")
    return text


def write_pair(messages: Sequence[Message], chosen: str, rejected: str) -> tuple[str, str]:
    """The full transcripts of a pair; a :class:`DataError` where they would be split elsewhere."""
    prompt = write_prompt(messages)
    full = f"{prompt} {chosen}", f"{prompt} {rejected}"
    if split_pair(*full)[0] != prompt:
        raise DataError(
            f"chosen {clip(chosen)} and rejected {clip(rejected)} begin alike past another "
            f"{ASSISTANT!r}; HH transcripts cannot carry it"
        )
    return full


def shared_length(one: str, other: str) -> int:
    """The number of characters two texts have in common from the start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
