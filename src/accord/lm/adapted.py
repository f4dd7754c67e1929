"""A model from any folder there is of one: whole, or a bare LoRA adapter that names its base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from accord.errors import ModelError
from accord.lm.adapters import load_lora
from accord.lm.dropout import silence_dropout
from accord.lm.model import LanguageModel


def load_model(name: str | Path, **options: Any) -> LanguageModel:
    """``LanguageModel.load``, of a bare adapter's folder too (peft's adapter_config.json without a
    config.json).

    The base is what the adapter names: a hub name, or a folder, looked for beside the adapter first. The
    adapter is left as it is, ready to be turned off, trained or merged.

    Raises:
        ModelError: the adapter names no base, or either cannot be loaded.
    """
    folder = Path(name)
    told = folder / "adapter_config.json"
    if not told.is_file() or (folder / "config.json").is_file():
        return LanguageModel.load(name, **options)
    try:
        base = json.loads(told.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except ValueError as error:
        raise ModelError(f"{told} is not JSON: {error}") from None
    if not base:
        raise ModelError(f"{told} names no base model; add base_model_name_or_path, or merge it with peft")
    beside = (folder / base).resolve()
    model = LanguageModel.load(beside if beside.is_dir() else base, **options)
    if model.peft is not None:
        raise ModelError(f"{folder}: its base {base!r} has an adapter of its own; merge that one first")
    model.peft = load_lora(model.net, folder)
    model.name = str(name)
    silence_dropout(model.net)
    model.net.eval()
    return model
