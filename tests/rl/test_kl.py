"""The estimators against the exact KL by enumeration of a small softmax; the controllers by hand."""

import json
import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from accord.errors import NumericsError
from accord.rl.kl import AdaptiveBeta, FixedBeta, exact_kl, k1, k2, k3, kl_rewards


@pytest.fixture
def pair():
    """Logits of a policy and a reference over 6 words, far enough apart to tell estimators."""
    generator = torch.Generator().manual_seed(7)
    policy, reference = 2 * torch.randn(2, 6, generator=generator, dtype=torch.float64)
    return policy.requires_grad_(), reference


def expectation(estimator, policy, reference):
    """E_p of an estimator over all words; p itself without gradient, as for samples already drawn."""
    logp, logq = torch.log_softmax(policy, 0), torch.log_softmax(reference, 0)
    return (logp.detach().exp() * estimator(logp, logq)).sum()


def kl_gradient(policy, reference):
    return torch.autograd.grad(exact_kl(policy[None], reference[None]).sum(), policy)[0]


def test_exact_kl_by_hand():
    # p = (3/4, 1/4), q = (1/2, 1/2): 3/4 log(3/2) + 1/4 log(1/2). The other way round:
    # 1/2 log(2/3) + 1/2 log 2. Logits may carry any constant.
    p, q = torch.tensor([[math.log(3), 0.0]]) + 5, torch.zeros(1, 2)
    assert exact_kl(p, q).item() == pytest.approx(0.75 * math.log(1.5) - 0.25 * math.log(2))
    assert exact_kl(q, p).item() == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2))
    assert exact_kl(q, q).item() == 0


def test_exact_kl_is_never_negative_and_grows_in_float32_from_bfloat16():
    generator = torch.Generator().manual_seed(0)
    policy = (3 * torch.randn(200, 50, generator=generator)).bfloat16()
    reference = policy + 0.1 * torch.randn(200, 50, generator=generator).bfloat16()
    kl = exact_kl(policy, reference)
    assert kl.dtype == torch.float32
    assert kl.min() > 0
    assert_close(kl.double(), exact_kl(policy.double(), reference.double()), atol=1e-6, rtol=1e-4)


def test_k1_and_k3_are_unbiased_and_k2_is_not(pair):
    exact = exact_kl(pair[0][None], pair[1][None])[0]
    assert_close(expectation(k1, *pair), exact)
    assert_close(expectation(k3, *pair), exact)
    assert abs(expectation(k2, *pair) - exact) > 0.05 * exact


def test_only_k1_may_be_negative(pair):
    logp, logq = torch.log_softmax(pair[0], 0), torch.log_softmax(pair[1], 0)
    assert k1(logp, logq).min() < 0
    assert k2(logp, logq).min() >= 0
    assert k3(logp, logq).min() >= 0


def test_the_gradient_of_k2_on_policy_is_the_exact_one(pair):
    gradient = torch.autograd.grad(expectation(k2, *pair), pair[0])[0]
    assert_close(gradient, kl_gradient(*pair))


def test_the_gradient_of_k1_in_the_loss_has_mean_zero(pair):
    gradient = torch.autograd.grad(expectation(k1, *pair), pair[0])[0]
    assert gradient.abs().max() < 1e-12
    assert kl_gradient(*pair).abs().max() > 0.01


def test_the_gradient_of_k3_in_the_loss_is_that_of_the_other_direction(pair):
    policy, reference = pair
    gradient = torch.autograd.grad(expectation(k3, policy, reference), policy)[0]
    other = torch.autograd.grad(exact_kl(reference[None], policy[None]).sum(), policy)[0]
    assert_close(gradient, other)
    assert (gradient - kl_gradient(policy, reference)).abs().max() > 0.01


def test_k1_in_the_reward_has_the_exact_gradient(pair):
    # REINFORCE on kl_rewards of beta = 0.3: E_p[reward grad log p] = -0.3 grad KL.
    policy, reference = pair
    logp, logq = torch.log_softmax(policy, 0), torch.log_softmax(reference, 0)
    rewards = kl_rewards(logp, logq, 0.3, torch.ones(6))
    assert not rewards.requires_grad
    gradient = torch.autograd.grad((logp.detach().exp() * rewards * logp).sum(), policy)[0]
    assert_close(gradient, -0.3 * kl_gradient(policy, reference))


