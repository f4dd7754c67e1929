"""Ensembles: the rules by hand, members that differ, folders to the bit, and a reward that is hacked less."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

from accord.errors import ConfigError, DataError, ModelError
from accord.judgements import Anchor, Comparison
from accord.lm.classifier import SequenceClassifier
from accord.reward.ensemble import SETTINGS, Ensemble, Rule, combine, resample, train_members
from accord.reward.model import RewardModel
from accord.reward.train import RewardConfig, train
from accord.types import Completion, Prompt, Score, Scorer, score_groups

GROUPS = [
    (Prompt.from_text("say 1"), [Completion("ba zap"), Completion("dab ada ba")]),
    (Prompt.from_text("say 2"), [Completion("zap")]),
]


def members(folder, count=3):
    """Untrained on purpose: heads drawn from different seeds."""
    return [
        RewardModel(SequenceClassifier.load(folder(labels=1, seed=seed)), 0.01 * seed, 0.5 + seed)
        for seed in range(count)
    ]


# -- the rules ---------------------------------------------------------------------------------


def test_the_rules_by_hand():
    """Three members say 1, 2, 6 of one completion (mean 3, variance 14/3) and 0, 0, 0 of another."""
    values = np.array([[1.0, 0.0], [2.0, 0.0], [6.0, 0.0]])
    assert combine(values, Rule.MEAN).tolist() == [3.0, 0.0]
    assert combine(values, Rule.WORST).tolist() == [1.0, 0.0]
    assert combine(values, Rule.VARIANCE, 0.5).tolist() == [pytest.approx(3 - 0.5 * 14 / 3), 0.0]
    assert combine(values, Rule.VARIANCE, 0.0).tolist() == [3.0, 0.0]


@pytest.mark.parametrize("rule", list(Rule))
def test_a_score_is_its_members_combined_with_all_of_them_shown(folder, rule):
    parts = members(folder)
    ensemble = Ensemble(parts, rule, 0.7)
    assert isinstance(ensemble, Scorer)
    alone = np.array([[s.value for g in m.score_groups(GROUPS) for s in g] for m in parts])
    found = [s for group in score_groups(ensemble, GROUPS) for s in group]
    assert [s.value for s in found] == pytest.approx(combine(alone, rule, 0.7))
    for n, score in enumerate(found):
        assert score.parts["mean"] == pytest.approx(alone[:, n].mean())
        assert score.parts["sd"] == pytest.approx(alone[:, n].std())
        assert [score.parts[f"member {e}"] for e in (1, 2, 3)] == alone[:, n].tolist()
    (alone_again,) = ensemble.score(*GROUPS[1])
    assert alone_again.value == pytest.approx(found[2].value, abs=1e-5)
    assert ensemble.score_groups([]) == []


def test_twins_have_no_spread(folder):
    one = members(folder, 1)[0]
    for rule in Rule:
        (score,) = Ensemble([one, one], rule, 100.0).score(*GROUPS[1])
        assert score.value == one.score(*GROUPS[1])[0].value
        assert score.parts["sd"] == 0.0


class Told:
    """A member that says what it is told."""

    def __init__(self, *values):
        self.values = values

    def score_groups(self, groups):
        told = iter(self.values)
        return [[Score(next(told)) for _ in group] for _, group in groups]


def test_what_one_member_alone_overrates_is_not_believed():
    """The attack of best of n: a text that one member loves by mistake wins the mean and no careful rule."""
    group = (Prompt.from_text("p"), [Completion("solid"), Completion("hack")])
    told = [Told(1.0, 0.0), Told(1.1, 0.1), Told(0.9, 6.0)]
    best = {rule: np.argmax([s.value for s in Ensemble(told, rule, 0.5).score(*group)]) for rule in Rule}
    assert best == {Rule.MEAN: 1, Rule.VARIANCE: 0, Rule.WORST: 0}


def test_ensembles_without_sense_are_refused(folder):
    one = members(folder, 1)
    with pytest.raises(ConfigError, match="two members"):
        Ensemble(one)
    for caution in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="caution"):
            Ensemble(one * 2, Rule.VARIANCE, caution)


# -- folders -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_saved_and_loaded_it_scores_the_same_to_the_bit(base, planted, tmp_path, kind):
    data = planted(prompts=12)
    parts = [train(data, base(kind), RewardConfig(seed=seed))[0] for seed in (0, 1)]
    ensemble = Ensemble(parts, Rule.WORST, 0.25)
    ensemble.save(tmp_path / "e")
    loaded = Ensemble.load(tmp_path / "e")
    assert loaded.score_groups(GROUPS) == ensemble.score_groups(GROUPS)
    assert (loaded.rule, loaded.caution) == (Rule.WORST, 0.25)
    settings = json.loads((tmp_path / "e" / SETTINGS).read_text())
    assert settings == {"rule": "worst", "caution": 0.25, "members": [".", "member-1"]}
    for name, part in zip(settings["members"], parts, strict=True):  # a member is a reward model of its own
        assert RewardModel.load(tmp_path / "e" / name).score(*GROUPS[0]) == part.score(*GROUPS[0])


def test_a_folder_without_an_ensemble_is_refused(folder):
    with pytest.raises(ModelError, match="no ensemble"):
        Ensemble.load(folder(labels=1))


# -- members -----------------------------------------------------------------------------------


def test_prompts_are_drawn_with_all_their_comparisons_and_anchors(planted):
    data = planted(prompts=50)
    anchors = [Anchor(c.prompt, c.chosen, 1.0) for c in data]
    drawn, marks = resample(data, anchors, np.random.default_rng(0))
    per_prompt = Counter(c.prompt.id for c in data)
    found = Counter(c.prompt.id for c in drawn)
    assert len(found) == 50  # as many prompts as before, copies counted
    originals = {name.partition("#")[0] for name in found}
    assert 25 <= len(originals) <= 39  # about 1 - 1/e of them
    for name, count in found.items():
        assert count == per_prompt[name.partition("#")[0]]
    assert Counter(a.prompt.id for a in marks) == found
    texts = {c.prompt.id: c.prompt.text for c in data}
    assert all(c.prompt.text == texts[c.prompt.id.partition("#")[0]] for c in drawn)
    assert resample(data, (), np.random.default_rng(0))[0] == drawn
    assert resample(data, (), np.random.default_rng(1))[0] != drawn
    assert resample([], anchors, np.random.default_rng(0)) == ([], marks)
    with pytest.raises(DataError, match="no comparisons"):
        resample([], [], np.random.default_rng(0))


def test_what_is_shown_of_a_prompt_survives_the_draw():
    prompt = Prompt.from_text("p", meta={"answer": 3})
    drawn, _ = resample(
        [Comparison(prompt, Completion("a"), Completion("b"), 0.8)], (), np.random.default_rng(0)
    )
    assert (drawn[0].p_chosen, drawn[0].prompt.meta) == (0.8, {"answer": 3})


def test_members_learn_the_same_and_err_apart(base, planted):
    """On a planted preference all members are right; the spread is larger on texts unlike any they saw."""
    data = planted(prompts=60)
    config = RewardConfig(epochs=4, learning_rate=3e-3, holdout=0.2)

    def one(comparisons, anchors, seed):
        return train(comparisons, base(), config.model_copy(update={"seed": seed}))[0]

    ensemble = Ensemble(train_members(one, data, 3, seed=0))
    assert len({m.classifier.weights_hash() for m in ensemble.members}) == 3
    new = Prompt.from_text("new")
    good, bad = ensemble.score(new, [Completion("ba zap dab"), Completion("ba ada dab")])
    assert all(good.parts[f"member {e}"] > bad.parts[f"member {e}"] for e in (1, 2, 3))
    again = Ensemble(train_members(one, data, 3, seed=0))
    assert [s.value for s in again.score(*GROUPS[0])] == [s.value for s in ensemble.score(*GROUPS[0])]
    assert torch.is_grad_enabled()
