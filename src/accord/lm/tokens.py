"""Token batches: prompts and completions as padded tensors. Masks come from lengths, for pad may equal eos.

Legend: B rows, S prompt tokens, T completion tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


def length_mask(lengths: Sequence[int] | Tensor, width: int) -> Tensor:
    """(B, width) bool, true at positions below each row's length."""
    lengths_B = torch.as_tensor(lengths)
    return torch.arange(width, device=lengths_B.device)[None, :] < lengths_B[:, None]


def pad(rows: Sequence[Sequence[int]], value: int, side: str = "right") -> Tensor:
    """(B, width) long tensor of ``rows`` filled with ``value`` on ``side`` ("left" or "right")."""
    width = max((len(row) for row in rows), default=0)
    out = torch.full((len(rows), width), value, dtype=torch.long)
    for i, row in enumerate(rows):
        if len(row):
            start = width - len(row) if side == "left" else 0
            out[i, start : start + len(row)] = torch.as_tensor(row, dtype=torch.long)
    return out


def positions(mask_BS: Tensor) -> Tensor:
    """(B, S) position of each real token counted from its row's first real token; 0 on padding."""
    return (mask_BS.long().cumsum(-1) - 1).clamp(min=0)


def pack(kept_NV: Tensor) -> Tensor:
    """(N, W) uint8 of (N, V) booleans, eight tokens a byte."""
    return torch.from_numpy(np.packbits(kept_NV.cpu().numpy(), axis=-1))


def unpack(kept_NW: Tensor, vocabulary: int) -> Tensor:
    """(N, V) booleans of what :func:`pack` gave."""
    bits = np.unpackbits(kept_NW.cpu().numpy(), axis=-1, count=vocabulary)
    return torch.from_numpy(bits).bool().to(kept_NW.device)


@dataclass(frozen=True)
class TokenBatch:
    """Prompts with one completion each, both right-padded, with their lengths.

    ``own_BT`` is false where an environment spoke in the middle of a completion; ``None``: nowhere.
    ``kept_BTW`` are the tokens each was chosen among, a bit a token (``pack``); ``None``: the vocabulary.
    """

    prompt_ids_BS: Tensor
    prompt_lens_B: Tensor
    ids_BT: Tensor
    lens_B: Tensor
    own_BT: Tensor | None = None
    kept_BTW: Tensor | None = None

    @classmethod
    def of(
        cls,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        pad_id: int,
        masks: Sequence[Sequence[int]] | None = None,
    ) -> TokenBatch:
        """Pad ``prompts`` and ``completions`` (token ids by row); ``masks`` are 1 where the policy chose."""
        if len(prompts) != len(completions):
            raise ValueError(f"{len(prompts)} prompts for {len(completions)} completions")
        own = None if masks is None or all(all(mask) for mask in masks) else pad(masks, 0).bool()
        return cls(
            pad(prompts, pad_id),
            torch.tensor([len(p) for p in prompts]),
            pad(completions, pad_id),
            torch.tensor([len(c) for c in completions]),
            own,
        )

    @property
    def mask_BT(self) -> Tensor:
        """(B, T) bool, true at real completion tokens."""
        return length_mask(self.lens_B, self.ids_BT.shape[1])

    @property
    def chosen_BT(self) -> Tensor:
        """(B, T) bool, true at the completion tokens that the policy chose."""
        return self.mask_BT if self.own_BT is None else self.own_BT

    @property
    def prompt_mask_BS(self) -> Tensor:
        """(B, S) bool, true at real prompt tokens."""
        return length_mask(self.prompt_lens_B, self.prompt_ids_BS.shape[1])

    def rows(self, index: Tensor | Sequence[int]) -> TokenBatch:
        """The chosen rows, trimmed to the longest prompt and completion among them."""
        index_N = torch.as_tensor(index)
        prompt_lens, lens = self.prompt_lens_B[index_N], self.lens_B[index_N]
        longest, width = int(prompt_lens.max()), int(lens.max())
        own, kept = (None if each is None else each[index_N, :width] for each in (self.own_BT, self.kept_BTW))
        prompt_ids, ids = self.prompt_ids_BS[index_N, :longest], self.ids_BT[index_N, :width]
        return TokenBatch(prompt_ids, prompt_lens, ids, lens, own, kept)

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same batch on ``device``."""
        parts: dict[str, Any] = {k: None if v is None else v.to(device) for k, v in vars(self).items()}
        return TokenBatch(**parts)

    def __len__(self) -> int:
        return len(self.lens_B)
