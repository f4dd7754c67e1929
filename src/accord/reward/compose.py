"""Several scorers as one: weights, a scale that is stated, and constraints held by multipliers.

    value = sum_i weight_i * clip((raw_i - mean_i) / sd_i) + sum_j lambda_j * slack_j

A part with ``at_least`` (or ``at_most``) is to keep its mean over a step's completions on the right side
of the threshold; slack_j = (raw_j - at_least_j) / sd_j, or (at_most_j - raw_j) / sd_j. Its multiplier is
the dual variable of

    maximise E[sum_i ...] - beta KL(policy || reference)   subject to   E[slack_j] >= 0

and climbs by projected dual ascent, one move a step of training:

    lambda_j <- min(limit, max(0, lambda_j - rate * mean(slack_j)))

The Lagrangian is not divided by 1 + lambda (Dai et al. 2023, arXiv:2310.12773, do): divided, the fixed
point belongs to another leash, beta (1 + lambda). A constraint that nothing can meet drives its
multiplier to ``limit``, which shows in the metrics.

Mean and sd are stated, never taken from the batch: a batch's own scale would move under the policy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, model_validator

from accord.config import Config
from accord.errors import ConfigError, DataError, NumericsError, StoreError
from accord.types import Completion, Group, Prompt, Score, Scorer, digest, score_groups


class PartConfig(Config):
    """How one part of a composed reward counts."""

    weight: float = Field(1.0, allow_inf_nan=False)
    """Weight of the standardised value; 0: it is shown (or held by its threshold), and not paid."""
    mean: float = Field(0.0, allow_inf_nan=False)
    """Taken from the raw value before it is divided by sd."""
    sd: float = Field(1.0, gt=0, allow_inf_nan=False)
    """The raw value is divided by it."""
    low: float | None = Field(None, allow_inf_nan=False)
    """Standardised values below count as this; no floor unless given."""
    high: float | None = Field(None, allow_inf_nan=False)
    """Standardised values above count as this; no ceiling unless given."""
    at_least: float | None = Field(None, allow_inf_nan=False)
    """Constraint: the raw value's mean is to reach this."""
    at_most: float | None = Field(None, allow_inf_nan=False)
    """Constraint: the raw value's mean is not to pass this."""
    rate: float = Field(0.1, gt=0, allow_inf_nan=False)
    """Step of the multiplier for a mean that is one sd off its threshold."""
    limit: float = Field(10.0, gt=0, allow_inf_nan=False)
    """The multiplier's ceiling."""

    @model_validator(mode="after")
    def _consistent(self) -> PartConfig:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ConfigError(f"low {self.low} is not below high {self.high}; every value would count alike")
        if self.at_least is not None and self.at_most is not None:
            raise ConfigError("a part has at_least or at_most, not both; name the same scorer twice instead")
        return self

    @property
    def constrained(self) -> bool:
        """Whether the part's mean has a threshold."""
        return self.at_least is not None or self.at_most is not None

    def paid(self, raw: float) -> float:
        """The weighted, standardised and clipped value."""
        value = (raw - self.mean) / self.sd
        if self.low is not None:
            value = max(self.low, value)
        if self.high is not None:
            value = min(self.high, value)
        return self.weight * value

    def slack(self, raw: float) -> float:
        """How far ``raw`` lies on the right side of the threshold, in sd; 0 without a threshold."""
        if self.at_least is not None:
            return (raw - self.at_least) / self.sd
        return 0.0 if self.at_most is None else (self.at_most - raw) / self.sd


@dataclass(frozen=True)
class Part:
    """A scorer under a name, and how it counts."""

    name: str
    scorer: Scorer
    config: PartConfig = field(default_factory=PartConfig)


