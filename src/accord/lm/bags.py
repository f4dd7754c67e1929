"""Attention of one query a row as weighted sums of the rows of a table, on a CPU.

A step of decoding reads every key and value once and computes next to nothing with them, so what counts is
how fast they come from memory. A batch of small products reads them at less than half the speed of torch's
embedding bag, which sums rows of a table with weights and fetches ahead. A score is such a sum over the key
table's rows, one for each dimension of a head, with the query as weights; what is read from the values is one
with the softmax as weights. Results agree with products to rounding.

Legend: N places times heads of keys, G heads that a head of keys serves, W width of a head, C columns.
"""

from __future__ import annotations

import platform

import torch
from torch import Tensor

MOST_HEADS = 2
"""A table is read once for each head that a head of keys serves; with more of them products are as fast."""


def _sums(table_XY: Tensor, rows_n: Tensor, starts_m: Tensor, weights_n: Tensor) -> Tensor:
    """(m, Y) sums of ``rows_n`` of a table with their weights, each sum from its start to the next's."""
    return torch.ops.aten._embedding_bag_forward_only(
        table_XY, rows_n, starts_m, False, 0, False, weights_n
    )[0]  # fmt: skip


def _works(dtype: torch.dtype) -> bool:
    """Whether torch sums so on a processor where it is known to be fast, and rightly."""
    table = torch.arange(12.0, dtype=dtype).view(3, 4)
    rows, starts = torch.tensor([2, 0, 1], dtype=torch.int32), torch.tensor([0, 2], dtype=torch.int32)
    try:
        found = _sums(table, rows, starts, torch.tensor([1.0, 2.0, 3.0], dtype=dtype))
    except (AttributeError, RuntimeError, TypeError):
        return False
    right = torch.stack([table[2] + 2 * table[0], 3 * table[1]])
    return torch.equal(found, right) and platform.machine().lower() in ("x86_64", "amd64")


AVAILABLE = frozenset(dtype for dtype in (torch.float32, torch.bfloat16) if _works(dtype))
"""What keys and values may be made of."""


class Bags:
    """Which rows of the tables each sum takes, for ``count`` (N) sums of each of ``heads`` (G) queries.

    Keys (N, W, columns) and values (N, columns, W) are read as tables; ``used`` columns hold something.
    """

    def __init__(self, count: int, heads: int, width: int, columns: int, used: int) -> None:
        self.used = used
        each_N11 = torch.arange(count, dtype=torch.int32)[:, None, None]
        number_m = torch.arange(count * heads, dtype=torch.int32)
        self.key_rows = _spread(each_N11 * width, width, heads)
        self.key_starts = number_m * width
        self.value_rows = _spread(each_N11 * columns, used, heads)
        self.value_starts = number_m * used

    def read(
        self, q_NGW: Tensor, keys_NWC: Tensor, values_NCW: Tensor, mask_N1C: Tensor, scale: float,
        cap: float | None,
    ) -> Tensor:  # fmt: skip
        """(N, G, W) softmax(q k * scale + mask) v, the scores kept below Gemma 2's ``cap``."""
        count, heads, width = q_NGW.shape
        tables = keys_NWC.view(count * width, -1), values_NCW.view(-1, width)
        scores_mC = _sums(tables[0], self.key_rows, self.key_starts, q_NGW.reshape(-1))
        scores_NGC = scores_mC.view(count, heads, -1)[:, :, : self.used]
        if cap is not None:
            scores_NGC, scale = (scores_NGC * (scale / cap)).tanh_(), cap
        weights_NGC = torch.add(mask_N1C, scores_NGC, alpha=scale).softmax(-1)
        return _sums(tables[1], self.value_rows, self.value_starts, weights_NGC.view(-1)).view_as(q_NGW)


def _spread(first_N11: Tensor, length: int, heads: int) -> Tensor:
    """Rows from each first one on, ``length`` of them, once for each head."""
    return (first_N11 + torch.arange(length, dtype=torch.int32)).expand(-1, heads, -1).reshape(-1)
