"""What goes to labelers next: prompts at random at first, then by a choice.

A part of all prompts is reserved for the random arm before anything is chosen (the labelling queue does so)
and never scored. Its labels are an unbiased sample, so they measure a reward model and the choice itself;
see ``active_savings``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from accord.config import Config
from accord.feedback.active import (
    Array,
    Pool,
    Votes,
    d_optimal,
    disagreement,
    double_thompson,
    ensemble,
    fit,
    large_gap,
)

Method = Literal["random", "dopt", "bald", "thompson", "gap"]
ACTIVE, RANDOM = "active", "random"


class ActiveConfig(Config):
    """How it is chosen what to label next."""

    method: Method = "dopt"
    """random; dopt (D-optimal design), bald (disagreement of an ensemble), thompson (double Thompson
    sampling), gap (large optimistic reward gap)."""
    start: int = Field(200, ge=0)
    """Prompts labelled in random order before the method is used."""
    batch: int = Field(100, ge=1)
    """Prompts that dopt chooses one knowing the other; choose again after about so many labels."""
    dimensions: int = Field(64, ge=1)
    """Principal axes of the features that are kept."""
    precision: float | None = Field(None, gt=0)
    """Of the prior on the linear model's weights; chosen by the evidence if not given."""
    members: int = Field(8, ge=2)
    """Models of the ensemble (bald)."""
    draws: int = Field(256, ge=2)
    """Posterior draws (thompson)."""
    optimism: float = Field(1.0, ge=0)
    """Standard deviations added to a predicted gap (gap)."""
    seed: int = 0
    """Of all that is random in the choice."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to label next."""

    order: tuple[str, ...]
    """Prompt ids, the next one first."""
    scores: Mapping[str, float]
    """The method's scores by prompt id; empty where the order is random."""
    arm: str
    """"active", or "random" where these prompts are still a random sample of all."""
    method: str
    """The method in effect: "random" until enough prompts are labelled."""
    labelled: int
    """Prompts with a vote."""

    def priorities(self) -> dict[str, float]:
        """Priorities in (0, 1], greater is sooner."""
        return {name: 1 - place / len(self.order) for place, name in enumerate(self.order)}


def plan(
    pool: Pool,
    votes: Votes,
    config: ActiveConfig,
    rng: np.random.Generator,
    *,
    shown: Pool | None = None,
    closed: Collection[str] = (),
    chosen_before: bool = False,
) -> Plan:
    """Order the open prompts: those without a vote that are not ``closed`` (reserved, or begun).

    The order is random until ``config.start`` prompts are labelled, then the method's, equal scores in
    random order. ``shown`` is the pool with the completions that labelers would see, if those are fewer.
    After a method has chosen before, what is left is no random sample and is of the active arm.
    """
    labelled = np.unique(votes.prompt_V)
    shut = set(closed) | {pool.prompts[p] for p in labelled}
    open_at = np.array([n for n, name in enumerate(pool.prompts) if name not in shut], np.int64)
    rng.shuffle(open_at)
    names = [pool.prompts[n] for n in open_at]
    if config.method == RANDOM or len(labelled) < config.start:
        arm = ACTIVE if chosen_before else RANDOM
        return Plan(tuple(names), {}, arm, RANDOM, len(labelled))
    candidates = (pool if shown is None else shown).take(open_at)
    scores_P = method_scores(pool, votes, candidates, config, rng)
    order = tuple(names[n] for n in np.argsort(-scores_P, kind="stable"))
    scores = dict(zip(names, scores_P.tolist(), strict=True))
    return Plan(order, scores, ACTIVE, config.method, len(labelled))


def method_scores(
    pool: Pool, votes: Votes, candidates: Pool, config: ActiveConfig, rng: np.random.Generator
) -> Array:
    """The configured method's score of each candidate (P) after ``votes`` on ``pool``, greater is sooner."""
    if config.method == RANDOM or not candidates.prompts:
        return rng.random(len(candidates.prompts))
    belief = fit(pool, votes, config.precision)
    match config.method:
        case "dopt":
            return d_optimal(candidates, belief, config.batch)
        case "bald":
            return disagreement(candidates, ensemble(pool, votes, config.members, rng, belief.precision))
        case "thompson":
            return double_thompson(candidates, belief, rng, config.draws)
    return large_gap(candidates, belief, config.optimism)