class ComposedReward:
    """Weighted parts as one ``Scorer``; ``Score.parts`` holds each part's raw value by name.

    Below ``NAME.`` stand the part's own parts; ``NAME multiplier`` is the price of a constraint. Scoring
    changes nothing; :meth:`adapt` moves the multipliers, and training calls it once a step.

    Raises:
        ConfigError: no part, two of one name, or a name that parts of parts could not be told from.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        names = [part.name for part in parts]
        if not names:
            raise ConfigError("a composed reward needs at least one part")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"two parts are called {twice[0]!r}; each part needs a name of its own")
        for name in names:
            if not name or "." in name or name != name.strip():
                raise ConfigError(f"a part is called {name!r}; use a name without dots and outer spaces")
        if all(part.config.weight == 0 and not part.config.constrained for part in parts):
            raise ConfigError("every part has weight 0 and none a threshold: nothing would be rewarded")
        self.parts = tuple(parts)
        self.multipliers = {part.name: 0.0 for part in parts if part.config.constrained}

    def part(self, name: str) -> Part:
        """The part called ``name``; ConfigError where there is none."""
        for part in self.parts:
            if part.name == name:
                return part
        raise ConfigError(f"no part {name!r}; there are {', '.join(part.name for part in self.parts)}")

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """One composed score a completion, in order."""
        return self.score_groups([(prompt, completions)])[0]

    def score_groups(self, groups: Sequence[Group]) -> list[list[Score]]:
        """The same for many groups, each part asked once.

        Raises:
            NumericsError: a part returned too few scores or one that is not finite; part and text are named.
        """
        by_part = [_checked(part, groups, score_groups(part.scorer, groups)) for part in self.parts]
        return [
            [self._sum([scores[g][i] for scores in by_part]) for i in range(len(completions))]
            for g, (_, completions) in enumerate(groups)
        ]

    def _sum(self, scores: Sequence[Score]) -> Score:
        value, parts, why = 0.0, dict[str, float](), []
        for part, score in zip(self.parts, scores, strict=True):
            value += part.config.paid(score.value)
            parts[part.name] = score.value
            parts |= {f"{part.name}.{name}": number for name, number in score.parts.items()}
            if part.config.constrained:
                multiplier = self.multipliers[part.name]
                value += multiplier * part.config.slack(score.value)
                parts[f"{part.name} multiplier"] = multiplier
            if score.why:
                why.append(f"{part.name}: {score.why}")
        return Score(value, parts, "; ".join(why))

    # -- constraints -------------------------------------------------------------------------

    def adapt(self, scores: Sequence[Score]) -> dict[str, float]:
        """Move each multiplier by the mean slack of ``scores``; returns the parts' means and the multipliers.

        Raises:
            DataError: no scores, or some that this reward did not give.
        """
        if not scores:
            raise DataError("no scores to adapt the multipliers to; pass those of a step's completions")
        metrics = {}
        for part in self.parts:
            missing = [score for score in scores if part.name not in score.parts]
            if missing:
                raise DataError(f"a score has no part {part.name!r}; pass the scores this reward gave")
            raw = [score.parts[part.name] for score in scores]
            metrics[f"part.{part.name}"] = math.fsum(raw) / len(raw)
            if part.config.constrained:
                slack = math.fsum(part.config.slack(each) for each in raw) / len(raw)
                moved = self.multipliers[part.name] - part.config.rate * slack
                self.multipliers[part.name] = min(part.config.limit, max(0.0, moved))
                metrics[f"multiplier.{part.name}"] = self.multipliers[part.name]
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """The multipliers, and a digest of the parts' settings they belong to."""
        return {"multipliers": dict(self.multipliers), "parts": self._fingerprint()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the multipliers back; StoreError where they belong to other parts or settings."""
        if state.get("parts") != self._fingerprint():
            raise StoreError(
                f"the checkpoint's multipliers {state.get('multipliers')} belong to another composition than "
                f"the parts {', '.join(part.name for part in self.parts)}; resume with the reward file as it "
                "was, or start a new run"
            )
        self.multipliers = {name: float(state["multipliers"][name]) for name in self.multipliers}

    def _fingerprint(self) -> str:
        return digest([[part.name, part.config.model_dump()] for part in self.parts])


def _checked(part: Part, groups: Sequence[Group], scored: Sequence[Sequence[Score]]) -> list[list[Score]]:
    """A part's scores, one a completion, all finite; its name stands in the error."""
    if len(scored) != len(groups):
        raise NumericsError(
            f"part {part.name!r} returned scores for {len(scored)} of {len(groups)} prompts; mend the scorer"
        )
    for (prompt, completions), scores in zip(groups, scored, strict=True):
        if len(scores) != len(completions):
            raise NumericsError(
                f"part {part.name!r} returned {len(scores)} scores for the {len(completions)} completions of "
                f"prompt {prompt.id!r}; a scorer returns one for each. Mend the scorer"
            )
        for completion, score in zip(completions, scores, strict=True):
            if not math.isfinite(score.value):
                raise NumericsError(
                    f"part {part.name!r} gave {score.value} to {completion.text[:120]!r}, a completion of "
                    f"prompt {prompt.id!r}; a reward must be a finite number. Mend the scorer"
                )
    return [list(scores) for scores in scored]
