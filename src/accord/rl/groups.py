"""Advantages of whole completions against others of their group. Pure tensors.

Legend: B rows of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accord.rl.shapes import check_shapes

GROUP_EPSILON = 1e-4
"""Added to a group's deviation, as GRPO's implementations do."""


def leave_one_out(totals_B: Tensor, groups_B: Tensor) -> Tensor:
    """(B) each total less the mean of the others of its group.

    RLOO (Ahmadian et al. 2024, arXiv:2402.14740, eq. 6): an unbiased baseline, since a completion has no
    part in it. ``groups_B`` numbers the groups; rows of one number are one.

    Raises:
        ValueError: shapes differ, or a group has a single row, whose baseline nobody could say.
    """
    mean_B, count_B = _group_means(totals_B, groups_B)
    return (totals_B - mean_B) * count_B / (count_B - 1)


def group_advantages(totals_B: Tensor, groups_B: Tensor, *, scale: bool) -> Tensor:
    """(B) each total less its group's mean; with ``scale`` over the group's deviation (n - 1) + 1e-4.

    Scaled it is GRPO (Shao et al. 2024, arXiv:2402.03300, 4.1.2), which lifts groups whose rewards hardly
    differ; unscaled it is Dr. GRPO (Liu et al. 2025, arXiv:2503.20783).

    Raises:
        ValueError: shapes differ, or a group has a single row.
    """
    mean_B, count_B = _group_means(totals_B, groups_B)
    centred_B = totals_B - mean_B
    if not scale:
        return centred_B
    squares_B = _group_sums(centred_B.square(), groups_B)
    return centred_B / ((squares_B / (count_B - 1)).sqrt() + GROUP_EPSILON)


def _group_means(totals_B: Tensor, groups_B: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's group mean and group size, (B) both."""
    check_shapes(totals_B=totals_B, groups_B=groups_B)
    count_B = _group_sums(torch.ones_like(totals_B), groups_B)
    alone_B = count_B < 2
    if alone_B.any():
        raise ValueError(
            f"rows {alone_B.nonzero().flatten().tolist()[:8]} are groups of one; a group's advantage needs "
            "two completions of a prompt or more"
        )
    return _group_sums(totals_B, groups_B) / count_B, count_B


def _group_sums(x_B: Tensor, groups_B: Tensor) -> Tensor:
    _, slot_B = groups_B.unique(return_inverse=True)
    sums = torch.zeros(int(slot_B.max()) + 1, dtype=x_B.dtype, device=x_B.device)
    return sums.index_add(0, slot_B, x_B)[slot_B]
