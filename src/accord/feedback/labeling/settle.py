"""Whether a prompt's rankings settle it: adaptive overlap asks, after each answer to that prompt alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from accord.judgements import Ranking
from accord.stats.agreement import ADJUDICATED
from accord.stats.fitting import assume
from accord.stats.rankings import levels, ranking_table
from accord.store import facts, tables
from accord.store import rows as r
from accord.store.lineage import Status
from accord.store.store import Store

RELIABILITY = 3.0
"""Of a labeler of whom nothing is known yet: two who agree on four completions leave 0.82, one alone 0.74."""
TIE = 0.5
"""Tie propensity nu: one pair of equals in five is called a tie."""


@dataclass(frozen=True)
class Trust:
    """Labelers' reliabilities as far as they were learned."""

    reliability: Mapping[str, float] = field(default_factory=dict)

    @property
    def typical(self) -> float:
        """Of a labeler who is not in the latest consensus: the median of those who are."""
        known = [value for value in self.reliability.values() if value > 0]
        return float(np.median(known)) if known else RELIABILITY


def read_trust(store: Store) -> Trust:
    """Reliabilities of the latest finished agree run, read once; those of nobody where there is none."""
    runs, states = tables.runs.c, tables.run_states.c
    finished = (
        select(runs.path)
        .join(tables.run_states, states.run_id == runs.id)
        .where(runs.kind == "agree", states.status == str(Status.DONE))
        .order_by(runs.seq.desc())
        .limit(1)
    )
    with store.database.read() as connection:
        path = connection.execute(finished).scalar()
    return Trust() if path is None else _trust(store.root / path / "consensus.json")


@lru_cache(maxsize=8)
def _trust(file: Path) -> Trust:
    if not file.is_file():
        return Trust()
    consensus = json.loads(file.read_text(encoding="utf-8"))
    found = {row["labeler"]: row["reliability"] for row in consensus["labelers"] if row["reliability"]}
    choice = consensus.get("prior")
    if choice and choice["alike"]:
        # what is reported of each labeler is not what the consensus weighed them with
        return Trust(dict.fromkeys(found, float(choice["prior"]["reliability_mean"])))
    return Trust({name: float(figure["value"]) for name, figure in found.items()})


def is_settled(connection: Connection, task: Mapping[str, Any], trust: Trust, certain: float) -> bool:
    """Whether each pair of the task's completions has a consensus of at least ``certain``, either way.

    What a reviewer has adjudicated is settled.
    """
    query = facts.feedback(["ranking"], current=True).where(tables.feedback.c.prompt_id == task["prompt_id"])
    rankings = [r.to_ranking(row) for row in r.stream(connection, query)]
    ours = [each for each in rankings if each.criterion == task["criterion"] and each.arm != "repeat"]
    return (
        any(each.arm == ADJUDICATED for each in ours)
        or least_certain(ours, task["completions"], trust) >= certain
    )


def least_certain(rankings: Sequence[Ranking], completions: Sequence[str], trust: Trust) -> float:
    """The lowest max(p, 1 - p) over pairs of ``completions``, FAIL-FAIL pairs aside; 0.5 to 1.

    p is the probability that a typical labeler prefers the first (``stats.davidson``), with the
    labelers' reliabilities taken as known. A completion is FAIL where most of those who placed it say so;
    a pair of which one was never placed is as uncertain as can be.
    """
    failed = {id for id in completions if _is_fail(rankings, id)}
    open_pairs = [pair for pair in combinations(sorted(completions), 2) if not set(pair) <= failed]
    if not open_pairs:
        return 1.0
    if not any(len(levels(ranking)) > 1 for ranking in rankings):
        return 0.5
    p = _probabilities(rankings, trust)
    return min(max(p.get(pair, 0.5), 1 - p.get(pair, 0.5)) for pair in open_pairs)


def _is_fail(rankings: Sequence[Ranking], id: str) -> bool:
    votes = [id in ranking.fails for ranking in rankings if id in levels(ranking)]
    return 2 * sum(votes) > len(votes)


def _probabilities(rankings: Sequence[Ranking], trust: Trust) -> dict[tuple[str, str], float]:
    """(first, second) -> P(first preferred), ids in order, of all pairs among the placed completions."""
    table = ranking_table(rankings)
    reliability_K = np.array([trust.reliability.get(name, trust.typical) for name in table.labelers])
    fitted = assume(table, reliability_K, TIE, trust.typical)
    first_S, second_S = table.votes.pair_items()
    names = [completion for _, completion in table.items]
    pairs = zip(first_S.tolist(), second_S.tolist(), fitted.p_first().tolist(), strict=True)
    return {(names[a], names[b]): value for a, b, value in pairs}
