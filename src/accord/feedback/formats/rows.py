"""One row of a format to records: a short function a format, all with the same signature.

A row that cannot be understood raises a :class:`DataError` that names the column and the value;
``read`` adds the place in the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from accord.errors import DataError
from accord.feedback.formats.gather import ANONYMOUS, Collector, Format, clip
from accord.feedback.formats.transcript import parse_prompt, shared_length, split_pair
from accord.judgements import LATER, Comparison, Ranking, Thumb
from accord.types import Message

Row = Mapping[str, Any]
ROLES = ("system", "user", "assistant")
SOURCES = ("human", "simulated", "constitution", "served")
_MISSING = object()

_LISTS = {"completions", "completion_ids", "tiers", "fails", "shown", "rank", "labelers"}
_NUMBERS = {"p_chosen", "n_labelers", "seconds", "strength"}
_TEXTS = {"prompt", "input", "chosen", "rejected", "completion"}
_PAIR = {"chosen", "rejected", "prompt_id", "p_chosen", "n_labelers", "labelers", "labeler", "source"}

KNOWN: dict[Format, set[str]] = {
    Format.PROMPTS: {"prompt", "prompt_id"},
    Format.TRL_PREFERENCE: {"prompt"} | _PAIR,
    Format.TRL_IMPLICIT: _PAIR,
    Format.TRL_UNPAIRED: {"prompt", "completion", "label", "prompt_id", "labeler", "source"},
    Format.OPENRLHF: {"input"} | _PAIR,
    Format.HH: {"prompt"} | _PAIR,
    Format.RANKINGS: {"prompt", "prompt_id", "labeler", "source", "criterion", "guidelines", "seconds"}
    | {"note", "id", "supersedes", *LATER}
    | (_LISTS - {"labelers"}),
}
"""The columns each format takes; others are counted in the notes."""


def typed_cells(row: Mapping[str, str]) -> dict[str, Any]:
    """A csv row with its cells as values: JSON for lists, numbers, true/false, messages where a text
    column holds a JSON list of messages. An empty cell is no value, but for texts, where it is ""."""
    typed: dict[str, Any] = {}
    for column, cell in row.items():
        if column in _TEXTS:
            typed[column] = json.loads(cell) if looks_like_messages(cell) else cell
        elif not cell:
            typed[column] = None
        elif column in _LISTS or column in _NUMBERS:
            try:
                typed[column] = json.loads(cell)
            except ValueError as error:
                raise DataError(f"column {column!r}: {clip(cell)} is not JSON") from error
        elif column == "label":
            typed[column] = {"true": True, "1": True, "false": False, "0": False}.get(cell.lower(), cell)
        else:
            typed[column] = cell
    return typed


def looks_like_messages(text: str) -> bool:
    """Whether a text is a JSON list of objects with a role and a content."""
    if not text.startswith("[{"):
        return False
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return bool(value) and all(isinstance(turn, dict) and {"role", "content"} <= set(turn) for turn in value)


def read_prompt(row: Row, into: Collector, format: Format) -> None:
    """A prompt alone, to be answered."""
    into.prompt_of(_prompt(row, "prompt"), _optional(row, "prompt_id"))


def read_preference(row: Row, into: Collector, format: Format) -> None:
    """A pair with its prompt in a column of its own."""
    column = "input" if format is Format.OPENRLHF else "prompt"
    messages = _prompt(row, column)
    chosen, rejected = (_reply(row, side, messages) for side in ("chosen", "rejected"))
    _add_pair(row, into, format, messages, chosen, rejected)


def read_implicit(row: Row, into: Collector, format: Format) -> None:
    """A pair whose prompt is what both sides begin with: whole messages, or whole words of a string."""
    if isinstance(row.get("chosen"), str):
        chosen, rejected = _text(row, "chosen"), _text(row, "rejected")
        end = _word_start(chosen, rejected)
        if not end:
            raise DataError(
                f"chosen {clip(chosen)} and rejected {clip(rejected)} do not begin with the same words, so "
                "there is no prompt in them; name the prompt's column with columns={'prompt': ...}"
            )
        _add_pair(row, into, format, (Message("user", chosen[:end]),), chosen[end:], rejected[end:])
        return
    turns, others = _turns(row, "chosen"), _turns(row, "rejected")
    prompt = tuple(turns[:-1])
    if not prompt or others[:-1] != prompt or {turns[-1].role, others[-1].role} != {"assistant"}:
        raise DataError(
            "chosen and rejected must be the same messages but for a last one of the assistant; "
            f"chosen is {clip(row['chosen'])}, rejected is {clip(row['rejected'])}"
        )
    _add_pair(row, into, format, _answerable(prompt, "chosen"), turns[-1].content, others[-1].content)


def read_hh(row: Row, into: Collector, format: Format) -> None:
    """A pair of transcripts, with the prompt apart or at the beginning of both."""
    chosen, rejected = _text(row, "chosen"), _text(row, "rejected")
    if row.get("prompt") is None:
        prompt, chosen, rejected = split_pair(chosen, rejected)
    else:
        prompt = _text(row, "prompt")
        if chosen.startswith(prompt) and rejected.startswith(prompt):
            chosen, rejected = chosen.removeprefix(prompt), rejected.removeprefix(prompt)
    messages = _answerable(parse_prompt(prompt), "prompt")
    if not all(text.startswith(" ") for text in (chosen, rejected)):
        into.notes["replies without a space after 'Assistant:'"] += 1
    _add_pair(row, into, format, messages, chosen.removeprefix(" "), rejected.removeprefix(" "))


def read_unpaired(row: Row, into: Collector, format: Format) -> None:
    """A single completion that is good (true) or bad (false)."""
    label = row.get("label")
    if label not in (True, False, 0, 1) or isinstance(label, float):
        raise DataError(f"column 'label' is {clip(label)}; it must be true (good) or false (bad)")
    messages = _prompt(row, "prompt")
    reply = _reply(row, "completion", messages)
    prompt = into.prompt_of(messages, _optional(row, "prompt_id"))
    (completion,) = into.completions_of(prompt, [reply])
    labeler, source = _labeler(row), _source(row, into, format)
    into.thumbs.append(Thumb(prompt.id, completion.id, labeler, bool(label), source))


def read_ranking(row: Row, into: Collector, format: Format) -> None:
    """One labeler's ranking of a list of completions, as tiers of places or as a rank each."""
    messages = _prompt(row, "prompt")
    texts = [_text({"completions": text}, "completions") for text in _list(row, "completions")]
    tiers, fails, shown = _order(row, len(texts))
    ids = [str(id) for id in row.get("completion_ids") or []]
    if ids and (len(ids) != len(texts) or len(set(ids)) < len(ids)):
        raise DataError(
            f"column 'completion_ids' must name each of {len(texts)} completions once: {clip(ids)}"
        )
    if not (tiers or fails or row.get("labeler")):
        into.notes["tasks nobody has filled in"] += 1
        return
    seconds, strength = (_number(row, column) for column in ("seconds", "strength"))
    prompt = into.prompt_of(messages, _optional(row, "prompt_id"))
    completions = into.completions_of(prompt, texts, ids)
    into.rankings.append(
        Ranking(
            prompt_id=prompt.id,
            labeler=_labeler(row),
            tiers=tuple(tuple(completions[place].id for place in tier) for tier in tiers),
            fails=tuple(completions[place].id for place in fails),
            shown=tuple(completions[place].id for place in shown),
            criterion=_optional(row, "criterion"),
            guidelines=_optional(row, "guidelines"),
            seconds=seconds,
            note=_optional(row, "note"),
            source=_source(row, into, format),
            supersedes=_optional(row, "supersedes") or None,
            id=_optional(row, "id"),
            protocol=_optional(row, "protocol") or LATER["protocol"],
            strength=strength,
            arm=_optional(row, "arm"),
            assignment=_optional(row, "assignment"),
        )
    )


