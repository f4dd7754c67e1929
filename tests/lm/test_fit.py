"""The optimisation loop: micro-batches, clipping, schedule, and what it refuses."""

import math

import pytest
import torch
from torch import nn

from accord.errors import DataError, NumericsError
from accord.lm.fit import fit
from accord.lm.schedule import cosine

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([1.0, -2.0, 0.5])


def linear() -> nn.Linear:
    net = nn.Linear(3, 1)
    nn.init.constant_(net.weight, 0.1)
    nn.init.zeros_(net.bias)
    return net


def squared(net, total):
    def loss(rows):
        error = (net(X[rows])[:, 0] - Y[rows]) ** 2
        return error.sum() / total, {"error": error.detach().sum() / total}

    return loss


def run(batches, net, lr=0.1, **options):
    optimiser = torch.optim.SGD(net.parameters(), lr=lr)
    return list(fit(batches, squared(net, 8), optimiser, **options))


def test_one_step_by_hand():
    """w = 2, loss (3 w)^2 = 36, gradient 2 * 9 * w = 36, clipped to 1: w = 2 - 0.5 * 1."""
    w = nn.Parameter(torch.tensor([2.0]))
    optimiser = torch.optim.SGD([w], lr=0.5)
    (metrics,) = fit([[3.0]], lambda x: ((x * w).square().sum(), {}), optimiser)
    assert metrics == {"loss": 36.0, "grad_norm": 36.0}
    assert w.item() == pytest.approx(1.5)


def test_micro_batches_of_uneven_size_equal_the_whole_batch():
    whole, parts = linear(), linear()
    a = run([[list(range(8))]] * 3, whole)
    b = run([[[0, 1, 2, 3, 4], [5], [6, 7]]] * 3, parts)
    torch.testing.assert_close(whole.weight, parts.weight)
    for one, other in zip(a, b, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    assert a[0]["error"] == pytest.approx(a[0]["loss"])


def test_it_learns():
    net = linear()
    metrics = run([[list(range(8))]] * 300, net, max_grad_norm=10.0)
    assert metrics[-1]["loss"] < 1e-4
    torch.testing.assert_close(net.weight[0], torch.tensor([1.0, -2.0, 0.5]), atol=0.02, rtol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_leaves_the_weights_of_the_step_before(bad):
    net = linear()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
    good = squared(net, 8)
    kept = []

    def loss(rows):
        value, metrics = good(rows)
        return value * (bad if len(kept) == 1 else 1.0), metrics

    def go():
        for _ in fit([[[0, 1]], [[2], [3]], [[4]]], loss, optimiser):
            kept.append({name: p.detach().clone() for name, p in net.named_parameters()})

    with pytest.raises(NumericsError, match="step 1"):
        go()
    assert len(kept) == 1
    assert all(torch.equal(p, kept[0][name]) for name, p in net.named_parameters())
    assert all(p.grad is None for p in net.parameters())


def test_a_gradient_that_is_not_finite_is_refused_though_the_loss_is():
    w = nn.Parameter(torch.tensor([0.0]))
    optimiser = torch.optim.SGD([w], lr=0.1)
    with pytest.raises(NumericsError, match="gradient norm"):
        list(fit([[1.0]], lambda x: (w.sqrt().sum() * x, {}), optimiser))
    assert w.item() == 0.0


def test_a_batch_without_micro_batches_is_refused():
    with pytest.raises(DataError, match="step 1"):
        run([[[0]], []], linear())


def test_the_schedule_multiplies_each_groups_own_rate():
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 0.1}])
    rates = []
    for _ in fit([[1.0]] * 3, lambda x: ((a + b).sum() * x, {}), optimiser, schedule=lambda s: 1 / (s + 1)):
        rates.append([group["lr"] for group in optimiser.param_groups])
    assert rates == [pytest.approx([r, r / 10]) for r in (1, 1 / 2, 1 / 3)]


def test_cosine_by_hand():
    factor = cosine(10, warmup=2, floor=0.1)
    assert [factor(0), factor(1), factor(2)] == pytest.approx([0.5, 1.0, 1.0])
    assert factor(6) == pytest.approx(0.55)
    assert factor(4) == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi / 4)))
    assert [factor(10), factor(50)] == pytest.approx([0.1, 0.1])
