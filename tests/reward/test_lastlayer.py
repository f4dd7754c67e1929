"""Features of the last layer: scaled as said, the same in any batch, and of one model only."""

import numpy as np
import pytest

from accord.errors import DataError, ModelError
from accord.reward.lastlayer import LastLayer
from accord.types import Completion, Prompt


def groups(planted):
    found = {}
    for comparison in planted(prompts=12, most=2):
        texts = found.setdefault(comparison.prompt.id, (comparison.prompt, {}))[1]
        texts |= {c.text: c for c in (comparison.chosen, comparison.rejected)}
    return [(prompt, list(texts.values())) for prompt, texts in found.values()]


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_pairs_of_a_prompt_differ_by_one_in_each_direction(base, planted, kind, tmp_path):
    classifier = base(kind)
    every = groups(planted)
    layer = LastLayer.fit(classifier, every, k=3)
    phi = layer(every)
    assert {x.shape[1] for x in phi} == {3}
    d = np.concatenate([[x[i] - x[j] for i in range(len(x)) for j in range(i)] for x in phi])
    np.testing.assert_allclose((d**2).mean(axis=0), 1.0)
    np.testing.assert_allclose(np.concatenate(phi).mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(layer(every[3:4])[0], phi[3], atol=1e-4)  # alone as in a batch
    layer.save(tmp_path / "layer.npz")
    again = LastLayer.load(tmp_path / "layer.npz", classifier)
    for one, other in zip(again(every), phi, strict=True):
        assert one.tolist() == other.tolist()


def test_the_first_direction_is_where_answers_differ_most(base, planted):
    every = groups(planted)
    layers = LastLayer(base(), np.zeros(1), np.eye(1))
    layer = LastLayer.fit(layers.classifier, every, k=100)
    assert layer.basis_DK.shape[1] < 100  # no more directions than there are
    size = 1 / np.linalg.norm(layer.basis_DK, axis=0)
    assert (np.diff(size) <= 1e-9).all()


def test_a_model_of_other_weights_is_refused(base, planted, tmp_path, folder):
    from accord.lm.classifier import SequenceClassifier

    LastLayer.fit(base(), groups(planted), k=2).save(tmp_path / "layer.npz")
    with pytest.raises(ModelError, match="other weights"):
        LastLayer.load(tmp_path / "layer.npz", SequenceClassifier.load(folder(seed=1), labels=1))


def test_answers_that_do_not_differ_are_refused(base):
    with pytest.raises(DataError, match="two completions that differ"):
        LastLayer.fit(base(), [(Prompt.from_text("a"), [Completion("x")])])
    with pytest.raises(DataError, match="two completions that differ"):
        LastLayer.fit(base(), [])
