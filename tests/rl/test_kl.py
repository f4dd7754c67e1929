"""The estimators against the exact KL by enumeration of a small softmax; the controllers by hand."""

import json
import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from accord.errors import NumericsError
from accord.rl.exact import exact_kl
from accord.rl.kl import Beta, ahead, k1, k2, k3, kl_loss, kl_rewards


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
    rewards = kl_rewards(k1(logp, logq), 0.3, torch.ones(6))
    assert not rewards.requires_grad
    gradient = torch.autograd.grad((logp.detach().exp() * rewards * logp).sum(), policy)[0]
    assert_close(gradient, -0.3 * kl_gradient(policy, reference))


def test_gradient_of_the_exact_kl_equals_finite_differences():
    generator = torch.Generator().manual_seed(2)
    policy, reference = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    assert gradcheck(exact_kl, (policy.requires_grad_(), reference.requires_grad_()))


def test_kl_rewards_by_hand():
    # beta 0.5; log-ratios 1, -2 and a masked NaN.
    log_ratio = k1(torch.tensor([[-1.0, -3.0, math.nan]]), torch.tensor([[-2.0, -1.0, 0.0]]))
    rewards = kl_rewards(log_ratio, 0.5, torch.tensor([[1, 1, 0]]))
    assert rewards.tolist() == [[-0.5, 1.0, 0.0]]


def test_adaptive_beta_by_hand():
    # target 6, horizon 10000, n = 256.
    # kl 6.6: error 0.1,          0.2 * (1 + 0.1 * 0.0256)        = 0.200512
    # kl 60:  error 9 -> 0.2,     0.200512 * (1 + 0.2 * 0.0256)   = 0.20153862144
    # kl 0:   error -1 -> -0.2,   0.20153862144 * (1 - 0.00512)   = 0.2005067436982...
    beta = Beta(0.2, target=6, horizon=10_000)
    beta.update(6.6, 256)
    assert beta.value == pytest.approx(0.200512, abs=1e-15)
    beta.update(60, 256)
    assert beta.value == pytest.approx(0.20153862144, abs=1e-14)
    beta.update(0, 256)
    assert beta.value == pytest.approx(0.20153862144 * 0.99488, abs=1e-14)


def test_adaptive_beta_brings_a_simple_world_to_its_target():
    beta = Beta(0.5, target=2.0, horizon=500)
    for _ in range(400):
        beta.update(1 / beta.value, 100)  # a policy whose KL is 1 / beta
    assert 1 / beta.value == pytest.approx(2.0, rel=1e-3)
    beta = Beta(0.01, target=2.0, horizon=500)
    for _ in range(400):
        beta.update(1 / beta.value, 100)
    assert 1 / beta.value == pytest.approx(2.0, rel=1e-3)


def test_controllers_go_on_from_a_checkpoint_to_the_bit():
    one, two = Beta(0.2, 6.0, 10_000), Beta(0.2, 6.0, 10_000)
    one.update(7.1, 64)
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    one.update(3.3, 64)
    two.update(3.3, 64)
    assert one.value == two.value != 0.2
    fixed = Beta(0.1)
    fixed.update(100.0, 64)
    assert fixed.value == 0.1
    again = Beta(0.5)
    again.load_state_dict(fixed.state_dict())
    assert again.value == 0.1


def test_controllers_refuse_what_would_be_silently_wrong():
    beta = Beta(0.2, target=6, horizon=1000)
    with pytest.raises(NumericsError, match="KL is nan"):
        beta.update(math.nan, 10)
    with pytest.raises(ValueError, match="must exceed 1200"):
        beta.update(0.0, 6000)
    assert beta.value == 0.2
    with pytest.raises(ValueError, match=r"is not one of target and horizon \(6, 1000\)"):
        beta.load_state_dict(Beta(0.1).state_dict())
    with pytest.raises(ValueError, match="'target': 3"):
        beta.load_state_dict(Beta(0.1, 3, 1000).state_dict())
    with pytest.raises(ValueError, match="beta is -1"):
        Beta(-1)
    with pytest.raises(ValueError, match="both must be positive"):
        Beta(0.1, target=0, horizon=10)
    with pytest.raises(ValueError, match="nothing is broadcast"):
        kl_rewards(torch.zeros(2, 3), 0.1, torch.ones(2, 1))


