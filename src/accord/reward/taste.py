"""How people's tastes differ from the shared reward: a Gaussian over each person's weights.

    P(u prefers y to z | x) = sigma(scale (r_0(x, y) - r_0(x, z)) + w_u . (phi(x, y) - phi(x, z)))
    P(u gives y a thumb up) = sigma(scale (r_0(x, y) - floor) + w_u . phi(x, y) + b_u)

    w_u ~ N(0, Sigma),    b_u ~ N(0, habit)

Sigma is learned from the people there are, by expectation maximisation on Laplace's approximation, and is
next to nothing where the evidence does not show that they differ. Its mean is zero: a person of whom nothing
is known has the shared reward. b_u is how freely a person gives thumbs and is no part of their reward.
Related: the low-rank tastes of PReF, Shenfeld et al. 2025 (arXiv:2503.06358). Loads no torch.

Left out: weights that drift with time, features learned together with the tastes, groups of people alike.

Shapes: K features, J judgements of a person; matrices of K + 1 rows have the habit last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accord.errors import DataError
from accord.stats.calibration import fit_temperature
from accord.stats.logistic import Posterior, Votes, fit, votes

Array = NDArray[np.float64]

VARIANCES = np.geomspace(1e-3, 10.0, 13)
"""Of the weights, what the evidence chooses the start from."""
NONE = 1e-8
"""The variance that stands for "people do not differ"."""
CRITICAL = 1.92
"""Nats of evidence by which people must differ: the likelihood ratio test of one variance at 5 %."""
ROUNDS = 40
PSEUDO_PEOPLE = 3.0
"""How many people the isotropic start counts for in Sigma: few people determine few directions."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """One judgement by one person, in numbers; no text."""

    key: str
    """What was judged; a later judgement of the same replaces an earlier one."""
    x_K: tuple[float, ...]
    """Of a pair: features of the first less those of the second. Of a thumb: the completion's."""
    gap: float
    """Of a pair: shared reward of the first less the second's. Of a thumb: shared reward less the floor."""
    p: float
    """1: the first is better, or a thumb up; 0: the second, or a thumb down; 0.5 a tie."""
    thumb: bool = False
    counts: bool = True
    """False where a completion is unacceptable to the shared reward: of that, nobody's taste is learned."""


@dataclass(frozen=True, slots=True)
class Taste:
    """How much people differ: the prior of each person's weights."""

    cov_KK: Array
    """Sigma, in squared log-odds per unit of feature."""
    scale: float
    """Log-odds that one unit of shared reward is worth."""
    habit: float = 1.0
    """Variance of b_u, in squared log-odds."""
    people: int = 0
    judgements: int = 0
    gain: float = 0.0
    """Evidence of Sigma over "people do not differ", in nats a judgement; 0 where Sigma is nothing."""

    @property
    def features(self) -> int:
        """K."""
        return len(self.cov_KK)


def posterior(taste: Taste, opinions: Sequence[Opinion]) -> Posterior:
    """A person's weights, the habit last, from all of their opinions at once.

    The order of opinions changes nothing but the last bits: one more opinion is one more fit, of some tenths
    of a millisecond for a hundred opinions on eight features.

    Raises:
        DataError: an opinion has another number of features.
    """
    cov = np.zeros((taste.features + 1,) * 2)
    cov[:-1, :-1], cov[-1, -1] = taste.cov_KK, taste.habit
    return fit(_votes(taste.scale, taste.features, opinions), np.zeros(len(cov)), np.linalg.inv(cov))


def fit_taste(people: Mapping[str, Sequence[Opinion]], *, scale: float | None = None) -> Taste:
    """Sigma, scale and habit from the opinions of several people.

    Without ``scale`` it is the one of least log-loss of the shared reward alone on everybody's pairs.

    Raises:
        DataError: no opinion that counts, different numbers of features, or no pair to learn the scale from.
    """
    every = [o for opinions in people.values() for o in opinions if o.counts]
    if not every:
        raise DataError("no judgement to learn tastes from; collect comparisons or thumbs of several people")
    pairs = [o for o in every if not o.thumb]
    if scale is None and not pairs:
        raise DataError("only thumbs are given, which cannot tell what a unit of reward is worth; pass scale")
    if scale is None:
        scale = 1 / fit_temperature([o.gap for o in pairs], [o.p for o in pairs])
    given = [_votes(scale, len(every[0].x_K), opinions) for opinions in people.values()]
    given = [v for v in given if len(v.p_N)]
    size = given[0].x_NK.shape[1]
    habit = np.eye(size)[-1] * bool(len(every) > len(pairs))

    def spread(variance: float) -> Array:
        return np.diag(np.where(np.arange(size) < size - 1, variance, 1.0))

    nothing, _ = _round(given, spread(NONE))
    starts = [(_round(given, spread(v))[0], v) for v in VARIANCES]
    evidence, variance = max(starts)
    differ = evidence > nothing + CRITICAL
    best = cov = start = spread(variance if differ else NONE)
    for _ in range(ROUNDS if differ else 0):
        _, moments = _round(given, cov)
        cov = (moments + PSEUDO_PEOPLE * start) / (len(given) + PSEUDO_PEOPLE)
        cov[-1, :-1] = cov[:-1, -1] = 0.0  # a habit says nothing of tastes
        if not habit.any():
            cov[-1, -1] = 1.0
        reached, _ = _round(given, cov)
        if reached > evidence:
            evidence, best = reached, cov
    return Taste(
        best[:-1, :-1],
        scale,
        float(best[-1, -1]),
        len(given),
        len(every),
        (evidence - nothing) / len(every) if differ else 0.0,
    )


def _round(given: Sequence[Votes], cov: Array) -> tuple[float, Array]:
    """The evidence of ``cov``, and the sum over people of the second moments of their weights."""
    precision, zero = np.linalg.inv(cov), np.zeros(len(cov))
    found = [fit(v, zero, precision) for v in given]
    moments = sum((np.outer(f.mean_K, f.mean_K) + f.cov_KK for f in found), np.zeros_like(cov))
    return sum(f.evidence for f in found), moments


def _votes(scale: float, features: int, opinions: Sequence[Opinion]) -> Votes:
    counted = [o for o in opinions if o.counts]
    wrong = next((o for o in counted if len(o.x_K) != features), None)
    if wrong is not None:
        raise DataError(f"an opinion has {len(wrong.x_K)} features and the tastes {features}; read it again")
    x = np.array([(*o.x_K, float(o.thumb)) for o in counted], np.float64).reshape(len(counted), features + 1)
    return votes(x, [o.p for o in counted], offset=[scale * o.gap for o in counted])
