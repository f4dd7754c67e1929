"""Heads on one trunk: they agree where the data speak, disagree where they do not, and cost one pass."""

import numpy as np
import pytest

from accord.errors import ConfigError, DataError, ModelError
from accord.lm.classifier import SequenceClassifier
from accord.reward.ensemble import Rule
from accord.reward.heads import Heads
from accord.reward.laplace import layer
from accord.reward.model import RewardModel
from accord.reward.train import RewardConfig, train
from accord.types import Completion, Prompt, Scorer

GROUPS = [
    (Prompt.from_text("say 1"), [Completion("ba zap"), Completion("dab ada ba"), Completion("Q! ZZ 00 %%")]),
    (Prompt.from_text("say 2"), [Completion("zap")]),
]


@pytest.fixture(scope="module", params=["llama", "bert"])
def trained(request, folder, planted):
    data = planted(prompts=60)
    config = RewardConfig(epochs=4, learning_rate=3e-3, holdout=0.25)
    return train(data, SequenceClassifier.load(folder(request.param), labels=1), config)[0], data


def fitted(trained, heads=8, seed=0, **kwargs):
    return Heads.fit(*trained, heads, np.random.default_rng(seed), **kwargs)


def test_every_head_learns_what_the_trunk_can_tell(trained):
    heads = fitted(trained)
    (good, bad, _), _ = heads.score_groups(GROUPS)
    assert isinstance(heads, Scorer)
    assert all(good.parts[f"member {e}"] > bad.parts[f"member {e}"] for e in range(1, 9))
    assert len(set(good.parts.values())) == len(good.parts)


def test_a_reward_is_the_last_layer_times_the_head_standardised(trained):
    model, data = trained
    heads = fitted(trained, rule=Rule.MEAN)
    values = (layer(model, GROUPS) - heads.centre_D) @ heads.weight_ED.T
    found = [s for group in heads.score_groups(GROUPS) for s in group]
    assert [s.value for s in found] == pytest.approx(values.mean(axis=1).tolist())
    assert [s.parts["sd"] for s in found] == pytest.approx(values.std(axis=1).tolist())
    texts = {(c.prompt.id, x.text): (c.prompt, [x]) for c in data for x in (c.chosen, c.rejected)}
    own = (layer(model, list(texts.values())) - heads.centre_D) @ heads.weight_ED.T
    np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(own.std(axis=0), 1, atol=1e-6)
    assert heads.score_groups([]) == []


def test_heads_are_the_generator_s(trained):
    one, same, other = (fitted(trained, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one.weight_ED, same.weight_ED)
    assert not np.array_equal(one.weight_ED, other.weight_ED)


def test_few_judgements_leave_more_spread(trained):
    model, data = trained
    spreads = []
    for part in (data[:12], data):
        heads = Heads.fit(model, part, 12, np.random.default_rng(0))
        spreads.append(np.mean([s.parts["sd"] for s in heads.score_groups(GROUPS)[0][:2]]))
    assert spreads[0] > spreads[1]


@pytest.mark.parametrize("rule", list(Rule))
def test_saved_and_loaded_it_scores_the_same_to_the_bit(trained, tmp_path, rule):
    heads = fitted(trained, 3, rule=rule, caution=0.2)
    heads.save(tmp_path / "h")
    loaded = Heads.load(tmp_path / "h")
    assert loaded.score_groups(GROUPS) == heads.score_groups(GROUPS)
    assert (loaded.rule, loaded.caution) == (rule, 0.2)
    assert RewardModel.load(tmp_path / "h").score_groups(GROUPS) == trained[0].score_groups(GROUPS)


def test_what_is_no_ensemble_is_refused(trained, tmp_path):
    model, _ = trained
    with pytest.raises(ConfigError, match="two at least"):
        fitted(trained, 1)
    with pytest.raises(ConfigError, match="caution"):
        fitted(trained, 2, caution=-1.0)
    with pytest.raises(DataError, match="no comparisons"):
        Heads.fit(model, [], 2, np.random.default_rng(0))
    model.save(tmp_path / "plain")
    with pytest.raises(ModelError, match="no heads"):
        Heads.load(tmp_path / "plain")
