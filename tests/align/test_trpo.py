"""TRPO's defining properties: the exact Fisher product, the trust region, the line search."""

import pytest
import torch

from accord.align import trpo
from accord.align.learner import Learner
from accord.align.online import act, credit, judge, learn, minibatches
from accord.align.settings import AlignConfig
from accord.errors import NumericsError
from accord.types import Score
from toys import PROMPTS, ShareOfGood

BOTH = pytest.mark.parametrize("rank", [4, 0], ids=["lora", "full"])


def prepared(policy, rank=4, radius=0.01, **changes):
    """A learner whose adapters say something, and a batch it sampled."""
    settings = {"prompts_per_step": 32, "max_new_tokens": 4, "lora_rank": rank, "truncation_penalty": 0}
    config = AlignConfig(algorithm="trpo", clip=radius, **(settings | changes))
    learner = Learner(policy, config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in policy.trainable():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    rollouts = act(learner.engine(0), PROMPTS, 5)
    return learner, credit(learner, rollouts, judge(ShareOfGood(), rollouts))


def micros_of(learner, batch):
    return list(next(minibatches(batch, len(batch.tokens), 1, learner.config, torch.Generator())))


def exact_kl(learner, micros, shift, old_hidden, old):
    """Mean exact KL of the policy moved by ``shift`` to the one that sampled."""
    weights = learner.policy.trainable()
    with torch.no_grad():
        for p, move in zip(weights, trpo._like(shift, weights), strict=True):
            p.add_(move)
        total = sum(
            float((trpo._kl(learner, old, learner.policy.hidden(part.tokens), hidden, part) * w).sum())
            for (part, w, _), hidden in zip(micros, old_hidden, strict=True)
        )
        for p, move in zip(weights, trpo._like(shift, weights), strict=True):
            p.sub_(move)
    return total


def test_a_log_prob_far_from_the_samplers_is_found(toy):
    learner, batch = prepared(toy())
    batch.metrics["sampler_gap"] = 0.2
    with pytest.raises(NumericsError, match=r"up to 0\.2 from the sampler's"):
        learn(learner, batch, 0)


@pytest.mark.parametrize("model_type", ["llama", "t5"])
def test_the_fisher_product_is_the_curvature_of_the_exact_kl(toy, model_type):
    learner, batch = prepared(toy(model_type), micro_rows=16)  # in several micro-batches
    micros, weights = micros_of(learner, batch), learner.policy.trainable()
    assert len(micros) > 1
    size = sum(p.numel() for p in weights)
    v = torch.randn(size, generator=torch.Generator().manual_seed(1))
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        product = trpo._fisher_product(learner, micros, weights, v) - trpo.DAMPING * v
    with torch.no_grad():
        old_hidden = [learner.policy.hidden(part.tokens) for part, _, _ in micros]
    small = 0.01 * v / v.norm()
    kl = exact_kl(learner, micros, small, old_hidden, learner.policy)
    quadratic = float(small @ product) * 0.01 / float(v.norm()) / 2
    assert kl == pytest.approx(quadratic, rel=0.05)
    # symmetric: u'Fv = v'Fu
    u = torch.randn(size, generator=torch.Generator().manual_seed(2))
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        other = trpo._fisher_product(learner, micros, weights, u) - trpo.DAMPING * u
    assert float(u @ product) == pytest.approx(float(v @ other), rel=1e-3)


@BOTH
@pytest.mark.parametrize("radius", [1e-4, 1e-2])
def test_a_step_gains_and_stays_inside_the_region(toy, rank, radius):
    learner, batch = prepared(toy("llama"), rank, radius)
    old = learner.policy.frozen_copy()
    micros = micros_of(learner, batch)
    metrics = trpo.learn_in_trust_region(learner, batch, 0)
    assert 0 < metrics["step_kl"] <= radius
    assert metrics["gain"] > 0
    assert metrics["first_ratio"] == pytest.approx(1, abs=1e-5)
    with torch.no_grad():  # measured again, against a copy taken before
        kl = sum(
            float((trpo._kl(learner, old, learner.policy.hidden(part.tokens), old.hidden(part.tokens), part)
                   * w).sum()) for part, w, _ in micros
        )  # fmt: skip
    assert kl == pytest.approx(metrics["step_kl"], rel=1e-3)
    if radius == 1e-4:  # where the KL is quadratic: undamped it would reach the edge, damping shortens it
        assert metrics["step_share"] == 1
        assert metrics["step_kl"] > 0.3 * radius


def test_a_step_out_of_the_region_is_halved_until_it_is_inside(toy, monkeypatch):
    learner, batch = prepared(toy("llama"))
    right = trpo.longest_step
    monkeypatch.setattr(trpo, "longest_step", lambda *given: 10 * right(*given))
    metrics = trpo.learn_in_trust_region(learner, batch, 0)
    assert metrics["step_share"] in (1 / 8, 1 / 16)
    assert 0 < metrics["step_kl"] <= 0.01
    assert metrics["gain"] > 0


def test_where_nothing_gains_the_policy_stays_to_the_bit(toy, monkeypatch):
    learner, batch = prepared(toy("llama"))
    before = [p.detach().clone() for p in learner.policy.net.parameters()]
    wrong = trpo.longest_step
    monkeypatch.setattr(trpo, "longest_step", lambda *given: -wrong(*given))  # downhill
    metrics = trpo.learn_in_trust_region(learner, batch, 0)
    assert metrics["step_share"] == 0
    assert all(map(torch.equal, before, learner.policy.net.parameters()))


def test_equal_advantages_move_nothing(toy):
    learner, _ = prepared(toy("llama"), beta=0)
    rollouts = act(learner.engine(0), PROMPTS, 5)
    batch = credit(learner, rollouts, [Score(0.0)] * len(rollouts))
    before = [p.detach().clone() for p in learner.policy.net.parameters()]
    trpo.learn_in_trust_region(learner, batch, 0)
    assert all(map(torch.equal, before, learner.policy.net.parameters()))


def test_the_step_does_not_depend_on_the_rewards_unit(toy):
    moves = []
    for unit in (1.0, 50.0):
        learner, _ = prepared(toy("llama"), beta=0)
        start = [p.detach().clone() for p in learner.policy.trainable()]
        rollouts = act(learner.engine(0), PROMPTS, 5)
        scores = [Score(unit * s.value) for s in judge(ShareOfGood(), rollouts)]
        trpo.learn_in_trust_region(learner, credit(learner, rollouts, scores), 0)
        moves.append([p.detach() - q for p, q in zip(learner.policy.trainable(), start, strict=True)])
    one, other = (torch.cat([move.flatten() for move in each]) for each in moves)
    assert torch.cosine_similarity(one, other, dim=0) > 0.999
    assert float(one.norm() / other.norm()) == pytest.approx(1, rel=0.01)


def test_the_critic_learns_and_the_warm_up_leaves_the_policy_to_the_bit(toy):
    learner, batch = prepared(toy("llama"), critic_warmup=1)
    before = [p.detach().clone() for p in learner.policy.net.parameters()]
    trpo.learn_in_trust_region(learner, batch, 0)
    assert all(map(torch.equal, before, learner.policy.net.parameters()))
    assert learner.critic.linear.weight.any()
    assert not any(p in learner.optimiser.state for p in learner.policy.trainable())
    trpo.learn_in_trust_region(learner, batch, 1)
    assert not all(map(torch.equal, before, learner.policy.net.parameters()))


def test_the_direction_takes_a_part_of_the_rollouts_and_the_length_all(toy, monkeypatch):
    monkeypatch.setattr(trpo, "CURVED", (0.2, 8))
    learner, batch = prepared(toy("llama"))
    right, rows = trpo._fisher_product, []

    def counted(learner, micros, *given):
        rows.append(sum(len(part.tokens) for part, _, _ in micros))
        return right(learner, micros, *given)

    monkeypatch.setattr(trpo, "_fisher_product", counted)
    metrics = trpo.learn_in_trust_region(learner, batch, 0)
    assert rows == [8] * trpo.ITERATIONS + [len(batch.tokens)]
    assert 0 < metrics["step_kl"] <= 0.01
