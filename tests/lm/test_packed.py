"""Packed rows give what the texts give by themselves: states, gradients, and no more tokens than needed."""

import pytest
import torch

from accord.lm.classifier import Encoded, SequenceClassifier
from accord.lm.model import LanguageModel
from accord.lm.packed import (
    packed_logits,
    packed_logprobs,
    packing_agrees,
    packing_agrees_on_answers,
    worth_packing,
    worth_packing_answers,
)
from accord.lm.score import score_tokens
from accord.lm.tokens import TokenBatch
from accord.types import Prompt

PROMPTS = [
    Prompt.from_text("where is my parcel, and why so late?"),
    Prompt.from_text("thanks for nothing at all"),
]
ANSWERS = [["it is on its way", "it", "go away", "it is on its way"], ["sorry", "", "x" * 30]]


@pytest.fixture
def ready(folder):
    def get(kind="llama", labels=1, **options):
        classifier = SequenceClassifier.load(folder(kind, labels=labels, **options))
        return classifier, [
            [classifier.encode(prompt, text) for text in texts]
            for prompt, texts in zip(PROMPTS, ANSWERS, strict=True)
        ]

    return get


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gpt2", "gemma", "phi"])
def test_logits_and_gradients_are_those_of_the_texts_alone(ready, kind):
    classifier, groups = ready(kind, labels=2)
    assert worth_packing(classifier, groups)
    assert packing_agrees(classifier, groups)
    parameters = classifier.prepare("full")
    weights = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    packed = packed_logits(classifier, groups)
    alone = torch.cat([classifier.logits([one]) for inputs in groups for one in inputs])
    torch.testing.assert_close(packed, alone, atol=2e-5, rtol=0)
    grads = [
        torch.autograd.grad((weights * logits).sum(), parameters, allow_unused=True)
        for logits in (packed, alone)
    ]
    for one, other in zip(*grads, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=5e-4, rtol=1e-3)


class Tokens(torch.nn.Module):
    """Counts the tokens that pass a layer."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.count = inner, 0

    def forward(self, x, *args, **more):
        self.count += x.shape[0] * x.shape[1]
        return self.inner(x, *args, **more)


def test_the_shared_beginning_passes_once_and_nothing_is_padded_within_a_row(ready):
    classifier, groups = ready()
    counting = classifier.net.base_model.layers[0].mlp = Tokens(classifier.net.base_model.layers[0].mlp)
    packed_logits(classifier, groups[:1])
    texts = [one.ids for one in groups[0]]
    shared = next(i for i in range(100) if len({ids[i] for ids in texts}) > 1)
    assert shared > len(PROMPTS[0].text)
    assert counting.count == shared + sum(len(ids) - shared for ids in texts)


def test_a_wrong_position_or_mask_is_found_out(ready, monkeypatch):
    classifier, groups = ready("gpt2")
    stack = classifier.net.base_model
    plain = stack.forward
    for spoilt in ("position_ids", "attention_mask"):

        def forward(*args, spoilt=spoilt, **more):
            return plain(*args, **{key: value for key, value in more.items() if key != spoilt})

        monkeypatch.setattr(stack, "forward", forward)
        assert not packing_agrees(classifier, groups)
    monkeypatch.setattr(stack, "forward", plain)
    assert packing_agrees(classifier, groups)


def test_only_what_is_cheaper_and_possible_is_packed(ready):
    classifier, groups = ready()
    assert worth_packing(classifier, groups)
    assert not worth_packing(classifier, [[Encoded((1, 2, 3))], [Encoded((4, 5, 6))]])  # nothing to share
    long = [[Encoded((1, *range(i, i + 200))) for i in range(3)]]
    assert not worth_packing(classifier, long)  # attention over all three costs more than one shared token
    for kind in ("bert", "roberta"):
        assert not worth_packing(*ready(kind))
    windowed, texts = ready("gemma2")  # a window of eight tokens
    assert not worth_packing(windowed, texts)
    classifier.net.config._attn_implementation = "eager"  # which takes another kind of mask
    assert not worth_packing(classifier, groups)


# -- a language model's completions ------------------------------------------------------------

ASKED = [
    ([9, 10, 11, 12, 13, 14], [[20, 21, 22], [23], [20, 21, 22], [24] * 9]),
    ([15, 16], [[25, 26], [27, 28, 29, 30]]),
]
"""Prompts and completions of one token and more, one said twice."""


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gpt2", "gemma", "phi"])
def test_log_probs_and_gradients_are_those_of_the_completions_alone(folder, kind):
    model = LanguageModel.load(folder(kind))
    assert worth_packing_answers(model, ASKED)
    assert packing_agrees_on_answers(model, ASKED)
    packed, lengths = packed_logprobs(model, ASKED)
    rows = [TokenBatch.of([prompt], [ids], model.pad_id) for prompt, texts in ASKED for ids in texts]
    alone = torch.cat([score_tokens(model, row).logprobs.sum(1) for row in rows])
    torch.testing.assert_close(packed, alone, atol=5e-5, rtol=0)
    assert lengths.tolist() == [3, 1, 3, 9, 2, 4]
    weights = torch.randn(6, generator=torch.Generator().manual_seed(0))
    model.net.requires_grad_(True)
    again = torch.cat([score_tokens(model, row).logprobs.sum(1) for row in rows])
    grads = [
        torch.autograd.grad((weights * found).sum(), list(model.net.parameters()), allow_unused=True)
        for found in (packed_logprobs(model, ASKED)[0], again)
    ]
    for one, other in zip(*grads, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_the_gradient_is_the_same_bits_on_several_threads(folder):
    """Many completions of one prompt all reach back to its last state; what they add is added in order."""
    model = LanguageModel.load(folder("llama"))
    model.net.requires_grad_(True)
    draws = torch.Generator().manual_seed(0)
    asked = [([9, 10], torch.randint(15, 40, (48, 24), generator=draws).tolist())]
    weights, parameters = torch.randn(48, generator=draws), list(model.net.parameters())
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, *others = (
            torch.autograd.grad((weights * packed_logprobs(model, asked)[0]).sum(), parameters)
            for _ in range(3)
        )
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def test_completions_are_not_packed_where_they_cannot_be(folder):
    assert not worth_packing_answers(LanguageModel.load(folder("t5")), ASKED)
    assert not worth_packing_answers(LanguageModel.load(folder("gemma2")), ASKED)  # a window of 8
    llama = LanguageModel.load(folder("llama"))
    assert not worth_packing_answers(llama, [([1], [[2, 3, 4]])])
    llama.net.config._attn_implementation = "eager"
    assert not worth_packing_answers(llama, ASKED)


def test_a_model_that_reads_packed_rows_wrongly_is_found_out(folder, monkeypatch, caplog):
    model = LanguageModel.load(folder("llama"))
    trunk = model.trunk
    monkeypatch.setattr(model, "trunk", lambda **inputs: trunk(**inputs | {"position_ids": None}))
    assert not packing_agrees_on_answers(model, ASKED)
    assert "packed, it differs by" in caplog.text
