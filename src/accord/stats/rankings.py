"""Rankings as levels, ranks and paired votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from accord.errors import DataError
from accord.judgements import Ranking
from accord.stats.davidson import Array, Index, Votes, starts


@dataclass(frozen=True, slots=True)
class RankingTable:
    """Rankings as votes, with the names behind the indices. Names are sorted, so that the order in
    which rankings, labelers or prompts arrive changes nothing."""

    votes: Votes
    prompts: tuple[str, ...]
    items: tuple[tuple[str, str], ...]
    """(prompt id, completion id) of each completion, prompt by prompt."""
    labelers: tuple[str, ...]


def levels(ranking: Ranking) -> dict[str, int]:
    """Each placed completion's level, 0 the best; every FAIL shares the lowest."""
    placed = {c: level for level, tier in enumerate(ranking.tiers) for c in tier}
    return placed | dict.fromkeys(ranking.fails, len(ranking.tiers))


def mid_ranks(ranking: Ranking) -> dict[str, float]:
    """Each placed completion's rank, 1 the best, equals sharing the mean of their ranks."""
    ranks: dict[str, float] = {}
    for tier in (*ranking.tiers, ranking.fails):
        ranks |= dict.fromkeys(tier, len(ranks) + (len(tier) + 1) / 2)
    return ranks


def places(ranking: Ranking) -> dict[str, float]:
    """Where each completion stood on the screen, 0 the first to 1 the last; empty where it is not known."""
    last = max(1, len(ranking.shown) - 1)
    return {c: n / last for n, c in enumerate(ranking.shown)}


def pair_outcomes(ranking: Ranking, order: Mapping[str, int]) -> list[tuple[int, int, float]]:
    """The ranking's votes as (a, b, outcome), a before b in ``order``; outcome 1 where a won."""
    placed = sorted(levels(ranking).items(), key=lambda entry: order[entry[0]])
    lowest = len(ranking.tiers)
    votes = []
    for n, (first, level) in enumerate(placed):
        for second, other in placed[n + 1 :]:
            if level == other == lowest:
                continue
            votes.append((order[first], order[second], 0.5 if level == other else float(level < other)))
    return votes


