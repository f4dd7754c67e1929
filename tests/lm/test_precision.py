"""Where products are bfloat16, and that nothing else is."""

import torch

from accord.lm.precision import mixed_precision

CPU = torch.device("cpu")


def product():
    weight = torch.ones(2, 2, requires_grad=True)
    y = torch.nn.functional.linear(torch.ones(1, 2), weight)
    y.float().sum().backward()
    assert weight.grad.dtype is torch.float32
    return y.dtype


def test_products_are_bfloat16_inside_where_the_processor_has_it(has_bfloat16):
    with mixed_precision(CPU):
        assert product() is torch.bfloat16
    assert product() is torch.float32


def test_elsewhere_or_unasked_nothing_changes(has_bfloat16, monkeypatch):
    with mixed_precision(CPU, wanted=False):
        assert product() is torch.float32
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    with mixed_precision(CPU):
        assert product() is torch.float32
