"""What the pool says without a model: majority vote and Borda counts, every labeler counting alike.

Reward models read the consensus; these are what it is held against. Both take partial rankings with ties
and FAIL, and count every ranking given: leave out corrected ones first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from accord.judgements import Ranking
from accord.stats.rankings import levels, mid_ranks, pair_outcomes


def majority(rankings: Iterable[Ranking]) -> dict[str, dict[tuple[str, str], float]]:
    """Prompt -> (first, second) -> share of votes that prefer the first, a tie counting half to each.

    Each pair that somebody judged stands once, its ids in sorted order; above 0.5 the majority prefers
    the first, at 0.5 it does not decide. Over three or more completions majorities may go round in a
    circle. A FAIL loses to every ranked completion; two FAILs are no vote.
    """
    votes: dict[str, dict[tuple[str, str], list[float]]] = {}
    for ranking in rankings:
        names = sorted(levels(ranking))
        pairs = votes.setdefault(ranking.prompt_id, {})
        for a, b, outcome in pair_outcomes(ranking, {c: n for n, c in enumerate(names)}):
            pairs.setdefault((names[a], names[b]), []).append(outcome)
    return {p: {pair: sum(v) / len(v) for pair, v in pairs.items()} for p, pairs in votes.items() if pairs}


def borda(rankings: Iterable[Ranking]) -> dict[str, dict[str, float]]:
    """Prompt -> completion -> mean Borda count, from 0 (always last) to 1 (always first).

    The mean of :func:`borda_count` over the rankings that place the completion, so that partial rankings
    are comparable.
    """
    counts: dict[str, list[dict[str, float]]] = {}
    for ranking in rankings:
        if count := borda_count(ranking):
            counts.setdefault(ranking.prompt_id, []).append(count)
    return {p: mean_count(group) for p, group in counts.items()}


def borda_count(ranking: Ranking) -> dict[str, float]:
    """For each completion the ranking places, the share of its others that it beats.

    Equals (FAILs are equals here) count half. A ranking of a single completion says nothing and is empty.
    """
    ranks = mid_ranks(ranking)
    others = len(ranks) - 1
    return {c: (len(ranks) - rank) / others for c, rank in ranks.items()} if others > 0 else {}


def mean_count(counts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Completion -> mean over the counts that hold it, rounded so that equals are equal in any order."""
    held: dict[str, list[float]] = {}
    for count in counts:
        for completion, value in count.items():
            held.setdefault(completion, []).append(value)
    return {c: round(sum(values) / len(values), 12) for c, values in held.items()}


def pair_shares(scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[tuple[str, str], float]]:
    """Scores in the form of :func:`majority`: 1 where the first scores higher, 0.5 equal, 0 lower."""
    return {
        p: {
            (a, b): 0.5 + 0.5 * ((group[a] > group[b]) - (group[a] < group[b]))
            for n, a in enumerate(sorted(group))
            for b in sorted(group)[n + 1 :]
        }
        for p, group in scores.items()
    }
