"""Checkpoints that survive: killed while saving, a full disk, a torn file.

A checkpoint is a folder ``checkpoint-NNNNNN`` of a run: tensors, the optimiser, a state in JSON, and their
SHA-256, written last. It is written beside the others, flushed to the disk, and renamed into place, so
it is whole or not there. The newest two are kept: where the newest turns out torn, it is set aside and
the one before it is taken, whose later steps are done again to the same bits.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from accord.errors import ConfigError, StoreError

log = logging.getLogger(__name__)

KEPT = 2
WEIGHTS, OPTIMISER, STATE, SUMS = "weights.safetensors", "optimiser.pt", "state.json", "sums.json"
DRAFT = ".draft"


@dataclass(frozen=True)
class Checkpoint:
    """What was saved; ``step`` counts the steps done."""

    path: Path
    step: int
    tensors: dict[str, Tensor]
    optimiser: dict[str, Any]
    state: dict[str, Any]

    @torch.no_grad()
    def put_into(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite ``tensors`` with those saved under their names."""
        for name, tensor in tensors.items():
            tensor.copy_(self.tensors[name])


def write(
    folder: Path,
    step: int,
    tensors: Mapping[str, Tensor],
    optimiser: Mapping[str, Any],
    state: Mapping[str, Any],
) -> Path:
    """Save a checkpoint of ``step`` in ``folder``, then drop all but the newest two.

    Raises:
        StoreError: it could not be written (a full disk); what was there before stands.
    """
    target, draft = folder / f"checkpoint-{step:06d}", folder / DRAFT
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft / WEIGHTS)
        torch.save(dict(optimiser), draft / OPTIMISER)
        (draft / STATE).write_text(json.dumps(state))
        sums = {name: file_digest(draft / name) for name in (WEIGHTS, OPTIMISER, STATE)}
        (draft / SUMS).write_text(json.dumps(sums))
        for file in draft.iterdir():
            _flush(file)
        _flush(draft)
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
        _flush(folder)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch reports a failed write as RuntimeError
        shutil.rmtree(draft, ignore_errors=True)
        raise StoreError(
            f"the checkpoint of step {step} could not be written to {folder}: {error}. {standing(folder)}"
        ) from error
    for path in found(folder)[:-KEPT]:
        shutil.rmtree(path)
    return target


def standing(folder: Path) -> str:
    """What a run in ``folder`` has to go on from where its disk is full, and what to do, in words."""
    newest = latest(folder)
    left = "There is no checkpoint yet" if newest is None else f"{newest.name} stands"
    return f"{left}; free some space and go on with --resume"


def refuse_another(folder: Path, resume: bool) -> None:
    """Refuse to begin a run where there is one.

    Raises:
        ConfigError: ``folder`` holds a run and it is not to be resumed.
    """
    if latest(folder) is not None and not resume:
        raise ConfigError(f"{folder} holds a run already; resume it (--resume), or name another folder")


def take_up(folder: Path, mark: str, resume: bool, data: str = "data") -> Checkpoint | None:
    """The newest whole checkpoint of the run in ``folder``; ``None`` where a new one begins there.

    ``mark`` is as in ``read_own``.

    Raises:
        ConfigError: ``folder`` holds a run and it is not to be resumed.
        StoreError: the run is another, or no checkpoint of it is whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    refuse_another(folder, resume)
    return None if latest(folder) is None else read_own(folder, mark, data)


def read_own(folder: Path, mark: str, data: str) -> Checkpoint:
    """``read``, of a run known by its ``mark``.

    The mark is the digest of what a resumed run must share with the one that was stopped: its model, settings
    and ``data``. A checkpoint's state has it as ``fingerprint``.

    Raises:
        StoreError: the run is another, or no checkpoint of it is whole.
    """
    saved = read(folder)
    if saved.state["fingerprint"] != mark:
        raise StoreError(
            f"{saved.path} was made from another model, or with other settings or {data}; resume with those "
            "of the run's record, or start a new run in another folder"
        )
    return saved


def latest(folder: Path) -> Path | None:
    """The newest checkpoint of a run's folder, torn or not."""
    return found(folder)[-1] if found(folder) else None


def found(folder: Path) -> list[Path]:
    """The checkpoints of a run's folder, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*") if path.is_dir())


def read(folder: Path) -> Checkpoint:
    """The newest whole checkpoint of ``folder``; a torn one is renamed ``torn-...`` and reported.

    Raises:
        StoreError: there is none.
    """
    torn = []
    for path in reversed(found(folder)):
        fault = _fault(path)
        if fault is None:
            return Checkpoint(
                path,
                int(path.name.rpartition("-")[2]),
                load_file(path / WEIGHTS),
                torch.load(path / OPTIMISER, weights_only=True, map_location="cpu"),
                json.loads((path / STATE).read_text()),
            )
        aside = path.with_name(f"torn-{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        torn.append(f"{aside.name}: {fault}")
        log.warning("%s is torn (%s); set aside as %s, the one before it is taken", path, fault, aside.name)
    raise StoreError(
        f"{folder} has no whole checkpoint to resume from"
        + (f" ({'; '.join(torn)})" if torn else "")
        + "; start a new run"
    )


def _fault(path: Path) -> str | None:
    """What is wrong with a checkpoint's files, ``None`` where nothing is."""
    try:
        sums: dict[str, str] = json.loads((path / SUMS).read_text())
        wrong = [name for name, digest in sums.items() if file_digest(path / name) != digest]
    except (OSError, ValueError) as error:
        return str(error)
    return f"{', '.join(wrong)} changed since it was written" if wrong else None


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Have the disk hold what was written."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
