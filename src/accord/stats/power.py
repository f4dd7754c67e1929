"""How much an evaluation of a given size can find, and how large one has to be.

Power is the chance that a difference that is there is claimed, at a two-sided level. Means are taken to be
tested with Student's t, wins with the exact sign test; ``stats.paired`` finds what these promise.
"""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np
from scipy import optimize, stats

from accord.errors import DataError

POWER, LEVEL = 0.8, 0.95
EXACT = 4000
"""Comparisons up to which the sign test's own steps are followed."""
RUN = 12
"""Sizes in a row that must reach the power: the sign test's power goes up in a saw-tooth."""


def power_of_mean(n: int, difference: float, sd: float, level: float = LEVEL) -> float:
    """Chance that a mean ``difference`` over ``n`` units is found; ``sd`` is of a unit's difference."""
    _check(n=n - 1, sd=sd)
    t = float(stats.t.ppf((1 + level) / 2, n - 1))
    shift = abs(difference) / sd * sqrt(n)
    wrong_side = float(stats.nct.cdf(-t, n - 1, shift)) if shift < 5 else 0.0  # scipy gives NaN further out
    return float(stats.nct.sf(t, n - 1, shift)) + wrong_side


def detectable_mean(n: int, sd: float, power: float = POWER, level: float = LEVEL) -> float:
    """The smallest mean difference that ``n`` units find with ``power``, in the unit of ``sd``."""
    _check(n=n - 1, sd=sd, power=power, level=level)
    widest = 40.0 + float(stats.t.ppf((1 + level) / 2, n - 1)) * 4
    shift = optimize.brentq(lambda x: power_of_mean(n, x / sqrt(n), 1.0, level) - power, 0.0, widest)
    return float(shift) * sd / sqrt(n)


def units_for_mean(difference: float, sd: float, power: float = POWER, level: float = LEVEL) -> int:
    """Units (prompts) needed to find a mean ``difference`` with ``power``."""
    _check(n=2, sd=sd, power=power, level=level)
    if difference == 0:
        raise DataError("no number of prompts finds a difference of 0; name the smallest one that matters")
    z = float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))
    n = max(2, ceil((z * sd / difference) ** 2))
    while power_of_mean(n, difference, sd, level) < power:
        n += 1
    return n


def power_of_wins(n: int, win_rate: float, ties: float = 0.0, level: float = LEVEL) -> float:
    """Chance that ``n`` comparisons show a ``win_rate`` (ties half) to differ from one half.

    ``ties`` is the share of comparisons that neither side wins; the sign test leaves them out.
    """
    _check(n=n, level=level)
    won = _won(win_rate, ties)
    decided_D = np.arange(n + 1)
    weight_D = stats.binom.pmf(decided_D, n, 1 - ties)
    low_D = stats.binom.ppf((1 - level) / 2, decided_D, 0.5)
    low_D = np.where(stats.binom.cdf(low_D, decided_D, 0.5) > (1 - level) / 2, low_D - 1, low_D)
    found_D = stats.binom.cdf(low_D, decided_D, won) + stats.binom.sf(decided_D - low_D - 1, decided_D, won)
    return float(weight_D @ found_D)


def comparisons_for_wins(
    win_rate: float, ties: float = 0.0, power: float = POWER, level: float = LEVEL
) -> int:
    """Comparisons needed to show with ``power`` that a ``win_rate`` (ties half) is not one half.

    For a blind A/B between two runs: each comparison is one pair of answers judged once. From the returned
    size on the power stays reached. Beyond 4,000 comparisons the normal approximation stands.
    """
    _check(n=1, power=power, level=level)
    won = _won(win_rate, ties)
    if won == 0.5:
        raise DataError("no number of comparisons tells a win rate of one half from one half; name another")
    z_level, z_power = float(stats.norm.ppf((1 + level) / 2)), float(stats.norm.ppf(power))
    decided = ((z_level / 2 + z_power * sqrt(won * (1 - won))) / (won - 0.5)) ** 2
    n = max(1, ceil(decided / (1 - ties)))
    if n > EXACT:
        return n
    n = max(1, int(0.8 * n))
    reached = 0
    while reached < RUN:
        reached = reached + 1 if power_of_wins(n, win_rate, ties, level) >= power else 0
        n += 1
    return n - RUN


def detectable_wins(n: int, ties: float = 0.0, power: float = POWER, level: float = LEVEL) -> float | None:
    """The smallest win rate above one half that ``n`` comparisons find with ``power``; ``None``: not even 1.

    With a share of ties t the highest rate there can be is 1 - t / 2.
    """
    _check(n=n, power=power, level=level)
    highest = 1 - ties / 2
    if power_of_wins(n, highest, ties, level) < power:
        return None
    return float(optimize.brentq(lambda w: power_of_wins(n, w, ties, level) - power, 0.5, highest, xtol=1e-6))


def _won(win_rate: float, ties: float) -> float:
    """The share of wins among decided comparisons."""
    if not 0 <= ties < 1:
        raise DataError(f"a share of ties of {ties}; it must lie in 0..1, and not all can be ties")
    won = (win_rate - ties / 2) / (1 - ties)
    if not -1e-9 <= won <= 1 + 1e-9:
        raise DataError(
            f"a win rate of {win_rate} cannot be with {ties:.0%} ties: it lies in {ties / 2} to "
            f"{1 - ties / 2}"
        )
    return min(1.0, max(0.0, won))


def _check(n: int, sd: float = 1.0, power: float = POWER, level: float = LEVEL) -> None:
    if n < 1:
        raise DataError("too few units: wins need one comparison or more, means two prompts or more")
    if not (sd > 0 and np.isfinite(sd)):
        raise DataError(f"a standard deviation of {sd}; it must be above 0")
    if not (0 < power < 1 and 0 < level < 1):
        raise DataError(f"power {power} and level {level}; both lie between 0 and 1")
