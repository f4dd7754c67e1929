"""Several heads on one trunk: an ensemble for the price of one reward model.

Each head is a logistic regression on the trunk's last layer, fitted to prompts drawn with replacement and
drawn towards a random start a_e ~ N(0, I / tau) of its own (anchored ensembles, Pearce et al. 2018,
arXiv:1810.05546): where the data say nothing the heads keep their starts and disagree. tau is that of most
evidence (``reward.laplace``). Heads share the trunk's mistakes; full members (``reward.ensemble``) share less
and cost E times as much.

Shapes: E heads, N completions, P pairs, D width of the last layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accord.errors import ConfigError, DataError, NumericsError
from accord.judgements import Comparison
from accord.reward.beside import Beside
from accord.reward.ensemble import CAUTION, Rule, as_scores
from accord.reward.laplace import best_precision, design_of, head_weights, layer
from accord.reward.model import RewardModel
from accord.stats.logistic import fit, votes
from accord.types import Completion, Group, Prompt, Score

Array = NDArray[np.float64]
FILES = Beside("accord_heads.json", "heads.safetensors", "heads")


class Heads:
    """Heads on ``model``'s trunk, combined by a rule; a ``Scorer``. See :meth:`fit` and :meth:`load`."""

    def __init__(
        self, model: RewardModel, weight_ED: Array, centre_D: Array, rule: Rule, caution: float
    ) -> None:
        if len(weight_ED) < 2:
            raise ConfigError(f"{len(weight_ED)} head(s); two at least can disagree")
        if not 0 <= caution < float("inf"):
            raise ConfigError(f"caution is {caution}; it must be 0 or more")
        self.model, self.weight_ED, self.centre_D = model, weight_ED, centre_D
        self.rule, self.caution = Rule(rule), float(caution)

    @classmethod
    def fit(
        cls,
        model: RewardModel,
        comparisons: Sequence[Comparison],
        heads: int,
        rng: np.random.Generator,
        *,
        rule: Rule = Rule.VARIANCE,
        caution: float = CAUTION,
    ) -> Heads:
        """``heads`` heads on what ``model`` was trained on, each standardised on those completions.

        Raises:
            DataError: no comparisons, or ones that no head can tell apart.
        """
        design = design_of(model, comparisons)
        tau = best_precision(head_weights(model), design)
        width = design.delta_PD.shape[1]
        names = sorted({c.prompt.id for c in comparisons})
        place = {name: i for i, name in enumerate(names)}
        prompt_P = np.array([place[c.prompt.id] for c in comparisons])
        weight_ED = np.zeros((heads, width))
        for e in range(heads):
            count_P = rng.multinomial(len(names), np.full(len(names), 1 / len(names)))[prompt_P]
            given = votes(design.delta_PD, design.p_P, weight=design.weight_P * count_P)
            start_D = rng.normal(0, 1 / np.sqrt(tau), width)
            weight_ED[e] = fit(given, start_D, tau * np.eye(width)).mean_K
        sd_E = (design.x_ND @ weight_ED.T).std(axis=0)
        if not (sd_E > 0).all():
            raise DataError(
                "the trunk gives all completions the same features, so no head can tell them apart"
            )
        return cls(model, weight_ED / sd_E[:, None], design.x_ND.mean(axis=0), rule, caution)

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """The combined reward of each completion."""
        return self.score_groups([(prompt, completions)])[0]

    def score_groups(self, groups: Sequence[Group]) -> list[list[Score]]:
        """The same for many groups in one pass, with mean, sd and each head as parts.

        Raises:
            NumericsError: a reward is not finite.
        """
        if not any(len(group) for _, group in groups):
            return [[] for _ in groups]
        values_EN = ((layer(self.model, groups) - self.centre_D) @ self.weight_ED.T).T
        if not np.isfinite(values_EN).all():
            at = int(np.flatnonzero(~np.isfinite(values_EN).all(axis=0))[0])
            text = [c.text for _, group in groups for c in group][at]
            raise NumericsError(f"the reward of {text[:80]!r} is not finite; the trunk's weights are damaged")
        found = iter(as_scores(values_EN, self.rule, self.caution))
        return [[next(found) for _ in group] for _, group in groups]

    def save(self, path: str | Path) -> None:
        """Write the trunk as a reward model's folder with the heads beside it."""
        tensors = {"weight": self.weight_ED, "centre": self.centre_D}
        FILES.save(path, self.model, tensors, {"rule": self.rule.value, "caution": self.caution})

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> Heads:
        """Load what :meth:`save` wrote.

        Raises:
            ModelError: ``path`` holds no heads, or no reward model.
        """
        model, held, settings = FILES.load(path, device)
        return cls(model, held["weight"], held["centre"], Rule(settings["rule"]), settings["caution"])
