"""The one optimisation loop: reward models, supervised runs and PPO's inner epochs all call it.

Left out on purpose: schedulers with state, mixed-precision scalers, distribution. The learning rate
is a function of the step, so a resumed run needs nothing but the optimiser's state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from accord.errors import DataError, NumericsError

M = TypeVar("M")
Metrics = dict[str, float]


def fit(
    batches: Iterable[Sequence[M]],
    loss: Callable[[M], tuple[Tensor, dict[str, Tensor]]],
    optimiser: torch.optim.Optimizer,
    *,
    schedule: Callable[[int], float] | None = None,
    max_grad_norm: float = 1.0,
) -> Iterator[Metrics]:
    """One optimiser step a batch; a batch is its micro-batches, whose losses add up.

    ``loss(micro)`` returns a term already divided by the total of the whole batch (so that
    micro-batches give the same gradient as one large batch) and detached metrics of the same
    kind; both are summed. ``schedule(step)`` multiplies each group's initial learning rate.

    Yields:
        the summed metrics with ``loss`` and ``grad_norm`` (before clipping), after each step.

    Raises:
        DataError: a batch has no micro-batch.
        NumericsError: loss or gradient is not finite; the weights are those of the step before.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for group in optimiser.param_groups:
        group.setdefault("initial_lr", group["lr"])
    for step, batch in enumerate(batches):
        if schedule is not None:
            for group in optimiser.param_groups:
                group["lr"] = group["initial_lr"] * schedule(step)
        optimiser.zero_grad(set_to_none=True)
        total: dict[str, Tensor] = {}
        for micro in batch:
            value, metrics = loss(micro)
            value.backward()
            for key, number in {**metrics, "loss": value.detach()}.items():
                total[key] = total[key] + number if key in total else number
        if not total:
            raise DataError(f"step {step}: a batch without a micro-batch; make batches at least that large")
        norm = nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        if not math.isfinite(float(norm)) or not math.isfinite(float(total["loss"])):
            optimiser.zero_grad(set_to_none=True)
            raise NumericsError(
                f"step {step}: loss {float(total['loss'])}, gradient norm {float(norm)}; no update was "
                "made. Lower the learning rate, or look for a NaN in the data"
            )
        optimiser.step()
        torch.clear_autocast_cache()  # or the next forward in mixed precision reads the weights as they were
        yield {**{key: float(number) for key, number in total.items()}, "grad_norm": float(norm)}
