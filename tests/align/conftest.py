from collections.abc import Callable
from pathlib import Path

import pytest

from accord.lm.model import LanguageModel
from toys import write_toy


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory) -> Callable[..., Path]:
    """Folders of toy models, each written once a session."""
    written: dict[tuple, Path] = {}

    def get(model_type: str = "llama", seed: int = 0) -> Path:
        key = model_type, seed
        if key not in written:
            written[key] = write_toy(tmp_path_factory.mktemp(model_type), model_type, seed)
        return written[key]

    return get


@pytest.fixture
def toy(toy_folder) -> Callable[..., LanguageModel]:
    """A fresh toy model."""
    return lambda model_type="llama", seed=0: LanguageModel.load(toy_folder(model_type, seed))