READERS: dict[Format, Callable[[Row, Collector, Format], None]] = {
    Format.PROMPTS: read_prompt,
    Format.TRL_PREFERENCE: read_preference,
    Format.TRL_IMPLICIT: read_implicit,
    Format.TRL_UNPAIRED: read_unpaired,
    Format.OPENRLHF: read_preference,
    Format.HH: read_hh,
    Format.RANKINGS: read_ranking,
}


def _add_pair(
    row: Row, into: Collector, format: Format, messages: tuple[Message, ...], chosen: str, rejected: str
) -> None:
    """A ranking of one labeler, or a comparison where the row states more or fewer than one."""
    p_chosen = _probability(row)
    labelers = _labelers(row)
    n_labelers = row.get("n_labelers")
    if n_labelers is None:
        n_labelers = len(labelers) or 1
    elif labelers and n_labelers != len(labelers):
        raise DataError(f"column 'n_labelers' is {n_labelers!r}, but 'labelers' names {len(labelers)}")
    prompt = into.prompt_of(messages, _optional(row, "prompt_id"))
    better, worse = into.completions_of(prompt, [chosen, rejected])
    if chosen == rejected:
        into.notes["pairs of two equal texts"] += 1
    source = _source(row, into, format)
    if n_labelers != 1 or p_chosen not in (0.5, 1.0):
        if n_labelers and not labelers:
            into.notes["pairs of several labelers without their names"] += 1
        into.comparisons.append(Comparison(prompt, better, worse, p_chosen, source, labelers))
        return
    tiers = ((better.id, worse.id),) if p_chosen == 0.5 else ((better.id,), (worse.id,))
    into.rankings.append(Ranking(prompt.id, labelers[0] if labelers else ANONYMOUS, tiers, source=source))


