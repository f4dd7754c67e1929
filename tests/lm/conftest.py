from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from accord.lm.model import LanguageModel
from accord.lm.tiny import write_tiny

transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Callable[..., Path]:
    """Folders of tiny models, each written once a session."""
    written: dict[tuple, Path] = {}

    def get(model_type: str = "llama", **options: Any) -> Path:
        key = (model_type, *sorted(options.items()))
        if key not in written:
            written[key] = write_tiny(tmp_path_factory.mktemp(model_type), model_type, **options)
        return written[key]

    return get


@pytest.fixture
def load(folder) -> Callable[..., LanguageModel]:
    """A fresh model of a kind."""

    def get(model_type: str = "llama", dtype: str = "float32", **options: Any) -> LanguageModel:
        return LanguageModel.load(folder(model_type, **options), dtype=dtype)

    return get
