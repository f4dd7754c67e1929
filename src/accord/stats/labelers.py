"""What is known of each labeler: reliability, agreement with the others, habits; and the consensus on FAIL.

FAIL is aggregated by one-coin Dawid-Skene (Dawid and Skene 1979, with one accuracy a labeler): completion i
is a failure with probability pi, labeler k says the truth with probability a_k. Expectation-maximisation
with Beta priors, so that a labeler of few votes stays near the prior.

Shapes: I completions, K labelers, V votes, S pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from accord.errors import NumericsError
from accord.stats.agreement import tau_b
from accord.stats.intervals import Interval, clustered_mean
from accord.stats.rankings import Fit, levels, mid_ranks, without_labeler
from accord.types import Ranking

Array = NDArray[np.float64]
Index = NDArray[np.int64]

ACCURACY_PRIOR = (9.0, 1.0)
"""Beta: nine right, one wrong, as if seen before the first vote."""
SHARE_PRIOR = (1.0, 9.0)
"""Beta of the share of failures."""
MAX_STEPS = 2000


@dataclass(frozen=True, slots=True)
class OneCoin:
    """Consensus on a yes-or-no question."""

    p_I: Array
    """Probability that the answer is yes, per item."""
    accuracy_K: Array
    share: float
    """Share of yes in the pool."""


def one_coin(
    item_V: Index, labeler_V: Index, yes_V: NDArray[np.bool_], n_items: int, n_labelers: int
) -> OneCoin:
    """One-coin Dawid-Skene; items without votes get the pool's share.

    Raises :class:`NumericsError` when it does not converge.
    """
    accuracy_K = np.full(n_labelers, ACCURACY_PRIOR[0] / sum(ACCURACY_PRIOR))
    share = SHARE_PRIOR[0] / sum(SHARE_PRIOR)
    sign_V = np.where(yes_V, 1.0, -1.0)
    votes_K = np.bincount(labeler_V, minlength=n_labelers)
    p_I = np.full(n_items, np.inf)
    for _ in range(MAX_STEPS):
        log_odds_K = np.log(accuracy_K) - np.log1p(-accuracy_K)
        odds_I = np.bincount(item_V, sign_V * log_odds_K[labeler_V], n_items)
        odds_I += np.log(share) - np.log1p(-share)
        new_I = 1 / (1 + np.exp(-np.clip(odds_I, -700, 700)))
        right_V = np.where(yes_V, new_I[item_V], 1 - new_I[item_V])
        right_K = np.bincount(labeler_V, right_V, n_labelers)
        accuracy_K = (right_K + ACCURACY_PRIOR[0]) / (votes_K + sum(ACCURACY_PRIOR))
        share = float((new_I.sum() + SHARE_PRIOR[0]) / (n_items + sum(SHARE_PRIOR)))
        if np.abs(new_I - p_I).max(initial=0.0) < 1e-8:
            return OneCoin(new_I, accuracy_K, share)
        p_I = new_I
    raise NumericsError(
        f"the consensus on FAIL did not converge in {MAX_STEPS} steps; check for contradictory labelers"
    )


@dataclass(frozen=True, slots=True)
class LabelerRow:
    """One labeler's figures. ``None`` where nothing supports a figure."""

    labeler: str
    rankings: int
    pairs: int
    """Pairs judged (FAIL against FAIL is no judgement)."""
    overlap: int
    """Of these, pairs that another labeler judged too."""
    reliability: Interval | None
    """b_k with its 95 % interval; 0 flips coins, negative ranks against the others."""
    agreement: Interval | None
    """Share of the labeler's strict votes that go with the consensus of the others alone."""
    tie_share: float
    """Share of judged pairs called a tie."""
    fail_share: float
    """Share of placed completions marked FAIL."""
    first_share: float | None
    """How often the completion shown first came out on top (shared where tied)..."""
    first_chance: float | None
    """...and how often it would if position did not matter."""
    length_correlation: float | None
    """Mean over rankings of tau-b between being longer and being ranked higher."""


class Standing(StrEnum):
    """What a labeler's votes are worth, as far as it can be told."""

    UNLEARNED = "unlearned"
    """Reliabilities were assumed, not fitted."""
    FEW = "few"
    """Too few pairs shared with others to tell."""
    FINE = "fine"
    COIN = "coin"
    """Little better than a coin: the votes hardly count."""
    INVERTED = "inverted"
    """Ranks against the others: the votes count the other way round."""

    @property
    def poor(self) -> bool:
        """Whether the consensus gives the votes little or negative weight, on good grounds."""
        return self in (Standing.COIN, Standing.INVERTED)


