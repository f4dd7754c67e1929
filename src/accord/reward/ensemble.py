"""Several reward models as one careful Scorer: where its members disagree, it does not believe them.

    mean      mean of the members
    variance  mean - caution * variance of the members   (UWO of Coste et al. 2023, arXiv:2310.02743)
    worst     the least of the members                   (their WCO)

Variance is over the E members as they are (divided by E), on their standardised rewards, so ``caution`` is
per standard deviation of ordinary completions. Members learn from prompts drawn with replacement. They share
their base, and with it what the base cannot see: a mistake all members make shows no spread (Eisenstein et
al. 2023, arXiv:2312.09244).

Shapes: E members, N completions.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accord.errors import ConfigError, DataError, ModelError
from accord.judgements import Anchor, Comparison
from accord.reward.model import RewardModel
from accord.types import Completion, Group, Prompt, Score

Array = NDArray[np.float64]
SETTINGS = "accord_ensemble.json"
CAUTION = 0.5


class Rule(StrEnum):
    """How the members' rewards become one."""

    MEAN = "mean"
    VARIANCE = "variance"
    """Mean less ``caution`` times the variance."""
    WORST = "worst"
    """The least."""


def combine(values_EN: Array, rule: Rule, caution: float = CAUTION) -> Array:
    """(N,) one reward a completion from its members' (E, N)."""
    if rule is Rule.WORST:
        return values_EN.min(axis=0)
    mean_N = values_EN.mean(axis=0)
    return mean_N - caution * values_EN.var(axis=0) if rule is Rule.VARIANCE else mean_N


class Ensemble:
    """Reward models combined by a :class:`Rule`; a ``Scorer`` with ``mean``, ``sd`` and each member in parts.

    Raises:
        ConfigError: fewer than two members, or a negative caution.
    """

    def __init__(
        self, members: Sequence[RewardModel], rule: Rule = Rule.VARIANCE, caution: float = CAUTION
    ) -> None:
        if len(members) < 2:
            raise ConfigError(f"an ensemble of {len(members)}; two members at least can disagree")
        if not 0 <= caution < float("inf"):
            raise ConfigError(f"caution is {caution}; it must be 0 or more")
        self.members = list(members)
        self.rule = Rule(rule)
        self.caution = float(caution)

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> Ensemble:
        """Load what :meth:`save` wrote.

        Raises:
            ModelError: ``path`` holds no ensemble, or a member cannot be loaded.
        """
        file = Path(path) / SETTINGS
        if not file.exists():
            raise ModelError(
                f"{path} holds no ensemble: there is no {SETTINGS}; a single model loads as RewardModel"
            )
        settings = json.loads(file.read_text())
        members = [RewardModel.load(Path(path) / name, device) for name in settings["members"]]
        return cls(members, Rule(settings["rule"]), settings["caution"])

    def save(self, path: str | Path) -> None:
        """Write the first member to ``path``, which so is a reward model too, and the others within it."""
        names = [".", *(f"member-{i}" for i in range(1, len(self.members)))]
        for name, member in zip(names, self.members, strict=True):
            member.save(Path(path) / name)
        settings = {"rule": self.rule.value, "caution": self.caution, "members": names}
        (Path(path) / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """The combined reward of each completion."""
        return self.score_groups([(prompt, completions)])[0]

    def score_groups(self, groups: Sequence[Group]) -> list[list[Score]]:
        """Combined rewards for many groups, one pass a member.

        Raises:
            NumericsError: a member's reward is not finite.
        """
        scored = [member.score_groups(groups) for member in self.members]
        values_EN = np.array([[s.value for group in member for s in group] for member in scored])
        found = iter(as_scores(values_EN, self.rule, self.caution))
        return [[next(found) for _ in group] for _, group in groups]


def as_scores(values_EN: Array, rule: Rule, caution: float) -> list[Score]:
    """Scores with the members' mean, standard deviation and own rewards as parts."""
    combined_N = combine(values_EN, rule, caution)
    mean_N, sd_N = values_EN.mean(axis=0), values_EN.std(axis=0)
    return [
        Score(
            float(combined_N[n]),
            {"mean": float(mean_N[n]), "sd": float(sd_N[n])}
            | {f"member {e + 1}": float(value) for e, value in enumerate(values_EN[:, n])},
        )
        for n in range(values_EN.shape[1])
    ]


# -- members -----------------------------------------------------------------------------------


def train_members(
    train: Callable[[Sequence[Comparison], Sequence[Anchor], int], RewardModel],
    comparisons: Sequence[Comparison],
    members: int,
    seed: int,
    anchors: Sequence[Anchor] = (),
) -> list[RewardModel]:
    """``members`` reward models, each from prompts drawn with replacement and with a seed of its own.

    ``train(comparisons, anchors, seed)`` trains one: full, LoRA or head. Members of one ``start`` (the same
    base and the same head at the start) can be averaged too (:mod:`accord.reward.average`).
    """
    rngs = [np.random.default_rng([seed, member]) for member in range(members)]
    return [
        train(*resample(comparisons, anchors, rng), seed + 1000 * (member + 1))
        for member, rng in enumerate(rngs)
    ]


def resample(
    comparisons: Sequence[Comparison], anchors: Sequence[Anchor], rng: np.random.Generator
) -> tuple[list[Comparison], list[Anchor]]:
    """As many prompts as there are, drawn with replacement, each with all its comparisons and anchors.

    A prompt drawn again is another prompt of the same text, so that it counts again: its id ends in the
    number of the copy. The split keeps prompts of one text on one side.

    Raises:
        DataError: neither comparisons nor anchors.
    """
    prompts = {c.prompt.id: c.prompt for c in comparisons} | {a.prompt.id: a.prompt for a in anchors}
    if not prompts:
        raise DataError("no comparisons and no anchors to draw members from; run `accord agree` first")
    names = sorted(prompts)
    drawn = Counter(names[i] for i in rng.integers(0, len(names), len(names)))
    copies = {
        name: [
            prompts[name],
            *(dataclasses.replace(prompts[name], id=f"{name}#{k}") for k in range(1, drawn[name])),
        ]
        for name in drawn
    }
    return (
        [dataclasses.replace(c, prompt=p) for c in comparisons for p in copies.get(c.prompt.id, ())],
        [dataclasses.replace(a, prompt=p) for a in anchors for p in copies.get(a.prompt.id, ())],
    )
