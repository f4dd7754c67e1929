"""Two transcripts that share all but their last turn, as published comparisons of dialogues come: the shared
turns are the prompt, the last ones its better and worse answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accord.errors import DataError

TURN = "\n\nAssistant:"
"""Begins an answer, as in the HH transcripts (Bai et al. 2022, arXiv:2204.05862)."""


def parted(row: Mapping[str, Any], columns: tuple[str, str], place: str) -> tuple[str, dict[str, str]]:
    """The prompt, and the answers as ``better`` and ``worse``.

    Raises:
        DataError: a transcript has no turn of the assistant, they share not all before it, or an answer is
            empty.
    """
    parts = [str(row[column]).rpartition(TURN) for column in columns]
    (shared, mark, better), (other, _, worse) = parts
    if not mark or shared != other:
        raise DataError(
            f"{place}: {columns[0]} and {columns[1]} do not share all up to the last {TURN.strip()!r}; they "
            f"go {str(row[columns[0]])[-60:]!r} and {str(row[columns[1]])[-60:]!r}"
        )
    answers = {"better": better.strip(), "worse": worse.strip()}
    if not all(answers.values()) or not shared.strip():
        raise DataError(f"{place}: {columns[0]} or {columns[1]} has an empty prompt or last turn")
    return shared.strip(), answers
