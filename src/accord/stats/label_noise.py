"""How many labels are wrong: a rate of flips that strikes every label alike, by maximum likelihood.

A predictor's log-odds d says which of a pair is better; the label agrees with probability

    q = e + (1 - 2 e) sigma(s d)

where e is the flip rate and s a scale that takes up over- and under-confidence. However large d is, q stays
below 1 - e, so e is what the labels lack where the predictor is sure. Fit it on predictions that were not
trained on these labels: learned by heart, flips vanish. A label may be a probability; the estimate is then
of the flips expected if one person were asked. What the predictor gets wrong with confidence counts as
noise too, so the rate is a ceiling for that of the labels.

Shapes: P pairs, C clusters, E flip rates, S scales, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from accord.errors import DataError
from accord.stats.intervals import Interval

Array = NDArray[np.float64]
RATES_E = np.linspace(0.0, 0.49, 50)
SCALES_S = np.exp(np.linspace(np.log(1 / 16), np.log(16), 41))
DRAWS = 500
LEAST = 1e-12


def flip_rate(
    d_P: ArrayLike, p_P: ArrayLike, clusters: Sequence[Hashable], rng: np.random.Generator
) -> Interval:
    """The flip rate with a 95 % bootstrap interval over whole clusters (prompts).

    ``d_P`` are the predicted log-odds that the pair's first is better, ``p_P`` the label's probability of
    the same. The bounds are on a grid of hundredths; they are NaN for a single cluster.

    Raises:
        DataError: nothing given, lengths that differ, or numbers that are not finite.
    """
    d_P, p_P = np.asarray(d_P, np.float64), np.asarray(p_P, np.float64)
    if not len(d_P) or not d_P.shape == p_P.shape == (len(clusters),):
        raise DataError(
            f"{d_P.shape} log-odds, {p_P.shape} labels and {len(clusters)} clusters: pass one of each a pair"
        )
    if not (np.isfinite(d_P).all() and np.isfinite(p_P).all()):
        raise DataError("log-odds or labels are not finite; drop or repair them first")
    number = {name: n for n, name in enumerate(dict.fromkeys(clusters))}
    index_P = np.array([number[name] for name in clusters])
    cells_CF = np.zeros((len(number), len(RATES_E) * len(SCALES_S)))
    for column, scale in enumerate(SCALES_S):
        for row, rate in enumerate(RATES_E):
            gain_P = _log_likelihood(d_P, p_P, float(rate), float(scale))
            cells_CF[:, row * len(SCALES_S) + column] = np.bincount(index_P, gain_P, len(number))
    start = int(cells_CF.sum(axis=0).argmax())
    value = _refine(d_P, p_P, start)
    if len(number) < 2:
        return Interval(value, float("nan"), float("nan"), len(number))
    counts_BC = rng.multinomial(len(number), np.full(len(number), 1 / len(number)), size=DRAWS)
    drawn_B = RATES_E[(counts_BC.astype(np.float64) @ cells_CF).argmax(axis=1) // len(SCALES_S)]
    low, high = np.quantile(drawn_B, [0.025, 0.975])
    return Interval(value, min(value, float(low)), max(value, float(high)), len(number))


def _log_likelihood(d_P: Array, p_P: Array, rate: float, scale: float) -> Array:
    agree_P = 0.5 * (1 + np.tanh(scale * d_P / 2))  # the sigmoid, without overflow
    q_P = np.clip(rate + (1 - 2 * rate) * agree_P, LEAST, 1 - LEAST)
    return p_P * np.log(q_P) + (1 - p_P) * np.log1p(-q_P)


def _refine(d_P: Array, p_P: Array, cell: int) -> float:
    """The maximum near a cell of the grid."""
    rate, scale = RATES_E[cell // len(SCALES_S)], SCALES_S[cell % len(SCALES_S)]
    found = optimize.minimize(
        lambda x: -float(_log_likelihood(d_P, p_P, x[0], float(np.exp(x[1]))).mean()),
        [rate, np.log(scale)],
        bounds=[(0.0, 0.5), (np.log(SCALES_S[0]), np.log(SCALES_S[-1]))],
        method="L-BFGS-B",
    )
    return float(found.x[0])
