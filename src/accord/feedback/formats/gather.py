"""What an import yields and an export takes: :class:`Feedback`, and the collector that builds one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from accord.errors import DataError
from accord.judgements import Comparison, Ranking, Remark, Thumb
from accord.types import Completion, Message, Origin, Prompt, digest

ANONYMOUS = "imported"
"""The labeler of rows that name none."""


class Format(StrEnum):
    """The layouts of feedback that accord reads and writes; ``read`` tells what each one loses."""

    TRL_PREFERENCE = "trl-preference"
    """``prompt``, ``chosen``, ``rejected``: strings, or lists of messages."""
    TRL_IMPLICIT = "trl-implicit"
    """``chosen``, ``rejected`` that both begin with the prompt."""
    TRL_UNPAIRED = "trl-unpaired"
    """``prompt``, ``completion``, ``label`` (true is good)."""
    OPENRLHF = "openrlhf"
    """``input``, ``chosen``, ``rejected``."""
    HH = "hh"
    """``chosen``, ``rejected`` (and perhaps ``prompt``) as Human/Assistant transcripts."""
    RANKINGS = "rankings"
    """``prompt``, ``completions`` and ``tiers`` or ``rank``: one labeler's ranking a row."""
    PROMPTS = "prompts"
    """``prompt`` alone, to be answered."""
    TASKS = "tasks"
    """``prompt``, ``completions``, ``completion_ids`` and empty ``tiers``, ``fails``, ``labeler``: a sheet
    for labelers to fill in and to read back as rankings."""
    EVENTS = "events"
    """A store's event log: one fact a line, with its time and seal."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that was left out, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Feedback:
    """Judgements with the texts they are about.

    ``comparisons`` holds only pairs that are no single labeler's act: rows with a probability
    between 0.5 and 1, or of several labelers or none. Everything else is a ranking or a thumb.
    """

    prompts: Mapping[str, Prompt]
    """By id, in the order met."""
    completions: Mapping[str, list[Completion]]
    """By prompt id; each has an id."""
    rankings: list[Ranking] = field(default_factory=list)
    thumbs: list[Thumb] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    format: str = ""
    """The format read, whether asked for or detected."""
    rows: int = 0
    """Rows read, those in ``problems`` included."""
    problems: list[Problem] = field(default_factory=list)
    """Rows skipped (only with ``on_error="skip"``)."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """What was read and not used, or changed, with the number of rows."""
    remarks: list[Remark] = field(default_factory=list)
    """Skips and flags; only events hold them."""
    events: list[Mapping[str, Any]] = field(default_factory=list, repr=False)
    """The lines of a store's event log as they are, for ``Store.add_events``; more than records hold."""

    def describe(self) -> str:
        """The counts in one line, with every reason for which something was skipped or changed."""
        counts = {
            "rows": self.rows,
            "prompts": len(self.prompts),
            "completions": sum(map(len, self.completions.values())),
            "rankings": len(self.rankings),
            "thumbs": len(self.thumbs),
            "remarks": len(self.remarks),
            "comparisons": len(self.comparisons),
            "skipped": len(self.problems),
        }
        line = f"{self.format}: " + ", ".join(f"{n} {name}" for name, n in counts.items() if n)
        reasons = Counter(f"skipped: {problem.reason}" for problem in self.problems)
        details = [f"{reason} ({n})" for reason, n in (*self.notes.items(), *reasons.most_common(5))]
        return "; ".join([line, *details])


class Collector:
    """Builds a :class:`Feedback` row by row; the same text of a prompt becomes one record."""

    def __init__(self) -> None:
        self.prompts: dict[str, Prompt] = {}
        self._completions: dict[str, dict[str, Completion]] = {}
        self.rankings: list[Ranking] = []
        self.thumbs: list[Thumb] = []
        self.remarks: list[Remark] = []
        self.comparisons: list[Comparison] = []
        self.origins: dict[str, Origin] = {}
        """Of a store's event log, by id."""
        self.events: list[Mapping[str, Any]] = []
        self.notes: Counter[str] = Counter()

    def add_prompt(self, prompt: Prompt) -> Prompt:
        """The collected prompt of this id; an id with two different contents is a :class:`DataError`."""
        known = self.prompts.setdefault(prompt.id, prompt)
        if known.messages != prompt.messages:
            raise DataError(
                f"prompt id {prompt.id!r} stands for two different prompts, {clip(known.text)} "
                f"and {clip(prompt.text)}; give them different ids or leave the ids out"
            )
        self._completions.setdefault(prompt.id, {})
        return known

    def add_completion(self, prompt_id: str, completion: Completion) -> Completion:
        """The collected completion of this id; an id with two different contents is a :class:`DataError`."""
        known = self._completions[prompt_id].setdefault(completion.id, completion)
        if known != completion:
            raise DataError(
                f"completion id {completion.id!r} stands for two different completions of prompt "
                f"{prompt_id!r}, {clip(known.text)} and {clip(completion.text)}"
            )
        return known

    def completion(self, prompt_id: str, completion_id: str) -> Completion | None:
        """A collected completion, ``None`` where the id is unknown."""
        return self._completions.get(prompt_id, {}).get(completion_id)

    def prompt_of(self, messages: tuple[Message, ...], id: str = "") -> Prompt:
        """The prompt with these messages, made on first sight."""
        return self.add_prompt(Prompt(messages, id=id))

    def completions_of(
        self, prompt: Prompt, texts: list[str], ids: list[str] | None = None
    ) -> list[Completion]:
        """One completion a text. Without ``ids`` the id is the digest of prompt and text, and of the
        repetition's number where a text stands more than once among ``texts``."""
        seen: Counter[str] = Counter()
        found = []
        for place, text in enumerate(texts):
            if ids:
                id = ids[place]
            else:
                id = digest(prompt.id, text, seen[text]) if seen[text] else digest(prompt.id, text)
            seen[text] += 1
            found.append(self.add_completion(prompt.id, Completion(text, id=id)))
        return found

    def feedback(self, format: str, rows: int, problems: list[Problem]) -> Feedback:
        """What was collected."""
        return Feedback(
            prompts=self.prompts,
            completions={id: list(found.values()) for id, found in self._completions.items()},
            rankings=self.rankings,
            thumbs=self.thumbs,
            comparisons=self.comparisons,
            format=format,
            rows=rows,
            problems=problems,
            notes=dict(self.notes),
            remarks=self.remarks,
            events=self.events,
        )


def clip(value: object, width: int = 60) -> str:
    """``repr`` of a value, short enough for an error message."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"
