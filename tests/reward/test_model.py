"""A reward model is what it was when it is loaded again, and refuses to guess."""

import json
import math
import pickle

import pytest
import torch

from accord.errors import ModelError, NumericsError
from accord.lm.classifier import SPLIT, Reads, SequenceClassifier
from accord.lm.render import Template
from accord.reward.model import SETTINGS, RewardModel
from accord.reward.train import RewardConfig, train
from accord.types import Completion, Prompt, Scorer, score_groups

LONG = " ".join(["padding everyone else"] * 8)
GROUPS = [
    (Prompt.from_text("say 1"), [Completion("ba zap"), Completion("ba"), Completion(LONG)]),
    (Prompt.from_text("say something longer, please"), [Completion("zap dab ada"), Completion("")]),
]


def values(model, groups=GROUPS):
    return [s.value for scores in model.score_groups(groups) for s in scores]


# -- saved and loaded --------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["full", "lora", "head"])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "bert", "roberta", "t5", "bart"])
def test_trained_saved_and_loaded_it_scores_the_same_to_the_bit(base, planted, tmp_path, kind, way):
    config = RewardConfig(train=way, lora_rank=4, learning_rate=5e-3)
    model, _ = train(planted(prompts=10), base(kind), config)
    model.save(tmp_path)
    back = RewardModel.load(tmp_path)
    assert values(back) == values(model)
    assert (back.mean, back.std) == (model.mean, model.std)
    assert back.classifier.weights_hash() == model.classifier.weights_hash()
    assert not [name for name in back.classifier.net.state_dict() if "lora" in name]
    assert len(set(values(model))) == 5


def test_template_reading_and_length_come_back(folder, tmp_path):
    classifier = SequenceClassifier.load(
        folder(labels=1), template=Template.HH, reads=Reads.COMPLETION, max_length=20
    )
    model = RewardModel(classifier, 1.5, 0.25)
    model.save(tmp_path)
    back = RewardModel.load(tmp_path)
    for name in ("template", "reads", "max_length"):
        assert getattr(back.classifier, name) == getattr(classifier, name)
    assert values(back) == values(model)


def test_any_classifier_of_one_label_is_a_reward_model_unscaled(folder):
    model = RewardModel.load(folder(labels=1))
    assert (model.mean, model.std) == (0.0, 1.0)
    assert isinstance(model, Scorer)
    (one, *_), _ = score_groups(model, GROUPS)
    assert one.value == one.parts["logit"]


def test_the_value_is_the_logit_standardised(folder):
    classifier = SequenceClassifier.load(folder(labels=1))
    plain, scaled = RewardModel(classifier), RewardModel(classifier, mean=2.0, std=0.5)
    assert values(scaled) == pytest.approx([(v - 2) / 0.5 for v in values(plain)])
    assert [s.parts["logit"] for g in scaled.score_groups(GROUPS) for s in g] == values(plain)


# -- no other text matters ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "gemma2", "bert", "roberta", "t5", "bart"])
def test_a_score_does_not_depend_on_its_company(folder, kind):
    """Within 1e-5 of logits that spread by about 1: float32 sums of another order."""
    split = {SPLIT: True} if kind in ("t5", "bart") else {}
    model = RewardModel.load(folder(kind, labels=1, **split))
    alone = [model.score(prompt, [c])[0].value for prompt, group in GROUPS for c in group]
    assert values(model) == pytest.approx(alone, abs=1e-5)
    backwards = [(prompt, group[::-1]) for prompt, group in GROUPS[::-1]]
    assert values(model, backwards)[::-1] == pytest.approx(alone, abs=1e-5)
    assert max(alone) - min(alone) > 0.1


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "gemma2"])
def test_the_side_of_the_padding_does_not_matter(folder, kind):
    classifier = SequenceClassifier.load(folder(kind, labels=1))
    inputs = [classifier.encode(prompt, c.text) for prompt, group in GROUPS for c in group]
    with torch.no_grad():
        right, left = classifier.logits(inputs), classifier.logits(inputs, pad_side="left")
    torch.testing.assert_close(left, right, atol=1e-5, rtol=0)


def test_no_groups_no_scores(folder):
    model = RewardModel.load(folder(labels=1))
    assert model.score_groups([]) == []
    assert model.score(GROUPS[0][0], []) == []


def test_what_is_too_long_loses_the_prompts_beginning_then_the_completions_end(folder):
    model = RewardModel(SequenceClassifier.load(folder("gpt2", labels=1), max_length=12))
    short = model.score(Prompt.from_text("cdefgh"), [Completion("12345")])[0]  # 6 + 5 + the end token = 12
    assert model.classifier.truncated == 0
    assert model.score(Prompt.from_text("abcdefgh"), [Completion("12345")])[0] == short
    assert model.classifier.truncated == 1
    whole = "x" * 30
    assert (
        model.score(Prompt.from_text("ab"), [Completion(whole)])
        == model.score(Prompt.from_text("other"), [Completion("x" * 90)])
    )  # fmt: skip
    assert model.classifier.truncated == 3


# -- refused -----------------------------------------------------------------------------------


def test_a_head_never_trained_neither_scores_nor_is_saved(base, tmp_path):
    model = RewardModel(base())
    with pytest.raises(ModelError, match="never trained"):
        model.score(*GROUPS[0])
    with pytest.raises(ModelError, match="never trained"):
        model.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_a_folder_without_a_head_is_no_reward_model(folder, kind):
    with pytest.raises(ModelError, match=r"missing.*random"):
        RewardModel.load(folder(kind))


def test_other_labels_are_no_reward_and_the_way_out_is_named(folder):
    with pytest.raises(ModelError, match=r"2 labels.*ClassifierReward"):
        RewardModel.load(folder(labels=2))
    with pytest.raises(ModelError, match="no class"):
        RewardModel(SequenceClassifier.load(folder(labels=1)), value="logit")


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        RewardModel.load(tmp_path / "nowhere")


@pytest.mark.parametrize("damage", [math.nan, math.inf])
def test_damaged_weights_are_named_with_the_text(folder, damage):
    model = RewardModel.load(folder(labels=1))
    with torch.no_grad():
        model.classifier.net.score.weight[0, 0] = damage
    with pytest.raises(NumericsError, match=r"reward of 'ba zap' to prompt .* is -?(nan|inf)"):
        model.score_groups(GROUPS)


@pytest.mark.parametrize(
    ("mean", "std"), [(math.nan, 1.0), (0.0, 0.0), (0.0, -1.0), (0.0, math.nan), (0.0, math.inf)]
)
def test_a_standardisation_that_is_none_is_refused(folder, mean, std):
    with pytest.raises(NumericsError, match="standard deviation"):
        RewardModel(SequenceClassifier.load(folder(labels=1)), mean, std)


def test_settings_are_plain_json(folder, tmp_path):
    RewardModel(SequenceClassifier.load(folder(labels=1)), 0.1, 0.3).save(tmp_path)
    settings = json.loads((tmp_path / SETTINGS).read_text())
    assert (settings["mean"], settings["std"], settings["template"]) == (0.1, 0.3, "plain")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
def test_it_passes_to_another_process(folder, kind):
    """As a scorer in a pool of processes must."""
    model = RewardModel.load(folder(kind, labels=1))
    assert values(pickle.loads(pickle.dumps(model))) == values(model)
