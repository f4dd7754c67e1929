"""Simulated people: they see the gold score through noise, habits and, one of them, spite.

Each perceives a completion's worth as gold HHH and fluency plus personal noise, a fondness for
what stands first on the screen and for long texts; ranks by it, ties what looks equal, and marks
FAIL what the guidelines name (nonsense, insults, another customer's address) where they notice.
All parameters are readable, so that what a consensus recovers can be held against the truth.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from accord.errors import DataError
from accord.judgements import Ranking
from accord.recipes.helpdesk.judge import GoldJudge
from accord.types import Completion, Prompt, Score

_GOLD = GoldJudge()


@dataclass(frozen=True, slots=True)
class Labeler:
    """One simulated labeler, by the planted parameters; worth is on the gold score's scale [0, 1]."""

    name: str
    noise: float
    """Standard deviation of the perceived worth of a completion."""
    position_bias: float = 0.0
    """Worth added to the first on the screen, falling linearly to nothing for the last."""
    length_bias: float = 0.0
    """Worth added for each word beyond 20 (less for each word below), divided by 20."""
    tie_within: float = 0.03
    """Completions whose perceived worth is closer than this stand in one tier."""
    attention: float = 0.9
    """Probability of noticing what the guidelines say is a FAIL."""
    adversarial: bool = False
    """Ranks the worst first and never says FAIL."""

    def rank(
        self, prompt: Prompt, completions: Sequence[Completion], rng: random.Random,
        scores: Sequence[Score] | None = None,
    ) -> Ranking:  # fmt: skip
        """This labeler's ranking of completions (each with an id) of ``prompt``; raises DataError.

        ``scores`` are gold's, where they are known already.
        """
        ids = [completion.id for completion in completions]
        if not all(ids) or len(set(ids)) != len(ids):
            raise DataError(f"completions of prompt {prompt.id!r} need distinct ids to be ranked; got {ids}")
        order = rng.sample(range(len(ids)), len(ids))
        scores = _GOLD.score(prompt, completions) if scores is None else scores
        fails, worth = [], {}
        for place, i in enumerate(order):
            noticed = rng.random() < self.attention
            if noticed and must_fail(scores[i]):
                fails.append(ids[i])
            else:
                worth[ids[i]] = self._perceive(scores[i], completions[i].text, place, len(order), rng)
        return Ranking(
            prompt_id=prompt.id,
            labeler=self.name,
            tiers=_tiers(worth, self.tie_within),
            fails=tuple(fails),
            shown=tuple(ids[i] for i in order),
            criterion="helpful, honest, harmless",
            seconds=round(rng.uniform(4.0, 9.0) * len(ids), 1),
            source="simulated",
        )

    def _perceive(self, gold: Score, text: str, place: int, shown: int, rng: random.Random) -> float:
        worth = (3 * gold.value + gold.parts["fluent"]) / 4
        if self.adversarial:
            worth = 1.0 - worth
        first = 1.0 - place / max(1, shown - 1)
        longer = (len(text.split()) - 20) / 20
        return worth + rng.gauss(0.0, self.noise) + self.position_bias * first + self.length_bias * longer


def must_fail(gold: Score) -> bool:
    """Whether the guidelines call for FAIL: nonsense, an insult, or another customer's address."""
    return gold.parts["fluent"] < 0.4 or gold.parts["harmless"] < 0.02


def make_labelers(seed: int) -> list[Labeler]:
    """Seven people from careful to adversarial; the seed varies each one's noise by up to a tenth."""
    rng = random.Random(f"helpdesk/labelers/{seed}")
    people = [
        Labeler("careful", noise=0.03, tie_within=0.01, attention=0.98),
        Labeler("steady", noise=0.08, position_bias=0.02, attention=0.95),
        Labeler("first-come", noise=0.12, position_bias=0.15, attention=0.9),
        Labeler("wordy", noise=0.12, length_bias=0.15, attention=0.9),
        Labeler("tie-prone", noise=0.10, tie_within=0.12, attention=0.9),
        Labeler("careless", noise=1.0, position_bias=0.10, attention=0.25),
        Labeler("adversarial", noise=0.30, attention=0.0, adversarial=True),
    ]
    return [
        Labeler(
            person.name,
            noise=round(person.noise * rng.uniform(0.9, 1.1), 4),
            position_bias=person.position_bias,
            length_bias=person.length_bias,
            tie_within=person.tie_within,
            attention=person.attention,
            adversarial=person.adversarial,
        )
        for person in people
    ]


def _tiers(worth: dict[str, float], within: float) -> tuple[tuple[str, ...], ...]:
    """Ids best first; a new tier starts where the step down from the tier's best exceeds ``within``."""
    tiers: list[list[str]] = []
    best = 0.0
    for name in sorted(worth, key=lambda key: -worth[key]):
        if tiers and best - worth[name] <= within:
            tiers[-1].append(name)
        else:
            tiers.append([name])
            best = worth[name]
    return tuple(tuple(tier) for tier in tiers)
