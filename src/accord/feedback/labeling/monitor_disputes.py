"""Where good labelers disagree, how much, and whether the guidelines may be to blame. Pure.

A question is one pair of a prompt's completions (which is better?) or one completion (a FAIL?). Labelers j
and k dispute it by |o_j - o_k|, o being 0, 1/2 (tie) or 1, and each counts by how reliable he or she is:

    dispute = sum_{j<k} w_j w_k |o_j - o_k| / sum_{j<k} w_j w_k,    w = reliability / typical in [0, 1]

A prompt's heat is the mean of dispute times H(p) over its pairs, plus the same mean over its completions.
H(p) is the entropy in bits of the consensus: a quarrel that the other votes have settled is not worth a
reviewer's time. Nobody disputes alone: what one labeler judged has no heat.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accord.feedback.consensus import Consensus
from accord.judgements import Ranking
from accord.stats.agreement import ADJUDICATED
from accord.stats.intervals import Interval, bootstrap
from accord.stats.labelers import Standing, standing
from accord.stats.rankings import levels, pair_outcomes

Array = NDArray[np.float64]

UNCLEAR = 1 / 3
"""Share of contradicted votes among good labelers from which the guidelines come under suspicion: published
pools contradict one another on 27 % (InstructGPT) to 37 % (Anthropic HH) of pairs."""


@dataclass(frozen=True, slots=True)
class Dispute:
    """One prompt on which labelers disagree."""

    prompt_id: str
    heat: float
    """0 (one mind, or settled) to 2 (even halves on every pair and every FAIL)."""
    labelers: int
    pairs: int
    """Pairs that at least two put the other way round."""
    fails: int
    """Completions that some marked FAIL and others did not."""


def reliability_weights(consensus: Consensus, min_overlap: int) -> dict[str, float]:
    """Each labeler's weight in [0, 1]; 1 where reliability was not learned, or on too few pairs to tell."""
    weights = {}
    for row in consensus.labelers:
        told = standing(row, consensus.typical, min_overlap) not in (Standing.UNLEARNED, Standing.FEW)
        if told and row.reliability and consensus.typical:
            weights[row.labeler] = float(np.clip(row.reliability.value / consensus.typical, 0.0, 1.0))
        else:
            weights[row.labeler] = 1.0
    return weights


def disputes(
    rankings: Sequence[Ranking], consensus: Consensus, weights: Mapping[str, float]
) -> list[Dispute]:
    """The prompts with any heat, hottest first. A labeler's last ranking of a prompt counts."""
    p_pair = {(c.prompt.id, *sorted((c.chosen.id, c.rejected.id))): c.p_chosen for c in consensus.comparisons}
    found = []
    for prompt_id, latest in _latest(rankings).items():
        outcomes = _outcomes(latest)
        failed = _failed(latest)
        by_pair = [
            weighted_dispute(votes, weights) * entropy(p_pair.get((prompt_id, *pair), 1.0))
            for pair, votes in outcomes.items()
        ]
        scores = consensus.scores.get(prompt_id, {})
        by_fail = [
            weighted_dispute(votes, weights) * entropy(scores[c].p_fail if c in scores else 1.0)
            for c, votes in failed.items()
        ]
        heat = float(_mean(by_pair) + _mean(by_fail))
        if heat > 0:
            contradicted = sum({0.0, 1.0} <= set(votes.values()) for votes in outcomes.values())
            split = sum(len(set(votes.values())) > 1 for votes in failed.values())
            found.append(Dispute(prompt_id, heat, len(latest), contradicted, split))
    return sorted(found, key=lambda each: (-each.heat, each.prompt_id))


def contradictions(
    rankings: Sequence[Ranking], good: Iterable[str], rng: np.random.Generator, draws: int = 500
) -> Interval | None:
    """How often two good labelers who both put a pair in order put it the other way round.

    A share of such votes with its interval over prompts; ``None`` where no two of them share a pair.
    """
    chosen = set(good)
    counts = []
    for latest in _latest([r for r in rankings if r.labeler in chosen]).values():
        against = shared = 0
        for votes in _outcomes(latest).values():
            won, lost = (list(votes.values()).count(side) for side in (1.0, 0.0))
            against += won * lost
            shared += (won + lost) * (won + lost - 1) // 2
        if shared:
            counts.append((against, shared))
    if not counts:
        return None
    against_P, shared_P = np.array(counts, np.float64).T
    return bootstrap(len(counts), lambda c: (c @ against_P) / (c @ shared_P), rng, draws)


def weighted_dispute(votes: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The dispute of one question, 0 to 1; 0 where fewer than two labelers of any weight voted."""
    total = apart = 0.0
    for (j, one), (k, other) in combinations(votes.items(), 2):
        weight = weights.get(j, 1.0) * weights.get(k, 1.0)
        total += weight
        apart += weight * abs(one - other)
    return apart / total if total else 0.0


def entropy(p: float) -> float:
    """Bits of a yes-or-no question: 1 for p = 1/2, 0 for certainty."""
    if p <= 0 or p >= 1:
        return 0.0
    return float(-p * np.log2(p) - (1 - p) * np.log2(1 - p))


def _mean(values: ArrayLike) -> float:
    array = np.asarray(values, np.float64)
    return float(array.mean()) if len(array) else 0.0


def _latest(rankings: Sequence[Ranking]) -> dict[str, dict[str, Ranking]]:
    """Prompt id -> labeler -> the labeler's last ranking; prompts that a reviewer has settled left out."""
    grouped: dict[str, dict[str, Ranking]] = {}
    settled = set()
    for ranking in rankings:
        if ranking.arm == ADJUDICATED:
            settled.add(ranking.prompt_id)
        grouped.setdefault(ranking.prompt_id, {})[ranking.labeler] = ranking
    return {prompt: latest for prompt, latest in grouped.items() if prompt not in settled}


def _outcomes(latest: Mapping[str, Ranking]) -> dict[tuple[str, str], dict[str, float]]:
    """Pair of completion ids, in order -> labeler -> 1 where the first won, 1/2 for a tie, 0."""
    names = sorted({c for ranking in latest.values() for c in levels(ranking)})
    order = {c: n for n, c in enumerate(names)}
    found: dict[tuple[str, str], dict[str, float]] = {}
    for labeler, ranking in latest.items():
        for a, b, outcome in pair_outcomes(ranking, order):
            found.setdefault((names[a], names[b]), {})[labeler] = outcome
    return found


def _failed(latest: Mapping[str, Ranking]) -> dict[str, dict[str, float]]:
    """Completion id -> labeler -> 1 where marked FAIL, 0 where ranked."""
    found: dict[str, dict[str, float]] = {}
    for labeler, ranking in latest.items():
        for completion in levels(ranking):
            found.setdefault(completion, {})[labeler] = float(completion in ranking.fails)
    return found