def ranking_table(rankings: Sequence[Ranking]) -> RankingTable:
    """Paired votes from rankings; each ranking of N completions weighs sqrt(2/N) a pair.

    A ranking's pairs are not independent. In simulation, with weight 1 the fitted probabilities run ahead of
    what labelers then vote; with 2/N, which makes N-1 comparisons of a ranking, they fall behind. The root
    of it meets them within 0.05 (Plackett-Luce and Gaussian noise, N from 3 to 7).
    A FAIL loses to every ranked completion, two FAILs give no vote, what was not ranked gives none.
    Raises :class:`DataError` when no prompt has two judged completions.
    """
    judged: dict[str, set[str]] = {}
    for ranking in rankings:
        judged.setdefault(ranking.prompt_id, set()).update(levels(ranking))
    prompts = tuple(sorted(p for p, completions in judged.items() if len(completions) >= 2))
    if not prompts:
        raise DataError(
            f"{len(rankings)} rankings, none of a prompt with two judged completions; "
            "rank at least two of a prompt"
        )
    labelers = tuple(sorted({r.labeler for r in rankings}))
    local = {p: {c: n for n, c in enumerate(sorted(judged[p]))} for p in prompts}
    sizes_P = np.array([len(local[p]) for p in prompts], np.int64)
    votes = _merge(_pairs(rankings, prompts, local, labelers), sizes_P, len(labelers))
    return RankingTable(votes, prompts, tuple((p, c) for p in prompts for c in local[p]), labelers)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Votes before repeats are merged; ``first_V`` and ``second_V`` count within the prompt."""

    prompt_V: Index
    first_V: Index
    second_V: Index
    labeler_V: Index
    outcome_V: Array
    lead_V: Array
    weight_V: Array


def _pairs(
    rankings: Sequence[Ranking],
    prompts: Sequence[str],
    local: Mapping[str, Mapping[str, int]],
    labelers: Sequence[str],
) -> _Pairs:
    """Every pair of every ranking that is a judgement; rankings of one length are worked on together."""
    prompt_of = {p: n for n, p in enumerate(prompts)}
    labeler_of = {k: n for n, k in enumerate(labelers)}
    by_length: dict[int, list[tuple[int, int, int]]] = {}
    cells: dict[int, list[tuple[int, int, float]]] = {}
    for ranking in rankings:
        order = local.get(ranking.prompt_id)
        if order is None:
            continue
        placed, at = levels(ranking), places(ranking)
        entry = (prompt_of[ranking.prompt_id], labeler_of[ranking.labeler], len(ranking.tiers))
        by_length.setdefault(len(placed), []).append(entry)
        cells.setdefault(len(placed), []).extend(
            (order[c], level, at.get(c, 0.0)) for c, level in placed.items()
        )
    parts = [_of_length(n, np.array(by_length[n]), np.array(cells[n])) for n in sorted(by_length) if n >= 2]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [np.zeros(0)] * 7
    prompt_V, first_V, second_V, labeler_V = (column.astype(np.int64) for column in columns[:4])
    return _Pairs(prompt_V, first_V, second_V, labeler_V, *columns[4:])


def _of_length(n: int, entry_R3: Index, cells: Array) -> tuple[Array, ...]:
    """The columns of ``_Pairs`` for rankings of ``n`` completions: prompt, labeler and number of tiers of
    each (R, 3), and index, level and place of each completion, n rows a ranking."""
    index_RN, level_RN, place_RN = cells.reshape(-1, n, 3).transpose(2, 0, 1)
    sort_RN = np.argsort(index_RN, axis=1)
    index_RN, level_RN, place_RN = (np.take_along_axis(x, sort_RN, 1) for x in (index_RN, level_RN, place_RN))
    a_M, b_M = np.triu_indices(n, 1)
    level_a, level_b = level_RN[:, a_M], level_RN[:, b_M]
    judged_RM = (level_a != level_b) | (level_a < entry_R3[:, 2:])  # two FAILs say nothing
    outcome_RM = 0.5 + 0.5 * np.sign(level_b - level_a)
    prompt_RM, labeler_RM = (np.broadcast_to(entry_R3[:, c, None], judged_RM.shape) for c in (0, 1))
    weight_RM = np.full(judged_RM.shape, np.sqrt(2 / n))
    lead_RM = place_RN[:, b_M] - place_RN[:, a_M]
    columns = (prompt_RM, index_RN[:, a_M], index_RN[:, b_M], labeler_RM, outcome_RM, lead_RM, weight_RM)
    return tuple(column[judged_RM] for column in columns)


def _merge(pairs: _Pairs, sizes_P: Index, n_labelers: int) -> Votes:
    """Equal votes of a labeler on a pair as one, weights added; in order of their pairs."""
    pair_start_P, size_V, a_V = starts(sizes_P * (sizes_P - 1) // 2), sizes_P[pairs.prompt_V], pairs.first_V
    site_V = pair_start_P[pairs.prompt_V] + a_V * (2 * size_V - a_V - 1) // 2 + pairs.second_V - a_V - 1
    # rounded, so that equal leads are equal whatever the order they were computed in
    lead_V = np.round(pairs.lead_V, 9)
    order_V = np.lexsort((lead_V, pairs.outcome_V, pairs.labeler_V, site_V))
    new_V = np.ones(len(order_V), bool)
    new_V[1:] = False
    for column_V in (lead_V, pairs.outcome_V, pairs.labeler_V, site_V):
        new_V[1:] |= np.diff(column_V[order_V]) != 0
    first_V = np.flatnonzero(new_V)
    one_V = order_V[first_V]
    weight_V = np.add.reduceat(pairs.weight_V[order_V], first_V) if len(first_V) else np.zeros(0)
    return Votes(
        sizes_P,
        site_V[one_V],
        pairs.labeler_V[one_V],
        pairs.outcome_V[one_V],
        lead_V[one_V],
        weight_V,
        n_labelers,
    )
