"""How far labelers agree with themselves on prompts ranked twice, and with the others by tau-b."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from accord.errors import DataError
from accord.judgements import Ranking
from accord.stats.agreement import REPEAT, Figure, agreement, independent, tau_b
from accord.stats.baselines import borda_count, mean_count
from accord.stats.intervals import clustered_mean
from accord.stats.rankings import mid_ranks

Scores = Mapping[str, Mapping[str, float]]
"""Prompt id -> completion id -> score, the best highest."""


@dataclass(frozen=True, slots=True)
class Consistency:
    """Agreement of first and second rankings, with intervals over the prompts ranked twice."""

    exact: Figure
    """Share of pairs on which both say the same of three: first, tie, second."""
    tau: Figure
    """Mean tau-b of the two, FAILs equal and lowest."""


def repeats(rankings: Iterable[Ranking]) -> list[tuple[Ranking, Ranking]]:
    """Each ranking of arm ``repeat`` with the last before it that the same labeler gave the prompt.

    Leave out corrected rankings first. A repeat of which the first ranking is not given has no partner and
    is left out.
    """
    first: dict[tuple[str, str, str], Ranking] = {}
    found = []
    for ranking in rankings:
        key = (ranking.labeler, ranking.prompt_id, ranking.criterion)
        if ranking.arm != REPEAT:
            first[key] = ranking
        elif key in first:
            found.append((first[key], ranking))
    return sorted(found, key=lambda pair: (pair[0].labeler, pair[0].prompt_id))


def consistency(
    twice: Sequence[tuple[Ranking, Ranking]], rng: np.random.Generator, draws: int = 500
) -> Consistency:
    """Pair agreement and tau-b of rankings given twice: of one labeler, or of all together.

    Raises :class:`DataError` where the two are not of one labeler and prompt.
    """
    for first, again in twice:
        if (first.labeler, first.prompt_id) != (again.labeler, again.prompt_id):
            raise DataError(
                f"labeler {first.labeler!r} on prompt {first.prompt_id!r} is set against labeler "
                f"{again.labeler!r} on {again.prompt_id!r}; pair rankings of one labeler and prompt"
            )
    if not twice:
        why = "no prompt was ranked twice by the same labeler; ask for some repeats"
        return Consistency(Figure(None, why=why), Figure(None, why=why))
    times = [
        replace(ranking, prompt_id=f"{n} {ranking.prompt_id}", labeler=time, arm="")
        for n, pair in enumerate(twice)
        for time, ranking in zip(("first", "again"), pair, strict=True)
    ]
    taus = [(one.prompt_id, tau_b(mid_ranks(one), mid_ranks(two))) for one, two in twice]
    exact = agreement(times, rng, draws).exact
    if exact.interval is None:
        exact = replace(exact, why="the two rankings of a prompt never have two completions in common")
    return Consistency(exact, _mean_tau(taus, rng, draws))


def leave_one_out_tau(
    rankings: Iterable[Ranking],
    rng: np.random.Generator,
    others: Mapping[str, Scores] | None = None,
    draws: int = 500,
) -> dict[str, Figure]:
    """Labeler -> mean tau-b between each ranking of theirs and what the others alone say of the prompt.

    ``others`` gives, for each labeler, the scores without them; where it is ``None``, the mean Borda count
    of the other labelers' rankings. Chance is 0. Intervals resample prompts.
    """
    by_prompt: dict[str, list[Ranking]] = {}
    for ranking in independent(rankings):
        by_prompt.setdefault(ranking.prompt_id, []).append(ranking)
    taus: dict[str, list[tuple[str, float | None]]] = {}
    for prompt in sorted(by_prompt):
        group = by_prompt[prompt]
        counts = [] if others is not None else [(r.labeler, borda_count(r)) for r in group]
        for ranking in group:
            labeler = ranking.labeler
            if others is not None:
                scores = others.get(labeler, {}).get(prompt, {})
            else:
                scores = mean_count([count for name, count in counts if name != labeler])
            against = {c: -value for c, value in scores.items()}
            taus.setdefault(labeler, []).append((prompt, tau_b(mid_ranks(ranking), against)))
    return {labeler: _mean_tau(taus[labeler], rng, draws) for labeler in sorted(taus)}


def _mean_tau(taus: Sequence[tuple[str, float | None]], rng: np.random.Generator, draws: int) -> Figure:
    """The mean over the prompts where tau-b is defined, and how many are left out."""
    known = [(prompt, tau) for prompt, tau in taus if tau is not None]
    missing = len(taus) - len(known)
    reason = (
        f"{missing} of {len(taus)} rankings, where fewer than two completions are in common or one side "
        "calls them all equal"
    )
    if not known:
        return Figure(None, why=f"tau-b is undefined on {reason}")
    interval = clustered_mean([tau for _, tau in known], [p for p, _ in known], rng, draws=draws)
    return Figure(interval, 0.0, left_out=reason if missing else "")
