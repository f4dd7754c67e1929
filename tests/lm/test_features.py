"""Features are what the head reads: the logits are linear in them, and nothing else moves them."""

from __future__ import annotations

import pytest
import torch

from accord.lm.classifier import SequenceClassifier
from accord.lm.features import features
from accord.types import Prompt

HEAD = {"llama": "score", "gpt2": "score", "bert": "classifier", "roberta": "classifier.out_proj"}
TEXTS = ["yes", "a much longer answer than that", "no, never", ""]


def encoded(classifier: SequenceClassifier) -> list:
    return [classifier.encode(Prompt.from_text("what now?"), text) for text in TEXTS]


@pytest.mark.parametrize("kind", HEAD)
def test_the_logits_of_a_trained_head_are_linear_in_the_features(folder, kind):
    classifier = SequenceClassifier.load(folder(kind, labels=2))
    inputs = encoded(classifier)
    head = classifier.net.get_submodule(HEAD[kind])
    got_ND = features(classifier, inputs, rows=3)
    bias = 0 if head.bias is None else head.bias
    logits_NL = got_ND @ head.weight.detach().T + bias
    torch.testing.assert_close(logits_NL.detach(), classifier.score_inputs(inputs))


@pytest.mark.parametrize("kind", HEAD)
def test_without_a_head_features_are_the_mean_over_an_inputs_own_tokens(folder, kind):
    classifier = SequenceClassifier.load(folder(kind), labels=1)
    inputs = encoded(classifier)
    together_ND = features(classifier, inputs)
    for row, each in zip(together_ND, inputs, strict=True):
        given = {"input_ids": torch.tensor([each.ids])}
        if each.types:
            given["token_type_ids"] = torch.tensor([each.types])
        states_1WD = classifier.net.base_model(**given).last_hidden_state.detach()
        torch.testing.assert_close(row, states_1WD[0].mean(dim=0), rtol=1e-4, atol=1e-5)


def test_no_input_has_no_features(folder):
    assert features(SequenceClassifier.load(folder("bert", labels=2)), []).shape[0] == 0
