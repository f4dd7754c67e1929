"""Products by oneDNN against torch's own: values, gradients of both orders, and where it stays out."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

from accord.lm import linear as module
from accord.lm.linear import linear, quicken
from accord.lm.score import score_tokens
from accord.lm.tokens import TokenBatch


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Linear(48, 33)


@pytest.fixture
def counted(monkeypatch):
    """How many products went through oneDNN."""
    calls = []
    true = module._Product.apply
    monkeypatch.setattr(module._Product, "apply", lambda *given: calls.append(given[0].shape) or true(*given))
    return calls


@pytest.mark.parametrize("shape", [(1, 48), (70, 48), (2, 5, 48), (3, 1, 2, 48), (0, 48)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_torch(layer, shape, bias):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    added = layer.bias if bias else None
    ours, theirs = linear(x, layer.weight, added), functional.linear(x, layer.weight, added)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    leaves = [x, layer.weight, *([layer.bias] if bias else [])]
    for one, other in zip(*(torch.autograd.grad(y.sin().sum(), leaves) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 8), (8,)])
def test_few_rows_of_a_large_vocabulary_are_those_of_torch(shape):
    """They lie column by column, as the product turned round gives them."""
    torch.manual_seed(2)
    x, head = torch.randn(shape).requires_grad_(), nn.Linear(8, 4100, bias=False)
    ours, theirs = linear(x, head.weight), functional.linear(x, head.weight)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    for one, other in zip(
        *(torch.autograd.grad(y.sin().sum(), [x, head.weight]) for y in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


def test_the_gradient_has_a_gradient(layer):
    """What TRPO's products with the curvature are made of."""
    x = torch.randn(6, 48, generator=torch.Generator().manual_seed(1)).requires_grad_()

    def curvature(product):
        slope = torch.autograd.grad(
            product(x, layer.weight).sin().sum(), [x, layer.weight], create_graph=True
        )
        return torch.autograd.grad(sum(part.square().sum() for part in slope), [x, layer.weight])

    for one, other in zip(curvature(linear), curvature(functional.linear), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


def test_a_frozen_weight_gets_no_product_for_its_gradient(layer, counted):
    if not module.AVAILABLE:
        pytest.skip("this torch has no oneDNN, or the processor is not x86")
    x = torch.randn(4, 48).requires_grad_()
    linear(x, layer.weight.detach()).sum().backward()
    assert len(counted) == 2  # forward, and the gradient of x
    linear(x.detach(), layer.weight).sum().backward()
    assert len(counted) == 4


def test_other_types_and_autocast_are_left_to_torch(layer, counted):
    x = torch.randn(4, 48)
    half = linear(x.bfloat16(), layer.weight.bfloat16())
    assert half.dtype is torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, layer.weight).dtype is torch.bfloat16
    assert linear(x.double(), layer.weight.double()).dtype is torch.float64
    assert not counted


def test_a_product_that_differs_from_torchs_is_not_used(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda x, w, *_: x @ w.t() + 1)
    assert not module._works()


def test_without_onednn_a_layer_is_torchs_to_the_bit(layer, monkeypatch):
    monkeypatch.setattr(module, "AVAILABLE", False)
    x = torch.randn(4, 48)
    assert torch.equal(linear(x, layer.weight, layer.bias), layer(x))


def test_a_copy_of_a_net_calls_its_own_layers():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    quicken(net)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        with torch.no_grad():
            other[0].weight.zero_()
            other[0].bias.zero_()
        x = torch.randn(3, 4)
        torch.testing.assert_close(other(x), other[2].bias.expand(3, 2))
        assert not torch.allclose(net(x), net[2].bias.expand(3, 2))


def test_a_model_multiplies_by_it_with_and_without_adapters(load, counted):
    if not module.AVAILABLE:
        pytest.skip("this torch has no oneDNN, or the processor is not x86")
    lm = load("llama")
    batch = TokenBatch.of([[10, 11, 12]], [[40, 41]], 0)
    counted.clear()
    with torch.no_grad():
        score_tokens(lm, batch)
        plain = len(counted)
        assert plain == sum(isinstance(m, nn.Linear) for m in lm.net.modules())
        counted.clear()
        lm.add_lora(rank=2)
        score_tokens(lm, batch)
    assert len(counted) == plain


def test_other_strides_give_the_same(layer):
    """Slices of transposes, and the gradient of a sum, whose strides are 0."""
    wide = torch.randn(48, 70, generator=torch.Generator().manual_seed(1)).requires_grad_()
    ours, theirs = (
        torch.autograd.grad(product(wide.t()[:31], layer.weight).sum(), [wide, layer.weight])
        for product in (linear, functional.linear)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)
