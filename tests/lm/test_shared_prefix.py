"""Reading a shared prompt once changes no score, and is less work."""

import pytest
import torch

from accord.errors import ModelError
from accord.lm.classifier import Encoded, SequenceClassifier
from accord.lm.shared_prefix import score_shared, shared_length
from accord.lm.tiny import write_tiny
from accord.types import Prompt

TEXTS = ["ba", "ba zap dab", "", "ada " * 12, "ba zap dab", "zzz yy x"]


@pytest.fixture(scope="module", params=["llama", "qwen2", "gpt2", "bert"])
def classifier(request, tmp_path_factory):
    folder = write_tiny(tmp_path_factory.mktemp(request.param), request.param, labels=2)
    return SequenceClassifier.load(folder)


def encoded(classifier, prompt="say something long " * 3, texts=TEXTS):
    return [classifier.encode(Prompt.from_text(prompt), text) for text in texts]


@pytest.mark.parametrize("rows", [64, 2])
def test_scores_are_those_read_apart(classifier, rows):
    inputs = encoded(classifier)
    apart = torch.cat([classifier.score_inputs([x]) for x in inputs])
    torch.testing.assert_close(score_shared(classifier, inputs, rows), apart, atol=2e-5, rtol=1e-4)


def test_nothing_shared_and_nothing_at_all(classifier):
    other = encoded(classifier, "another") + encoded(classifier, "say")
    torch.testing.assert_close(
        score_shared(classifier, other), classifier.score_inputs(other), atol=2e-5, rtol=1e-4
    )
    assert score_shared(classifier, []).shape == (0, 2)
    assert score_shared(classifier, other[:1]).tolist() == classifier.score_inputs(other[:1]).tolist()


def test_the_prompt_passes_a_decoder_once(classifier):
    if classifier.encoder:
        pytest.skip("an encoder reads both ways")
    inputs, seen = encoded(classifier), []
    embed = classifier.net.get_input_embeddings()
    hook = embed.register_forward_hook(lambda _, given, __: seen.append(given[0].numel()))
    score_shared(classifier, inputs)
    hook.remove()
    shared = shared_length(inputs)
    rest = max(len(x.ids) for x in inputs) - shared
    assert shared > 20
    assert sum(seen) == shared + len(inputs) * rest


def test_what_is_shared():
    def shared(*rows):
        return shared_length([Encoded(row) for row in rows])

    assert shared((1, 2, 3), (1, 2, 4)) == 2
    assert shared((1, 2, 3), (1, 2, 3)) == 2  # one token of each is left to be read
    assert shared((1, 2), (1, 2, 3, 4)) == 1
    assert shared((1, 2, 3), (1, 9, 3), (1, 2, 3)) == 1
    assert shared((1,), (1, 2)) == 0
    assert shared((2, 1), (1, 1)) == 0


def test_a_fresh_head_is_refused(tmp_path):
    fresh = SequenceClassifier.load(write_tiny(tmp_path, "llama"), labels=1)
    with pytest.raises(ModelError, match="never trained"):
        score_shared(fresh, encoded(fresh))
