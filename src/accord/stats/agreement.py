"""How far labelers agree, and how far scores agree with gold.

Shapes: P prompts, U units, K labelers, C categories, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from accord.errors import DataError
from accord.stats.intervals import Interval, bootstrap, clustered_mean
from accord.stats.rankings import mid_ranks, pair_outcomes
from accord.types import Ranking

Array = NDArray[np.float64]
Level = Literal["nominal", "ordinal"]


@dataclass(frozen=True, slots=True)
class Figure:
    """An agreement figure with its interval over prompts, or the reason why it has none."""

    interval: Interval | None
    chance: float | None = None
    """What labelers who choose at random, with the pool's share of ties, would reach."""
    why: str = ""
    """Why ``interval`` is ``None``."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """The pool's agreement, each figure bootstrapped over prompts."""

    exact: Figure
    """Share of judged pairs on which two labelers say the same of three: first, tie, second."""
    half: Figure
    """The same with half credit where just one of the two calls a tie."""
    alpha_ordinal: Figure
    """Krippendorff's alpha of within-prompt mid-ranks, FAIL lowest."""
    alpha_nominal: Figure
    """Krippendorff's alpha of pair outcomes (first, tie, second)."""


def krippendorff_alpha(values_UK: Array, level: Level = "nominal") -> float:
    """Krippendorff's alpha of units by labelers (U, K), NaN where a labeler gave no value.

    alpha = 1 - observed / expected disagreement (Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability"). Raises :class:`DataError` where it is undefined: no unit with two values, or no
    variation.
    """
    values = np.asarray(values_UK, np.float64)
    categories_C = np.unique(values[~np.isnan(values)])
    counts_UC = (values[:, :, None] == categories_C).sum(axis=1).astype(np.float64)
    alpha = _alpha(_coincidences(counts_UC).sum(axis=0)[None], level)[0]
    if np.isnan(alpha):
        raise DataError(_undefined(counts_UC))
    return float(alpha)


def _undefined(counts_UC: Array) -> str:
    if not (counts_UC.sum(axis=1) >= 2).any():
        return "alpha is undefined: nothing was judged by two labelers; give some prompts to several"
    return "alpha is undefined: every value is the same, so there is no variation to agree on"


def _coincidences(counts_UC: Array) -> Array:
    """Each unit's coincidence matrix (U, C, C); zero for units of fewer than two values."""
    n_U = counts_UC.sum(axis=1)
    pairs_UCC = counts_UC[:, :, None] * counts_UC[:, None, :]
    index = np.arange(counts_UC.shape[1])
    pairs_UCC[:, index, index] -= counts_UC
    return np.where(n_U >= 2, 1 / np.maximum(n_U - 1, 1), 0.0)[:, None, None] * pairs_UCC


def _alpha(coincidence_BCC: Array, level: Level) -> Array:
    """Alpha (B) of summed coincidences; NaN where nothing varies."""
    margin_BC = coincidence_BCC.sum(axis=2)
    total_B = margin_BC.sum(axis=1)
    if level == "nominal":
        distance_BCC = np.broadcast_to(1.0 - np.eye(margin_BC.shape[1]), coincidence_BCC.shape)
    else:
        middle_BC = np.cumsum(margin_BC, axis=1) - margin_BC / 2
        distance_BCC = (middle_BC[:, :, None] - middle_BC[:, None, :]) ** 2
    observed_B = (coincidence_BCC * distance_BCC).sum(axis=(1, 2))
    expected_B = np.einsum("bc,bd,bcd->b", margin_BC, margin_BC, distance_BCC, optimize=True)
    safe_B = np.where(expected_B > 0, expected_B, np.nan)
    return 1 - (total_B - 1) * observed_B / safe_B


def tau_b(ranks: Mapping[str, float], others: Mapping[str, float]) -> float | None:
    """Kendall's tau-b between two rankings given as completion -> rank, over the completions both hold.

    Compares the positions of each completion, never the ids at each position. ``None`` where it is
    undefined: fewer than two in common, or one side all equal.
    """
    common = sorted(ranks.keys() & others.keys())
    if len(common) < 2:
        return None
    tau = stats.kendalltau([ranks[c] for c in common], [others[c] for c in common]).statistic
    return None if np.isnan(tau) else float(tau)


def pair_accuracy(
    scores: Mapping[str, Mapping[str, float]],
    gold: Mapping[str, Mapping[str, float]],
    rng: np.random.Generator,
    margin: float = 0.0,
) -> Interval:
    """Share of gold-ordered pairs that scores order alike; both are prompt -> completion -> value.

    Pairs are formed within prompts over the completions both hold. Pairs whose gold values differ by at
    most ``margin`` have no right answer and are left out; equal scores on the others earn one half.
    The interval resamples prompts. Raises :class:`DataError` when no pair is left.
    """
    credit, clusters = [], []
    for prompt in gold:
        common = [c for c in gold[prompt] if c in scores.get(prompt, {})]
        for a, b in combinations(common, 2):
            wanted = gold[prompt][a] - gold[prompt][b]
            if abs(wanted) > margin:
                credit.append(0.5 + 0.5 * float(np.sign((scores[prompt][a] - scores[prompt][b]) * wanted)))
                clusters.append(prompt)
    if not credit:
        raise DataError(
            f"no pair of completions that gold orders and scores hold, in {len(gold)} prompts with gold; "
            "check that both use the same prompt and completion ids"
        )
    return clustered_mean(credit, clusters, rng)


