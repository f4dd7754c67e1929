"""How many labels active choice saved against random: learning curves on a workspace's own labels.

The curves are of the linear model of ``feedback.active``, trained on so many prompts of one arm or the other
and tested on prompts of the random arm that were not trained on.

Shapes: G sizes of a training set, T test prompts, B bootstrap draws, P prompts, V votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from accord.feedback.active import Array, Index, Pool, Votes, fit
from accord.stats.intervals import Interval

FEWEST = 50
"""Labelled prompts in each arm below which nothing is said."""
DRAWS = 100
"""Of the bootstrap; each fits a dozen models."""
TAKEN = 1 - 1 / np.e
"""Share of an arm's prompts that a bootstrap draw takes at least once."""


@dataclass(frozen=True, slots=True)
class Savings:
    """Active choice against random, on the workspace's own labels."""

    labels: tuple[int, ...]
    """Labelled prompts in the training set..."""
    random: tuple[float, ...]
    """...and the accuracy on held-out prompts of the random arm, after so many of the random arm..."""
    active: tuple[float, ...]
    """...or of the active arm."""
    difference: Interval | None
    """Accuracy of active less random at the largest size."""
    saved: Interval | None
    """Share of labels that active choice saves for the accuracy that random has at half of the largest size;
    negative: it costs more. A bound of -inf: it may not get there with all its labels."""
    verdict: str
    """The same in words."""


