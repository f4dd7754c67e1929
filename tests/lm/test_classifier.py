"""Sequence classifiers: what is loaded, what trains, and how a head begins."""

import pytest
import torch

from accord.errors import ModelError
from accord.lm.classifier import HEADS, SequenceClassifier
from accord.types import Prompt

KINDS = ("llama", "gpt2", "bert", "roberta")


def head(name: str) -> bool:
    return any(part in HEADS for part in name.split("."))


@pytest.mark.parametrize("kind", KINDS)
def test_lora_trains_adapters_of_the_trunk_and_the_plain_head(folder, kind):
    classifier = SequenceClassifier.load(folder(kind), labels=1)
    classifier.prepare("lora", rank=2)
    trains = {name for name, p in classifier.net.named_parameters() if p.requires_grad}
    adapters = {name for name in trains if "lora_" in name}
    assert adapters
    assert not [name for name in adapters if head(name)]
    assert trains - adapters == {name for name, _ in classifier.net.named_parameters() if head(name)}


@pytest.mark.parametrize("kind", KINDS)
def test_full_trains_everything_and_head_the_head(folder, kind):
    classifier = SequenceClassifier.load(folder(kind), labels=1)
    assert len(classifier.prepare("full")) == len(list(classifier.net.parameters()))
    classifier.prepare("head")
    trains = {name for name, p in classifier.net.named_parameters() if p.requires_grad}
    assert trains
    assert trains == {name for name, _ in classifier.net.named_parameters() if head(name)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_head_is_a_function_of_its_seed_and_moves_no_other_weight(folder, kind):
    classifier = SequenceClassifier.load(folder(kind), labels=1)
    before = {k: v.clone() for k, v in classifier.net.state_dict().items()}
    state = torch.get_rng_state()
    hashes = []
    for seed in (5, 6, 5):
        classifier.start_head(seed)
        hashes.append(classifier.weights_hash())
    assert hashes[0] == hashes[2] != hashes[1]
    assert torch.equal(torch.get_rng_state(), state)
    moved = {k for k, v in classifier.net.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert moved <= classifier.fresh_weights


def test_a_trained_head_is_not_fresh_and_is_left_alone(folder):
    classifier = SequenceClassifier.load(folder("bert", labels=1))
    before = classifier.weights_hash()
    assert not classifier.fresh
    classifier.start_head(3)
    assert classifier.weights_hash() == before


def test_a_head_of_another_size_is_an_error_that_says_so(folder):
    with pytest.raises(ModelError, match="no sequence classifier could be loaded"):
        SequenceClassifier.load(folder("llama", labels=2), labels=1)


def test_an_encoder_decoder_is_refused(folder):
    with pytest.raises(ModelError, match="t5"):
        SequenceClassifier.load(folder("t5"), labels=1)


def test_scores_come_back_in_the_order_of_the_inputs(folder):
    classifier = SequenceClassifier.load(folder("llama", labels=2))
    inputs = [classifier.encode(Prompt.from_text("p"), "x" * n) for n in (9, 1, 30, 4, 2)]
    whole = classifier.score_inputs(inputs, rows=2)
    assert whole.shape == (5, 2)
    for one, row in zip(inputs, whole, strict=True):
        torch.testing.assert_close(classifier.score_inputs([one])[0], row, atol=1e-5, rtol=0)


def test_labels_are_named_in_the_order_of_the_logits(folder):
    classifier = SequenceClassifier.load(folder("bert", labels=2))
    classifier.net.config.id2label = {1: "yes", 0: "no"}
    assert classifier.label_names == ["no", "yes"]