def _order(row: Row, count: int) -> tuple[list[list[int]], list[int], list[int]]:
    """The places in each tier, of the FAILs, and in the order shown (empty where unknown)."""
    tiers, fails = _tiers(row, count), _places(row.get("fails") or [], "fails", count)
    shown = _places(row.get("shown") or [], "shown", count)
    placed = [place for tier in tiers for place in tier] + fails
    if len(set(placed)) < len(placed):
        raise DataError(f"a completion stands twice in the tiers {tiers} and fails {fails}")
    if shown and not set(placed) <= set(shown):
        raise DataError(f"the ranking places {sorted(set(placed) - set(shown))}, which 'shown' {shown} lacks")
    if not all(tiers):
        raise DataError(f"an empty tier in {tiers}")
    return tiers, fails, shown


def _tiers(row: Row, count: int) -> list[list[int]]:
    tiers, ranks = row.get("tiers"), row.get("rank")
    if (tiers is None) == (ranks is None):
        raise DataError(
            "a ranking has either 'tiers' or 'rank', " + ("not both" if tiers is not None else "here neither")
        )
    if ranks is None:
        if not isinstance(tiers, list):
            raise DataError(f"column 'tiers' must hold a list of lists of places: {clip(tiers)}")
        return [_places(tier, "tiers", count) for tier in tiers]
    if not isinstance(ranks, list) or len(ranks) != count:
        raise DataError(
            f"column 'rank' must hold one number (or null) for each of {count} completions: {clip(ranks)}"
        )
    by_rank: dict[float, list[int]] = {}
    for place, rank in enumerate(ranks):
        if rank is None:
            continue  # shown and not ranked
        if isinstance(rank, bool) or not isinstance(rank, int | float) or rank != rank:
            raise DataError(f"column 'rank' holds {clip(rank)}, not a number; 1 is best, equal numbers tie")
        by_rank.setdefault(rank, []).append(place)
    return [by_rank[rank] for rank in sorted(by_rank)]


def _places(value: Any, column: str, count: int) -> list[int]:
    if not isinstance(value, list) or any(isinstance(p, bool) or not isinstance(p, int) for p in value):
        raise DataError(f"column {column!r} must hold whole numbers, places in 'completions': {clip(value)}")
    for place in value:
        if not 0 <= place < count:
            raise DataError(f"column {column!r} holds {place}; the {count} completions are numbered from 0")
    return value