def test_gradient_of_the_exact_kl_equals_finite_differences():
    generator = torch.Generator().manual_seed(2)
    policy, reference = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    assert gradcheck(exact_kl, (policy.requires_grad_(), reference.requires_grad_()))


def test_kl_rewards_by_hand():
    # beta 0.5; log-ratios 1, -2 and a masked NaN.
    rewards = kl_rewards(
        torch.tensor([[-1.0, -3.0, math.nan]]),
        torch.tensor([[-2.0, -1.0, 0.0]]),
        0.5,
        torch.tensor([[1, 1, 0]]),
    )
    assert rewards.tolist() == [[-0.5, 1.0, 0.0]]


def test_adaptive_beta_by_hand():
    # target 6, horizon 10000, n = 256.
    # kl 6.6: error 0.1,          0.2 * (1 + 0.1 * 0.0256)        = 0.200512
    # kl 60:  error 9 -> 0.2,     0.200512 * (1 + 0.2 * 0.0256)   = 0.20153862144
    # kl 0:   error -1 -> -0.2,   0.20153862144 * (1 - 0.00512)   = 0.2005067436982...
    beta = AdaptiveBeta(0.2, target=6, horizon=10_000)
    beta.update(6.6, 256)
    assert beta.value == pytest.approx(0.200512, abs=1e-15)
    beta.update(60, 256)
    assert beta.value == pytest.approx(0.20153862144, abs=1e-14)
    beta.update(0, 256)
    assert beta.value == pytest.approx(0.20153862144 * 0.99488, abs=1e-14)


def test_adaptive_beta_brings_a_simple_world_to_its_target():
    beta = AdaptiveBeta(0.5, target=2.0, horizon=500)
    for _ in range(400):
        beta.update(1 / beta.value, 100)  # a policy whose KL is 1 / beta
    assert 1 / beta.value == pytest.approx(2.0, rel=1e-3)
    beta = AdaptiveBeta(0.01, target=2.0, horizon=500)
    for _ in range(400):
        beta.update(1 / beta.value, 100)
    assert 1 / beta.value == pytest.approx(2.0, rel=1e-3)


def test_controllers_go_on_from_a_checkpoint_to_the_bit():
    one, two = AdaptiveBeta(0.2, 6.0, 10_000), AdaptiveBeta(0.2, 6.0, 10_000)
    one.update(7.1, 64)
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    one.update(3.3, 64)
    two.update(3.3, 64)
    assert one.value == two.value != 0.2
    fixed = FixedBeta(0.1)
    fixed.update(100.0, 64)
    assert fixed.value == 0.1
    again = FixedBeta(0.5)
    again.load_state_dict(fixed.state_dict())
    assert again.value == 0.1


def test_controllers_refuse_what_would_be_silently_wrong():
    beta = AdaptiveBeta(0.2, target=6, horizon=1000)
    with pytest.raises(NumericsError, match="KL is nan"):
        beta.update(math.nan, 10)
    with pytest.raises(ValueError, match="must exceed 1200"):
        beta.update(0.0, 6000)
    assert beta.value == 0.2
    with pytest.raises(ValueError, match=r"\['value'\] is not of a AdaptiveBeta"):
        beta.load_state_dict(FixedBeta(0.1).state_dict())
    with pytest.raises(ValueError, match="checkpoint has target 3"):
        beta.load_state_dict(AdaptiveBeta(0.1, 3, 1000).state_dict())
    with pytest.raises(ValueError, match="beta is -1"):
        FixedBeta(-1)
    with pytest.raises(ValueError, match="both must be positive"):
        AdaptiveBeta(0.1, target=0, horizon=10)
    with pytest.raises(ValueError, match="nothing is broadcast"):
        kl_rewards(torch.zeros(2, 3), torch.zeros(2, 3), 0.1, torch.ones(2, 1))
