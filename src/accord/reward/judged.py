"""A scorer's values of judged pairs, each completion scored once. Loads no torch.

Shapes: P pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accord.errors import DataError, NumericsError
from accord.judgements import Comparison
from accord.types import Completion, Prompt, Scorer, score_groups

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """Comparisons with a scorer's values of both sides; make one with :func:`judge` or :func:`judged`."""

    comparisons: tuple[Comparison, ...]
    chosen_P: Array
    rejected_P: Array
    logit_P: Array
    """Chosen less rejected on the scale of the scorer's logit where it has one (a part of that name), of
    its value otherwise: sigma of it is the probability that is checked for calibration."""
    clusters: tuple[Hashable, ...]
    """The unit of resampling of each pair."""

    @property
    def p_P(self) -> Array:
        """The labels."""
        return np.array([c.p_chosen for c in self.comparisons])

    @property
    def right_P(self) -> Array:
        """1 where the chosen side scores above the other, a half where both score the same."""
        return (np.sign(self.chosen_P - self.rejected_P) + 1) / 2

    def take(self, where_P: ArrayLike) -> Judged:
        """The pairs at a mask."""
        at = np.flatnonzero(np.asarray(where_P, bool))
        return Judged(
            tuple(self.comparisons[i] for i in at), self.chosen_P[at], self.rejected_P[at], self.logit_P[at],
            tuple(self.clusters[i] for i in at),
        )  # fmt: skip


def judge(
    scorer: Scorer, comparisons: Iterable[Comparison], clusters: Mapping[str, Hashable] | None = None
) -> Judged:
    """The scorer's values of ``comparisons``: one call for all prompts, each completion scored once.

    Raises:
        DataError: there is no comparison.
        NumericsError: a score is not finite; the text is named.
    """
    comparisons = tuple(comparisons)
    prompts: dict[str, Prompt] = {}
    texts: dict[str, dict[str, Completion]] = {}
    for comparison in comparisons:
        prompts[comparison.prompt.id] = comparison.prompt
        texts.setdefault(comparison.prompt.id, {}).update(
            {key(c): c for c in (comparison.chosen, comparison.rejected)}
        )
    groups = [(prompts[name], list(group.values())) for name, group in texts.items()]
    values: dict[tuple[str, str], float] = {}
    logits: dict[tuple[str, str], float] = {}
    for (prompt, group), scores in zip(groups, score_groups(scorer, groups), strict=True):
        for completion, score in zip(group, scores, strict=True):
            if not np.isfinite(score.value):
                raise NumericsError(
                    f"the score of {completion.text[:80]!r} to prompt {prompt.id!r} is {score.value}; a "
                    "report needs finite scores: repair the scorer first"
                )
            values[prompt.id, key(completion)] = score.value
            if "logit" in score.parts:
                logits[prompt.id, key(completion)] = score.parts["logit"]
    if len(logits) < len(values):
        logits = values

    def sides(of: Mapping[tuple[str, str], float]) -> list[list[float]]:
        return [[of[c.prompt.id, key(side)] for side in (c.chosen, c.rejected)] for c in comparisons]

    return judged(comparisons, sides(values), sides(logits), clusters)


def judged(
    comparisons: Sequence[Comparison],
    values_P2: ArrayLike,
    logits_P2: ArrayLike | None = None,
    clusters: Mapping[str, Hashable] | None = None,
) -> Judged:
    """The same from values that are there already: of the chosen and the rejected side of each pair.

    Raises:
        DataError: there is no comparison, or not two values for each.
    """
    values = np.asarray(values_P2, np.float64)
    logits = values if logits_P2 is None else np.asarray(logits_P2, np.float64)
    if not comparisons or values.shape != (len(comparisons), 2) or logits.shape != values.shape:
        raise DataError(
            f"{len(comparisons)} comparisons with values of shape {values.shape}; a report needs at "
            "least one comparison and two values for each"
        )
    units = tuple((clusters or {}).get(c.prompt.id, c.prompt.id) for c in comparisons)
    return Judged(tuple(comparisons), values[:, 0], values[:, 1], logits[:, 0] - logits[:, 1], units)


def key(completion: Completion) -> str:
    """What a completion is known by within its prompt: its id, or its text where it has none."""
    return completion.id or completion.text