def _prompt(row: Row, column: str) -> tuple[Message, ...]:
    value = row.get(column)
    if isinstance(value, list):
        return _answerable(_turns(row, column), column)
    text = _text(row, column)
    if not text:
        raise DataError(f"column {column!r} is empty; a prompt needs text")
    return (Message("user", text),)


def _answerable(messages: tuple[Message, ...], column: str) -> tuple[Message, ...]:
    if not messages or messages[-1].role == "assistant":
        raise DataError(
            f"the prompt in column {column!r} must end with a message that is not the assistant's"
        )
    return messages


def _reply(row: Row, column: str, prompt: tuple[Message, ...]) -> str:
    """The completion's text; a list of messages may repeat the prompt's before it."""
    if not isinstance(row.get(column), list):
        return _text(row, column)
    turns = _turns(row, column)
    if turns[: len(prompt)] == prompt:
        turns = turns[len(prompt) :]
    if len(turns) != 1 or turns[0].role != "assistant":
        raise DataError(f"column {column!r} must hold one message of the assistant: {clip(row[column])}")
    return turns[0].content


def _turns(row: Row, column: str) -> tuple[Message, ...]:
    turns = []
    for turn in _list(row, column):
        if not isinstance(turn, Mapping) or turn.get("role") not in ROLES:
            raise DataError(
                f"column {column!r} holds {clip(turn)}; a message is {{'role': ..., 'content': ...}} with "
                f"the role {', '.join(ROLES)}"
            )
        extra = [key for key, value in turn.items() if key not in ("role", "content") and value is not None]
        if extra:
            raise DataError(f"a message in column {column!r} has {extra[0]!r}, which accord cannot keep yet")
        turns.append(Message(turn["role"], _text({column: turn.get("content")}, column)))
    return tuple(turns)


def _list(row: Row, column: str) -> list[Any]:
    value = row.get(column)
    if not isinstance(value, list) or not value:
        raise DataError(f"column {column!r} must hold a list that is not empty: {clip(value)}")
    return value


def _text(row: Row, column: str) -> str:
    value = row.get(column, _MISSING)
    if value is _MISSING:
        raise DataError(f"there is no column {column!r}; the columns are {', '.join(row) or 'none'}")
    if not isinstance(value, str):
        raise DataError(f"column {column!r} must hold text: {clip(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"column {column!r} holds half a surrogate pair: {clip(value)}") from error
    return value


def _optional(row: Row, column: str) -> str:
    value = row.get(column)
    return _text({column: str(value)}, column) if value is not None else ""


def _number(row: Row, column: str) -> float | None:
    value = row.get(column)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise DataError(f"column {column!r} is {clip(value)}, not a number")
    return value


def _labeler(row: Row) -> str:
    return _optional(row, "labeler") or ANONYMOUS


def _labelers(row: Row) -> tuple[str, ...]:
    many = row.get("labelers")
    if many is None:
        one = _optional(row, "labeler")
        return (one,) if one else ()
    if not isinstance(many, list) or not all(isinstance(name, str) for name in many):
        raise DataError(f"column 'labelers' must hold a list of names: {clip(many)}")
    return tuple(many)


def _source(row: Row, into: Collector, format: Format) -> str:
    """Where the judgement came from. A data set's own word for something else is not taken."""
    value = row.get("source")
    if isinstance(value, str) and (value in SOURCES or value.startswith("import:")):
        return value
    if value not in (None, ""):
        into.notes["'source' that is not a kind of labeler"] += 1
    return f"import:{format}"


def _probability(row: Row) -> float:
    value = row.get("p_chosen")
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.5 <= value <= 1.0:
        raise DataError(f"column 'p_chosen' is {clip(value)}; it must lie in [0.5, 1]")
    return float(value)


def _word_start(chosen: str, rejected: str) -> int:
    """Where the first word that differs begins, its leading space included."""
    end = shared_length(chosen, rejected)
    if end == len(chosen) == len(rejected):
        return end
    while end and not (chosen[end : end + 1].isspace() or rejected[end : end + 1].isspace()):
        end -= 1
    return end
