"""From comparisons and anchors to what is trained on: one prompt with all its completions.

Reward models and offline preference learning read judgements alike. A prompt is one element of a batch, so
each of its completions passes the weights once, however many pairs it stands in. Prompts whose texts differ
only in case, spaces, punctuation or Unicode form go to the same side of the split; otherwise a model would be
measured on a prompt it has learned.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, NamedTuple, Protocol, TypeVar

from accord.errors import ConfigError, DataError
from accord.judgements import Anchor, Comparison
from accord.types import Completion, Prompt


class Tokens(Protocol):
    """One completion with its prompt in tokens, as some model reads them."""

    @property
    def ids(self) -> Sequence[int]:
        """Its token ids."""
        ...

    @property
    def cut(self) -> int:
        """Tokens that did not fit and were left out."""
        ...


E = TypeVar("E", bound=Tokens)


class OverLong(StrEnum):
    """What happens to an input that does not fit the context. Each is counted in the report."""

    CUT = "cut"
    """It loses the beginning of the prompt first, then the end of the completion."""
    REFUSE = "refuse"
    """Training does not start; the first of them is named."""
    LEAVE_OUT = "leave_out"
    """The completion is left out, with its pairs and anchors."""


class Pair(NamedTuple):
    """Positions among a prompt's completions, the label and how much it counts."""

    chosen: int
    rejected: int
    p_chosen: float
    weight: float = 1.0


class Mark(NamedTuple):
    """An anchor: a position among a prompt's completions, the label and how much it counts."""

    completion: int
    p_good: float
    weight: float = 1.0


@dataclass
class PromptGroup(Generic[E]):
    """One prompt's completions in tokens, with its pairs and anchors as positions among them."""

    prompt: Prompt
    completions: list[Completion] = field(default_factory=list)
    inputs: list[E] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    @property
    def cluster(self) -> str:
        """What near-duplicates of the prompt share."""
        return normalised(self.prompt.text)


@dataclass(frozen=True)
class Lost:
    """What did not fit the context, and what became of it."""

    rule: OverLong
    inputs: int
    """Completions that were too long with their prompt: cut or left out, as the rule says."""
    pairs: int
    """Comparisons left out with them..."""
    anchors: int
    """...and anchors."""


