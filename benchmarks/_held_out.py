"""How well the judgements of others foretell a person's: the consensus beside votes and Borda counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _people_data import Crowd, People
from accord.feedback.consensus import AgreeConfig, agree
from accord.judgements import Ranking
from accord.stats.baselines import borda, majority, pair_shares
from accord.stats.intervals import clustered_mean
from accord.stats.rankings import levels, pair_outcomes
from accord.types import Completion, Prompt

Shares = Mapping[str, Mapping[tuple[str, str], float]]
"""Prompt -> (first, second), sorted -> how far the first is preferred: 1 wholly, 0.5 undecided, 0 not."""

Array = NDArray[np.float64]
METHODS = ("consensus", "majority", "borda")
FAST = AgreeConfig(bootstrap=100)
UNDECIDED = 1e-6
"""A probability this near to one half is one half."""


def foretell(
    prompts: Mapping[str, Prompt],
    completions: Mapping[str, Sequence[Completion]],
    rankings: Sequence[Ranking],
) -> dict[str, Shares]:
    """What each method says of every pair that ``rankings`` speak of."""
    told: dict[str, dict[tuple[str, str], float]] = {}
    for comparison in agree(prompts, completions, rankings, FAST).comparisons:
        pair, p = (comparison.chosen.id, comparison.rejected.id), comparison.p_chosen
        told.setdefault(comparison.prompt.id, {})[tuple(sorted(pair))] = p if pair[0] < pair[1] else 1 - p
    return {"consensus": told, "majority": majority(rankings), "borda": pair_shares(borda(rankings))}


def credit(share: float, outcome: float) -> float:
    """1 where the method prefers what won, 0 where it prefers the other, 1/2 where it does not decide."""
    if abs(share - 0.5) < UNDECIDED:
        return 0.5
    return float((share > 0.5) == (outcome > 0.5))


def held_out(people: People, rng: np.random.Generator, at_most: int | None = None) -> dict[str, Any]:
    """Each labeler left out in turn (many labelers by groups): are the pairs they order foretold by the
    others? ``at_most`` so many groups.

    Pairs the held-out labeler ties have no right answer and are left out, as are those that nobody else
    judged. Log losses, in nats, are of the consensus' p and of the others' vote shares drawn towards one
    half by as many votes a side as suit these very pairs best, which favours the votes.
    """
    rows: list[dict[str, float]] = []
    units: list[str] = []
    with_winner: list[float] = []
    judged: list[int] = []
    labelers = sorted({r.labeler for r in people.rankings})
    groups = [set(labelers[n :: people.groups]) for n in range(min(people.groups, len(labelers)))]
    for group in groups[:at_most]:
        others = [r for r in people.rankings if r.labeler not in group]
        methods = foretell(people.prompts, people.completions, others)
        votes = _votes(others)
        for ranking in (r for r in people.rankings if r.labeler in group):
            for pair, outcome in _ordered(ranking):
                shares = {m: methods[m].get(ranking.prompt_id, {}).get(pair) for m in METHODS}
                if None in shares.values():
                    continue
                row = {m: credit(share, outcome) for m, share in shares.items()}
                row["undecided_majority"] = float(abs(shares["majority"] - 0.5) < UNDECIDED)
                p = shares["consensus"]
                row["log_loss_consensus"] = -float(np.log(p if outcome else 1 - p))
                n, share = votes[ranking.prompt_id, pair], shares["majority"]
                with_winner.append(n * (share if outcome else 1 - share))
                judged.append(n)
                rows.append(row)
                units.append(ranking.labeler if people.by_labeler else ranking.prompt_id)
    losses, added = votes_loss(np.array(with_winner), np.array(judged))
    for row, loss in zip(rows, losses.tolist(), strict=True):
        row["log_loss_votes"] = loss
    kind = "labelers" if people.by_labeler else "prompts"
    return {"pairs": len(rows), "groups": len(groups), "units": kind, "votes_added": added} | summary(
        rows, units, rng
    )


def votes_loss(with_winner: Array, judged: Array) -> tuple[Array, float]:
    """Log losses of vote shares, and the votes added to either side that make their mean the least."""
    found = [(-np.log((with_winner + c) / (judged + 2 * c)), float(c)) for c in np.geomspace(0.02, 20, 61)]
    return min(found, key=lambda entry: float(entry[0].mean()))


def summary(
    rows: Sequence[Mapping[str, float]], units: Sequence[object], rng: np.random.Generator
) -> dict[str, Any]:
    """Mean of each column with its interval, and the paired differences from the consensus; whole units are
    resampled."""
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    for method in METHODS[1:]:
        columns[f"consensus_minus_{method}"] = columns["consensus"] - columns[method]
    if "log_loss_votes" in columns:
        columns["log_loss_consensus_minus_votes"] = columns["log_loss_consensus"] - columns["log_loss_votes"]
    return {name: asdict(clustered_mean(values, units, rng)) for name, values in columns.items()}


def against_truth(crowd: Crowd, sizes: Sequence[int], seeds: int) -> list[dict[str, Any]]:
    """Pair accuracy against the true order by ballots a task, over random draws of ballots.

    A draw is the unit: the intervals are for other ballots of the same tasks. Tau-a is 2 accuracy - 1.
    """
    found = []
    for size in sizes:
        rows, units = [], []
        for seed in range(seeds):
            rng = np.random.default_rng([seed, size])
            rankings = crowd.draw(size, rng, names=min(size, 10))
            methods = foretell(crowd.prompts, crowd.completions, rankings)
            for prompt, truth in crowd.truth.items():
                for (a, b), outcome in _by_value(truth):
                    rows.append({m: credit(methods[m][prompt][a, b], outcome) for m in METHODS})
                    units.append(seed)
        found.append({"ballots": size} | summary(rows, units, np.random.default_rng(size)))
    return found


def _ordered(ranking: Ranking) -> list[tuple[tuple[str, str], float]]:
    """The pairs the ranking orders, ids sorted, and whether the first won (1) or lost (0)."""
    names = sorted(levels(ranking))
    votes = pair_outcomes(ranking, {c: n for n, c in enumerate(names)})
    return [((names[a], names[b]), outcome) for a, b, outcome in votes if outcome != 0.5]


def _by_value(values: Mapping[str, float]) -> list[tuple[tuple[str, str], float]]:
    names = sorted(values)
    return [
        ((a, b), float(values[a] > values[b]))
        for n, a in enumerate(names)
        for b in names[n + 1 :]
        if values[a] != values[b]
    ]


def _votes(rankings: Sequence[Ranking]) -> dict[tuple[str, tuple[str, str]], int]:
    """Votes on each pair, ties counted."""
    found: dict[tuple[str, tuple[str, str]], int] = {}
    for ranking in rankings:
        names = sorted(levels(ranking))
        for a, b, _ in pair_outcomes(ranking, {c: n for n, c in enumerate(names)}):
            key = ranking.prompt_id, (names[a], names[b])
            found[key] = found.get(key, 0) + 1
    return found
