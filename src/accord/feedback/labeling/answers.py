"""From what a labeler entered to records, by protocol; whatever does not fit is refused, never bent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from accord.errors import DataError
from accord.feedback.labeling.config import LabelConfig
from accord.judgements import Ranking, Thumb
from accord.store import rows as r
from accord.types import Completion

Facts = tuple[list[Completion], list[Ranking], list[Thumb]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a labeler entered. Each protocol takes its own part, and refuses the others'."""

    tiers: tuple[tuple[str, ...], ...] = ()
    """rank, pair: completion ids best first, equals in one tier."""
    fails: tuple[str, ...] = ()
    """rank, pair: those marked FAIL."""
    strength: float | None = None
    """pair: how much better, from 0 to 1."""
    thumbs: Mapping[str, bool] = field(default_factory=dict)
    """thumb: completion id -> up."""
    edited: str = ""
    """edit: the better text."""
    edited_of: str = ""
    """edit: the completion it improves on."""
    note: str = ""
    seconds: float | None = None

    def content(self) -> list[Any]:
        """What two answers must share to be one and the same; how long it took is not part of it."""
        tiers = [list(tier) for tier in self.tiers]
        edit = [self.edited, self.edited_of]
        return [tiers, list(self.fails), self.strength, dict(self.thumbs), *edit, self.note]


def to_feedback(row: Mapping[str, Any], answer: Answer, guidelines: str, config: LabelConfig) -> Facts:
    """The completions, rankings and thumbs of an answer to the assignment ``row``.

    The order shown is the assignment's. Raises :class:`DataError` for an answer that does not fit.
    """
    _check_numbers(answer)
    _check_parts(answer, config)
    if config.protocol == "thumb":
        return [], [], _thumbs(row, answer, config)
    if config.protocol == "edit":
        better = _better(row, answer)
        tiers = ((better.id,), (answer.edited_of,))
        return [better], [_ranking(row, answer, guidelines, "edit", tiers, ())], []
    if config.protocol == "pair" and len(row["shown"]) != 2:
        raise DataError(
            f"the task shows {len(row['shown'])} answers and a pair is two; it was made under another "
            "protocol, so open your task anew"
        )
    ranking = _ranking(row, answer, guidelines, config.protocol, answer.tiers, tuple(row["shown"]))
    placed = {id for tier in answer.tiers for id in tier} | set(answer.fails)
    left = [id for id in row["shown"] if id not in placed]
    if not placed or (left and (not config.partial or config.protocol == "pair")):
        raise DataError(
            f"{len(left)} of {len(row['shown'])} completions are not placed; place each, or FAIL it"
        )
    if len(placed) < 2 and not answer.fails:
        raise DataError("one placed completion says nothing of the others; place two or more, or FAIL one")
    return [], [ranking], []


PARTS = {
    "rank": {"tiers", "fails"},
    "pair": {"tiers", "fails", "strength"},
    "thumb": {"thumbs"},
    "edit": {"edited", "edited_of"},
}


def _check_parts(answer: Answer, config: LabelConfig) -> None:
    given = {name: getattr(answer, name) for name in set.union(*PARTS.values())}
    odd = [name for name in sorted(given) if name not in PARTS[config.protocol] and given[name] not in EMPTY]
    if odd:
        raise DataError(
            f"protocol {config.protocol!r} takes no {odd[0]}; the answer has {given[odd[0]]!r:.80}"
        )


EMPTY: tuple[Any, ...] = ((), None, {}, "")


def _check_numbers(answer: Answer) -> None:
    for name, top in (("strength", 1.0), ("seconds", float("inf"))):
        value = getattr(answer, name)
        if (value is not None and not 0 <= value <= top) or value == float("inf"):
            raise DataError(f"{name} is {value}; give a number from 0 to {top:g}, or none")


def _ranking(
    row: Mapping[str, Any],
    answer: Answer,
    guidelines: str,
    protocol: str,
    tiers: tuple[tuple[str, ...], ...],
    shown: tuple[str, ...],
) -> Ranking:
    try:
        return Ranking(
            row["prompt_id"],
            row["labeler"],
            tuple(map(tuple, tiers)),
            tuple(answer.fails),
            shown,
            row["criterion"],
            guidelines,
            answer.seconds,
            answer.note,
            supersedes=row["feedback_id"],
            protocol=protocol,
            strength=answer.strength,
            arm=row["arm"],
            assignment=row["id"],
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"the answer does not fit its task: {error}") from error


def _thumbs(row: Mapping[str, Any], answer: Answer, config: LabelConfig) -> list[Thumb]:
    odd = [id for id in answer.thumbs if id not in row["shown"]]
    left = [id for id in row["shown"] if id not in answer.thumbs]
    if odd:
        raise DataError(f"completion {odd[0]!r:.60} is not on this task")
    if not answer.thumbs or (left and not config.partial):
        raise DataError(f"{len(left)} of {len(row['shown'])} completions have no thumb; give each one")
    return [Thumb(row["prompt_id"], id, row["labeler"], bool(up)) for id, up in answer.thumbs.items()]


def _better(row: Mapping[str, Any], answer: Answer) -> Completion:
    """The edited text as a completion of its prompt: written by a person, so without an origin."""
    if answer.edited_of not in row["shown"]:
        raise DataError(f"edited_of is {answer.edited_of!r:.60}, which is not on this task")
    if not answer.edited.strip():
        raise DataError("the edited text is empty; write a better answer, or skip the task")
    bare = Completion(answer.edited)
    better = Completion(answer.edited, id=r.completion_row(row["prompt_id"], bare, None)["id"])
    if better.id in row["shown"]:
        raise DataError("the edited text is the same as one shown; change it, or skip the task")
    return better