def normalised(text: str) -> str:
    """``text`` in compatibility form and one case, its words parted by single spaces, no punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(c if c.isalnum() or unicodedata.category(c)[0] in "MS" else " " for c in folded).split()
    return " ".join(words) or folded


def gather(
    comparisons: Sequence[Comparison],
    encode: Callable[[Prompt, Completion], E],
    *,
    anchors: Sequence[Anchor] = (),
    source_weights: Mapping[str, float] | None = None,
    over_long: OverLong = OverLong.CUT,
) -> tuple[list[PromptGroup[E]], Lost]:
    """Groups in the order in which their prompts come; each completion of a prompt is encoded once.

    A completion is known by its id, or by its text where it has none. A comparison of a completion with
    itself says nothing and is passed over. ``source_weights`` multiply what a source's judgements count;
    a source that is not named counts 1.

    Raises:
        ConfigError: a source is named that nothing is of.
        DataError: an input is too long, with the rule REFUSE.
    """
    weights = dict(source_weights or {})
    sources = {c.source for c in comparisons} | {a.source for a in anchors}
    if unknown := sorted(weights.keys() - sources):
        raise ConfigError(
            f"source_weights names {unknown[0]!r}, and no comparison or anchor is of that source; there are: "
            f"{', '.join(sorted(sources)) or 'none'}"
        )
    places = _Places(encode, over_long)
    lost_pairs = lost_anchors = 0
    for comparison in comparisons:
        at = [places.of(comparison.prompt, c) for c in (comparison.chosen, comparison.rejected)]
        if None in at:
            lost_pairs += 1
        elif at[0] != at[1]:
            weight = weights.get(comparison.source, 1.0)
            pair = Pair(at[0], at[1], comparison.p_chosen, weight)  # type: ignore[arg-type]
            places.groups[comparison.prompt.id].pairs.append(pair)
    for anchor in anchors:
        place = places.of(anchor.prompt, anchor.completion)
        if place is None:
            lost_anchors += 1
            continue
        weight = anchor.weight * weights.get(anchor.source, 1.0)
        places.groups[anchor.prompt.id].marks.append(Mark(place, anchor.p_good, weight))
    kept = [group for group in places.groups.values() if group.pairs or group.marks]
    return kept, Lost(over_long, places.too_long, lost_pairs, lost_anchors)


class _Places(Generic[E]):
    """The groups while they are gathered: where each completion of each prompt stands."""

    def __init__(self, encode: Callable[[Prompt, Completion], E], over_long: OverLong) -> None:
        self.encode = encode
        self.over_long = over_long
        self.groups: dict[str, PromptGroup[E]] = {}
        self.known: dict[tuple[str, str], int | None] = {}
        self.too_long = 0

    def of(self, prompt: Prompt, completion: Completion) -> int | None:
        """The completion's position in its prompt's group; ``None`` where it is left out as too long."""
        group = self.groups.setdefault(prompt.id, PromptGroup(prompt))
        key = prompt.id, completion.id or completion.text
        if key not in self.known:
            self.known[key] = self._add(group, completion)
        return self.known[key]

    def _add(self, group: PromptGroup[E], completion: Completion) -> int | None:
        encoded = self.encode(group.prompt, completion)
        if encoded.cut:
            self.too_long += 1
            if self.over_long is OverLong.REFUSE:
                raise DataError(
                    f"completion {completion.id or completion.text[:40]!r} of prompt {group.prompt.id!r} is, "
                    f"with it, {encoded.cut} tokens too long; shorten it, take a base of a longer context, "
                    "or choose over_long = cut or leave_out"
                )
            if self.over_long is OverLong.LEAVE_OUT:
                return None
        group.completions.append(completion)
        group.inputs.append(encoded)
        return len(group.completions) - 1


def split_by_prompt(
    groups: Sequence[PromptGroup[E]], share: float, seed: int
) -> tuple[list[PromptGroup[E]], list[PromptGroup[E]]]:
    """Training and held-out groups, at least one of each; near-duplicate prompts stay together.

    The order of ``groups`` does not matter.

    Raises:
        DataError: fewer than two prompts that differ.
    """
    clusters: dict[str, list[PromptGroup[E]]] = {}
    for group in sorted(groups, key=lambda group: group.prompt.id):
        clusters.setdefault(group.cluster, []).append(group)
    if len(clusters) < 2:
        raise DataError(
            f"{len(clusters)} prompt(s) with judgements; training needs at least 2 that differ in more "
            "than case, spaces and punctuation (one is held out), and some hundreds to be of use. Collect "
            "more rankings"
        )
    shuffled = list(clusters.values())
    random.Random(seed).shuffle(shuffled)
    wanted = max(1, round(share * len(groups)))
    held: list[PromptGroup[E]] = []
    train: list[PromptGroup[E]] = []
    for number, cluster in enumerate(shuffled):
        last = number == len(shuffled) - 1
        (held if len(held) < wanted and not (last and not train) else train).extend(cluster)
    return train, held


def batches(
    groups: Sequence[PromptGroup[E]], *, prompts: int, rows: int, epochs: int, seed: int
) -> Iterator[list[tuple[list[PromptGroup[E]], int]]]:
    """Per optimiser step, ``prompts`` prompts: micro-batches of whole prompts of like length, each with the
    step's number of prompts. A micro-batch holds ``rows`` completions, or one prompt with more."""
    order = list(groups)
    rng = random.Random(seed + 1)
    for _ in range(epochs):
        rng.shuffle(order)
        for at in range(0, len(order), prompts):
            batch = order[at : at + prompts]
            micros: list[list[PromptGroup[E]]] = [[]]
            for group in sorted(batch, key=lambda g: max(len(x.ids) for x in g.inputs)):
                if micros[-1] and count_inputs([*micros[-1], group]) > rows:
                    micros.append([])
                micros[-1].append(group)
            yield [(micro, len(batch)) for micro in micros]


def pairs_of(groups: Iterable[PromptGroup[E]]) -> list[Pair]:
    """All pairs, as positions among the groups' completions in order; those of a prompt weigh 1 together."""
    pairs, offset = [], 0
    for group in groups:
        share = 1 / max(1, len(group.pairs))
        pairs += [
            Pair(offset + p.chosen, offset + p.rejected, p.p_chosen, share * p.weight) for p in group.pairs
        ]
        offset += len(group.inputs)
    return pairs


def marks_of(groups: Iterable[PromptGroup[E]]) -> list[Mark]:
    """All anchors, as :func:`pairs_of` gives pairs."""
    marks, offset = [], 0
    for group in groups:
        share = 1 / max(1, len(group.marks))
        marks += [Mark(offset + m.completion, m.p_good, share * m.weight) for m in group.marks]
        offset += len(group.inputs)
    return marks


def count_inputs(groups: Iterable[PromptGroup]) -> int:
    """Completions of ``groups``."""
    return sum(len(group.inputs) for group in groups)
