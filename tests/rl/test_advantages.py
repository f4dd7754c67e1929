"""Hand-computed answers, closed forms and properties of GAE, whitening and masked statistics."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from accord.rl.advantages import explained_variance, gae, masked_mean, masked_var, whiten

NAN = math.nan


def row(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


def test_gae_of_three_steps_by_hand():
    # gamma = 0.5, lam = 0.5, so gamma lam = 0.25; V(s_3) = 8 because the row was cut off.
    # delta_2 = 3 + 0.5 * 8 - 4 = 3        A_2 = 3
    # delta_1 = 2 + 0.5 * 4 - 2 = 2        A_1 = 2 + 0.25 * 3    = 2.75
    # delta_0 = 1 + 0.5 * 2 - 1 = 1        A_0 = 1 + 0.25 * 2.75 = 1.6875
    # R = A + V = 1.6875 + 1, 2.75 + 2, 3 + 4
    advantages, returns = gae(
        row(1, 2, 3), row(1, 2, 4), row(1, 1, 1), torch.tensor([8.0], dtype=torch.float64), gamma=0.5, lam=0.5
    )
    assert_close(advantages, row(1.6875, 2.75, 3))
    assert_close(returns, row(2.6875, 4.75, 7))


def test_termination_and_truncation_differ_by_the_discounted_bootstrap():
    # gamma = 0.9, lam = 1: the last value enters A_t as 0.9^(3 - t) * 10 = 7.29, 8.1, 9.
    args = row(1, 2, 3), row(1, 2, 4), row(1, 1, 1)
    ended, _ = gae(*args, torch.zeros(1, dtype=torch.float64), gamma=0.9, lam=1.0)
    cut, _ = gae(*args, torch.full((1,), 10.0, dtype=torch.float64), gamma=0.9, lam=1.0)
    assert_close(cut - ended, row(7.29, 8.1, 9.0))


def test_lam_0_is_the_one_step_error_and_lam_1_the_discounted_return_less_the_value():
    generator = torch.Generator().manual_seed(1)
    rewards, values = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64)
    bootstrap = torch.randn(4, generator=generator, dtype=torch.float64)
    mask = torch.ones(4, 6)
    one_step, _ = gae(rewards, values, mask, bootstrap, gamma=0.9, lam=0.0)
    next_values = torch.cat([values[:, 1:], bootstrap[:, None]], dim=1)
    assert_close(one_step, rewards + 0.9 * next_values - values)
    monte_carlo, returns = gae(rewards, values, mask, bootstrap, gamma=0.9, lam=1.0)
    for t in range(6):
        powers = 0.9 ** torch.arange(6 - t, dtype=torch.float64)
        expected = (rewards[:, t:] * powers).sum(1) + 0.9 ** (6 - t) * bootstrap
        assert_close(returns[:, t], expected)
        assert_close(monte_carlo[:, t], expected - values[:, t])


def test_padding_changes_nothing_whatever_stands_in_it():
    # Rows of 3 and 1 tokens. The second, with gamma = 0.5: A = 5 + 0.5 * 2 - 4 = 2, R = 6.
    rewards = torch.tensor([[1.0, 2, 3], [5, 0, 0]])
    values = torch.tensor([[1.0, 2, 4], [4, NAN, math.inf]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    advantages, returns = gae(rewards, values, mask, torch.tensor([8.0, 2.0]), gamma=0.5, lam=0.5)
    assert_close(advantages, torch.tensor([[1.6875, 2.75, 3], [2, 0, 0]]))
    assert_close(returns, torch.tensor([[2.6875, 4.75, 7], [6, 0, 0]]))


def test_time_skips_the_environments_tokens():
    # The three-step row of above, with two words of an environment after its first token: they are
    # neither discounted over nor valued, so the figures are the same at the policy's tokens.
    advantages, returns = gae(
        row(1, 0, 0, 2, 3),
        row(1, NAN, 100, 2, 4),
        row(1, 0, 0, 1, 1),
        torch.tensor([8.0], dtype=torch.float64),
        gamma=0.5,
        lam=0.5,
    )
    assert_close(advantages, row(1.6875, 0, 0, 2.75, 3))
    assert_close(returns, row(2.6875, 0, 0, 4.75, 7))


@settings(max_examples=50)
@given(
    st.lists(st.booleans(), min_size=1, max_size=12).filter(any),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_masked_row_equals_the_row_without_its_masked_tokens(kept, seed, gamma, lam):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.tensor([kept])
    rewards, values = torch.randn(2, 1, len(kept), generator=generator, dtype=torch.float64)
    rewards = rewards * mask
    bootstrap = torch.randn(1, generator=generator, dtype=torch.float64)
    whole = gae(rewards, values, mask, bootstrap, gamma=gamma, lam=lam)
    short_mask = torch.ones(1, int(mask.sum()))
    short = gae(rewards[mask][None], values[mask][None], short_mask, bootstrap, gamma=gamma, lam=lam)
    for masked, packed in zip(whole, short, strict=True):
        assert_close(masked[mask][None], packed)
        assert not masked[~mask].any()


def test_gae_refuses_what_would_be_silently_wrong():
    ones, zero = torch.ones(2, 3), torch.zeros(2)
    with pytest.raises(ValueError, match=r"rows \[1\] have no token"):
        gae(ones * 0, ones, torch.tensor([[1, 1, 0], [0, 0, 0]]), zero, gamma=1, lam=1)
    with pytest.raises(ValueError, match=r"rewards stand on masked tokens \(row, column\) \[\[0, 2\]\]"):
        gae(ones, ones, torch.tensor([[1, 1, 0], [1, 1, 1]]), zero, gamma=1, lam=1)
    with pytest.raises(ValueError, match=r"bootstrap_B has shape \(2, 1\)"):
        gae(ones, ones, ones, zero[:, None], gamma=1, lam=1)
    with pytest.raises(ValueError, match=r"lam is 1\.5"):
        gae(ones, ones, ones, zero, gamma=1, lam=1.5)


def test_mean_and_variance_by_hand():
    # Real: 1, 3, 5. Mean 3; squared distances 4 + 0 + 4 = 8 over n - 1 = 2.
    x, mask = row(1, 3, 5, NAN), row(1, 1, 1, 0)
    assert masked_mean(x, mask).item() == 3
    assert masked_var(x, mask).item() == 4


def test_whitening_by_hand_and_its_inert_padding():
    # Mean 3, deviation 2.
    x, mask = row(1, 3, 5, NAN), row(1, 1, 1, 0)
    assert_close(whiten(x, mask), row(-1, 0, 1, 0), atol=1e-8, rtol=0)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(-50, 50), st.floats(0.1, 50))
def test_whitening_does_not_see_shift_and_scale_of_the_whole_batch(seed, shift, scale):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    mask = torch.arange(7) < torch.tensor([[7], [2], [4]])
    white = whiten(x, mask)
    assert_close(whiten(scale * x + shift, mask), white, atol=1e-5, rtol=0)
    assert abs(masked_mean(white, mask).item()) < 1e-9
    assert abs(masked_var(white, mask).item() - 1) < 1e-5


def test_whitening_row_by_row_would_be_another_answer():
    x = torch.tensor([[0.0, 1], [10, 11]])
    assert whiten(x, torch.ones(2, 2))[0].max() < 0 < whiten(x, torch.ones(2, 2))[1].min()


def test_equal_values_whiten_to_zero_and_a_lone_token_is_refused():
    assert_close(whiten(torch.full((2, 2), 3.0), torch.ones(2, 2)), torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"1 real tokens in mask .* at least 2"):
        whiten(torch.ones(1, 2), torch.tensor([[1, 0]]))
    with pytest.raises(ValueError, match=r"0 real tokens in mask .* at least 1"):
        masked_mean(torch.ones(1, 2), torch.zeros(1, 2))


def test_explained_variance_by_hand():
    # Returns 0, 2, 4: variance 4. Values 0, 1, 2 leave 0, 1, 2: variance 1. So 1 - 1/4.
    returns, mask = row(0, 2, 4, NAN), row(1, 1, 1, 0)
    assert explained_variance(row(0, 1, 2, NAN), returns, mask).item() == 0.75
    assert explained_variance(row(5, 7, 9, 0), returns, mask).item() == 1
    assert explained_variance(row(7, 7, 7, 0), returns, mask).item() == 0
    assert explained_variance(row(4, 2, 0, 0), returns, mask).item() == -3
    assert explained_variance(returns, row(1, 1, 1, 0), mask).isnan()
