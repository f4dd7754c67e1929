"""The event log as records. Two kinds of line are read, one kind a file.

A store's log (``store.events``, what ``accord export`` and the labelling app write) has ``event``, and the
records are what it says; its splits, guidelines, times and seals are kept for ``Store.add_events``.

Records that are in no store are written by :func:`event_rows`, and so were the logs of earlier accords.
There a line has ``kind`` (prompt, completion, ranking, thumb, skip, flag, comparison), ``version`` and the
record's own fields, those that rankings got later (``types.LATER``) only where they say something; a
completion also its ``prompt_id``; a comparison the ids of its texts. A line stands after those it names.
Values inside ``meta`` and ``sampling`` are JSON's (a tuple comes back as a list).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from accord.errors import DataError
from accord.feedback.formats.gather import Collector, Feedback, Format, clip
from accord.judgements import LATER, Comparison, Ranking, Remark, Thumb
from accord.store.events import JUDGEMENTS, parse_event
from accord.store.rows import named_completions, to_completion, to_origin, to_prompt
from accord.store.tables import comparisons, completions, feedback, origins, prompts
from accord.types import Completion, Message, Origin, Prompt, Stop

VERSION = 1
_NAMES = {
    record: tuple(field.name for field in fields(record))
    for record in (Message, Prompt, Origin, Completion, Ranking, Thumb, Remark, Comparison)
}
Row = Mapping[str, Any]


def event_rows(feedback: Feedback, comparisons: Sequence[Comparison] = ()) -> Iterator[dict[str, Any]]:
    """The rows of a log: prompts each with its completions, then rankings, thumbs, remarks and comparisons.

    Raises:
        DataError: a judgement names a prompt or completion that is not in ``feedback``, or a
            completion has no id.
    """
    for prompt in feedback.prompts.values():
        yield _event("prompt", _values(prompt) | {"messages": [_values(turn) for turn in prompt.messages]})
        for completion in feedback.completions.get(prompt.id, ()):
            if not completion.id:
                raise DataError(f"a completion of prompt {prompt.id!r} has no id: {clip(completion.text)}")
            origin = completion.origin and _values(completion.origin)
            named = {"prompt_id": prompt.id, **_values(completion), "origin": origin}
            yield _event("completion", named)
    known = {(id, c.id) for id, found in feedback.completions.items() for c in found}
    for ranking in feedback.rankings:
        for id in (*(id for tier in ranking.tiers for id in tier), *ranking.fails, *ranking.shown):
            _require(known, ranking.prompt_id, id, "ranking")
        yield _event("ranking", _ranking_values(ranking))
    for thumb in feedback.thumbs:
        _require(known, thumb.prompt_id, thumb.completion_id, "thumb")
        yield _event("thumb", _values(thumb))
    for remark in feedback.remarks:
        if remark.completion_id:
            _require(known, remark.prompt_id, remark.completion_id, remark.kind)
        elif remark.prompt_id not in feedback.prompts:
            raise DataError(f"a {remark.kind} names the prompt {remark.prompt_id!r}, which is not given")
        yield _event(remark.kind, _values(remark))
    for pair in comparisons:
        names = {"prompt_id": pair.prompt.id, "chosen_id": pair.chosen.id, "rejected_id": pair.rejected.id}
        for id in (pair.chosen.id, pair.rejected.id):
            _require(known, pair.prompt.id, id, "comparison")
        rest = {"p_chosen": pair.p_chosen, "source": pair.source, "labelers": pair.labelers}
        yield _event("comparison", names | rest)


def _values(record: Any) -> dict[str, Any]:
    """The fields of one record; several times as fast as ``asdict``, which looks into each value."""
    return {name: getattr(record, name) for name in _NAMES[type(record)]}


def _ranking_values(ranking: Ranking) -> dict[str, Any]:
    values = _values(ranking)
    return {name: value for name, value in values.items() if name not in LATER or value != LATER[name]}


def _event(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "version": VERSION} | values


def _require(known: set[tuple[str, str]], prompt_id: str, completion_id: str, kind: str) -> None:
    if (prompt_id, completion_id) not in known:
        raise DataError(
            f"a {kind} names the completion {completion_id!r} of prompt {prompt_id!r}, which is not among "
            "the completions given; export them together"
        )


def read_event(row: Row, into: Collector, format: Format = Format.EVENTS) -> None:
    """Add one line's record; a :class:`DataError` names an unknown kind, version or key, or a missing one."""
    if bool(into.events) != ("event" in row) and (into.events or into.prompts):
        raise DataError("a file with lines of two kinds of event log; import them as two files")
    if "event" in row:
        _read_fact(row, into)
        return
    kind, version = row.get("kind"), row.get("version")
    if version != VERSION:
        raise DataError(f"event version {clip(version)}; this accord reads version {VERSION}")
    if kind not in _KINDS:
        raise DataError(f"event kind {clip(kind)}; the kinds are {', '.join(_KINDS)}")
    values = {key: value for key, value in row.items() if key not in ("kind", "version")}
    try:
        _KINDS[kind](values, into)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"a {kind} event that does not fit: {error!s}; the event is {clip(values, 120)}"
        ) from error


