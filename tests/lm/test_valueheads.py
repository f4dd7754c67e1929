"""Heads that say what tokens are worth: what they start as, how they lag, what they do to a model's words."""

import pytest
import torch
from torch.testing import assert_close

from accord.errors import ModelError
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.model import LanguageModel
from accord.lm.valueheads import FILE, AdvisedModel, ValueHeads, load_advised


def heads_of(model, seed=0):
    """Heads whose every weight differs."""
    heads = ValueHeads.on(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return heads


def states(model, count=3):
    return torch.randn(count, model.width, generator=torch.Generator().manual_seed(1))


def test_untrained_heads_prefer_nothing(load):
    model = load()
    advised = AdvisedModel(model, ValueHeads.on(model), 5.0)
    assert torch.equal(advised.logits(states(model)), model.logits(states(model)))


def test_the_two_q_heads_learn_apart(load):
    """Begun alike and taught alike they would stay alike, and the lower of the two would be each of them."""
    model = load()
    heads, hidden = ValueHeads.on(model), states(model, 20)
    optimiser = torch.optim.Adam(heads.q.parameters(), lr=1e-2)
    truth = torch.randn(20, model.net.config.vocab_size, generator=torch.Generator().manual_seed(2))
    for _ in range(5):
        optimiser.zero_grad()
        sum((q - truth).square().mean() for q in heads.learned(hidden)).backward()
        optimiser.step()
    first, second = heads.learned(hidden)
    assert float((first - second).detach().abs().mean()) > 0.01
    state = torch.random.get_rng_state()
    alike = [ValueHeads(8, 5, seed).q[0][0].weight for seed in (0, 0, 1)]
    assert torch.equal(alike[0], alike[1])
    assert not torch.equal(alike[0], alike[2])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_advice_by_hand():
    """Hidden layers that pass on what is positive: output layers alone are left to work out."""
    heads = ValueHeads(2, 3)
    with torch.no_grad():
        for head in (*heads.target, heads.v):
            head[0].weight.copy_(torch.eye(2))
            head[0].bias.zero_()
        heads.target[0][2].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
        heads.target[1][2].bias.copy_(torch.tensor([1.5, 2.5, 0.5]))
        heads.v[2].weight.copy_(torch.tensor([[1.0, -1.0]]))
    hidden = torch.tensor([[2.0, 3.0]])
    assert_close(heads.lagging(hidden), torch.tensor([[1.5, 2.5, 0.5]]))  # the lower of (2, 3, 5) and these
    assert_close(heads.value(hidden), torch.tensor([-1.0]))
    first, second = heads.learned(hidden)
    assert not first.any()
    assert not second.any()  # what lags is a copy, not the heads themselves


def test_what_is_sampled_is_pi_times_exp_of_the_weighted_advantage(load):
    """Token by token from probabilities: pi exp(weight (Q - V)), and V falls out of the normalisation."""
    model = load()
    heads, hidden = heads_of(model), states(model)
    pi, weight = model.logits(hidden).softmax(-1), 0.05
    better = heads.lagging(hidden) - heads.value(hidden)[:, None]
    raised = pi * torch.exp(weight * better)
    expected = raised / raised.sum(-1, keepdim=True)
    assert_close(AdvisedModel(model, heads, weight).logits(hidden).softmax(-1), expected)
    assert float((expected - pi).detach().abs().max()) > 0.001


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_a_model_listens_by_the_weight_it_gives(load, kind):
    model = load(kind)
    heads, hidden = heads_of(model), states(load(kind))
    bare, advised = model.logits(hidden), AdvisedModel(model, heads, 2.0).logits(hidden)
    better = heads.lagging(hidden) - heads.value(hidden)[:, None]
    assert_close(advised, bare + 2.0 * better)
    assert torch.equal(AdvisedModel(model, heads, 0.0).logits(hidden), bare)
    assert isinstance(model, LanguageModel)
    assert not isinstance(model, AdvisedModel)  # the model itself is as it was


def test_the_sampler_hears_the_advice(load):
    model = load()
    heads = ValueHeads.on(model)
    with torch.no_grad():
        for head in heads.target:
            head[2].bias[9] = 50.0
    engine = Engine(AdvisedModel(model, heads, 1.0), SamplingConfig(max_new_tokens=3))
    assert engine.generate([[5, 6, 7]], 2)[0][0].ids == (9, 9, 9)


def test_what_lags_moves_by_its_share():
    heads = ValueHeads(2, 2)
    with torch.no_grad():
        heads.q[0][2].bias.fill_(4.0)
    heads.follow(0.25)
    assert_close(heads.target[0][2].bias, torch.full((2,), 1.0))
    heads.follow(0.25)
    assert_close(heads.target[0][2].bias, torch.full((2,), 1.75))
    assert not any(p.requires_grad for p in heads.target.parameters())


@pytest.mark.parametrize("merge", [False, True], ids=["adapters", "merged"])
def test_heads_come_back_to_the_bit(load, tmp_path, merge):
    model = load()
    model.add_lora(2)
    heads, hidden = heads_of(model), states(model)
    advised = AdvisedModel(model, heads, 3.0)
    advised.save(tmp_path, merge=merge)
    again, louder = load_advised(tmp_path), load_advised(tmp_path, 5.0)
    assert (again.weight, louder.weight) == (3.0, 5.0)
    assert torch.equal(again.logits(hidden), advised.logits(hidden))
    assert (again.peft is None) == merge
    assert load_advised(tmp_path, dtype="bfloat16").net.dtype is torch.bfloat16


def test_origins_tell_advice_from_none(load):
    model = load()
    heads = heads_of(model)
    told = [AdvisedModel(model, heads, weight).weights_hash() for weight in (1.0, 1.0, 2.0)]
    other = AdvisedModel(model, heads_of(model, 1), 1.0).weights_hash()
    assert told[0] == told[1]
    assert len({model.weights_hash(), told[0], told[2], other}) == 4


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("missing", "no value heads"),
        ("torn", "no value heads"),
        ("wrong", "no value heads"),
        ("stale", "other weights"),
    ],
)
def test_heads_that_are_not_there_are_not_made_up(load, tmp_path, spoil, message):
    model = load()
    AdvisedModel(model, heads_of(model), 1.0).save(tmp_path)
    if spoil == "missing":
        (tmp_path / FILE).unlink()
    elif spoil == "torn":
        (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:50])
    elif spoil == "wrong":
        load(vocab_size=40).save(tmp_path)
    else:  # another model of the same shape was saved there since
        with torch.no_grad():
            next(model.net.parameters()).add_(1.0)
        model.save(tmp_path)
    with pytest.raises(ModelError, match=message):
        load_advised(tmp_path)
