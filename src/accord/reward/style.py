"""What style alone can tell of a preference: a logistic regression on the surface of the two texts.

A reward model that is no better than this has learned length and markup (Singhal et al. 2023,
arXiv:2310.03716, find that length alone gives most of the gains of some). Loads no torch.

Shapes: S style features, P pairs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accord.errors import DataError
from accord.judgements import Comparison
from accord.stats.logistic import fit, votes
from accord.types import Completion, Prompt, Score

Array = NDArray[np.float64]

PATTERNS = {
    "list items": re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s", re.M),
    "bold": re.compile(r"\*\*[^*\n]+\*\*"),
    "headers": re.compile(r"^#{1,6}\s", re.M),
    "code fences": re.compile(r"^\s*```", re.M),
    "paragraphs": re.compile(r"\n\s*\n"),
    "exclamation marks": re.compile(r"!"),
    "question marks": re.compile(r"\?"),
    "digits": re.compile(r"\d"),
    "capitals": re.compile(r"[A-Z]"),
}
FEATURES = ("characters", *PATTERNS)
"""The surface that is counted; each feature is log(1 + count), so that a tenth header tells less than the
first."""
PRECISION = 1.0
"""Of the prior on each weight, the features' differences scaled to a root mean square of 1."""


@dataclass(frozen=True, slots=True)
class Style:
    """A fitted style baseline; a ``Scorer`` whose difference is the log-odds of a preference."""

    weight_S: Array
    """On the features as counted, in :data:`FEATURES`' order."""

    @property
    def weights(self) -> dict[str, float]:
        """Log-odds for each unit of log(1 + count), by feature."""
        return dict(zip(FEATURES, self.weight_S.tolist(), strict=True))

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """The style score of each completion; the prompt is not read."""
        return [Score(float(features(c.text) @ self.weight_S)) for c in completions]

    def differences(self, comparisons: Sequence[Comparison]) -> Array:
        """Chosen less rejected of each comparison (P)."""
        x_PS = [features(c.chosen.text) - features(c.rejected.text) for c in comparisons]
        return np.array(x_PS, np.float64).reshape(len(x_PS), len(FEATURES)) @ self.weight_S


def features(text: str) -> Array:
    """log(1 + count) of each of :data:`FEATURES` (S)."""
    counts = [len(text), *(len(pattern.findall(text)) for pattern in PATTERNS.values())]
    return np.log1p(np.array(counts, np.float64))


def fit_style(learned: Sequence[Comparison]) -> Style:
    """The baseline fitted to ``learned`` with their ``p_chosen``; it has no way to prefer the first.

    Raises:
        DataError: there is no pair of two texts that differ in style.
    """
    x_PS = np.array([features(c.chosen.text) - features(c.rejected.text) for c in learned])
    x_PS = x_PS.reshape(len(learned), len(FEATURES))
    scale_S = np.sqrt((x_PS**2).mean(axis=0)) if len(learned) else np.zeros(len(FEATURES))
    if not scale_S.any():
        raise DataError(
            f"{len(learned)} training pairs, none of texts that differ in style; give the comparisons that "
            "the reward model was trained on"
        )
    scale_S = np.where(scale_S > 0, scale_S, 1.0)
    given = votes(x_PS / scale_S, [c.p_chosen for c in learned])
    found = fit(given, np.zeros(len(FEATURES)), PRECISION * np.eye(len(FEATURES)))
    return Style(found.mean_K / scale_S)
