"""Whatever kind of reward was saved, its folder loads as that kind and scores to the bit."""

import numpy as np
import pytest

from accord.errors import ModelError
from accord.reward.ensemble import Ensemble, Rule
from accord.reward.heads import Heads
from accord.reward.laplace import LaplaceReward
from accord.reward.model import RewardModel
from accord.reward.saved import load_reward, one_model
from accord.reward.train import RewardConfig, train
from accord.types import Completion, Prompt


def test_each_kind_loads_as_itself(base, planted, tmp_path):
    data = planted(prompts=12)
    model = train(data, base(), RewardConfig())[0]
    kinds = [
        model,
        Ensemble([model, train(data, base(), RewardConfig(seed=1))[0]], Rule.WORST),
        Heads.fit(model, data, 2, np.random.default_rng(0)),
        LaplaceReward.fit(model, data, caution=0.5),
    ]
    group = Prompt.from_text("say 1"), [Completion("ba zap"), Completion("dab")]
    for i, reward in enumerate(kinds):
        reward.save(tmp_path / str(i))
        loaded = load_reward(tmp_path / str(i))
        assert type(loaded) is type(reward)
        assert loaded.score(*group) == reward.score(*group)
        assert one_model(loaded).score(*group) == model.score(*group)
        assert RewardModel.load(tmp_path / str(i)).score(*group) == model.score(*group)


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        load_reward(tmp_path / "nowhere")
