"""Ready-made classifiers as rewards: a label's log-odds, or its raw logit.

Not the probability: it saturates near 0 and 1, and there a policy would feel no slope. The log-odds rank
texts as the probability does and do not saturate. The raw logit can rank them differently, because the
softmax it was trained through sees only differences: both logits of two may rise together. It is the reward
of much published work, so it can be asked for; every logit and probability is in ``parts``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import torch

from accord.errors import ConfigError, NumericsError
from accord.lm.classifier import Reads, SequenceClassifier
from accord.types import Completion, Group, Prompt, Score


class Value(StrEnum):
    """Which number of a classifier is the reward."""

    LOG_ODDS = "log-odds"
    """log p - log(1 - p) of the label: of two classes the difference of their logits."""
    LOGIT = "logit"
    """The label's own logit."""


class ClassifierReward:
    """``label``'s log-odds, or its raw logit, as reward; a ``Scorer``."""

    def __init__(
        self, classifier: SequenceClassifier, label: str, value: Value | str = Value.LOG_ODDS
    ) -> None:
        self.classifier = classifier
        self.label = label_index(classifier.label_names, label)
        self.value = Value(value)

    @classmethod
    def load(
        cls,
        name: str | Path,
        label: str,
        value: Value | str = Value.LOG_ODDS,
        *,
        reads: Reads = Reads.COMPLETION,
        device: str | None = None,
    ) -> ClassifierReward:
        """Load a classifier folder or hub name (with or without the prefix ``hf:``)."""
        name = str(name).removeprefix("hf:")
        return cls(SequenceClassifier.load(name, reads=reads, device=device), label, value)

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """The label's reward for each completion, with every label's logit and probability in ``parts``."""
        return self.score_groups([(prompt, completions)])[0]

    def score_groups(self, groups: Sequence[Group]) -> list[list[Score]]:
        """The same for many groups in one pass.

        Raises:
            NumericsError: a logit is not finite.
        """
        classifier = self.classifier
        inputs = [classifier.encode(prompt, c.text) for prompt, group in groups for c in group]
        logits_NL = classifier.score_inputs(inputs) if inputs else torch.zeros(0, 1)
        several = classifier.net.config.problem_type == "multi_label_classification"
        p_NL = logits_NL.sigmoid() if several else logits_NL.softmax(-1)
        values_N = logits_NL[:, self.label] if inputs else torch.zeros(0)
        if self.value is Value.LOG_ODDS and not several and logits_NL.shape[1] > 1:
            others = [i for i in range(logits_NL.shape[1]) if i != self.label]
            values_N = values_N - logits_NL[:, others].logsumexp(-1)
        rows = iter(zip(values_N.tolist(), logits_NL.tolist(), p_NL.tolist(), strict=True))
        return [[self._score(*next(rows)) for _ in group] for _, group in groups]

    def _score(self, value: float, logits: list[float], probabilities: list[float]) -> Score:
        if not all(math.isfinite(x) for x in logits):
            raise NumericsError(f"{self.classifier.name}: logits {logits}; the weights are damaged")
        parts: dict[str, float] = {}
        for name, logit, probability in zip(self.classifier.label_names, logits, probabilities, strict=True):
            parts[f"{name} logit"] = logit
            parts[f"{name} p"] = probability
        return Score(value, parts)


def label_index(names: Sequence[str], label: str) -> int:
    """The position of ``label`` among ``names``, case ignored.

    Raises:
        ConfigError: no such label; the message lists those there are.
    """
    folded = [name.casefold() for name in names]
    if label.casefold() not in folded:
        raise ConfigError(f"the classifier has no label {label!r}; it has {', '.join(names)}")
    return folded.index(label.casefold())
