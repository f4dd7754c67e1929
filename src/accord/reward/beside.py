"""Arrays and settings kept beside a reward model, in its folder: what heads and Laplace add to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from accord.errors import ModelError
from accord.reward.model import RewardModel

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Beside:
    """The names of the two files, and what they hold in words."""

    settings: str
    tensors: str
    what: str

    def lies_in(self, path: str | Path) -> bool:
        """Whether the folder ``path`` holds it."""
        return (Path(path) / self.settings).exists()

    def save(
        self, path: str | Path, model: RewardModel, tensors: dict[str, Array], settings: Mapping[str, Any]
    ) -> None:
        """Write the model's folder, and both files last, in it."""
        model.save(path)
        save_file(tensors, Path(path) / self.tensors)
        (Path(path) / self.settings).write_text(json.dumps(dict(settings), indent=2) + "\n")

    def load(
        self, path: str | Path, device: str | None = None
    ) -> tuple[RewardModel, dict[str, Array], dict[str, Any]]:
        """The model, the arrays and the settings that :meth:`save` wrote.

        Raises:
            ModelError: the folder does not hold it, or no reward model.
        """
        if not self.lies_in(path):
            raise ModelError(
                f"{path} holds no {self.what}: there is no {self.settings}; it may be a plain reward model"
            )
        settings = json.loads((Path(path) / self.settings).read_text())
        return RewardModel.load(path, device), load_file(Path(path) / self.tensors), settings
