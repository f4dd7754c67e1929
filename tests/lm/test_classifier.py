"""Sequence classifiers: what is loaded, what trains, and how a head begins."""

import pytest
import torch

from accord.errors import ModelError
from accord.lm.classifier import HEADS, SequenceClassifier
from accord.types import Prompt

KINDS = ("llama", "gpt2", "bert", "roberta", "t5", "bart")


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


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_an_encoder_decoder_reads_the_prompt_with_one_half_and_the_answer_with_the_other(folder, kind):
    """By transformers alone: the state of the answer's end token, through the head."""
    classifier = SequenceClassifier.load(folder(kind), labels=1)
    net, tokenizer = classifier.net, classifier.tokenizer
    one = classifier.encode(Prompt.from_text("where is it?"), "here")
    assert one.before == tuple(tokenizer("where is it?")["input_ids"])
    start = net.config.decoder_start_token_id
    assert one.ids == (
        start,
        *tokenizer("here", add_special_tokens=False)["input_ids"],
        tokenizer.eos_token_id,
    )
    with torch.no_grad():
        states = net.base_model(
            input_ids=torch.tensor([one.before]), decoder_input_ids=torch.tensor([one.ids])
        ).last_hidden_state
        expected = net.classification_head(states[:, -1])
        torch.testing.assert_close(classifier.logits([one]), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_each_half_of_an_encoder_decoder_is_cut_by_the_rule(folder, kind):
    classifier = SequenceClassifier.load(folder(kind), labels=1, max_length=12)
    fits = classifier.encode(Prompt.from_text("abc"), "de")
    assert (fits.cut, classifier.truncated) == (0, 0)
    frame = len(fits.before) - 3
    long = classifier.encode(Prompt.from_text("a" * 20 + "z" * 4), "q" * 15)
    assert (len(long.before), len(long.ids), classifier.truncated) == (12, 12, 1)
    assert long.cut == 24 + frame - 12 + 1 + 15 + 1 - 12
    assert classifier.tokenizer.decode(long.before, skip_special_tokens=True).endswith("zzzz")


def test_a_ready_made_classifier_that_reads_otherwise_is_refused(folder):
    with pytest.raises(ModelError, match=r"t5 classifier gives encoder and decoder the same text"):
        SequenceClassifier.load(folder("t5", labels=2))


class Counting(torch.nn.Module):
    """Counts the rows that pass an encoder."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.rows = inner, 0

    def forward(self, input_ids, **more):
        self.rows += len(input_ids)
        return self.inner(input_ids=input_ids, **more)


def test_the_prompt_of_many_completions_is_encoded_once(folder):
    classifier = SequenceClassifier.load(folder("t5"), labels=1)
    counting = classifier.net.base_model.encoder = Counting(classifier.net.base_model.encoder)
    prompts = [Prompt.from_text("one"), Prompt.from_text("two")]
    classifier.logits([classifier.encode(prompt, text) for prompt in prompts for text in "abcd"])
    assert counting.rows == 2


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