def savings(pool: Pool, votes: Votes, arm_P: Sequence[str], rng: np.random.Generator) -> Savings:
    """What the labels of both arms say about the choice; ``arm_P`` names the arm of each prompt of the pool.

    Each of ``DRAWS`` bootstrap draws takes prompts of either arm with replacement. Training sets are the
    first so many different prompts it took of an arm; the test set is the prompts of arm "random" it did not
    take. The figures are means over draws, which vary less than a draw does: a mean of a statistic of n out
    of N prompts has at most n/N of its variance (Hoeffding 1948), and neither a training nor a test set is
    more than 0.63 of an arm. So deviations count with the root of that. A random part of the active arm
    stands for its first labels.
    """
    arms_P = np.asarray(arm_P)
    decided = votes.of(votes.outcome_V != 0.5)
    labelled = np.unique(decided.prompt_V)
    chance, chosen = (labelled[arms_P[labelled] == arm] for arm in ("random", "active"))
    if min(len(chance), len(chosen)) < FEWEST:
        return Savings((), (), (), None, None, (
            f"too few labels to tell what active choice saves: {len(chance)} prompts of the random arm and "
            f"{len(chosen)} of the active arm have a decided ranking, and each needs {FEWEST}"
        ))  # fmt: skip
    most = int(0.6 * min(len(chance), len(chosen)))  # which a draw takes, all but surely
    sizes = np.unique(np.geomspace(max(5, most // 16), most, 6).round().astype(int))
    precision = fit(pool, votes).precision
    curves_B2G = np.array(
        [_curves(pool, votes, decided, (chance, chosen), sizes, precision, rng) for _ in range(DRAWS)]
    )
    difference, saved = _compare(curves_B2G, sizes, len(chance))
    mean_2G = curves_B2G.mean(axis=0)
    return Savings(
        tuple(sizes.tolist()), tuple(mean_2G[0].tolist()), tuple(mean_2G[1].tolist()),
        difference, saved, _verdict(difference, saved, int(sizes[-1])),
    )  # fmt: skip


def _curves(
    pool: Pool,
    votes: Votes,
    decided: Votes,
    arms: tuple[Index, Index],
    sizes: Index,
    precision: float,
    rng: np.random.Generator,
) -> Array:
    """Accuracy of a draw on what it left out of the random arm, after so many of either arm (2, G)."""
    drawn = [rng.permutation(np.unique(rng.choice(arm, len(arm)))) for arm in arms]
    test = np.setdiff1d(arms[0], drawn[0])
    weight_T = np.bincount(decided.prompt_V, decided.weight_V, len(pool.prompts))[test]
    curves_2G = np.zeros((2, len(sizes)))
    for arm, members in enumerate(drawn):
        for g, size in enumerate(sizes):
            learnt = fit(pool, votes.of(np.isin(votes.prompt_V, members[:size])), precision)
            curves_2G[arm, g] = foreseen(pool, decided, learnt.mean_D)[test] @ weight_T / weight_T.sum()
    return curves_2G


def foreseen(pool: Pool, decided: Votes, w_D: Array) -> Array:
    """Share of each prompt's decided votes that ``w_D`` foresees, by weight; equal rewards count half (P).

    Zero for prompts without votes.
    """
    d_V = decided.differences(pool) @ w_D
    right_V = (np.sign(d_V) * np.sign(decided.outcome_V - 0.5) + 1) / 2
    n = len(pool.prompts)
    weight_P = np.bincount(decided.prompt_V, decided.weight_V, n)
    right_P = np.bincount(decided.prompt_V, decided.weight_V * right_V, n)
    return np.divide(right_P, weight_P, out=np.zeros(n), where=weight_P > 0)


def labels_needed(labels_G: Sequence[float], accuracy_G: Sequence[float], target: float) -> float:
    """The labels at which a learning curve, made monotone, first reaches ``target``; inf where it does not.

    Between measured sizes the curve is taken to be straight; monotone by least squares (isotonic regression).
    """
    labels = np.asarray(labels_G, np.float64)
    curve_G = optimize.isotonic_regression(np.asarray(accuracy_G, np.float64)).x
    above = np.flatnonzero(curve_G >= target - 1e-12)
    if not len(above):
        return float("inf")
    g = int(above[0])
    if g == 0 or curve_G[g] == curve_G[g - 1]:
        return float(labels[g])
    part = (target - curve_G[g - 1]) / (curve_G[g] - curve_G[g - 1])
    return float(labels[g - 1] + min(part, 1.0) * (labels[g] - labels[g - 1]))


def saved_share(
    labels_G: Sequence[float], random_G: Sequence[float], active_G: Sequence[float], part: float = 0.5
) -> float:
    """1 - labels of active / labels of random, for the accuracy that random has after ``part`` of its labels.

    -inf where active never has it. Halfway, by default: at the end of a curve that hardly rises any more,
    the labels needed are anybody's guess.
    """
    monotone_G = optimize.isotonic_regression(np.asarray(random_G, np.float64)).x
    target = float(np.interp(part * labels_G[-1], labels_G, monotone_G))
    return 1 - labels_needed(labels_G, active_G, target) / labels_needed(labels_G, random_G, target)


def _compare(curves_B2G: Array, sizes: Index, n: int) -> tuple[Interval, Interval]:
    mean_2G = curves_B2G.mean(axis=0)
    curves_B2G = mean_2G + np.sqrt(TAKEN) * (curves_B2G - mean_2G)
    labels = sizes.tolist()

    def interval(value: float, values_B: Array) -> Interval:
        # quantiles that are values themselves: -inf is one of them
        low, high = np.quantile(values_B, [0.025, 0.975], method="inverted_cdf")
        return Interval(value, float(low), float(high), n)

    differences_B = curves_B2G[:, 1, -1] - curves_B2G[:, 0, -1]
    saved_B = np.array([saved_share(labels, random_G, active_G) for random_G, active_G in curves_B2G])
    return interval(float(differences_B.mean()), differences_B), interval(
        saved_share(labels, *mean_2G), saved_B
    )


def _verdict(difference: Interval, saved: Interval, size: int) -> str:
    gap = (
        f"after {size} prompts of either arm, active less random is {100 * difference.value:+.1f} points of "
        f"accuracy ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"
    )
    if saved.low > 0:
        return f"active choice saves {_percent(saved)} of the labels; {gap}"
    if saved.high < 0:
        return f"active choice costs labels (saved: {_percent(saved)}); {gap}. Use --method random"
    return f"too few labels to tell whether active choice saves any (saved: {_percent(saved)}); {gap}"


def _percent(saved: Interval) -> str:
    value, low, high = (
        f"{100 * x:.0f} %" if np.isfinite(x) else "below -100 %" for x in (saved.value, saved.low, saved.high)
    )
    return f"{value} ({low} to {high})"
