"""Reward models and classifiers of every kind pass; each planted fault is caught."""

import copy
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from accord.errors import DataError, ModelError
from accord.lm.classifier import SPLIT, Encoded, Reads, SequenceClassifier
from accord.lm.invariants import require
from accord.lm.scorer_invariants import check_classifier, check_scorer
from accord.lm.tiny import EOS
from accord.reward.model import RewardModel
from accord.types import Completion, Prompt

DECODERS = ["llama", "qwen2", "qwen3", "gpt2", "gemma", "gemma2", "phi"]
ENCODERS = ["bert", "roberta"]
GROUPS = [(Prompt.from_text("Where is it?"), [Completion("Here."), Completion("Who knows, ask elsewhere")])]


def failed(checks):
    return {check.name for check in checks if not check.passed}


@pytest.fixture
def reward(folder):
    def get(kind="llama", **options):
        return RewardModel.load(folder(kind, labels=1, **options))

    return get


@pytest.mark.parametrize("kind", [*DECODERS, *ENCODERS, "t5", "bart"])
def test_sound_reward_models_pass_and_are_left_untouched(reward, kind):
    split = {SPLIT: True} if kind in ("t5", "bart") else {}
    model = RewardModel(reward(kind, **split).classifier, mean=0.3, std=2.0)
    before, state = model.classifier.weights_hash(), torch.get_rng_state()
    checks = check_scorer(model, seed=1)
    require(checks)
    assert model.classifier.weights_hash() == before
    assert torch.equal(state, torch.get_rng_state())
    assert max(c.figure for c in checks if "different" not in c.name) < 2e-5


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_classifiers_with_several_labels_pass(folder, kind):
    require(check_classifier(SequenceClassifier.load(folder(kind, labels=3))))


@pytest.mark.parametrize("kind", ["gpt2", "bert", "roberta", "gemma"])
@pytest.mark.parametrize("train", ["full", "lora", "head"])
def test_trained_saved_loaded_to_the_bit(folder, tmp_path, kind, train):
    """A fresh head on a base model, moved by each way of training, merged and saved."""
    base = folder(kind) if kind not in ENCODERS else folder(kind, labels=1)
    if kind in ENCODERS:
        base = _without_head(base, tmp_path / "base")
    classifier = SequenceClassifier.load(base, labels=1)
    assert classifier.fresh
    with pytest.raises(ModelError, match="never trained"):
        RewardModel(classifier).score_groups(GROUPS)
    with pytest.raises(ModelError, match="never trained"):
        classifier.save(tmp_path / "never")
    assert failed(check_scorer(RewardModel(classifier))) == {"the head was trained"}

    parameters = classifier.prepare(train, rank=2)
    assert parameters
    assert not [n for n, _ in classifier.net.named_parameters() if "lora_" in n and "classifier" in n]
    with torch.no_grad():
        for i, p in enumerate(parameters):
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    classifier.fresh = False
    if train == "lora":
        with pytest.raises(ModelError, match="merge"):
            classifier.save(tmp_path / "unmerged")
    classifier.merge()
    model = RewardModel(classifier, 0.25, 1.5)
    model.save(tmp_path / "out")
    back = RewardModel.load(tmp_path / "out")
    assert back.score_groups(GROUPS) == model.score_groups(GROUPS)
    assert back.classifier.weights_hash() == classifier.weights_hash()
    require(check_scorer(model))


def test_a_fresh_head_is_the_same_each_time(folder, tmp_path):
    base = _without_head(folder("bert", labels=1), tmp_path)
    state = torch.get_rng_state()
    one = SequenceClassifier.load(base, labels=1)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(5)
    assert SequenceClassifier.load(base, labels=1).weights_hash() == one.weights_hash()


# -- planted faults ----------------------------------------------------------------------------


def test_a_lost_head_is_refused(folder, tmp_path):
    path = _without_head(folder("llama", labels=1), tmp_path)
    with pytest.raises(ModelError, match=r"score\.weight.*random"):
        RewardModel.load(path)


class Forgetful(RewardModel):
    """Saves its folder without the head, as trainers with adapters did."""

    def save(self, path):
        super().save(path)
        _drop_head(path)


class Careless(RewardModel):
    """Saves weights and forgets the standardisation."""

    def save(self, path):
        self.classifier.save(path)


def test_a_head_lost_on_saving(reward):
    checks = check_scorer(Forgetful(reward().classifier))
    assert failed(checks) == {"saved and loaded, the same scores to the bit"}
    assert "score.weight" in checks[-1].advice


def test_a_standardisation_lost_on_saving(reward):
    assert failed(check_scorer(Careless(reward().classifier, 1.0, 2.0))) == {
        "saved and loaded, the same scores to the bit"
    }


class ByPadId(SequenceClassifier):
    """Reads the last token that is not the pad id, as is usual; wrong where pad is eos."""

    def logits(self, inputs, pad_side="right"):
        pad_id = self.tokenizer.pad_token_id
        cut = []
        for x in inputs:
            ids = list(x.ids)
            while len(ids) > 1 and ids[-1] == pad_id:
                ids.pop()
            cut.append(Encoded(tuple(ids), x.types))
        return super().logits(cut, pad_side)