def agreement(rankings: Iterable[Ranking], rng: np.random.Generator, draws: int = 1000) -> Agreement:
    """The pool's agreement figures, bootstrapped over prompts.

    Where a labeler ranked a prompt twice the later ranking counts.
    """
    latest = {(r.prompt_id, r.labeler): r for r in rankings}
    by_prompt: dict[str, list[Ranking]] = {}
    for key in sorted(latest):
        by_prompt.setdefault(key[0], []).append(latest[key])
    groups = [group for group in by_prompt.values() if len(group) >= 2]
    outcomes = [_outcome_counts(group) for group in groups]
    exact, half = _pairwise(outcomes, rng, draws)
    nominal = _alpha_figure(outcomes, "nominal", rng, draws)
    ordinal = _alpha_figure(_rank_counts(groups), "ordinal", rng, draws)
    return Agreement(exact, half, ordinal, nominal)


def _outcome_counts(group: Sequence[Ranking]) -> Array:
    """Votes on each pair of a prompt: lost, tied, won (U, 3)."""
    order = {c: n for n, c in enumerate(sorted({c for r in group for c in mid_ranks(r)}))}
    counts: dict[tuple[int, int], Array] = {}
    for ranking in group:
        for a, b, outcome in pair_outcomes(ranking, order):
            counts.setdefault((a, b), np.zeros(3))[int(2 * outcome)] += 1
    return np.array(list(counts.values())).reshape(-1, 3)


def _rank_counts(groups: Sequence[Sequence[Ranking]]) -> list[Array]:
    """For each prompt, how often each completion got each mid-rank of the pool (U, C)."""
    ranks = [[mid_ranks(r) for r in group] for group in groups]
    values = sorted({v for group in ranks for r in group for v in r.values()})
    column = {v: n for n, v in enumerate(values)}
    counts = []
    for group in ranks:
        row = {c: n for n, c in enumerate(sorted({c for r in group for c in r}))}
        table_UC = np.zeros((len(row), len(values)))
        for r in group:
            for completion, value in r.items():
                table_UC[row[completion], column[value]] += 1
        counts.append(table_UC)
    return counts


def _pairwise(outcomes: Sequence[Array], rng: np.random.Generator, draws: int) -> tuple[Figure, Figure]:
    """Exact and half-credit agreement over every two votes on a pair."""
    sums = []
    for counts_U3 in outcomes:
        lost, tied, won = counts_U3.T
        n = counts_U3.sum(axis=1)
        same = (counts_U3 * (counts_U3 - 1)).sum(axis=1) / 2
        sums.append(
            [same.sum(), (same + tied * (lost + won) / 2).sum(), (n * (n - 1) / 2).sum(), tied.sum(), n.sum()]
        )
    sums_P5 = np.array(sums).reshape(-1, 5)
    sums_P5 = sums_P5[sums_P5[:, 2] > 0]
    if not len(sums_P5):
        missing = Figure(None, why="no pair was judged by two labelers; give some prompts to several")
        return missing, missing
    tie = float(sums_P5[:, 3].sum() / sums_P5[:, 4].sum())
    chance = tie**2 + (1 - tie) ** 2 / 2
    figures = []
    for column, by_chance in ((0, chance), (1, chance + tie * (1 - tie))):

        def share(c: Array, column: int = column) -> Array:
            return (c @ sums_P5[:, column]) / (c @ sums_P5[:, 2])

        figures.append(Figure(bootstrap(len(sums_P5), share, rng, draws), by_chance))
    return figures[0], figures[1]


def _alpha_figure(counts: Sequence[Array], level: Level, rng: np.random.Generator, draws: int) -> Figure:
    """Krippendorff's alpha of per-prompt count tables, prompts resampled."""
    coincidence_PCC = np.array([_coincidences(c).sum(axis=0) for c in counts])
    if level == "nominal" and len(counts):
        # Which completion of a pair stands first is arbitrary: the mean of both ways round, so that names
        # change nothing.
        coincidence_PCC = (coincidence_PCC + coincidence_PCC[:, ::-1, ::-1]) / 2
    if not len(coincidence_PCC) or np.isnan(_alpha(coincidence_PCC.sum(axis=0)[None], level)[0]):
        return Figure(None, why=_undefined(np.concatenate(counts) if counts else np.zeros((0, 1))))
    size = coincidence_PCC.shape[1]
    flat = coincidence_PCC.reshape(len(coincidence_PCC), -1)

    def statistic(counts_BP: Array) -> Array:
        return _alpha((counts_BP @ flat).reshape(-1, size, size), level)

    return Figure(bootstrap(len(flat), statistic, rng, draws))
