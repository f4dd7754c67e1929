"""A person's own reward, r_u = r_0 + w_u . phi / scale: a taste on top of the shared reward.

What is acceptable is decided by the shared reward alone, at ``floor`` (0 for a reward model trained with
FAIL or thumbs as anchors, whose zero is "as often acceptable as not"), and by ``vetoed``, if given. For
everybody and whatever they said:

- an unacceptable completion keeps its shared score, and where that is not below the floor (it was vetoed)
  the last number below the floor;
- an acceptable completion scores at the floor or above it, however little the person likes it;
- a judgement of an unacceptable completion, by pair or thumb, teaches nothing of the person.

So no taste lifts a FAIL above what is acceptable, and none is learned from praise for it. What tastes can do
is to reorder what is acceptable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accord.errors import ConfigError, DataError
from accord.judgements import Ranking, Thumb
from accord.reward.taste import Opinion, Taste
from accord.stats.logistic import Posterior
from accord.stats.rankings import levels, pair_outcomes
from accord.types import Completion, Group, Prompt, Score, Scorer, digest, score_groups

Array = NDArray[np.float64]
Features = Callable[[Sequence[Group]], list[Array]]
"""(completions, K) for each group; ``reward.lastlayer.LastLayer`` is one."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A completion as the shared reward and the features see it."""

    score: Score
    phi_K: Array
    sound: bool
    """Acceptable to the shared reward."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all people share: the reward, what tastes may be about, and what is acceptable."""

    scorer: Scorer
    features: Features
    floor: float
    """The shared reward at and above which a completion is acceptable."""
    vetoed: Callable[[Prompt, Completion], bool] | None = None
    """Completions that are unacceptable whatever their score, such as those that people marked FAIL."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.floor):
            raise ConfigError(
                f"floor is {self.floor}: name the reward at which a completion is acceptable; it is 0 for a "
                "reward model trained with FAIL or thumbs"
            )

    def look(self, groups: Sequence[Group]) -> list[list[Seen]]:
        """Every completion of ``groups``.

        Raises:
            DataError: features or scores are not finite, or not one for each completion.
        """
        found = []
        every = zip(groups, score_groups(self.scorer, groups), self.features(groups), strict=True)
        for (prompt, completions), scores, phi_NK in every:
            if not len(completions) == len(scores) == len(phi_NK):
                raise DataError(
                    f"prompt {prompt.id!r}: {len(completions)} completions, {len(scores)} scores and "
                    f"{len(phi_NK)} rows of features; there must be one each"
                )
            if not (np.isfinite(phi_NK).all() and all(math.isfinite(s.value) for s in scores)):
                raise DataError(f"prompt {prompt.id!r}: a score or feature is not finite")
            found.append(
                [
                    Seen(s, phi, s.value >= self.floor and not (self.vetoed and self.vetoed(prompt, c)))
                    for c, s, phi in zip(completions, scores, phi_NK, strict=True)
                ]
            )
        return found


class PersonalReward:
    """One person's reward; a ``Scorer``. ``belief`` is from ``taste.posterior``, the habit last."""

    def __init__(self, shared: Shared, taste: Taste, belief: Posterior) -> None:
        if len(belief.mean_K) != taste.features + 1:
            raise DataError(
                f"weights of {len(belief.mean_K) - 1} features and tastes of {taste.features}; they must be "
                "of the same features"
            )
        self.shared, self.taste, self.belief = shared, taste, belief

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """The person's reward of each completion.

        ``parts`` holds the shared reward, what the taste adds and how sure that is (``taste sd``, both in
        units of reward), and ``acceptable`` (1 or 0).
        """
        return self.score_groups([(prompt, completions)])[0]

    def score_groups(self, groups: Sequence[Group]) -> list[list[Score]]:
        """The same for many groups."""
        return [[self._score(seen) for seen in group] for group in self.shared.look(groups)]

    def _score(self, seen: Seen) -> Score:
        shared, floor = seen.score.value, self.shared.floor
        cov_KK = self.belief.cov_KK[:-1, :-1]
        added = float(seen.phi_K @ self.belief.mean_K[:-1]) / self.taste.scale
        sd = math.sqrt(max(0.0, float(seen.phi_K @ cov_KK @ seen.phi_K))) / self.taste.scale
        if seen.sound:
            value = max(floor, shared + added)
        else:
            value = shared if shared < floor else math.nextafter(floor, -math.inf)
        parts = {"shared": shared, "taste": value - shared, "taste sd": sd, "acceptable": float(seen.sound)}
        return Score(value, parts, seen.score.why)


def opinions_of(
    shared: Shared,
    prompts: Mapping[str, Prompt],
    completions: Mapping[str, Sequence[Completion]],
    rankings: Sequence[Ranking] = (),
    thumbs: Sequence[Thumb] = (),
) -> dict[str, list[Opinion]]:
    """Person -> their opinions: every pair of every ranking, and every thumb, the latest of each counting.

    A FAIL loses to what is ranked and says nothing of another FAIL. Completions are read once, in one pass.

    Raises:
        DataError: a judgement is of a prompt or completion that is not given.
    """
    wanted = list(dict.fromkeys([r.prompt_id for r in rankings] + [t.prompt_id for t in thumbs]))
    missing = [p for p in wanted if p not in prompts or p not in completions]
    if missing:
        raise DataError(f"{len(missing)} judged prompts are not given, {missing[0]!r} first")
    looked = shared.look([(prompts[p], completions[p]) for p in wanted])
    seen = {
        p: {c.id: each for c, each in zip(completions[p], group, strict=True)}
        for p, group in zip(wanted, looked, strict=True)
    }
    found: dict[str, dict[str, Opinion]] = {}
    for ranking in rankings:
        group = seen[ranking.prompt_id]
        names = sorted(levels(ranking))
        _refuse_unknown(names, group, ranking.prompt_id)
        for a, b, outcome in pair_outcomes(ranking, {c: n for n, c in enumerate(names)}):
            opinion = pair_opinion(
                ranking.prompt_id, names[a], names[b], group[names[a]], group[names[b]], outcome
            )
            found.setdefault(ranking.labeler, {})[opinion.key] = opinion
    for thumb in thumbs:
        _refuse_unknown([thumb.completion_id], seen[thumb.prompt_id], thumb.prompt_id)
        each = seen[thumb.prompt_id][thumb.completion_id]
        opinion = thumb_opinion(thumb.prompt_id, thumb.completion_id, each, thumb.up, shared.floor)
        found.setdefault(thumb.labeler, {})[opinion.key] = opinion
    return {name: list(opinions.values()) for name, opinions in found.items()}


def pair_opinion(prompt: str, first: str, second: str, one: Seen, other: Seen, p: float) -> Opinion:
    """That ``first`` is better than ``second`` with probability ``p`` (ids; either order is one key)."""
    if second < first:
        first, second, one, other, p = second, first, other, one, 1 - p
    x_K = tuple((one.phi_K - other.phi_K).tolist())
    gap = one.score.value - other.score.value
    return Opinion(digest("pair", prompt, first, second), x_K, gap, p, counts=one.sound and other.sound)


def thumb_opinion(prompt: str, completion: str, seen: Seen, up: bool, floor: float) -> Opinion:
    """A thumb up or down for a completion."""
    x_K, gap = tuple(seen.phi_K.tolist()), seen.score.value - floor
    return Opinion(digest("thumb", prompt, completion), x_K, gap, float(up), thumb=True, counts=seen.sound)


def _refuse_unknown(names: Sequence[str], known: Mapping[str, Seen], prompt: str) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DataError(f"prompt {prompt!r}: the judged completion {unknown[0]!r} is not given")