def _read_fact(event: Row, into: Collector) -> None:
    """Add what one line of a store's log says; its seal is checked."""
    table, row = parse_event(event)
    if table is prompts:
        into.add_prompt(to_prompt(row))
    elif table is origins:
        into.origins[row["id"]] = to_origin(row)
    elif table is completions:
        origin = row["origin_id"]
        if row["prompt_id"] not in into.prompts or (origin is not None and origin not in into.origins):
            raise DataError(f"a completion whose prompt or origin is in no earlier line: {clip(row, 120)}")
        into.add_completion(row["prompt_id"], to_completion(row, into.origins.get(origin)))
    elif table is feedback:
        for id in named_completions(row):
            _found(into, row["prompt_id"], id)
        given = JUDGEMENTS[row["kind"]](row)
        kinds: dict[type, list[Any]] = {
            Ranking: into.rankings, Thumb: into.thumbs, Remark: into.remarks
        }  # fmt: skip
        kinds[type(given)].append(given)
    elif table is comparisons:
        chosen, rejected = (
            _found(into, row["prompt_id"], row[side]) for side in ("chosen_id", "rejected_id")
        )
        prompt, labelers = into.prompts[row["prompt_id"]], tuple(row["labelers"])
        into.comparisons.append(
            Comparison(prompt, chosen, rejected, row["p_chosen"], row["source"], labelers)
        )
    into.events.append(event)


def _read_prompt(values: dict[str, Any], into: Collector) -> None:
    messages = tuple(_record(Message, turn) for turn in values["messages"])
    into.add_prompt(_record(Prompt, values | {"messages": messages}))


def _read_completion(values: dict[str, Any], into: Collector) -> None:
    prompt_id = values.pop("prompt_id")
    if prompt_id not in into.prompts:
        raise DataError(f"a completion of prompt {prompt_id!r}, which no earlier line holds")
    if not values["id"]:
        raise DataError(f"a completion of prompt {prompt_id!r} without an id")
    origin = values["origin"]
    if origin is not None:
        origin = _record(Origin, origin | {"prompt_ids": tuple(origin["prompt_ids"])})
    lists = {name: tuple(values[name]) for name in ("ids", "logprobs")}
    record = _record(Completion, values | lists | {"stop": Stop(values["stop"]), "origin": origin})
    into.add_completion(prompt_id, record)


def _read_ranking(values: dict[str, Any], into: Collector) -> None:
    lists = {name: tuple(values[name]) for name in ("fails", "shown")}
    tiers = tuple(tuple(tier) for tier in values["tiers"])
    ranking = _record(Ranking, {**LATER, **values, **lists, "tiers": tiers})
    for id in (*(id for tier in tiers for id in tier), *ranking.fails, *ranking.shown):
        _found(into, ranking.prompt_id, id)
    into.rankings.append(ranking)


def _read_thumb(values: dict[str, Any], into: Collector) -> None:
    thumb = _record(Thumb, values)
    _found(into, thumb.prompt_id, thumb.completion_id)
    into.thumbs.append(thumb)


def _read_remark(kind: str, values: dict[str, Any], into: Collector) -> None:
    remark = _record(Remark, values | {"kind": kind})
    if remark.completion_id:
        _found(into, remark.prompt_id, remark.completion_id)
    elif remark.prompt_id not in into.prompts:
        raise DataError(f"a {kind} of prompt {remark.prompt_id!r}, which no earlier line holds")
    into.remarks.append(remark)


def _read_comparison(values: dict[str, Any], into: Collector) -> None:
    prompt_id = values.pop("prompt_id")
    chosen, rejected = (_found(into, prompt_id, values.pop(side)) for side in ("chosen_id", "rejected_id"))
    texts = {"prompt": into.prompts[prompt_id], "chosen": chosen, "rejected": rejected}
    into.comparisons.append(_record(Comparison, values | texts | {"labelers": tuple(values["labelers"])}))


_KINDS: dict[str, Callable[[dict[str, Any], Collector], None]] = {
    "prompt": _read_prompt,
    "completion": _read_completion,
    "ranking": _read_ranking,
    "thumb": _read_thumb,
    "skip": partial(_read_remark, "skip"),
    "flag": partial(_read_remark, "flag"),
    "comparison": _read_comparison,
}


def _found(into: Collector, prompt_id: str, completion_id: str) -> Completion:
    completion = into.completion(prompt_id, completion_id)
    if completion is None:
        raise DataError(f"completion {completion_id!r} of prompt {prompt_id!r} is in no earlier line")
    return completion


def _record(record: Any, values: Mapping[str, Any]) -> Any:
    """The record with exactly these fields: a missing or unknown one is an error, never a default."""
    names = set(_NAMES[record])
    if names != set(values):
        missing, unknown = sorted(names - set(values)), sorted(set(values) - names)
        raise DataError(
            f"a {record.__name__} event lacks {missing or 'nothing'} and has unknown {unknown or 'nothing'}"
        )
    return record(**values)
