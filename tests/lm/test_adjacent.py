"""Weights that lie together stay parameters of their own, are there once, and give one product."""

import copy
import pickle

import pytest
import torch
from safetensors.torch import load_file

from accord.lm.adjacent import GATES, QKV, joint, lay_together
from accord.lm.checkpoints import write
from accord.lm.decode import Lean, products
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.hasten import hasten
from accord.lm.model import LanguageModel
from accord.lm.score import score_tokens
from accord.lm.tokens import TokenBatch


def groups(lm):
    """Layers that lie together where they are laid so."""
    for layer in lm.net.get_decoder().layers:
        yield [getattr(layer.self_attn, name) for name in QKV]
        yield [getattr(layer.mlp, name) for name in GATES]


def held(lm):
    """Bytes of all weights' memory, each piece once."""
    pieces = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in lm.net.parameters()}
    return sum(pieces.values())


def together(lm):
    return [joint([layer.weight for layer in layers]) is not None for layers in groups(lm)]


def said(lm):
    return Engine(lm, SamplingConfig(max_new_tokens=6, seed=3)).generate([[10, 11], [12]], 2)


def test_nothing_changes_but_where_they_lie(load):
    lm = load("qwen2")
    before, names, bytes_held = lm.weights_hash(), dict(lm.net.named_parameters()), held(lm)
    assert not any(together(lm))
    lay_together(lm.net)
    assert all(together(lm))
    assert lm.weights_hash() == before
    assert held(lm) == bytes_held
    assert all(parameter is names[name] for name, parameter in lm.net.named_parameters())
    pieces = [joint([layer.weight for layer in layers]).data_ptr() for layers in groups(lm)]
    lay_together(lm.net)  # once is enough: nothing moves
    assert [joint([layer.weight for layer in layers]).data_ptr() for layers in groups(lm)] == pieces


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_one_product_gives_what_each_gives(load, kind):
    """qwen2 has biases on its queries, keys and values."""
    lm = load(kind)
    with torch.no_grad():
        for name, parameter in lm.net.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    apart = [products(layers) for layers in groups(lm)]
    lay_together(lm.net)
    for layers, each in zip(groups(lm), apart, strict=True):
        (whole,) = products(layers)
        x_IP = torch.randn(layers[0].in_features, 8)
        with torch.no_grad():
            right = torch.cat([give(x_IP) for give in each])
            torch.testing.assert_close(whole(x_IP), right, atol=1e-5, rtol=1e-5)


def test_what_training_changes_is_what_is_multiplied(load):
    lm = load("llama")
    assert hasten(lm) is None
    batch = TokenBatch.of([[10, 11, 12]], [[40, 41]], 0)
    optimiser = torch.optim.AdamW(lm.net.parameters(), lr=0.05)
    first = said(lm)
    score_tokens(lm, batch).logprobs.sum().backward()
    optimiser.step()
    assert all(together(lm))
    for layers in groups(lm):
        whole = joint([layer.weight for layer in layers])
        assert torch.equal(whole, torch.cat([layer.weight for layer in layers]))
    lean = said(lm)
    lm.decoding = None
    plain = said(lm)
    assert [[row.ids for row in group] for group in lean] == [[row.ids for row in group] for group in plain]
    assert first != lean


def test_saved_copied_and_pickled_as_ever(load, tmp_path):
    lm = load("llama")
    assert hasten(lm) is None
    digest, right = lm.weights_hash(), said(lm)
    lm.save(tmp_path / "saved")
    assert LanguageModel.load(tmp_path / "saved").weights_hash() == digest
    assert (tmp_path / "saved/model.safetensors").stat().st_size < 1.2 * held(lm)
    tensors = lm.net.state_dict()
    tensors.pop("lm_head.weight", None)
    path = write(tmp_path, 1, tensors, {}, {})
    for name, tensor in load_file(path / "weights.safetensors").items():
        assert torch.equal(tensor, tensors[name])
    for other in (copy.deepcopy(lm), pickle.loads(pickle.dumps(lm)), lm.frozen_copy()):
        assert other.weights_hash() == digest
        other.decoding = Lean
        for rows in zip(said(other), right, strict=True):
            for one, two in zip(*rows, strict=True):
                assert one.ids == two.ids
                assert one.logprobs == pytest.approx(two.logprobs, abs=1e-5)


def test_what_does_not_lie_together_is_not_taken_for_it():
    whole = torch.randn(12, 4)
    assert torch.equal(joint([whole[:4], whole[4:7], whole[7:]]), whole)
    assert torch.equal(joint([whole[2:4], whole[4:7]]), whole[2:7])
    assert joint([whole[4:8], whole[:4]]) is None  # the wrong order
    assert joint([whole[:4], whole[5:]]) is None  # a gap
    assert joint([whole[:4], whole[4:].clone()]) is None
    assert joint([whole[:4, :2], whole[4:, :2]]) is None
    assert joint([whole[:4], whole[4:].double()]) is None


def test_layers_of_another_kind_or_type_stay_where_they_are(load):
    for kind in ("gpt2", "phi3", "t5"):
        lm = load(kind)
        where = [p.data_ptr() for p in lm.net.parameters()]
        lay_together(lm.net)
        assert [p.data_ptr() for p in lm.net.parameters()] == where
    mixed = load("llama")
    first = mixed.net.model.layers[0].self_attn
    first.k_proj = first.k_proj.to(torch.float64)
    lay_together(mixed.net)
    assert together(mixed)[:2] == [False, True]


def test_the_weights_under_adapters_lie_together_and_the_adapters_count(load):
    lm = load("llama")
    lm.add_lora(2)
    lay_together(lm.net)
    layer = lm.net.get_decoder().layers[0].self_attn
    assert joint([getattr(layer, name).base_layer.weight for name in QKV]) is not None
    assert len(products([getattr(layer, name) for name in QKV])) == 3
