"""Functional tests of a classifier, right or wrong by kind, as HateCheck's (Röttger et al. 2021).

A kind of case (a slur, a negated insult, a quotation) has one right label throughout, so that a classifier
that always says the same is right on all of some kinds and on none of the others: the mean of all hides it,
the table does not (arXiv:2012.15606).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from accord.errors import DataError
from accord.stats.intervals import Interval, wilson


@dataclass(frozen=True, slots=True)
class Kind:
    """The cases of one kind."""

    name: str
    label: str
    """The right label; several, joined by commas, where the kind mixes them."""
    accuracy: Interval
    """With Wilson's interval; ``n`` cases."""


def by_kind(
    kinds: Sequence[str], labels: Sequence[str], said: Sequence[str], *, worst_first: bool = True
) -> list[Kind]:
    """Accuracy of each kind of case, from each case's kind, right label and what the classifier said.

    Raises:
        DataError: no cases, or lists of different lengths.
    """
    if not kinds or not len(kinds) == len(labels) == len(said):
        raise DataError(
            f"{len(kinds)} kinds, {len(labels)} labels and {len(said)} answers; give one of each a case"
        )
    cases: dict[str, list[int]] = {}
    for i, kind in enumerate(kinds):
        cases.setdefault(kind, []).append(i)
    found = [
        Kind(
            kind,
            ", ".join(sorted({labels[i] for i in rows})),
            wilson(sum(said[i] == labels[i] for i in rows), len(rows)),
        )
        for kind, rows in cases.items()
    ]
    return sorted(found, key=lambda kind: kind.accuracy.value) if worst_first else found


def spread(kinds: Sequence[Kind]) -> Mapping[str, float]:
    """Accuracy over all cases, over kinds of each right label, and of the worst kind."""
    labels = sorted({kind.label for kind in kinds})
    every = sum(kind.accuracy.n for kind in kinds)
    means = {
        f"accuracy, {label}": _pooled([kind for kind in kinds if kind.label == label]) for label in labels
    }
    return {
        "cases": float(every),
        "accuracy": _pooled(kinds),
        **means,
        "worst_kind": min(kind.accuracy.value for kind in kinds),
        "kinds_below_half": float(sum(kind.accuracy.value < 0.5 for kind in kinds)),
    }


def _pooled(kinds: Sequence[Kind]) -> float:
    return sum(kind.accuracy.value * kind.accuracy.n for kind in kinds) / sum(
        kind.accuracy.n for kind in kinds
    )