def standing(row: LabelerRow, typical: float | None, min_overlap: int) -> Standing:
    """The labeler's standing: poor only where the upper bound of reliability is, on enough shared pairs.

    ``typical`` is the reliability of the pool's typical labeler, ``None`` where none was learned.
    """
    if row.reliability is None or typical is None:
        return Standing.UNLEARNED
    if row.overlap < min_overlap:
        return Standing.FEW
    if row.reliability.high < 0:
        return Standing.INVERTED
    return Standing.COIN if row.reliability.high < typical / 4 else Standing.FINE


def labeler_rows(
    fitted: Fit,
    rankings: Sequence[Ranking],
    lengths: Mapping[str, Mapping[str, int]],
    learned: bool,
    rng: np.random.Generator,
) -> list[LabelerRow]:
    """One row a labeler, by name. ``lengths`` is prompt -> completion -> characters; ``learned`` is false
    where reliabilities were assumed and not fitted. Intervals resample prompts."""
    by_labeler: dict[str, list[Ranking]] = {k: [] for k in fitted.table.labelers}
    for ranking in rankings:
        by_labeler[ranking.labeler].append(ranking)
    votes = fitted.table.votes
    shared_S = votes.judges() >= 2
    sd_K = fitted.reliability_sd()
    rows = []
    for k, (labeler, own) in enumerate(by_labeler.items()):
        mine_V = votes.labeler_V == k
        sites_V = votes.site_V[mine_V]
        overlap = int(shared_S[np.unique(sites_V)].sum())
        reliability = None
        if learned:
            half = float(stats.norm.ppf(0.975) * sd_K[k])
            value = float(fitted.reliability_K[k])
            reliability = Interval(value, value - half, value + half, len(own))
        placed = [len(levels(r)) for r in own]
        weight_V = votes.weight_V[mine_V]
        tied_V = votes.outcome_V[mine_V] == 0.5
        first_share, first_chance = _first_position(own)
        rows.append(
            LabelerRow(
                labeler,
                len(own),
                len(np.unique(sites_V)),
                overlap,
                reliability,
                _agreement_with_others(fitted, k, shared_S, rng) if overlap else None,
                float(weight_V[tied_V].sum() / weight_V.sum()) if len(weight_V) else 0.0,
                sum(len(r.fails) for r in own) / max(1, sum(placed)),
                first_share,
                first_chance,
                _length_correlation(own, lengths),
            )
        )
    return rows


def _agreement_with_others(
    fitted: Fit, labeler: int, shared_S: NDArray[np.bool_], rng: np.random.Generator
) -> Interval | None:
    votes = fitted.table.votes
    kept_S, difference_S = without_labeler(fitted, labeler)
    d_S = np.zeros(len(shared_S))
    d_S[kept_S] = difference_S
    strict_V = (votes.labeler_V == labeler) & (votes.outcome_V != 0.5) & shared_S[votes.site_V]
    if not strict_V.any():
        return None
    sites_V = votes.site_V[strict_V]
    credit_V = 0.5 + 0.5 * np.sign(d_S[sites_V]) * np.sign(votes.outcome_V[strict_V] - 0.5)
    prompts_V = votes.pair_prompts()[sites_V].tolist()
    return clustered_mean(credit_V, prompts_V, rng, votes.weight_V[strict_V], draws=500)


def _first_position(rankings: Sequence[Ranking]) -> tuple[float | None, float | None]:
    taken, chance = [], []
    for ranking in rankings:
        best = ranking.tiers[0] if ranking.tiers else ()
        if len(ranking.shown) < 2 or not best:
            continue
        taken.append(1 / len(best) if ranking.shown[0] in best else 0.0)
        chance.append(1 / len(ranking.shown))
    if not taken:
        return None, None
    return float(np.mean(taken)), float(np.mean(chance))


def _length_correlation(
    rankings: Sequence[Ranking], lengths: Mapping[str, Mapping[str, int]]
) -> float | None:
    taus = [tau_b(mid_ranks(r), {c: -n for c, n in lengths[r.prompt_id].items()}) for r in rankings]
    known = [tau for tau in taus if tau is not None]
    return float(np.mean(known)) if known else None
