"""Conjugate gradients against a solver, and a step's length against its quadratic form."""

import pytest
import torch
from torch.testing import assert_close

from accord.rl.natural import conjugate_gradient, longest_step


def system(seed, size=6):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(size), torch.randn(size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(5))
def test_it_solves_the_system_in_as_many_iterations_as_there_are_parameters(seed):
    matrix, b = system(seed)
    x = conjugate_gradient(lambda v: matrix @ v, b, iterations=6, tolerance=0.0)
    assert_close(x, torch.linalg.solve(matrix, b), rtol=1e-6, atol=1e-8)


def test_fewer_iterations_come_nearer_one_by_one():
    matrix, b = system(7)
    answer = torch.linalg.solve(matrix, b)
    found = [conjugate_gradient(lambda v: matrix @ v, b, iterations=n, tolerance=0.0) for n in range(7)]
    errors = [float((x - answer) @ matrix @ (x - answer)) for x in found]
    assert errors == sorted(errors, reverse=True)
    assert not found[0].any()


def test_a_right_hand_side_of_zero_needs_no_step():
    calls = []
    x = conjugate_gradient(lambda v: calls.append(v) or v, torch.zeros(4), iterations=10)
    assert not x.any()
    assert not calls


def test_a_direction_that_curves_down_is_refused():
    with pytest.raises(ValueError, match="raise the damping"):
        conjugate_gradient(lambda v: -v, torch.ones(3), iterations=3)


def test_the_longest_step_lies_on_the_edge_of_the_region():
    matrix, b = system(1)
    step = longest_step(b, matrix @ b, 0.02)
    assert float(step @ matrix @ step) / 2 == pytest.approx(0.02)
    assert_close(step / step.norm(), b / b.norm())
    assert not longest_step(torch.zeros(3), torch.zeros(3), 0.1).any()
