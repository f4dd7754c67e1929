"""Heads that say what tokens are worth, on a language model's trunk; and the model that listens to them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from accord.errors import ModelError
from accord.lm.checkpoints import file_digest
from accord.lm.model import LanguageModel, tensors_hash
from accord.types import digest

FILE = "value_heads.safetensors"


class ValueHeads(nn.Module):
    """Two Q heads (D -> vocabulary), a V head (D -> 1), and lagging copies of the Q heads.

    Each has a hidden layer of the trunk's width, drawn by ``seed``, and an output layer of zeros: untrained
    ones prefer nothing. The two Q heads differ by their hidden layers; begun alike they would stay alike, and
    the lower of them would be no caution. float32 whatever the trunk's dtype.

    Legend: N tokens, D width, V vocabulary.
    """

    def __init__(self, width: int, vocabulary: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.q = nn.ModuleList(_head(width, vocabulary) for _ in range(2))
            self.v = _head(width, 1)
        self.target = copy.deepcopy(self.q).requires_grad_(False)

    @classmethod
    def on(cls, model: LanguageModel, seed: int = 0) -> ValueHeads:
        """Untrained heads for ``model``, where it lies."""
        vocabulary = model.net.get_output_embeddings().out_features
        return cls(model.width, vocabulary, seed).to(model.device)

    def learned(self, hidden_ND: Tensor) -> tuple[Tensor, Tensor]:
        """(N, V) of both Q heads."""
        first, second = (head(hidden_ND.float()) for head in self.q)
        return first, second

    def lagging(self, hidden_ND: Tensor) -> Tensor:
        """(N, V) the lower of the lagging copies' values."""
        first, second = (head(hidden_ND.float()) for head in self.target)
        return torch.minimum(first, second)

    def value(self, hidden_ND: Tensor) -> Tensor:
        """(N) of the V head."""
        return self.v(hidden_ND.float())[:, 0]

    @torch.no_grad()
    def follow(self, share: float) -> None:
        """Move the lagging copies towards the heads: Q' = (1 - share) Q' + share Q (Polyak's average)."""
        for behind, ahead in zip(self.target.parameters(), self.q.parameters(), strict=True):
            behind.lerp_(ahead, share)


def _head(width: int, outputs: int) -> nn.Sequential:
    head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))
    for parameter in head[2].parameters():
        nn.init.zeros_(parameter)
    return head


class AdvisedModel(LanguageModel):
    """A model whose logits are raised by what its heads say tokens are worth: log pi + weight (Q - V).

    ILQL's policy (Snell et al. 2022, arXiv:2206.11871): pi(a | s) exp(weight (Q(s, a) - V(s))), Q the lower
    of the lagging heads. Weights and tokenizer are ``model``'s own, so what trains it changes this too; any
    sampler of a model samples it.
    """

    def __init__(self, model: LanguageModel, heads: ValueHeads, weight: float) -> None:
        self.__dict__.update(model.__dict__)
        self.heads = heads
        self.weight = weight

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """(N, V) float32 logits."""
        better_NV = self.heads.lagging(hidden_ND) - self.heads.value(hidden_ND)[:, None]
        return super().logits(hidden_ND) + self.weight * better_NV

    def weights_hash(self) -> str:
        """Digest of the base weights, the heads and the weight they are given."""
        return digest(super().weights_hash(), tensors_hash(self.heads.state_dict()), self.weight)

    def save(self, path: str | Path, *, merge: bool = False) -> None:
        """Write the model's folder with the heads beside it; :func:`load_advised` reads both."""
        super().save(path, merge=merge)
        about = {"weight": json.dumps(self.weight), "model": _fingerprint(Path(path))}
        save_file(self.heads.state_dict(), Path(path) / FILE, metadata=about)


def load_advised(path: str | Path, weight: float | None = None, **options: Any) -> AdvisedModel:
    """The model and heads that ``AdvisedModel.save`` wrote; ``weight`` is the saved one unless given.

    ``options`` are those of ``LanguageModel.load``.

    Raises:
        ModelError: there is no model in the folder, or there are no heads that were saved with it.
    """
    model = LanguageModel.load(path, **options)
    heads, advice = ValueHeads.on(model), "give the folder that an AdvisedModel was saved to"
    try:
        with safe_open(Path(path) / FILE, "pt") as file:
            about = file.metadata() or {}
            heads.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"no value heads could be loaded from {path}: {error}; {advice}") from error
    if about.get("model") != _fingerprint(Path(path)):
        raise ModelError(
            f"{path}: the value heads were saved with other weights than lie beside them, and would read "
            f"other states than they learned on; {advice}, and nothing since"
        )
    return AdvisedModel(model, heads, json.loads(about["weight"]) if weight is None else weight)


def _fingerprint(folder: Path) -> str:
    """Digest of a model folder's weights and adapter."""
    files = sorted(path for path in folder.rglob("*.safetensors") if path.name != FILE)
    return digest([[path.name, file_digest(path)] for path in files])
