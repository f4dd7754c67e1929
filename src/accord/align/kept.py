"""The weights a run would go back to, on disk beside its checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from accord.align.learner import Learner
from accord.errors import StoreError
from accord.lm.checkpoints import standing

FILE = "best.safetensors"


class Kept:
    """The best weights so far. A run done again from a checkpoint writes the same ones again."""

    def __init__(self, folder: Path, learner: Learner) -> None:
        self.path = folder / FILE
        self.learner = learner
        self.before: dict[str, torch.Tensor] = {}

    def note(self) -> None:
        """Remember the weights as they are, those that the coming step samples with."""
        self.before = {name: tensor.clone() for name, tensor in self.learner.policy.trained().items()}

    def keep(self, step: int) -> None:
        """Write the noted weights, which ``step`` was sampled with; whole or not at all.

        Raises:
            StoreError: they could not be written (a full disk).
        """
        draft = self.path.with_suffix(".draft")
        try:
            save_file(self.before, draft, metadata={"step": str(step)})
            draft.replace(self.path)
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"the weights to roll back to could not be written to {self.path}: {error}. "
                f"{standing(self.path.parent)}"
            ) from error

    def restore(self) -> int:
        """Put the best weights into the policy; returns the step that was sampled with them.

        Raises:
            StoreError: the file is gone.
        """
        if not self.path.exists():
            raise StoreError(
                f"{self.path} is gone, which holds the weights to roll back to; the newest checkpoint beside "
                "it holds the last ones"
            )
        saved = load_file(self.path)
        with torch.no_grad():
            for name, tensor in self.learner.policy.trained().items():
                tensor.copy_(saved[name])
        with safe_open(self.path, "pt") as file:
            return int(file.metadata()["step"])
