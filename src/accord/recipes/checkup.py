"""What `accord doctor MODEL` does: choose the checks by what the folder holds, and run them."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig

from accord.errors import ModelError
from accord.lm.classifier import SequenceClassifier
from accord.lm.invariants import Check, check_policy
from accord.lm.model import LanguageModel
from accord.lm.scorer_invariants import check_classifier, check_scorer
from accord.reward.model import SETTINGS, RewardModel


def check_model(name: str, dtype: str = "float32", seed: int = 0) -> list[Check]:
    """The start-up invariants of a language model, or those of a reward model or classifier.

    Raises:
        ModelError: nothing loadable there.
    """
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ModelError(f"no model could be found at {name!r}: {error}") from error
    heads = config.architectures or [""]
    if "SequenceClassification" in heads[0]:
        if config.num_labels == 1 or (Path(name) / SETTINGS).exists():  # two classes can be a reward too
            return check_scorer(RewardModel.load(name), seed)
        return check_classifier(SequenceClassifier.load(name), seed)
    return check_policy(LanguageModel.load(name, dtype=dtype), seed)
