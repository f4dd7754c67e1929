"""The nouns of feedback: what people say of completions. Plain frozen records; loads no torch.

What a model says, and how it is scored, stands in ``accord.types``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accord.types import Completion, Prompt


@dataclass(frozen=True, slots=True)
class Ranking:
    """One labeler's judgement of a prompt's completions.

    ``tiers`` lists completion ids best first, equals in one tier; ``fails`` are those marked FAIL
    (worse than every ranked one, with no order among themselves). A completion in neither was
    shown and not ranked. ``shown`` is the order on the labeler's screen.
    """

    prompt_id: str
    labeler: str
    tiers: tuple[tuple[str, ...], ...]
    fails: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    criterion: str = ""
    guidelines: str = ""
    """Version (digest) of the guidelines the labeler had acknowledged."""
    seconds: float | None = None
    note: str = ""
    source: str = "human"
    """human, simulated, or import:<format>."""
    supersedes: str | None = None
    """Id of the ranking this one corrects."""
    id: str = ""
    protocol: str = "rank"
    """How it was asked: rank, pair (two completions), or edit (a person's own text before the original)."""
    strength: float | None = None
    """Of a pair: how much better, from 0 (hardly) to 1 (much)."""
    arm: str = ""
    """Why it was asked: random, active, repeat, gold, quiz, surplus; empty for an imported one."""
    assignment: str = ""
    """Id of the assignment it answers."""

    def __post_init__(self) -> None:
        placed = [c for tier in self.tiers for c in tier] + list(self.fails)
        if len(placed) != len(set(placed)):
            raise ValueError(f"a completion stands twice in the ranking of prompt {self.prompt_id!r}")
        if any(not tier for tier in self.tiers):
            raise ValueError(f"empty tier in the ranking of prompt {self.prompt_id!r}")
        if self.shown and not set(placed) <= set(self.shown):
            raise ValueError(
                f"ranking of prompt {self.prompt_id!r} places completions that were not shown: "
                f"{sorted(set(placed) - set(self.shown))}"
            )


LATER: Mapping[str, Any] = {"protocol": "rank", "strength": None, "arm": "", "assignment": ""}
"""Fields that rankings got later, and their defaults, which are not written: older ids and seals hold."""


@dataclass(frozen=True, slots=True)
class Thumb:
    """A labeler's bare yes or no to one completion (an unpaired judgement)."""

    prompt_id: str
    completion_id: str
    labeler: str
    up: bool
    source: str = "human"
    supersedes: str | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class Remark:
    """What a labeler says of a task and not of its answers: a skip, or a flag for the owner."""

    prompt_id: str
    labeler: str
    kind: str
    """skip or flag."""
    reason: str
    note: str = ""
    completion_id: str = ""
    """The completion it is about; empty where it is about the prompt."""
    source: str = "human"
    id: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("skip", "flag"):
            raise ValueError(f"a remark of kind {self.kind!r}; there are skip and flag")


@dataclass(frozen=True, slots=True)
class Comparison:
    """``chosen`` is preferred to ``rejected`` with probability ``p_chosen`` (0.5 is a tie)."""

    prompt: Prompt
    chosen: Completion
    rejected: Completion
    p_chosen: float = 1.0
    source: str = "human"
    labelers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0.5 <= self.p_chosen <= 1.0:
            raise ValueError(
                f"p_chosen is {self.p_chosen}; it must lie in [0.5, 1]: put the preferred completion first"
            )


@dataclass(frozen=True, slots=True)
class Anchor:
    """An absolute judgement: ``completion`` is acceptable with probability ``p_good``.

    Comparisons leave a reward's zero open; anchors (FAIL and what is not, thumbs) fix it.
    """

    prompt: Prompt
    completion: Completion
    p_good: float
    weight: float = 1.0
    source: str = "human"
    labeler: str = ""
    """Whose judgement it is; empty for a pool's."""

    def __post_init__(self) -> None:
        if not (0.0 <= self.p_good <= 1.0 and self.weight >= 0.0):
            raise ValueError(
                f"p_good {self.p_good}, weight {self.weight}: needs 0 to 1, and no negative weight"
            )
