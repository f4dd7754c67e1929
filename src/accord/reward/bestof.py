"""What a scorer's favourite of n is worth by gold, and where more choosing is expected to harm.

The cheapest optimisation there is: sample n, keep the scorer's favourite. Estimated without bias from the
samples there are, and fitted by the law of Gao et al. 2022 (``stats.overoptimisation``). Loads no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from accord.stats.agreement import Figure
from accord.stats.intervals import bootstrap_mean
from accord.stats.overoptimisation import Fit, Form, best_of_n, fit_curve, kl_best_of_n

FIT_FROM = 8
"""Samples a prompt from which the law is fitted: two numbers from fewer points say nothing."""


@dataclass(frozen=True, slots=True)
class BestOf:
    """The curve, over n = 1, 2, 4 ... up to the samples that every prompt has."""

    prompts: int = 0
    n: tuple[int, ...] = ()
    kl: tuple[float, ...] = ()
    """Nats by which choosing among n may leave the sampler, at most: log n - (n - 1) / n."""
    reward: tuple[Figure, ...] = ()
    """Mean of the scorer's own value of its favourite."""
    gold: tuple[Figure, ...] = ()
    fit: Fit | None = None
    """The law of gold's gain, with the KL at which gold is expected to turn."""
    why: str = ""
    """Why there is no curve, or no fit."""


def best_of(values: Sequence[tuple[ArrayLike, ArrayLike]], rng: np.random.Generator, why: str = "") -> BestOf:
    """The curve from the scorer's and gold's values of each prompt's samples; ``why`` there are none."""
    pairs = [(np.asarray(x, np.float64), np.asarray(g, np.float64)) for x, g in values]
    pairs = [(x, g) for x, g in pairs if len(x) > 1]
    if len(pairs) < 2:
        return BestOf(why=why or "fewer than two prompts have two samples each; sample more completions")
    most = min(len(x) for x, _ in pairs)
    sizes = tuple(2**k for k in range(int(np.log2(most)) + 1))
    sizes += (most,) if most not in sizes else ()
    reward_RK, gold_RK = (
        np.concatenate([best_of_n(x, y, sizes) for x, y in part])
        for part in ([(x, x) for x, _ in pairs], pairs)
    )
    kl = tuple(float(v) for v in kl_best_of_n(sizes))
    fit = None
    if most >= FIT_FROM:
        fit = fit_curve([(kl, row - row[0]) for row in gold_RK], Form.BEST_OF_N, rng)
    return BestOf(
        prompts=len(pairs),
        n=sizes,
        kl=kl,
        reward=tuple(Figure(bootstrap_mean(column, rng)) for column in reward_RK.T),
        gold=tuple(Figure(bootstrap_mean(column, rng)) for column in gold_RK.T),
        fit=fit,
        why="" if fit else f"the law needs {FIT_FROM} samples of each prompt to be fitted; there are {most}",
    )