def ratio_expectation(estimator, policy, reference, sampler):
    """E over the sampler's tokens of rho k: (value, gradient with respect to the policy's logits)."""
    logp, logq, old = (torch.log_softmax(x, 0)[None] for x in (policy, reference, sampler))
    terms = kl_loss(logp, old, logq, torch.ones(1, 6), estimator)
    value = (old.detach().exp() * terms).sum()
    return value, torch.autograd.grad(value, policy)[0]


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_under_the_ratio_an_unbiased_estimator_has_value_and_gradient_of_the_exact_kl(pair, estimator):
    policy, reference = pair
    exact = exact_kl(policy[None], reference[None])[0]
    moved = policy.detach() + torch.tensor([0.3, -0.2, 0.1, 0.0, -0.4, 0.5], dtype=torch.float64)
    for sampler in (policy.detach(), moved):  # on the policy, and where it has moved since
        value, gradient = ratio_expectation(estimator, policy, reference, sampler)
        assert value.item() == pytest.approx(exact.item())
        assert_close(gradient, kl_gradient(policy, reference))


def test_under_the_ratio_k2_stays_biased(pair):
    policy, reference = pair
    value, gradient = ratio_expectation("k2", policy, reference, policy.detach())
    assert abs(value - exact_kl(policy[None], reference[None])[0]) > 0.01
    assert (gradient - kl_gradient(policy, reference)).abs().max() > 0.01


def test_kl_loss_keeps_the_padding_out_of_value_and_gradient():
    logprobs = torch.tensor([[-1.0, 900.0]], requires_grad=True)
    terms = kl_loss(logprobs, torch.tensor([[-1.0, 0.0]]), torch.tensor([[-2.0, math.nan]]),
                    torch.tensor([[1, 0]]), "k1")  # fmt: skip
    terms.sum().backward()
    assert terms.tolist() == [[1.0, 0.0]]
    assert logprobs.grad.tolist() == [[2.0, 0.0]]  # rho' k + rho k' = 1 + 1
    with pytest.raises(ValueError, match="estimator is 'k4'; there are k1, k2, k3"):
        kl_loss(logprobs, logprobs, logprobs, torch.ones(1, 2), "k4")


def test_ahead_by_hand():
    x = torch.tensor([[1.0, 2.0, 3.0, math.nan], [4.0, math.nan, 6.0, 7.0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 1]])
    assert ahead(x, mask).tolist() == [[2.0, 3.0, 0.0, 0.0], [6.0, 0.0, 7.0, 0.0]]


def test_the_exact_kl_ahead_in_the_reward_and_at_the_prefix_in_the_loss_is_the_gradient_of_the_whole():
    """Two tokens of three, each prefix with its own logits: KL of the completions against the parts."""
    generator = torch.Generator().manual_seed(4)
    first, second = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (1, 3))
    ref_first, ref_second = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (1, 3))
    first.requires_grad_()
    second.requires_grad_()
    p1, p2 = first.softmax(1)[0], second.softmax(1)
    kl1, kl2 = exact_kl(first, ref_first)[0], exact_kl(second, ref_second)
    whole = torch.autograd.grad(kl1 + (p1 * kl2).sum(), [first, second])
    p1, p2 = first.softmax(1)[0], second.softmax(1)
    kl1, kl2 = exact_kl(first, ref_first)[0], exact_kl(second, ref_second)
    weight = (p1[:, None] * p2).detach()  # of each of the nine completions
    rows = [(a, b) for a in range(3) for b in range(3)]
    kl_BT = torch.stack([torch.stack([kl1, kl2[a]]) for a, _ in rows])
    logp_BT = torch.stack([torch.stack([p1[a].log(), p2[a, b].log()]) for a, b in rows])
    rewards = kl_rewards(ahead(kl_BT, torch.ones(9, 2)), 1.0, torch.ones(9, 2))
    to_go = rewards.flip(1).cumsum(1).flip(1)
    w = weight.flatten()[:, None]
    parts = torch.autograd.grad((w * (kl_BT - to_go.detach() * logp_BT)).sum(), [first, second])
    for ours, theirs in zip(parts, whole, strict=True):
        assert_close(ours, theirs)
