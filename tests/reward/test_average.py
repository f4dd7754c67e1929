"""Averages of weights: by hand, no worse than their members, and refused where they mean nothing."""

import copy

import numpy as np
import pytest
import torch

from accord.errors import ConfigError, DataError, ModelError
from accord.lm.classifier import SequenceClassifier
from accord.lm.render import Template
from accord.reward.average import average, cosine
from accord.reward.ensemble import train_members
from accord.reward.model import RewardModel
from accord.reward.train import RewardConfig, train
from accord.types import Completion, Prompt

GROUPS = [
    (Prompt.from_text("say 1"), [Completion("ba zap"), Completion("dab ada ba")]),
    (Prompt.from_text("say 2"), [Completion("zap"), Completion("badda")]),
]


def moved(model, by):
    """A copy with every weight moved by a number."""
    other = RewardModel(copy.copy(model.classifier), model.mean, model.std)
    other.classifier.net = copy.deepcopy(model.classifier.net)
    with torch.no_grad():
        for value in other.classifier.net.parameters():
            value.add_(by)
    return other


@pytest.fixture
def one(folder):
    return RewardModel(SequenceClassifier.load(folder(labels=1)), 0.0, 1.0)


def test_every_weight_is_the_mean(one):
    parts = [one, moved(one, 0.01), moved(one, -0.04)]
    hashes = [part.classifier.weights_hash() for part in parts]
    found = average(parts, GROUPS).classifier.net.state_dict()
    for name, value in one.classifier.net.state_dict().items():
        torch.testing.assert_close(found[name], value - 0.01, atol=1e-6, rtol=1e-5)
    assert [part.classifier.weights_hash() for part in parts] == hashes


def test_twins_average_to_themselves_and_are_standardised_on_the_groups(one):
    found = average([one, one], GROUPS)
    assert found.classifier.weights_hash() == one.classifier.weights_hash()
    values = [s.value for scores in found.score_groups(GROUPS) for s in scores]
    assert np.mean(values) == pytest.approx(0, abs=1e-6)
    assert np.std(values, ddof=1) == pytest.approx(1, abs=1e-6)


def test_members_of_one_start_average_to_a_model_as_right_as_they_are(base, planted, tmp_path):
    """A fifth of the labels is wrong: members learn some by heart, their average less."""
    rng = np.random.default_rng(0)
    data = [c if rng.random() > 0.2 else type(c)(c.prompt, c.rejected, c.chosen) for c in planted(prompts=60)]
    config = RewardConfig(epochs=2, learning_rate=3e-3, holdout=0.2)

    def member(comparisons, anchors, seed):
        classifier = base()
        classifier.start_head(0)  # one head at the start: heads drawn apart do not average
        classifier.fresh = False
        return train(comparisons, classifier, config.model_copy(update={"seed": seed}))[0]

    members = train_members(member, data, 3, seed=0)
    assert all(0.8 < cosine(members[0], other) < 1 for other in members[1:])
    found = average(members, [(c.prompt, [c.chosen, c.rejected]) for c in data])
    fresh = planted(prompts=60, seed=9)

    def accuracy(model):
        pairs = [model.score(c.prompt, [c.chosen, c.rejected]) for c in fresh]
        return np.mean([a.value > b.value for a, b in pairs])

    assert accuracy(found) >= np.mean([accuracy(m) for m in members]) - 0.02
    assert accuracy(found) > 0.8
    found.save(tmp_path / "a")
    assert RewardModel.load(tmp_path / "a").score_groups(GROUPS) == found.score_groups(GROUPS)


def test_the_zero_of_anchors_is_averaged_like_a_weight(one):
    parts = [RewardModel(one.classifier, 0.0, 1.0, ab) for ab in ((1.0, 0.5), (3.0, -1.5))]
    found = average(parts, GROUPS)
    assert found.acceptable == (2.0, -0.5)
    assert found.mean == 0.25
    with pytest.raises(ModelError, match="anchors"):
        average([one, parts[0]], GROUPS)


def test_models_of_two_bases_are_refused(folder, one):
    other = RewardModel(SequenceClassifier.load(folder(labels=1, seed=5)), 0.0, 1.0)
    assert abs(cosine(one, other)) < 0.1
    with pytest.raises(ModelError, match=r"cosine of -?0\.0.*one base"):
        average([one, other], GROUPS)


def test_models_that_are_not_alike_are_refused(folder, one):
    encoder = RewardModel(SequenceClassifier.load(folder("bert", labels=1)), 0.0, 1.0)
    with pytest.raises(ModelError, match="architectures"):
        average([one, encoder], GROUPS)
    chat = RewardModel(SequenceClassifier.load(folder(labels=1), template=Template.HH), 0.0, 1.0)
    with pytest.raises(ModelError, match="reads its inputs"):
        average([one, chat], GROUPS)
    with pytest.raises(ConfigError, match="two at least"):
        average([one], GROUPS)
    with pytest.raises(DataError, match="standardise"):
        average([one, one], [])
