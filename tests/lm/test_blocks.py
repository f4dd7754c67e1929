"""Tokens drawn by blocks are those of a sum over the whole vocabulary."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.lm.blocks import BLOCK, draw
from accord.lm.decode import Lean
from accord.lm.engine import State
from accord.lm.score import log_softmax

LAST = 1 - 2**-53  # the largest number below 1


def plain(p_BV, u_B):
    return State.draw(None, p_BV.double(), u_B)


@pytest.mark.parametrize("size", [1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 1000])
@pytest.mark.parametrize("by_column", [False, True])
def test_each_share_gives_the_token_whose_sum_passes_it(size, by_column):
    """Quarters are exact in float32, and so are their sums: no rounding excuses another token."""
    generator = torch.Generator().manual_seed(size)
    p_BV = torch.randint(0, 4, (50, size), generator=generator) / 4
    p_BV[:, size // 2] += 0.25  # something is positive
    p_BV = p_BV.t().contiguous().t() if by_column else p_BV
    u_B = torch.rand(50, generator=generator, dtype=torch.float64)
    u_B[:3] = torch.tensor([0.0, LAST, 0.5], dtype=torch.float64)
    assert torch.equal(draw(p_BV, u_B), plain(p_BV, u_B))


@given(st.integers(0, 10_000), st.integers(1, 300), st.sampled_from([0.0, 1e-12, 0.3, 0.5, 1 - 1e-9, LAST]))
def test_what_is_drawn_is_possible_and_its_sums_hold_the_share(seed, size, u):
    """Of any chances, however small: never a token of none, and the sum passes the share to rounding."""
    generator = torch.Generator().manual_seed(seed)
    p_BV = torch.rand(4, size, generator=generator).pow(20) * torch.logspace(0, -30, 4)[:, None]
    p_BV[torch.rand(4, size, generator=generator) < 0.5] = 0.0
    p_BV[:, seed % size] += 1e-30
    tokens_B1 = draw(p_BV, torch.full((4,), u, dtype=torch.float64))[:, None]
    assert bool((p_BV.gather(1, tokens_B1) > 0).all())
    cdf_BV = p_BV.double().cumsum(-1) / p_BV.double().sum(-1, keepdim=True)
    up_to_B1 = cdf_BV.gather(1, tokens_B1)
    before_B1 = up_to_B1 - p_BV.double().gather(1, tokens_B1) / p_BV.double().sum(-1, keepdim=True)
    assert bool((before_B1 <= u + 1e-6).all())
    assert bool((up_to_B1 >= u - 1e-6).all())


def test_a_share_that_ends_with_a_block_goes_to_what_is_possible_in_the_next():
    """The first block is passed exactly; what is left of the second is below float64's rounding."""
    p_BV = torch.zeros(200, 2 * BLOCK)
    p_BV[:, 3] = 1.0
    p_BV[:, BLOCK + 5] = torch.logspace(-14, -4, 200)
    total_B = 1.0 + p_BV[:, BLOCK + 5].double()
    u_B = 1 / total_B
    exact_B = u_B * total_B == 1.0
    assert int(exact_B.sum()) > 50
    tokens_B = draw(p_BV, u_B)
    assert set(tokens_B.tolist()) <= {3, BLOCK + 5}
    assert set(tokens_B[exact_B & (total_B > 1)].tolist()) == {BLOCK + 5}


def test_tokens_are_those_of_the_whole_sum_on_a_vocabulary():
    generator = torch.Generator().manual_seed(0)
    p_BV = log_softmax(3 * torch.randn(2000, 517, generator=generator), 0.9, exp=True)
    u_B = torch.rand(2000, generator=generator, dtype=torch.float64)
    assert int((draw(p_BV, u_B) != plain(p_BV, u_B)).sum()) <= 1  # where rounding decides


def test_the_lean_step_draws_by_blocks(load):
    state, p_BV = Lean(load("llama")), torch.eye(263)[[7, 100, 262]]
    assert state.draw is draw
    assert state.draw(p_BV, torch.tensor([0.0, 0.5, LAST], dtype=torch.float64)).tolist() == [7, 100, 262]


@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_logit_that_is_no_number_spoils_every_probability_of_its_row(by_column, value):
    """By which the engine finds damaged weights."""
    for at in (0, 5, 63, 64, 262):
        logits_BV = torch.randn(3, 263)
        logits_BV[1, at] = value
        logits_BV = logits_BV.t().contiguous().t() if by_column else logits_BV
        p_BV = log_softmax(logits_BV, 1.0, exp=True)
        assert bool(p_BV[1].isnan().all())
        assert bool(p_BV[[0, 2]].isfinite().all())


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_both_layouts_and_both_scales_agree(kept, temperature):
    torch.manual_seed(0)
    rows_BV = torch.randn(5, 300)
    kept_BV = torch.rand(5, 300) < 0.4 if kept else None
    columns_BV = rows_BV.t().contiguous().t()
    right = (
        (rows_BV.double() / temperature).where(kept_BV, -torch.inf)
        if kept
        else rows_BV.double() / temperature
    )
    for logits_BV in (rows_BV, columns_BV):
        p_BV = log_softmax(logits_BV, temperature, kept_BV, exp=True)
        torch.testing.assert_close(p_BV.double(), right.softmax(-1), atol=1e-6, rtol=1e-5)
        logp_BV = log_softmax(logits_BV, temperature, kept_BV)
        torch.testing.assert_close(logp_BV.double(), right.log_softmax(-1), atol=1e-5, rtol=1e-5)
