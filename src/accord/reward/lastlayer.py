"""Features for personal rewards: the directions of a model's last layer in which answers to a prompt differ.

Shapes: N completions, D width of the layer, K features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accord.errors import DataError, ModelError
from accord.lm.classifier import SequenceClassifier
from accord.lm.features import features
from accord.types import Group

Array = NDArray[np.float64]
_ALIKE = "no prompt has two completions that differ; give prompts with several completions"


class LastLayer:
    """(x - mean) basis, x the last layer of ``classifier``; make one with :meth:`fit` or :meth:`load`."""

    def __init__(self, classifier: SequenceClassifier, mean_D: Array, basis_DK: Array) -> None:
        self.classifier, self.mean_D, self.basis_DK = classifier, mean_D, basis_DK

    @classmethod
    def fit(cls, classifier: SequenceClassifier, groups: Sequence[Group], k: int = 8) -> LastLayer:
        """The ``k`` principal directions of differences between completions of one prompt, fewer where there
        are fewer; along each, two completions of a prompt differ by 1 in root mean square.

        Raises:
            DataError: no prompt has two completions that differ.
        """
        layers = _layers(classifier, groups)
        pairs = sum(len(x) * (len(x) - 1) / 2 for x in layers)
        # The squares of n rows around their mean, times n, are those of their pairs' differences.
        around = [np.sqrt(len(x)) * (x - x.mean(axis=0)) for x in layers if len(x) > 1]
        if not around:
            raise DataError(_ALIKE)
        _, size_K, direction_KD = np.linalg.svd(np.concatenate(around), full_matrices=False)
        kept = min(k, int((size_K > 1e-6 * size_K[0]).sum()))
        if not kept:
            raise DataError(_ALIKE)
        basis_DK = direction_KD[:kept].T * np.sqrt(pairs) / size_K[:kept]
        return cls(classifier, np.concatenate(layers).mean(axis=0), basis_DK)

    def __call__(self, groups: Sequence[Group]) -> list[Array]:
        """(completions, K) for each group."""
        return [(x - self.mean_D) @ self.basis_DK for x in _layers(self.classifier, groups)]

    def save(self, path: str | Path) -> None:
        """Write mean, basis and the digest of the model they are of; not the model."""
        with open(path, "wb") as file:
            np.savez(file, mean_D=self.mean_D, basis_DK=self.basis_DK,
                     weights=np.array(self.classifier.weights_hash()))  # fmt: skip

    @classmethod
    def load(cls, path: str | Path, classifier: SequenceClassifier) -> LastLayer:
        """Read what :meth:`save` wrote.

        Raises:
            ModelError: ``classifier`` has other weights.
        """
        with np.load(path, allow_pickle=False) as held:
            if str(held["weights"]) != classifier.weights_hash():
                raise ModelError(
                    f"the features in {path} are of a model with other weights than {classifier.name}; load "
                    "that model, or fit the features anew and learn the tastes again"
                )
            return cls(classifier, held["mean_D"], held["basis_DK"])


def _layers(classifier: SequenceClassifier, groups: Sequence[Group]) -> list[Array]:
    """(completions, D) for each group, in one pass."""
    inputs = [classifier.encode(prompt, c.text) for prompt, group in groups for c in group]
    if not inputs:
        return [np.zeros((0, 0)) for _ in groups]
    states_ND = features(classifier, inputs).numpy().astype(np.float64)
    return np.split(states_ND, np.cumsum([len(group) for _, group in groups])[:-1])
