"""What is known of each labeler: reliability, position bias, agreement with the others, habits.

Shapes: K labelers, V votes, S pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from accord.judgements import Ranking
from accord.stats.agreement import Figure, once, tau_b
from accord.stats.consistency import Consistency, consistency, leave_one_out_tau, repeats
from accord.stats.fitting import Fit, without_labeler
from accord.stats.intervals import Interval, bootstrap_sums
from accord.stats.rankings import levels, mid_ranks


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
    position: Interval | None
    """c_k with its 95 % interval: log odds of preferring the first shown to the last where both are equally
    good. ``None`` where the order on the screen was not recorded."""
    agreement: Interval | None
    """Share of the labeler's strict votes that go with the consensus of the others alone."""
    tau: Figure
    """Mean tau-b with the others' mean Borda count: the same question, asked without the model."""
    repeats: Consistency
    """Agreement with their own earlier rankings, where prompts were given twice."""
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
    def words(self) -> str:
        """The same for people to read; empty where there is nothing to say."""
        return WORDS[self]

    @property
    def poor(self) -> bool:
        """Whether the consensus gives the votes little or negative weight, on good grounds."""
        return self in (Standing.COIN, Standing.INVERTED)


WORDS = {
    Standing.FINE: "",
    Standing.UNLEARNED: "nobody shares a pair with another labeler",
    Standing.FEW: "too few shared pairs to tell",
    Standing.COIN: "flagged: little better than a coin",
    Standing.INVERTED: "flagged: ranks against the others",
}


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
    where reliabilities were assumed and not fitted. Repeats count in ``repeats`` alone. Intervals resample
    prompts."""
    by_labeler: dict[str, list[Ranking]] = {k: [] for k in fitted.table.labelers}
    for ranking in once(rankings):
        by_labeler[ranking.labeler].append(ranking)
    votes = fitted.table.votes
    shared_S = votes.judges() >= 2
    apart = rng.spawn(1)[0]  # so that these figures move no other's draws
    taus, twice = leave_one_out_tau(rankings, apart), repeats(rankings)
    rows = []
    for k, (labeler, own) in enumerate(by_labeler.items()):
        mine_V = votes.labeler_V == k
        sites_V = votes.site_V[mine_V]
        overlap = int(shared_S[np.unique(sites_V)].sum())
        weight_V = votes.weight_V[mine_V]
        tied_V = votes.outcome_V[mine_V] == 0.5
        first_share, first_chance = _first_position(own)
        reliability = _normal(fitted.own.reliability_K[k], fitted.reliability_sd()[k], len(own))
        position = _normal(fitted.own.position_K[k], fitted.position_sd()[k], len(own))
        rows.append(
            LabelerRow(
                labeler,
                len(own),
                len(np.unique(sites_V)),
                overlap,
                reliability if learned else None,
                position if learned and votes.lead_V[mine_V].any() else None,
                _agreement_with_others(fitted, k, shared_S, rng) if overlap else None,
                taus.get(labeler) or Figure(None, why="the labeler gave repeats or final rankings only"),
                consistency([pair for pair in twice if pair[0].labeler == labeler], apart),
                float(weight_V[tied_V].sum() / weight_V.sum()) if len(weight_V) else 0.0,
                sum(len(r.fails) for r in own) / max(1, sum(len(levels(r)) for r in own)),
                first_share,
                first_chance,
                _length_correlation(own, lengths),
            )
        )
    return rows


def _normal(value: float, sd: float, n: int) -> Interval:
    half = float(stats.norm.ppf(0.975)) * float(sd)
    return Interval(float(value), float(value) - half, float(value) + half, n)


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
    _, prompt_V = np.unique(votes.pair_prompts()[sites_V], return_inverse=True)
    weight_V = votes.weight_V[strict_V]
    sums_P2 = np.stack([np.bincount(prompt_V, weight_V * credit_V), np.bincount(prompt_V, weight_V)], axis=1)
    return bootstrap_sums(sums_P2, [lambda sums_B2: sums_B2[:, 0] / sums_B2[:, 1]], rng, draws=500)[0]


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
