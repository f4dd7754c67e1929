"""How far labelers agree, and how far scores agree with gold.

Shapes: P prompts, R rankings, N placements (a completion in a ranking), S pairs of completions, U units
(pairs or completions), K labelers, C categories, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats

from accord.errors import DataError
from accord.judgements import Ranking
from accord.stats.intervals import Interval, bootstrap_sums, clustered_mean
from accord.stats.rankings import mid_ranks

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Level = Literal["nominal", "ordinal"]

REPEAT = "repeat"
"""The arm of a ranking asked for a second time: it measures the labeler (``consistency``), not the pool."""


ADJUDICATED = "adjudicated"
"""The arm of a reviewer's final ranking, made with the others' answers in view: one more vote for the
consensus, and no sign of agreement."""


def once(rankings: Iterable[Ranking]) -> list[Ranking]:
    """Without repeats, each of which would count one judgement twice."""
    return [ranking for ranking in rankings if ranking.arm != REPEAT]


def independent(rankings: Iterable[Ranking]) -> list[Ranking]:
    """First judgements made without the others' in view: no repeats, no adjudications."""
    return [ranking for ranking in rankings if ranking.arm not in (REPEAT, ADJUDICATED)]


@dataclass(frozen=True, slots=True)
class Figure:
    """An agreement figure with its interval over prompts, or the reason why it has none."""

    interval: Interval | None
    chance: float | None = None
    """What labelers who choose at random, with the pool's share of ties, would reach."""
    why: str = ""
    """Why ``interval`` is ``None``."""
    left_out: str = ""
    """What the figure does not cover, where it covers a part."""


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
    kendall_w: Figure
    """Kendall's W, mean over the prompts whose labelers all ranked the same completions."""


def krippendorff_alpha(values_UK: Array, level: Level = "nominal") -> float:
    """Krippendorff's alpha of units by labelers (U, K), NaN where a labeler gave no value.

    alpha = 1 - observed / expected disagreement (Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability"). Raises :class:`DataError` where it is undefined: no unit with two values, or no
    variation.
    """
    values = np.asarray(values_UK, np.float64)
    unit_V, labeler_V = np.nonzero(~np.isnan(values))
    categories_C, category_V = np.unique(values[unit_V, labeler_V], return_inverse=True)
    counts_UC = _counts(unit_V, category_V, len(values), len(categories_C))
    coincidence_1CC = _coincidences(counts_UC, np.zeros(len(values), np.int64), 1)
    alpha = float(_alpha(coincidence_1CC, level)[0])
    if np.isnan(alpha):
        raise DataError(_undefined(counts_UC))
    return alpha


def _undefined(counts_UC: sparse.csr_matrix) -> str:
    if not (counts_UC.sum(axis=1) >= 2).any():
        return "alpha is undefined: nothing was judged by two labelers; give some prompts to several"
    return "alpha is undefined: every value is the same, so there is no variation to agree on"


def _counts(unit_V: Index, category_V: Index, n_units: int, n_categories: int) -> sparse.csr_matrix:
    """How often each unit got each category (U, C)."""
    return sparse.csr_matrix((np.ones(len(unit_V)), (unit_V, category_V)), shape=(n_units, n_categories))


