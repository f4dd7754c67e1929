"""The human ceiling: how well a person foretells what the others say, beside the reward model on the same.

Each person in turn is held out. On each pair they judged, the others' majority is the answer that the person
and the reward model are both marked against, so that both face the same doubts. A model may stand above a
person: the person's own slips count against them. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from accord.judgements import Ranking
from accord.stats.agreement import Figure, once
from accord.stats.intervals import clustered_mean
from accord.stats.rankings import levels, pair_outcomes

Pair = tuple[str, str, str]
"""Prompt id and two completion ids, in sorted order."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A held-out person and the reward model against the others' majority, on the same judgements."""

    human: Figure
    """Share of judgements in which the person says what the others' majority says; a tie counts half."""
    model: Figure
    """Share of the same judgements in which the reward model does; equal rewards count half."""
    model_minus_human: Figure
    judgements: int = 0
    pairs: int = 0
    people: int = 0


def human_ceiling(
    rankings: Sequence[Ranking],
    rewards: Mapping[Pair, float],
    rng: np.random.Generator,
    clusters: Mapping[str, Hashable] | None = None,
) -> Ceiling:
    """The ceiling on the pairs of ``rewards``: the first completion's reward less the second's, by pair.

    Where somebody ranked a pair twice the later ranking counts, repeats asked for apart. A pair judged by one
    person, or on which the others are evenly split, has no answer and is left out. ``clusters`` names the
    unit of resampling of a prompt, itself where there is none.
    """
    said = _votes(rankings, rewards)
    human, model, units, pairs, people = [], [], [], set(), set()
    for pair, votes in said.items():
        for name, own in votes.items():
            others = [vote for other, vote in votes.items() if other != name]
            answer = np.sign(sum(others) - len(others) / 2) if others else 0.0
            if not answer:
                continue
            human.append(0.5 + 0.5 * float(np.sign(own - 0.5)) * answer)
            model.append(0.5 + 0.5 * float(np.sign(rewards[pair])) * answer)
            units.append((clusters or {}).get(pair[0], pair[0]))
            pairs.add(pair)
            people.add(name)
    if len(set(units)) < 2:
        why = (
            "fewer than two prompts have a pair on which a person can be held against others who decide; "
            "give some prompts to several labelers"
            if said
            else "no rankings by named labelers of these pairs are given"
        )
        nothing = Figure(None, why=why)
        return Ceiling(nothing, nothing, nothing)
    left_out = f"{len(said) - len(pairs)} of {len(said)} pairs have one judgement or evenly split others"
    return Ceiling(
        Figure(clustered_mean(human, units, rng), 0.5, left_out=left_out),
        Figure(clustered_mean(model, units, rng), 0.5, left_out=left_out),
        Figure(clustered_mean(np.subtract(model, human), units, rng), 0.0, left_out=left_out),
        judgements=len(units),
        pairs=len(pairs),
        people=len(people),
    )


def _votes(rankings: Sequence[Ranking], rewards: Mapping[Pair, float]) -> dict[Pair, dict[str, float]]:
    """Pair -> person -> 1 where they prefer the first, 0.5 a tie, 0 the second; latest last."""
    said: dict[Pair, dict[str, float]] = {}
    for ranking in once(rankings):
        names = sorted(levels(ranking))
        for a, b, outcome in pair_outcomes(ranking, {c: n for n, c in enumerate(names)}):
            pair = ranking.prompt_id, names[a], names[b]
            if pair in rewards:
                said.setdefault(pair, {})[ranking.labeler] = outcome
    return said
