"""One reward model from several: the mean of their weights (WARM, Ramé et al. 2024, arXiv:2401.12187).

Members fine-tuned from one base, with one head at the start, lie in one valley, where the mean of weights
does much of what the mean of rewards does, for the price of one model. What differs from run to run is
averaged out, labels learned by heart most of all; what all share stays. Where all were trained on
anchors, the two numbers of P(acceptable) are averaged like weights.

Left out: weights for members, and averages along one run.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from accord.errors import ConfigError, DataError, ModelError
from accord.reward.model import RewardModel
from accord.types import Group

ALIKE = 0.5
"""Least cosine between two members' trunks. Fine-tuning moves weights by a small part of their length;
matrices of two bases are at right angles."""


def average(models: Sequence[RewardModel], groups: Sequence[Group]) -> RewardModel:
    """The mean of the models' weights, standardised anew on the completions of ``groups``.

    Pass what the members were trained on as ``groups``: a mean of weights has a scale of its own. The models
    stay as they are.

    Raises:
        ConfigError: fewer than two models.
        DataError: fewer than two completions, or all of one reward.
        ModelError: another architecture, vocabulary, template or reading rule; another base; or only
            some were trained on anchors.
    """
    if len(models) < 2:
        raise ConfigError(f"an average of {len(models)} model(s); pass two at least")
    first = models[0]
    for other in models[1:]:
        _check_alike(first, other)
    net = copy.deepcopy(first.classifier.net)
    states = [model.classifier.net.state_dict() for model in models]
    net.load_state_dict({name: _mean([state[name] for state in states]) for name in states[0]})
    classifier = copy.copy(first.classifier)
    classifier.net, classifier.name = net, f"average of {len(models)} from {first.classifier.name}"
    raw = RewardModel(classifier)
    values = torch.tensor(
        [s.value for scores in raw.score_groups(groups) for s in scores], dtype=torch.float64
    )
    if len(values) < 2 or not float(values.std()) > 0:
        raise DataError(
            f"{len(values)} completions to standardise the average on, all of one reward; pass those the "
            "members were trained on"
        )
    spread = float(values.std())
    if first.acceptable is None:
        return RewardModel(classifier, float(values.mean()), spread)
    a, b = np.mean([model.acceptable for model in models if model.acceptable], axis=0).tolist()
    return RewardModel(classifier, -b / a, spread, (a, b))


def _mean(parts: Sequence[Tensor]) -> Tensor:
    """In float64; a buffer that is no real number is the same in all."""
    if not parts[0].is_floating_point():
        return parts[0]
    return torch.stack([part.double() for part in parts]).mean(dim=0).to(parts[0].dtype)


def _check_alike(one: RewardModel, other: RewardModel) -> None:
    a, b = one.classifier, other.classifier
    shapes = [{n: tuple(t.shape) for n, t in c.net.state_dict().items()} for c in (a, b)]
    if a.net.config.model_type != b.net.config.model_type or shapes[0] != shapes[1]:
        raise ModelError(
            f"{a.name} and {b.name} are of different architectures; only members of one base average"
        )
    if a.tokenizer.get_vocab() != b.tokenizer.get_vocab():
        raise ModelError(
            f"{a.name} and {b.name} have different vocabularies; only members of one base average"
        )
    reading = [(c.template, c.reads, c.max_length) for c in (a, b)]
    if reading[0] != reading[1]:
        raise ModelError(
            f"{a.name} reads its inputs by {reading[0]}, {b.name} by {reading[1]}; train them alike"
        )
    if (one.acceptable is None) != (other.acceptable is None):
        raise ModelError(
            f"of {a.name} and {b.name} only one was trained on anchors (FAIL, thumbs), so their zeros are "
            "not the same; train them alike"
        )
    alike = cosine(one, other)
    if alike < ALIKE:
        raise ModelError(
            f"the trunks of {a.name} and {b.name} have a cosine of {alike:.2f}, so they do not come from one "
            "base; members fine-tuned from one base are near 1. Combine them as an ensemble"
        )


def cosine(one: RewardModel, other: RewardModel) -> float:
    """Of the matrices of two models' trunks; vectors (norms, biases) are alike in all models and left out."""
    trunks = [m.classifier.net.base_model.state_dict() for m in (one, other)]
    names = [name for name, value in trunks[0].items() if value.dim() > 1 and value.is_floating_point()]
    a, b = (torch.cat([trunk[name].double().flatten() for name in names]) for trunk in trunks)
    return float(a @ b / (a.norm() * b.norm()))