def _coincidences(counts_UC: sparse.csr_matrix, prompt_U: Index, n_prompts: int) -> Array:
    """Each prompt's coincidence matrix (P, C, C), summed over its units of two values or more.

    A unit's counts n_c add n_c (n_d - [c = d]) / (n - 1). With a column for each prompt and category, the
    product of the counts with themselves is that sum for all prompts at once.
    """
    n_categories = counts_UC.shape[1]
    n_U = np.asarray(counts_UC.sum(axis=1)).ravel()
    weight_U = np.where(n_U >= 2, 1 / np.maximum(n_U - 1, 1), 0.0)
    cells = counts_UC.tocoo()
    prompt_V, category_V = prompt_U[cells.row], cells.col.astype(np.int64)
    wide_UW = sparse.csr_matrix(
        (cells.data, (cells.row, prompt_V * n_categories + category_V)),
        shape=(len(n_U), n_prompts * n_categories),
    )
    product = (wide_UW.T @ sparse.diags_array(weight_U) @ wide_UW).tocoo()
    coincidence_PCC = np.zeros((n_prompts, n_categories, n_categories))
    row, column = product.row.astype(np.int64), product.col.astype(np.int64)
    coincidence_PCC[row // n_categories, row % n_categories, column % n_categories] = product.data
    np.subtract.at(coincidence_PCC, (prompt_V, category_V, category_V), weight_U[cells.row] * cells.data)
    return coincidence_PCC


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


def kendall_w(values_KN: Array) -> float:
    """Kendall's coefficient of concordance of labelers by completions (K, N), corrected for ties.

    From 0 to 1; labelers who rank at random reach 1/K on average. Values may be ranks or anything else
    that orders each row. W = 12 S / (K^2 (N^3 - N) - K T), S the rank sums' squared deviations, T the sum
    of t^3 - t over every group of t equals (Kendall and Gibbons 1990, "Rank Correlation Methods").
    Raises :class:`DataError` where it is undefined: fewer than two labelers or completions, values missing
    (NaN), or everyone calls everything equal.
    """
    values = np.asarray(values_KN, np.float64)
    if values.ndim != 2 or min(values.shape) < 2:
        raise DataError(f"Kendall's W of values of shape {values.shape}; it needs two labelers and two items")
    if np.isnan(values).any():
        raise DataError(
            f"Kendall's W is undefined: {int(np.isnan(values).any(axis=1).sum())} of {len(values)} labelers "
            "did not rank every item; use Krippendorff's alpha, which allows gaps"
        )
    ranks_KN = stats.rankdata(values, axis=1)
    equals_KN = (ranks_KN[:, :, None] == ranks_KN[:, None, :]).sum(axis=2)
    sums_N = ranks_KN.sum(axis=0)
    squares = ((sums_N - sums_N.mean()) ** 2).sum()
    labelers, items = values.shape
    w = float(_concordance(squares, labelers, items, (equals_KN**2 - 1).sum()))
    if np.isnan(w):
        raise DataError("Kendall's W is undefined: every labeler calls all items equal")
    return w


def _concordance(squares: ArrayLike, labelers: ArrayLike, items: ArrayLike, ties: ArrayLike) -> Array:
    """Kendall's W; NaN where no labeler tells any two items apart."""
    k, n = np.asarray(labelers, np.float64), np.asarray(items, np.float64)
    span = k**2 * (n**3 - n) - k * np.asarray(ties)
    return 12 * np.asarray(squares) / np.where(span > 0, span, np.nan)


def tau_b(ranks: Mapping[str, float], others: Mapping[str, float]) -> float | None:
    """Kendall's tau-b between two rankings given as completion -> rank, over the completions both hold.

    Compares the positions of each completion, never the ids at each position. ``None`` where it is
    undefined: fewer than two in common, or one side all equal. Time grows with the square of their
    number, which for a prompt's completions beats the sorting of ``scipy.stats.kendalltau`` by far.
    """
    common = [(float(ranks[c]), float(others[c])) for c in ranks if c in others]
    concordance, ordered, ordered_others = 0, 0, 0
    for (a, other_a), (b, other_b) in combinations(common, 2):
        here = (a > b) - (a < b)
        there = (other_a > other_b) - (other_a < other_b)
        concordance += here * there
        ordered += here != 0
        ordered_others += there != 0
    if not ordered or not ordered_others:
        return None
    return concordance / float(np.sqrt(ordered * ordered_others))


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
    """The pool's agreement figures, bootstrapped over the prompts that two labelers ranked.

    Where a labeler ranked a prompt twice the later ranking counts; repeats and adjudications
    (``Ranking.arm``) do not count. All figures share the drawn prompts; 100,000 rankings take a few seconds.
    """
    ballots = _Ballots.of(rankings)
    counts_S3, prompt_S = ballots.pair_counts()
    exact, half = _pair_parts(counts_S3.toarray(), prompt_S, ballots.n_prompts)
    outcomes = _outcome_part(counts_S3, prompt_S, ballots.n_prompts)
    parts = [exact, half, _rank_part(ballots), outcomes, _w_part(ballots)]
    if not ballots.n_prompts:
        return Agreement(*(Figure(None, why=part.why) for part in parts))
    edges = np.cumsum([0, *(part.sums_PF.shape[1] for part in parts)]).tolist()

    def of_columns(part: _Part, start: int, stop: int) -> Callable[[Array], Array]:
        return lambda sums_BF: part.statistic(sums_BF[:, start:stop])

    intervals = bootstrap_sums(
        np.concatenate([part.sums_PF for part in parts], axis=1),
        [of_columns(*entry) for entry in zip(parts, edges[:-1], edges[1:], strict=True)],
        rng,
        draws,
    )
    return Agreement(*(part.figure(interval) for part, interval in zip(parts, intervals, strict=True)))


@dataclass(frozen=True, slots=True)
class _Part:
    """One figure before its bootstrap: what each prompt adds, and what is made of the sums."""

    sums_PF: Array
    statistic: Callable[[Array], Array]
    """(B, F) to (B), NaN where undefined."""
    why: str
    """The reason to give where the figure is undefined."""
    chance: float | None = None
    left_out: str = ""

    def figure(self, interval: Interval) -> Figure:
        if np.isnan(interval.value):
            return Figure(None, why=self.why)
        prompts = int(self.sums_PF.any(axis=1).sum())
        return Figure(replace(interval, n=prompts), self.chance, left_out=self.left_out)


@dataclass(frozen=True, slots=True)
class _Ballots:
    """The latest rankings of the prompts that two labelers ranked, laid flat."""

    n_prompts: int
    prompt_I: Index
    """The prompt of each completion that somebody placed."""
    prompt_R: Index
    size_R: Index
    item_N: Index
    """Ranking by ranking, each placed completion..."""
    rank_N: Array
    """...its mid-rank..."""
    fail_N: NDArray[np.bool_]
    """...and whether it was a FAIL."""

    @classmethod
    def of(cls, rankings: Iterable[Ranking]) -> _Ballots:
        latest = {(r.prompt_id, r.labeler): r for r in independent(rankings)}
        by_prompt: dict[str, list[Ranking]] = {}
        for key in sorted(latest):
            by_prompt.setdefault(key[0], []).append(latest[key])
        groups = [group for group in by_prompt.values() if len(group) >= 2]
        prompt_I: list[int] = []
        prompt_R: list[int] = []
        sizes: list[int] = []
        items: list[int] = []
        ranks: list[float] = []
        fails: list[bool] = []
        for prompt, group in enumerate(groups):
            number: dict[str, int] = {}
            for ranking in group:
                placed = mid_ranks(ranking)  # in the order of tiers, then FAILs
                items += [number.setdefault(c, len(prompt_I) + len(number)) for c in placed]
                ranks += placed.values()
                fails += [False] * (len(placed) - len(ranking.fails)) + [True] * len(ranking.fails)
                sizes.append(len(placed))
                prompt_R.append(prompt)
            prompt_I += [prompt] * len(number)
        i, r, size, item = (np.array(column, np.int64) for column in (prompt_I, prompt_R, sizes, items))
        return cls(len(groups), i, r, size, item, np.array(ranks, np.float64), np.array(fails, bool))

    def pair_counts(self) -> tuple[sparse.csr_matrix, Index]:
        """How often each judged pair was lost, tied and won (S, 3), and its prompt (S)."""
        n_items = len(self.prompt_I)
        start_R = np.cumsum(self.size_R) - self.size_R
        keys, outcomes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for size in np.unique(self.size_R):
            cell_RN = start_R[self.size_R == size, None] + np.arange(size)
            a, b = np.triu_indices(int(size), 1)
            first_V, second_V = cell_RN[:, a].ravel(), cell_RN[:, b].ravel()
            judged_V = ~(self.fail_N[first_V] & self.fail_N[second_V])
            first_V, second_V = first_V[judged_V], second_V[judged_V]
            item_V, other_V = self.item_N[first_V], self.item_N[second_V]
            sign_V = np.sign(self.rank_N[second_V] - self.rank_N[first_V]) * np.sign(other_V - item_V)
            keys.append(np.minimum(item_V, other_V) * n_items + np.maximum(item_V, other_V))
            outcomes.append(sign_V.astype(np.int64) + 1)
        key_S, site_V = np.unique(np.concatenate(keys), return_inverse=True)
        counts_S3 = _counts(site_V, np.concatenate(outcomes), len(key_S), 3)
        return counts_S3, self.prompt_I[key_S // max(1, n_items)]


def _share(part_B: Array, whole_B: Array) -> Array:
    return part_B / np.where(whole_B > 0, whole_B, np.nan)


def _pair_parts(counts_S3: Array, prompt_S: Index, n_prompts: int) -> tuple[_Part, _Part]:
    """Exact and half-credit agreement over every two votes on a pair."""
    lost_S, tied_S, won_S = counts_S3.T
    n_S = lost_S + tied_S + won_S
    same_S = (lost_S * (lost_S - 1) + tied_S * (tied_S - 1) + won_S * (won_S - 1)) / 2
    columns = (same_S, same_S + tied_S * (lost_S + won_S) / 2, n_S * (n_S - 1) / 2, tied_S, n_S)
    sums_P5 = np.stack([np.bincount(prompt_S, c, n_prompts) for c in columns], axis=1, dtype=np.float64)
    sums_P5[sums_P5[:, 2] == 0] = 0
    tie = float(sums_P5[:, 3].sum() / max(1.0, sums_P5[:, 4].sum()))
    chance = tie**2 + (1 - tie) ** 2 / 2
    why = "no pair was judged by two labelers; give some prompts to several"
    return (
        _Part(sums_P5, lambda sums: _share(sums[:, 0], sums[:, 2]), why, chance),
        _Part(sums_P5, lambda sums: _share(sums[:, 1], sums[:, 2]), why, chance + tie * (1 - tie)),
    )


def _outcome_part(counts_S3: sparse.csr_matrix, prompt_S: Index, n_prompts: int) -> _Part:
    """Krippendorff's alpha of pair outcomes."""
    coincidence_P33 = _coincidences(counts_S3, prompt_S, n_prompts)
    # Which completion of a pair stands first is arbitrary: the mean of both ways round, so that names
    # change nothing.
    coincidence_P33 = (coincidence_P33 + coincidence_P33[:, ::-1, ::-1]) / 2
    return _alpha_part(coincidence_P33, "nominal", _undefined(counts_S3))


def _rank_part(ballots: _Ballots) -> _Part:
    """Krippendorff's alpha of within-prompt mid-ranks."""
    values, category_N = np.unique(ballots.rank_N, return_inverse=True)
    counts_IC = _counts(ballots.item_N, category_N, len(ballots.prompt_I), len(values))
    coincidence_PCC = _coincidences(counts_IC, ballots.prompt_I, ballots.n_prompts)
    return _alpha_part(coincidence_PCC, "ordinal", _undefined(counts_IC))


def _alpha_part(coincidence_PCC: Array, level: Level, why: str) -> _Part:
    size = coincidence_PCC.shape[1]
    flat_PF = coincidence_PCC.reshape(len(coincidence_PCC), size * size)
    return _Part(flat_PF, lambda sums_BF: _alpha(sums_BF.reshape(-1, size, size), level), why)


def _w_part(ballots: _Ballots) -> _Part:
    """Kendall's W of each prompt whose labelers all placed the same completions, and its mean."""
    n_prompts, n_rankings = ballots.n_prompts, len(ballots.prompt_R)
    prompt_N = np.repeat(ballots.prompt_R, ballots.size_R)
    labelers_P = np.bincount(ballots.prompt_R, minlength=n_prompts).astype(np.float64)
    items_P = np.bincount(ballots.prompt_I, minlength=n_prompts).astype(np.float64)
    complete_P = np.bincount(prompt_N, minlength=n_prompts) == labelers_P * items_P
    sum_I = np.bincount(ballots.item_N, ballots.rank_N, len(ballots.prompt_I))
    mean_P = labelers_P * (items_P + 1) / 2
    squares_P = np.bincount(ballots.prompt_I, (sum_I - mean_P[ballots.prompt_I]) ** 2, n_prompts)
    tier_N = np.repeat(np.arange(n_rankings), ballots.size_R) * (2 * int(ballots.size_R.max(initial=0)) + 1)
    tier_N = tier_N + (2 * ballots.rank_N).astype(np.int64)
    _, same_N, equals_T = np.unique(tier_N, return_inverse=True, return_counts=True)
    equals_N = equals_T[same_N]
    ties_P = np.bincount(prompt_N, equals_N**2 - 1, n_prompts)
    w_P = np.where(complete_P, _concordance(squares_P, labelers_P, items_P, ties_P), np.nan)
    known_P = np.isfinite(w_P)
    sums_P2 = np.stack([np.where(known_P, w_P, 0.0), known_P], axis=1)
    partial, flat = int((~complete_P).sum()), int((complete_P & ~known_P).sum())
    left_out = "; ".join(
        f"{n} of {n_prompts} prompts, {reason}"
        for n, reason in (
            (partial, "where some labeler left out a completion that another placed"),
            (flat, "where no labeler tells any two completions apart"),
        )
        if n
    )
    why = f"Kendall's W is undefined on {left_out}" if left_out else "no prompt was ranked by two labelers"
    chance = float((1 / labelers_P[known_P]).mean()) if known_P.any() else None
    return _Part(sums_P2, lambda sums: _share(sums[:, 0], sums[:, 1]), why, chance, left_out)
