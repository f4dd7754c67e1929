"""What is wrong with a constitution before a model follows it: gaps, doubles, contradictions.

Words are all this reads, so a contradiction it finds is a place to look at and not a proof, and one in other
words escapes it. Which principles pull apart in practice is measured on the choices made by them
(``constitution.prefer.disagreements``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from accord.constitution.principles import Constitution, Principle
from accord.stats.words import words

ALIKE = 0.8
"""Share of words in common from which two requests ask for the same."""
SAME_MATTER = 0.5
"""Share in common, their opposites left out, from which two requests speak of the same matter."""
SHORTEST = 3
"""Words below which a request hardly says what to do."""

_IDLE = frozenset(
    """a an the of to and or is are be it its that this these those in on at for with from by as which who
    what any all should please last response answer reply assistant assistants answers human so such where
    way ways specific identify point out write rewrite again choose not no without never do does don
    dont""".split()  # noqa: SIM905
)
_NO = frozenset("not no without never dont don avoid remove less fewer nothing omit stop leave".split())  # noqa: SIM905
_OPPOSITES = (
    ("longer", "shorter"), ("long", "short"), ("more", "less"), ("more", "fewer"), ("detailed", "brief"),
    ("formal", "casual"), ("always", "never"), ("include", "remove"), ("include", "omit"), ("add", "remove"),
    ("agree", "disagree"), ("serious", "funny"), ("direct", "cautious"), ("simple", "complex"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at."""

    kind: str
    """empty, short, double or contradiction."""
    principles: tuple[str, ...]
    says: str
    """What was found, the words, and what to do."""


def check(constitution: Constitution) -> list[Finding]:
    """Findings in the order of the principles: empty, too short, the same twice, one against the other."""
    found: list[Finding] = []
    if not constitution.principle:
        found.append(
            Finding("empty", (), f"{constitution.name!r} has no principles; add [[principle]] tables")
        )
    for one in constitution.principle:
        found += _alone(one)
    for one, other in combinations(constitution.principle, 2):
        found += _together(one, other)
    return found


def _alone(one: Principle) -> Iterable[Finding]:
    requests = _requests(one)
    if not requests:
        yield Finding(
            "empty", (one.name,), f"{one.name}: asks for nothing; give it critique and revision, or choose"
        )
    for kind, text in requests.items():
        if len(words(text)) < SHORTEST:
            yield Finding(
                "short", (one.name,), f"{one.name}: the {kind} request is {text!r}; say what is meant"
            )


def _together(one: Principle, other: Principle) -> Iterable[Finding]:
    names, mine, yours = (one.name, other.name), _requests(one), _requests(other)
    for kind in (kind for kind in mine if kind in yours):
        against = _against(mine[kind], yours[kind])
        if against:
            yield Finding(
                "contradiction", names,
                f"{one.name} and {other.name} speak of the same and seem to pull apart ({against}): "
                f"{mine[kind]!r} / {yours[kind]!r}; drop one, or say when each holds",
            )  # fmt: skip
        elif _overlap(_matter(mine[kind]), _matter(yours[kind])) >= ALIKE:
            yield Finding(
                "double", names,
                f"{one.name} and {other.name} have nearly the same {kind} request: {mine[kind]!r} / "
                f"{yours[kind]!r}; keep one, with a larger weight if it matters more",
            )  # fmt: skip


def _requests(one: Principle) -> dict[str, str]:
    said = {"critique": one.critique, "revision": one.revision, "choose": one.choose}
    return {kind: text.strip() for kind, text in said.items() if text.strip()}


def _matter(text: str) -> frozenset[str]:
    """The words that say what a request is about; of a request of nothing else, all of them."""
    said = frozenset(words(text))
    return said - _IDLE - _NO or said


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(1, len(one | other))


def _against(one: str, other: str) -> str:
    """What sets two requests on the same matter against each other; empty where nothing does."""
    said, replied = frozenset(words(one)), frozenset(words(other))
    for left, right in _OPPOSITES:
        for first, second in ((left, right), (right, left)):
            if first in said and second in replied and second not in said and first not in replied:
                matter = _matter(one) - {first}, _matter(other) - {second}
                if not (matter[0] or matter[1]) or _overlap(*matter) >= SAME_MATTER:
                    return f"{first} / {second}"
    if bool(said & _NO) != bool(replied & _NO) and _overlap(_matter(one), _matter(other)) >= ALIKE:
        return f"one says {' '.join(sorted((said | replied) & _NO))}"
    return ""
