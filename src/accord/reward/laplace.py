"""How sure a reward model is, from its last layer alone: Laplace's approximation, in closed form.

With the trunk held fixed, a pair's logit is w . delta, delta the difference of its features x, and the
rankings are a logistic regression on delta. Around the trained w (MacKay 1992; Daxberger et al. 2021,
arXiv:2106.14806)

    cov = (sum over pairs  c s (1 - s) delta delta^T + tau I)^-1,    s = sigma(w . delta)
    difference of two completions:  w . delta  +-  sqrt(delta^T cov delta)
    probability that one wins:      sigma(w . delta / sqrt(1 + pi v / 8)),  v its variance

Pairs of a prompt are not independent: a pair of a prompt with N judged completions counts c = sqrt(2 / N), as
in the consensus. The trunk's own doubt is not in it, so that texts unlike any that were judged may look surer
than they are.

Shapes: P pairs, N completions, D width of the last layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from accord.errors import ConfigError, DataError
from accord.judgements import Comparison
from accord.lm.features import features, last_linear
from accord.reward.beside import Beside
from accord.reward.model import RewardModel
from accord.stats.calibration import log_loss
from accord.types import Completion, Group, Prompt, Score

Array = NDArray[np.float64]
FILES = Beside("accord_laplace.json", "laplace.safetensors", "Laplace posterior")
PRECISIONS = (1e-6, 1e6)
"""Bounds of a chosen tau, times the mean curvature of the data."""


@dataclass(frozen=True)
class Design:
    """Comparisons as a regression on the last layer."""

    delta_PD: Array
    """Features of the chosen less those of the rejected."""
    d_P: Array
    """The trained model's own difference of logits."""
    p_P: Array
    weight_P: Array
    x_ND: Array
    """Features of each completion, once."""


class LaplaceReward:
    """A reward model that doubts: reward - caution * variance, with ``mean`` and ``sd`` in parts; a
    ``Scorer``.

    ``sd`` is of the reward's distance from an ordinary completion (the mean of those it was fitted on), in
    units of reward. Make one with :meth:`fit`.
    """

    def __init__(
        self, model: RewardModel, cov_DD: Array, centre_D: Array, precision: float, caution: float = 0.0
    ) -> None:
        if not 0 <= caution < float("inf"):
            raise ConfigError(f"caution is {caution}; it must be 0 or more")
        self.model, self.cov_DD, self.centre_D = model, cov_DD, centre_D
        self.precision, self.caution = float(precision), float(caution)

    @classmethod
    def fit(
        cls,
        model: RewardModel,
        comparisons: Sequence[Comparison],
        *,
        held_out: Sequence[Comparison] = (),
        precision: float | None = None,
        caution: float = 0.0,
    ) -> LaplaceReward:
        """The posterior on what ``model`` was trained on; its rewards stay as they are.

        tau is ``precision`` if given; else the one that makes ``held_out`` most probable; else the one of
        most evidence.

        Raises:
            DataError: no comparisons.
            ConfigError: a precision that is not above 0.
        """
        design = design_of(model, comparisons)
        curvature_D, axes_DD = _curvature(design)
        if precision is None and held_out:
            precision = _by_held_out(design_of(model, held_out), curvature_D, axes_DD)
        elif precision is None:
            precision = best_precision(head_weights(model), design)
        if not 0 < precision < float("inf"):
            raise ConfigError(f"precision is {precision}; it must be above 0")
        cov_DD = (axes_DD / (curvature_D + precision)) @ axes_DD.T
        return cls(model, (cov_DD + cov_DD.T) / 2, design.x_ND.mean(axis=0), precision, caution)

    # -- scores ------------------------------------------------------------------------------

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """The reward of each completion less what doubt takes away."""
        return self.score_groups([(prompt, completions)])[0]

    def score_groups(self, groups: Sequence[Group]) -> list[list[Score]]:
        """The same for many groups; features cost a second pass.

        Raises:
            NumericsError: a reward is not finite.
        """
        scored = self.model.score_groups(groups)
        if not any(scored):
            return scored
        x_ND = layer(self.model, groups) - self.centre_D
        var = iter((_variance(x_ND, self.cov_DD) / self.model.std**2).tolist())
        return [[self._doubted(score, next(var)) for score in scores] for scores in scored]

    def _doubted(self, score: Score, variance: float) -> Score:
        parts = {"mean": score.value, "sd": variance**0.5, **score.parts}
        return Score(score.value - self.caution * variance, parts, score.why)

    def differences(self, comparisons: Sequence[Comparison]) -> tuple[Array, Array]:
        """Mean (P) and variance (P) of chosen less rejected, in logits."""
        design = design_of(self.model, comparisons)
        return design.d_P, _variance(design.delta_PD, self.cov_DD)

    def probabilities(self, comparisons: Sequence[Comparison]) -> Array:
        """(P,) that the chosen one wins, drawn towards one half by doubt."""
        d_P, var_P = self.differences(comparisons)
        return special.expit(_moderated(d_P, var_P))

    # -- folders -----------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the reward model's folder with the posterior beside it."""
        tensors = {"cov": self.cov_DD, "centre": self.centre_D}
        FILES.save(path, self.model, tensors, {"precision": self.precision, "caution": self.caution})

    @classmethod
    def load(cls, path: str | Path, device: str | None = None) -> LaplaceReward:
        """Load what :meth:`save` wrote.

        Raises:
            ModelError: ``path`` holds no posterior, or no reward model.
        """
        model, tensors, settings = FILES.load(path, device)
        return cls(model, tensors["cov"], tensors["centre"], **settings)


