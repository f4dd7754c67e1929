"""A critic that begins as the reward model says the reward of a finished completion."""

import pytest
import torch

from accord.align.settings import AlignConfig
from accord.errors import ConfigError
from accord.lm.classifier import SequenceClassifier
from accord.lm.model import LanguageModel
from accord.lm.tiny import write_tiny
from accord.lm.tokens import TokenBatch
from accord.recipes.critic import critic_of
from accord.reward.model import CLASSES, RewardModel
from accord.types import Completion, Prompt

CONFIG = AlignConfig(critic="reward")


def reward_model(path, labels=1):
    classifier = SequenceClassifier.load(path, labels=labels)
    classifier.start_head(3)
    classifier.fresh = False
    if labels == 2:
        classifier.name_labels(CLASSES)
    return RewardModel(classifier, 0.3, 0.7)


@pytest.mark.parametrize("labels", [1, 2])
def test_its_value_behind_the_last_token_is_the_reward(tmp_path, labels):
    path = write_tiny(tmp_path / "base", "llama")
    policy, scorer = LanguageModel.load(path), reward_model(path, labels)
    critic = critic_of(policy, scorer, CONFIG)
    prompt, completion = Prompt.from_text("Where is it?"), Completion("In the shed.")
    reward = scorer.score(prompt, [completion])[0].value
    ids = scorer.classifier.encode(prompt, completion.text).ids
    tokens = TokenBatch.of([ids[:4]], [ids[4:]], policy.pad_id)
    hidden = policy.hidden(tokens, after=True)
    assert critic.values(tokens, hidden, after=True)[0, -1].item() == pytest.approx(reward, abs=1e-5)


def test_an_encoder_decoders_trunk_is_taken_and_its_head_starts_at_zero(tmp_path):
    path = write_tiny(tmp_path / "base", "t5")
    scorer = reward_model(path)
    with torch.no_grad():
        scorer.classifier.net.base_model.get_input_embeddings().weight.add_(1.0)
    critic = critic_of(LanguageModel.load(path), scorer, CONFIG)
    theirs = scorer.classifier.net.base_model.get_input_embeddings().weight
    assert torch.equal(critic.net.get_input_embeddings().weight, theirs)
    assert not critic.linear.weight.any()


def test_it_is_made_only_where_it_can_be_and_is_asked_for(tmp_path):
    path = write_tiny(tmp_path / "base", "llama")
    policy = LanguageModel.load(path)
    assert critic_of(policy, reward_model(path), AlignConfig()) is None
    assert critic_of(policy, reward_model(path), AlignConfig(critic="own")) is None
    with pytest.raises(ConfigError, match="the reward is a Fake"):
        critic_of(policy, type("Fake", (), {"score": None})(), CONFIG)
    other = write_tiny(tmp_path / "other", "gpt2")
    with pytest.raises(ConfigError, match="has another trunk"):
        critic_of(policy, reward_model(other), CONFIG)
