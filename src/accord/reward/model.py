"""The reward model: a classifier with one logit or two classes, standardised, as a Scorer.

r(x, y) = (logit - zero) / std; the logit of a two-class head is its log-odds, logit(good) - logit(bad).
std is that of the training completions. Where anchors (FAIL or not, thumbs) were trained on, zero is the
logit that is as often acceptable as not, and P(acceptable) = sigma(a logit + b) is in ``parts``; else it is
the training completions' mean. All are saved with the weights.

A class's own logit is no such scale: the loss sees only the difference of the two, so both may rise with
the length of a text, say, and rank texts otherwise than the probability does. It can be asked for
(``value="logit"``) and is then the raw number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from accord.errors import ModelError, NumericsError
from accord.lm.classifier import Reads, SequenceClassifier
from accord.lm.render import Template
from accord.reward.classifier import Value
from accord.types import Completion, Group, Prompt, Score

SETTINGS = "accord_reward.json"
CLASSES = ("bad", "good")
"""The labels of a two-class head, in the order of its logits."""


def one_number(logits_NL: Tensor) -> Tensor:
    """(N) the reward before standardisation: the logit of one label, the log-odds of the second of two."""
    return logits_NL[:, 0] if logits_NL.shape[1] == 1 else logits_NL[:, 1] - logits_NL[:, 0]


class RewardModel:
    """A trained reward model; a ``Scorer``. Make one with ``reward.train.train`` or :meth:`load`."""

    def __init__(
        self,
        classifier: SequenceClassifier,
        mean: float = 0.0,
        std: float = 1.0,
        acceptable: tuple[float, float] | None = None,
        value: Value | str = Value.LOG_ODDS,
    ) -> None:
        """``mean`` is the logit of reward zero; ``acceptable`` are a and b."""
        self.classifier = classifier
        self.value = Value(value)
        self.classes = self._classes()
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise NumericsError(f"reward model with mean {mean} and standard deviation {std}")
        self.mean = mean
        self.std = std
        self.acceptable = acceptable

    def _classes(self) -> list[str]:
        """The labels of a two-class head; none for one logit."""
        labels = self.classifier.net.config.num_labels
        if labels == 1 and self.value is Value.LOG_ODDS:
            return []
        if labels == 2 and tuple(self.classifier.label_names) == CLASSES:
            return list(CLASSES)
        if labels == 1:
            raise ModelError(f"{self.classifier.name} has one logit and no class; leave value at log-odds")
        raise ModelError(
            f"{self.classifier.name} has {labels} labels ({', '.join(self.classifier.label_names)}), a "
            f"reward model has one or the two classes {' and '.join(CLASSES)}; use "
            "reward.classifier.ClassifierReward with a label's name"
        )

    @classmethod
    def load(
        cls, path: str | Path, device: str | None = None, value: Value | str = Value.LOG_ODDS
    ) -> RewardModel:
        """Load what :meth:`save` wrote, or any one-label sequence classifier (mean 0, std 1).

        Raises:
            ModelError: nothing loadable, a fresh head, or labels that are no reward.
        """
        file = Path(path) / SETTINGS
        if not file.exists():
            return cls(SequenceClassifier.load(path, device=device), value=value)
        settings = json.loads(file.read_text())
        classifier = SequenceClassifier.load(
            path,
            device=device,
            template=Template(settings["template"]),
            reads=Reads(settings["reads"]),
            max_length=settings["max_length"],
        )
        acceptable = settings.get("acceptable")
        return cls(
            classifier, settings["mean"], settings["std"], tuple(acceptable) if acceptable else None, value
        )

    def save(self, path: str | Path) -> None:
        """Write a Hugging Face folder with template, reading rule and standardisation beside the weights."""
        self.classifier.save(path)
        settings = {
            "template": self.classifier.template.value,
            "reads": self.classifier.reads.value,
            "max_length": self.classifier.max_length,
            "mean": self.mean,
            "std": self.std,
            "acceptable": self.acceptable,
        }
        (Path(path) / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """The reward of each completion; ``parts`` holds the raw logit (of two classes, the log-odds and each
        class's logit and probability) and ``p_acceptable`` where anchors were trained on."""
        return self.score_groups([(prompt, completions)])[0]

    def score_groups(self, groups: Sequence[Group]) -> list[list[Score]]:
        """Rewards for many groups in one pass.

        Raises:
            NumericsError: a reward is not finite; the text is named.
        """
        classifier = self.classifier
        inputs = [classifier.encode(prompt, c.text) for prompt, group in groups for c in group]
        rows = iter(classifier.score_inputs(inputs).tolist() if inputs else [])
        return [[self._score(prompt, c, next(rows)) for c in group] for prompt, group in groups]

    def standardised(self, logit: float) -> float:
        """A logit (of two classes, their log-odds) as a reward."""
        return (logit - self.mean) / self.std

    def _score(self, prompt: Prompt, completion: Completion, logits: list[float]) -> Score:
        if not all(math.isfinite(x) for x in logits):
            raise NumericsError(
                f"the reward of {completion.text[:80]!r} to prompt {prompt.id!r} is {logits[-1]}; the "
                "model's weights are damaged, or its dtype overflows"
            )
        logit = logits[0]
        parts: dict[str, float] = {}
        if self.classes:
            logit = logits[1] - logits[0]
            parts = {f"{name} logit": x for name, x in zip(self.classes, logits, strict=True)}
            parts |= {"bad p": sigmoid(-logit), "good p": sigmoid(logit)}
        parts["logit"] = logit
        if self.acceptable is not None:
            a, b = self.acceptable
            parts["p_acceptable"] = sigmoid(a * logit + b)
        if self.value is Value.LOGIT:
            return Score(logits[1], parts)
        return Score(self.standardised(logit), parts)


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x), without overflow."""
    return 0.5 * (1 + math.tanh(x / 2))