class LastColumn(SequenceClassifier):
    """Reads the last column of the padded batch."""

    def logits(self, inputs, pad_side="right"):
        width = max(len(x.ids) for x in inputs)
        filler = self.tokenizer.pad_token_id
        return super().logits([Encoded(x.ids + (filler,) * (width - len(x.ids))) for x in inputs])


class FirstToken(SequenceClassifier):
    """Reads the first token of a decoder, which has seen nothing."""

    def logits(self, inputs, pad_side="right"):
        return super().logits([Encoded(x.ids[:1]) for x in inputs])


class TakesFresh(SequenceClassifier):
    """Scores with whatever head there is."""

    def _refuse_fresh(self):
        return None


def fault(cls, model, pad_is_eos=False):
    broken = copy.copy(model.classifier)
    broken.__class__ = cls
    if pad_is_eos:
        broken.tokenizer = copy.deepcopy(broken.tokenizer)
        broken.tokenizer.pad_token = broken.tokenizer.eos_token
        assert broken.tokenizer.pad_token_id == EOS
    return failed(check_scorer(RewardModel(broken)))


def test_the_end_found_by_pad_id(reward):
    assert fault(SequenceClassifier, reward(), pad_is_eos=True) == set()  # pad = eos alone is no fault
    assert "the score is read at the last real token" in fault(ByPadId, reward(), pad_is_eos=True)


def test_the_last_column_read_instead_of_the_last_token(reward):
    names = fault(LastColumn, reward())
    assert {"the score is read at the last real token", "alone = in a batch"} <= names


def test_the_first_token_read(reward):
    names = fault(FirstToken, reward())
    assert {"the score is read at the last real token", "different texts get different scores"} <= names


def test_a_fresh_head_accepted(reward):
    assert fault(TakesFresh, reward()) == {"a fresh head is refused"}


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_dropout_left_on(reward, kind):
    model = reward(kind)
    for module in model.classifier.net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    assert failed(check_scorer(model)) == {"no dropout"}
    model.classifier.net.train()
    assert {"no dropout", "scoring twice gives the same bits"} <= failed(check_scorer(model))


# -- reading -----------------------------------------------------------------------------------


def test_inputs_by_hand(folder):
    prompt = Prompt.from_text("ab")
    decoder = SequenceClassifier.load(folder("llama", labels=1))
    a, b, c = decoder.tokenizer("abc", add_special_tokens=False)["input_ids"]
    assert decoder.encode(prompt, "c").ids == (2, a, b, c, 1)
    decoder.reads = Reads.COMPLETION
    assert decoder.encode(prompt, "c").ids == (c, 1)
    bert = SequenceClassifier.load(folder("bert", labels=1))
    assert bert.encode(prompt, "c") == Encoded((2, a, b, 1, c, 1), (0, 0, 0, 0, 1, 1))
    bert.reads = Reads.COMPLETION
    assert bert.encode(prompt, "c") == Encoded((2, c, 1), (0, 0, 0))


@pytest.mark.parametrize("kind", ["llama", "bert", "roberta"])
def test_what_does_not_fit_loses_the_prompts_beginning_first(folder, kind):
    classifier = SequenceClassifier.load(folder(kind, labels=1), max_length=12)
    encoded = classifier.encode(Prompt.from_text("0123456789"), "abcd")
    assert len(encoded.ids) == 12
    assert classifier.truncated == 1
    text = classifier.tokenizer.decode(encoded.ids, skip_special_tokens=True)
    assert text.endswith("9abcd")
    assert "0" not in text
    classifier.encode(Prompt.from_text("0"), "ab")
    assert classifier.truncated == 1
    alone = classifier.encode(Prompt.from_text("0"), "abcdefghijklmnopqrst")
    assert len(alone.ids) == 12
    assert classifier.tokenizer.decode(alone.ids, skip_special_tokens=True).startswith("abcdefg")


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2"])
def test_the_longest_input_has_positions(folder, kind):
    classifier = SequenceClassifier.load(folder(kind, labels=1))
    encoded = classifier.encode(Prompt.from_text("a" * 600), "b" * 20)
    assert len(encoded.ids) == 512
    assert torch.isfinite(classifier.score_inputs([encoded])).all()


def test_nothing_to_read_is_an_error(folder):
    classifier = SequenceClassifier.load(folder("gpt2", labels=1))
    with pytest.raises(DataError, match="single token"):
        classifier._fit([], [])


def _without_head(source, target):
    shutil.copytree(source, target, dirs_exist_ok=True)
    _drop_head(target)
    return target


def _drop_head(path):
    file = f"{path}/model.safetensors"
    weights = {k: v for k, v in load_file(file).items() if k.split(".")[0] not in ("score", "classifier")}
    save_file(weights, file, metadata={"format": "pt"})
