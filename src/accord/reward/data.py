"""Judgements as a reward model reads them: groups of ``lm.grouped``, encoded by its classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from accord.judgements import Anchor, Comparison
from accord.lm.classifier import Encoded, SequenceClassifier
from accord.lm.grouped import Lost, OverLong, PromptGroup
from accord.lm.grouped import gather as gather_by


def gather(
    comparisons: Sequence[Comparison],
    classifier: SequenceClassifier,
    *,
    anchors: Sequence[Anchor] = (),
    source_weights: Mapping[str, float] | None = None,
    over_long: OverLong = OverLong.CUT,
) -> tuple[list[PromptGroup[Encoded]], Lost]:
    """``lm.grouped.gather`` with each completion's text as ``classifier`` encodes it."""
    return gather_by(
        comparisons,
        lambda prompt, completion: classifier.encode(prompt, completion.text),
        anchors=anchors,
        source_weights=source_weights,
        over_long=over_long,
    )