# -- the regression ----------------------------------------------------------------------------


def design_of(model: RewardModel, comparisons: Sequence[Comparison]) -> Design:
    """``comparisons`` on the model's last layer, each completion read once.

    Raises:
        DataError: no comparisons.
    """
    if not comparisons:
        raise DataError("no comparisons to learn doubt from; pass those the model was trained on")
    prompts: dict[str, Prompt] = {}
    members: dict[str, dict[str, Completion]] = {}
    for c in comparisons:
        prompts[c.prompt.id] = c.prompt
        members.setdefault(c.prompt.id, {}).update({_key(x): x for x in (c.chosen, c.rejected)})
    groups = [(prompts[name], list(group.values())) for name, group in members.items()]
    x_ND = layer(model, groups)
    keys = [(name, key) for name, group in members.items() for key in group]
    place = {key: n for n, key in enumerate(keys)}
    ends = [(place[c.prompt.id, _key(c.chosen)], place[c.prompt.id, _key(c.rejected)]) for c in comparisons]
    first_P, second_P = np.array(ends).T
    delta_PD = x_ND[first_P] - x_ND[second_P]
    weight_P = [np.sqrt(2 / max(2, len(members[c.prompt.id]))) for c in comparisons]
    return Design(
        delta_PD,
        delta_PD @ head_weights(model),
        np.array([c.p_chosen for c in comparisons]),
        np.array(weight_P),
        x_ND,
    )


def head_weights(model: RewardModel) -> Array:
    """(D,) weights of the logit in the last layer's features; of two classes, of their log-odds."""
    weight_LD = last_linear(model.classifier.net).weight.detach().cpu().numpy().astype(np.float64)
    return weight_LD[0] if len(weight_LD) == 1 else weight_LD[1] - weight_LD[0]


def _key(completion: Completion) -> str:
    return completion.id or completion.text


def layer(model: RewardModel, groups: Sequence[Group]) -> Array:
    """(N, D) what the head reads of each completion, in order."""
    classifier = model.classifier
    inputs = [classifier.encode(prompt, c.text) for prompt, group in groups for c in group]
    return features(classifier, inputs).numpy().astype(np.float64) if inputs else np.zeros((0, 0))


def _curvature(design: Design) -> tuple[Array, Array]:
    """Eigenvalues (D) and axes (D, D) of the data's curvature at the trained weights."""
    s_P = special.expit(design.d_P)
    root_PD = design.delta_PD * np.sqrt(design.weight_P * s_P * (1 - s_P))[:, None]
    curvature_D, axes_DD = np.linalg.eigh(root_PD.T @ root_PD)
    return np.maximum(curvature_D, 0.0), axes_DD


def _variance(delta_PD: Array, cov_DD: Array) -> Array:
    return np.maximum(np.einsum("pd,de,pe->p", delta_PD, cov_DD, delta_PD, optimize=True), 0.0)


def _moderated(d_P: Array, var_P: Array) -> Array:
    """The logit whose sigmoid is, nearly, the mean of sigma over a normal (MacKay 1992)."""
    return d_P / np.sqrt(1 + np.pi * var_P / 8)


def _least(loss: Callable[[float], float], curvature_D: Array) -> float:
    """tau of least loss (a function of log tau): a grid, for there may be several valleys, then a search."""
    scale = max(float(curvature_D.mean()), 1e-12)
    grid = np.log(scale) + np.linspace(np.log(PRECISIONS[0]), np.log(PRECISIONS[1]), 49)
    at = int(np.argmin([loss(float(x)) for x in grid]))
    near = float(grid[max(0, at - 1)]), float(grid[min(len(grid) - 1, at + 1)])
    return float(np.exp(optimize.minimize_scalar(loss, bounds=near, method="bounded").x))


def best_precision(weights_D: Array, design: Design) -> float:
    """tau of most evidence at the trained weights, under a prior N(0, I / tau)."""
    curvature_D, _ = _curvature(design)
    square, width = float(weights_D @ weights_D), len(weights_D)

    def loss(log_tau: float) -> float:
        tau = np.exp(log_tau)
        return 0.5 * (tau * square - width * log_tau + float(np.log(curvature_D + tau).sum()))

    return _least(loss, curvature_D)


def _by_held_out(held: Design, curvature_D: Array, axes_DD: Array) -> float:
    """tau under which the held-out labels are most probable."""
    rotated_PD = (held.delta_PD @ axes_DD) ** 2

    def loss(log_tau: float) -> float:
        return log_loss(_moderated(held.d_P, rotated_PD @ (1 / (curvature_D + np.exp(log_tau)))), held.p_P)

    return _least(loss, curvature_D)
