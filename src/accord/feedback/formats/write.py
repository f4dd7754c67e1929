"""Feedback out, in the formats of ``read`` (its table says what each one carries)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from accord.errors import ConfigError, DataError
from accord.feedback.formats.events import event_rows
from accord.feedback.formats.files import file_kind, write_rows
from accord.feedback.formats.gather import Feedback, Format, clip
from accord.feedback.formats.rows import looks_like_messages
from accord.feedback.formats.transcript import write_pair
from accord.judgements import LATER, Comparison, Ranking, Thumb
from accord.stats.agreement import once
from accord.store.lineage import Status
from accord.store.store import Store
from accord.types import Completion, Prompt

Row = dict[str, Any]
Asked = tuple[str, str]
"""By what labelers are to judge, and the version of the guidelines they are given; empty where unknown."""


@dataclass(frozen=True)
class Written:
    """What an export wrote, and what it left out and why."""

    path: Path
    format: Format
    rows: int
    left_out: Mapping[str, int] = field(default_factory=dict)


def write_stored(
    store: Store,
    path: str | Path,
    format: str,
    *,
    ties: Literal["drop", "keep"] = "drop",
    on_error: Literal["raise", "skip"] = "raise",
    overwrite: bool = False,
    asked: Asked = ("", ""),
) -> Written:
    """Write all of a store's judgements (:func:`write_feedback`): pairs from its latest consensus, if any.

    ``events`` are the store's own (``Store.events``): facts with splits, guidelines, times and seals.
    """
    if format == Format.EVENTS:
        count = write_rows(_log_file(path), store.events(), overwrite=overwrite)
        return Written(Path(path), Format.EVENTS, count)
    feedback = Feedback(
        {prompt.id: prompt for prompt in store.prompts()},
        store.completions(),
        list(store.rankings(current=False)),
        list(store.thumbs(current=False)),
        [pair for run in store.runs("import", Status.DONE) for pair in store.comparisons(run.id)],
        remarks=list(store.remarks()),
    )
    agreed = store.runs("agree", Status.DONE)
    pairs = [*store.comparisons(agreed[-1].id), *feedback.comparisons] if agreed else None
    return write_feedback(
        path,
        format,
        feedback,
        comparisons=pairs,
        ties=ties,
        on_error=on_error,
        overwrite=overwrite,
        asked=asked,
    )


def write_feedback(
    path: str | Path,
    format: str,
    feedback: Feedback,
    *,
    comparisons: Sequence[Comparison] | None = None,
    ties: Literal["drop", "keep"] = "drop",
    on_error: Literal["raise", "skip"] = "raise",
    overwrite: bool = False,
    asked: Asked = ("", ""),
) -> Written:
    """Write judgements to ``path`` (.jsonl, .json, .csv, each also .gz, or .parquet), whole or not at all.

    Pair formats write ``comparisons`` where given (a consensus), else every pair that a ranking
    decides, a row for each labeler, and ``feedback.comparisons``. A tie (p_chosen = 0.5) is left out
    unless ``ties="keep"``: trainers that read ``chosen`` and ``rejected`` alone would take it for a
    preference. A labeler's repeat of a ranking gives no pairs, for it would count them twice. Superseded
    rankings and thumbs are left out, save from events.

    ``asked`` is the criterion and the version of the guidelines that a sheet of tasks carries.

    trl-unpaired writes thumbs, and FAIL as false. It never makes the better one of a pair *good* or
    the worse one *bad*: the better of two poor completions is still poor, and a trainer such as KTO
    would learn to write it.

    Raises:
        DataError: the file exists, there is nothing to write, the feedback lacks a text a judgement
            names, or the format cannot carry a text (``on_error="skip"`` counts it in ``left_out``).
        ConfigError: an unknown format, or a package that is not installed.
    """
    path, known = Path(path), _format(format)
    if known is Format.PROMPTS:
        raise ConfigError("prompts alone are read, not written; write events, which hold them")
    left_out: Counter[str] = Counter()
    rows: Iterator[Row]
    if known is Format.EVENTS:
        path = _log_file(path)
        rows = event_rows(feedback, feedback.comparisons if comparisons is None else comparisons)
    else:
        texts = _Texts(feedback)
        rankings = _live(feedback.rankings, left_out)
        thumbs = _live(feedback.thumbs, left_out)
        if known is Format.TASKS:
            rows = _task_rows(feedback, asked, left_out)
        elif known is Format.RANKINGS:
            rows = _ranking_rows(texts, rankings)
        elif known is Format.TRL_UNPAIRED:
            rows = _unpaired_rows(texts, rankings, thumbs, file_kind(path))
        else:
            if comparisons is None:
                counted = once(rankings)
                left_out["repeats of a labeler's own ranking"] += len(rankings) - len(counted)
                made: Sequence[Comparison] = [*_pairs(texts, counted), *feedback.comparisons]
            else:
                made = comparisons
            kept = [pair for pair in made if ties == "keep" or pair.p_chosen > 0.5]
            left_out["ties"] += len(made) - len(kept)
            rows = _pair_rows(kept, known, file_kind(path), left_out if on_error == "skip" else None)
    count = write_rows(path, rows, overwrite=overwrite)
    return Written(path, known, count, {reason: n for reason, n in left_out.items() if n})


def _log_file(path: str | Path) -> Path:
    if file_kind(Path(path)) not in ("jsonl", "json"):
        raise DataError(f"{path}: an event log is JSON lines; name it .jsonl or .jsonl.gz")
    return Path(path)


def _format(name: str) -> Format:
    try:
        return Format(name)
    except ValueError as error:
        raise ConfigError(f"unknown format {name!r}; the formats are {', '.join(Format)}") from error


class _Texts:
    """Prompts and completions by id, missing ones an error."""

    def __init__(self, feedback: Feedback) -> None:
        self.feedback = feedback
        self._found = {(id, c.id): c for id, group in feedback.completions.items() for c in group}

    def prompt(self, id: str) -> Prompt:
        if id not in self.feedback.prompts:
            raise DataError(f"a judgement names the prompt {id!r}, which is not among the prompts given")
        return self.feedback.prompts[id]

    def completion(self, prompt_id: str, id: str) -> Completion:
        if (prompt_id, id) not in self._found:
            raise DataError(
                f"a judgement of prompt {prompt_id!r} names the completion {id!r}, which is not given"
            )
        return self._found[prompt_id, id]


def _live(judgements: Sequence[Any], left_out: Counter[str]) -> list[Any]:
    """Those that no other of them supersedes."""
    gone = {judgement.supersedes for judgement in judgements} - {None}
    live = [judgement for judgement in judgements if not judgement.id or judgement.id not in gone]
    left_out["superseded by a correction"] += len(judgements) - len(live)
    return live


def _task_rows(feedback: Feedback, asked: Asked, left_out: Counter[str]) -> Iterator[Row]:
    """One row a prompt with completions to rank, its judgement left empty."""
    for prompt in feedback.prompts.values():
        completions = feedback.completions.get(prompt.id, [])
        if len(completions) < 2:
            left_out["fewer than two completions"] += 1
            continue
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        single = len(messages) == 1 and messages[0]["role"] == "user"
        yield {
            "prompt": prompt.text if single else messages,
            "prompt_id": prompt.id,
            "completions": [completion.text for completion in completions],
            "completion_ids": [completion.id for completion in completions],
            "tiers": [],
            "fails": [],
            "labeler": "",
            "criterion": asked[0],
            "guidelines": asked[1],
        }


def _pairs(texts: _Texts, rankings: Sequence[Ranking]) -> Iterator[Comparison]:
    """Every pair a ranking decides: between tiers, within a tier (0.5), and ranked before FAIL."""
    for ranking in rankings:
        prompt = texts.prompt(ranking.prompt_id)
        groups = [
            [texts.completion(prompt.id, id) for id in tier] for tier in (*ranking.tiers, ranking.fails)
        ]
        for place, group in enumerate(groups):
            later = [worse for rest in groups[place + 1 :] for worse in rest]
            decided = [(better, worse, 1.0) for better in group for worse in later]
            equal = [(a, b, 0.5) for a, b in combinations(group, 2)] if place < len(ranking.tiers) else []
            for better, worse, p_chosen in decided + equal:
                yield Comparison(prompt, better, worse, p_chosen, ranking.source, (ranking.labeler,))


def _pair_rows(
    pairs: Sequence[Comparison], format: Format, kind: str, left_out: Counter[str] | None
) -> Iterator[Row]:
    """One row a pair; one that HH cannot carry is an error, or counted in ``left_out`` where given."""
    texts = [text for pair in pairs for text in (pair.prompt.text, pair.chosen.text, pair.rejected.text)]
    strings = format is not Format.TRL_IMPLICIT and _as_strings([p.prompt for p in pairs], texts, kind)
    for pair in pairs:
        try:
            row = _sides(pair, format, strings)
        except DataError as error:
            if left_out is None:
                raise DataError(f"prompt {pair.prompt.id!r}: {error}") from error
            left_out["a text that the format cannot carry"] += 1
            continue
        yield row | {
            "prompt_id": pair.prompt.id,
            "p_chosen": float(pair.p_chosen),
            "n_labelers": len(pair.labelers),
            "labelers": list(pair.labelers),
            "source": pair.source,
        }


def _sides(pair: Comparison, format: Format, strings: bool) -> Row:
    prompt, chosen, rejected = pair.prompt, pair.chosen.text, pair.rejected.text
    if format is Format.HH:
        return dict(zip(("chosen", "rejected"), write_pair(prompt.messages, chosen, rejected), strict=True))
    if format is Format.TRL_IMPLICIT:
        turns = _turns(prompt)
        return {"chosen": [*turns, *_reply(chosen)], "rejected": [*turns, *_reply(rejected)]}
    column = "input" if format is Format.OPENRLHF else "prompt"
    if strings:
        return {column: _string(prompt), "chosen": chosen, "rejected": rejected}
    return {column: _turns(prompt), "chosen": _reply(chosen), "rejected": _reply(rejected)}


def _unpaired_rows(
    texts: _Texts, rankings: Sequence[Ranking], thumbs: Sequence[Thumb], kind: str
) -> Iterator[Row]:
    judged = [(t.prompt_id, t.completion_id, t.up, t.labeler, t.source) for t in thumbs]
    judged += [(r.prompt_id, id, False, r.labeler, r.source) for r in rankings for id in r.fails]
    prompts = [texts.prompt(prompt_id) for prompt_id, *_ in judged]
    completions = [texts.completion(prompt_id, id) for prompt_id, id, *_ in judged]
    strings = _as_strings(prompts, [p.text for p in prompts] + [c.text for c in completions], kind)
    for prompt, completion, (_, _, up, labeler, source) in zip(prompts, completions, judged, strict=True):
        yield {
            "prompt": _string(prompt) if strings else _turns(prompt),
            "completion": completion.text if strings else _reply(completion.text),
            "label": up,
            "prompt_id": prompt.id,
            "labeler": labeler,
            "source": source,
        }


def _ranking_rows(texts: _Texts, rankings: Sequence[Ranking]) -> Iterator[Row]:
    """One row a ranking, its completions in the order of ``feedback.completions``."""
    prompts = [texts.prompt(ranking.prompt_id) for ranking in rankings]
    strings = all(_is_plain(prompt) and not looks_like_messages(prompt.text) for prompt in prompts)
    for prompt, ranking in zip(prompts, rankings, strict=True):
        all_ids = [c.id for c in texts.feedback.completions.get(prompt.id, ())]
        ids = [id for id in all_ids if not ranking.shown or id in ranking.shown]
        place = {id: number for number, id in enumerate(ids)}
        for id in (*(id for tier in ranking.tiers for id in tier), *ranking.fails, *ranking.shown):
            texts.completion(prompt.id, id)
        yield {
            "prompt": _string(prompt) if strings else _turns(prompt),
            "completions": [texts.completion(prompt.id, id).text for id in ids],
            "tiers": [[place[id] for id in tier] for tier in ranking.tiers],
            "fails": [place[id] for id in ranking.fails],
            "shown": [place[id] for id in ranking.shown],
            "labeler": ranking.labeler,
            "prompt_id": prompt.id,
            "completion_ids": ids,
            "criterion": ranking.criterion,
            "guidelines": ranking.guidelines,
            "seconds": ranking.seconds,
            "note": ranking.note,
            "source": ranking.source,
            "id": ranking.id,
            "supersedes": ranking.supersedes,
            **{name: getattr(ranking, name) for name in LATER},
        }


def _as_strings(prompts: Sequence[Prompt], texts: Sequence[str], kind: str) -> bool:
    """Whether the texts can stand as plain strings; one that cannot makes the whole column messages."""
    misread = kind == "csv" and any(looks_like_messages(text) for text in texts)
    return not misread and all(_is_plain(prompt) for prompt in prompts)


def _is_plain(prompt: Prompt) -> bool:
    return (
        len(prompt.messages) == 1 and prompt.messages[0].role == "user" and prompt.messages[0].content != ""
    )


def _string(prompt: Prompt) -> str:
    return prompt.messages[0].content


def _turns(prompt: Prompt) -> list[dict[str, str]]:
    if prompt.messages[-1].role == "assistant":
        raise DataError(f"prompt {prompt.id!r} ends with the assistant: {clip(prompt.messages[-1].content)}")
    return [{"role": turn.role, "content": turn.content} for turn in prompt.messages]


def _reply(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]
