"""The reward model: a classifier with one logit, standardised, as a Scorer.

r(x, y) = (logit - mean) / std, with mean and standard deviation measured on the training
completions and saved with the weights, so that a reward of 0 is an ordinary completion and 1 is one
standard deviation better.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from accord.errors import ModelError, NumericsError
from accord.lm.classifier import Reads, SequenceClassifier
from accord.lm.render import Template
from accord.types import Completion, Group, Prompt, Score

SETTINGS = "accord_reward.json"


class RewardModel:
    """A trained reward model; a ``Scorer``. Make one with ``reward.train.train`` or :meth:`load`."""

    def __init__(self, classifier: SequenceClassifier, mean: float = 0.0, std: float = 1.0) -> None:
        if classifier.net.config.num_labels != 1:
            raise ModelError(
                f"{classifier.name} has {classifier.net.config.num_labels} labels, a reward model has one; "
                "use reward.classifier.ClassifierReward with a label's name"
            )
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise NumericsError(f"reward model with mean {mean} and standard deviation {std}")
        self.classifier = classifier
        self.mean = mean
        self.std = std

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> RewardModel:
        """Load what :meth:`save` wrote, or any one-label sequence classifier (mean 0, std 1).

        Raises:
            ModelError: nothing loadable, a fresh head, or more than one label.
        """
        file = Path(path) / SETTINGS
        if not file.exists():
            return cls(SequenceClassifier.load(path, device=device))
        settings = json.loads(file.read_text())
        classifier = SequenceClassifier.load(
            path,
            device=device,
            template=Template(settings["template"]),
            reads=Reads(settings["reads"]),
            max_length=settings["max_length"],
        )
        return cls(classifier, settings["mean"], settings["std"])

    def save(self, path: str | Path) -> None:
        """Write a Hugging Face folder with template, reading rule and standardisation beside the weights."""
        self.classifier.save(path)
        settings = {
            "template": self.classifier.template.value,
            "reads": self.classifier.reads.value,
            "max_length": self.classifier.max_length,
            "mean": self.mean,
            "std": self.std,
        }
        (Path(path) / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """The standardised reward of each completion; ``parts`` holds the raw logit."""
        return self.score_groups([(prompt, completions)])[0]

    def score_groups(self, groups: Sequence[Group]) -> list[list[Score]]:
        """Rewards for many groups in one pass.

        Raises:
            NumericsError: a reward is not finite; the text is named.
        """
        classifier = self.classifier
        inputs = [classifier.encode(prompt, c.text) for prompt, group in groups for c in group]
        logits = iter(classifier.score_inputs(inputs)[:, 0].tolist() if inputs else [])
        return [[self._score(prompt, c, next(logits)) for c in group] for prompt, group in groups]

    def _score(self, prompt: Prompt, completion: Completion, logit: float) -> Score:
        if not math.isfinite(logit):
            raise NumericsError(
                f"the reward of {completion.text[:80]!r} to prompt {prompt.id!r} is {logit}; the model's "
                "weights are damaged, or its dtype overflows"
            )
        return Score((logit - self.mean) / self.std, {"logit": logit})
