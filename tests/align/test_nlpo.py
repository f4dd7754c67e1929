"""NLPO's defining properties: what is sampled lies in the masker's top-p set, and is scored within it."""

from dataclasses import replace

import pytest
import torch

from accord.align.learner import Learner
from accord.align.online import act, credit, judge, learn, run_step, tokens_of
from accord.align.settings import AlignConfig
from accord.errors import NumericsError
from accord.lm.engine import truncate
from accord.lm.score import log_softmax, score_hidden
from accord.lm.tokens import pack, unpack
from toys import PROMPTS, VOCABULARY, ShareOfGood

BOTH = pytest.mark.parametrize("model_type", ["llama", "t5"])


def learner_of(policy, **changes):
    settings = {"algorithm": "nlpo", "prompts_per_step": 32, "max_new_tokens": 4, "lora_rank": 4,
                "mask_top_p": 0.7, "mask_every": 3, "truncation_penalty": 0, "temperature": 0.8}  # fmt: skip
    return Learner(policy, AlignConfig(**(settings | changes)))


def moved(learner):
    """The policy away from its masker."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in learner.policy.trainable():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return learner


@BOTH
def test_each_token_was_chosen_among_the_top_p_set_of_the_masker(toy, model_type):
    learner = moved(learner_of(toy(model_type)))
    rollouts = act(learner.engine(0), PROMPTS, 4)
    tokens = tokens_of(rollouts, learner.policy.pad_id)
    logp = log_softmax(learner.masker.logits(learner.masker.hidden(tokens)[tokens.mask_BT]), 0.8)
    right = truncate(logp.exp(), None, 0.7) > 0
    kept = unpack(tokens.kept_BTW[tokens.mask_BT], VOCABULARY)
    assert torch.equal(kept, right)
    assert right.sum(1).float().mean() < VOCABULARY - 1  # something is left out
    assert kept.gather(1, tokens.ids_BT[tokens.mask_BT][:, None]).all()


@BOTH
def test_scorer_and_sampler_agree_within_the_kept_sets(toy, model_type):
    learner = moved(learner_of(toy(model_type)))
    rollouts = act(learner.engine(0), PROMPTS, 4)
    batch = credit(learner, rollouts, judge(ShareOfGood(), rollouts))
    assert batch.metrics["sampler_gap"] < 1e-4
    assert batch.metrics["kl"] > 0
    # against the definition: both models renormalised over what was kept
    tokens, policy = batch.tokens, learner.policy
    kept = unpack(tokens.kept_BTW[tokens.mask_BT], VOCABULARY)
    p = torch.softmax(policy.logits(policy.hidden(tokens)[tokens.mask_BT]) / 0.8, -1) * kept
    q = torch.softmax(policy.logits(learner.reference_hidden(tokens)[tokens.mask_BT]) / 0.8, -1) * kept
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
    kl = torch.where(kept, p * (p.clamp(min=1e-30).log() - q.clamp(min=1e-30).log()), 0.0).sum(1)
    assert batch.metrics["kl"] == pytest.approx(kl.sum().item() / len(rollouts), rel=1e-3)
    chosen = p.gather(1, tokens.ids_BT[tokens.mask_BT][:, None])[:, 0].log()
    torch.testing.assert_close(batch.logprobs_BT[batch.mask_BT], chosen, atol=1e-4, rtol=1e-4)


def test_kept_sets_a_token_off_are_found_out(toy):
    learner = moved(learner_of(toy("llama")))
    rollouts = act(learner.engine(0), PROMPTS, 4)
    shifted = [replace(r, kept=(*r.kept[1:], r.kept[0])) for r in rollouts]
    with pytest.raises(NumericsError, match=r"not the one that sampled|not finite"):
        learn(learner, credit(learner, shifted, judge(ShareOfGood(), shifted)), 0)


def test_gradients_stay_finite_and_leave_what_was_not_kept_alone(toy):
    learner = learner_of(toy("llama"))
    tokens = tokens_of(act(learner.engine(0), PROMPTS, 2), learner.policy.pad_id)
    hidden = learner.policy.hidden(tokens).detach()
    logits = {}
    head = learner.policy.logits

    def spy(states):
        logits["x"] = head(states).detach().requires_grad_()
        return logits["x"]

    learner.policy.logits = spy
    scores = score_hidden(learner.policy, hidden, tokens, reference=None)
    (scores.logprobs.sum() + scores.entropy.sum()).backward()
    gradient = logits["x"].grad
    kept = unpack(tokens.kept_BTW[tokens.mask_BT], VOCABULARY)
    assert torch.isfinite(gradient).all()
    assert not gradient[~kept].any()
    assert gradient[kept].any()


def test_with_all_of_the_mass_it_is_ppo(toy):
    found = []
    for algorithm in ("ppo", "nlpo"):
        own = {"mask_top_p": 1.0} if algorithm == "nlpo" else {"mask_top_p": 0.9, "mask_every": 20}
        learner = learner_of(toy("llama"), algorithm=algorithm, **own)
        found.append([run_step(learner, ShareOfGood(), PROMPTS, step)[0] for step in range(4)])
    for ppo, nlpo in zip(*found, strict=True):
        assert ppo == pytest.approx(nlpo, rel=1e-4, abs=1e-6)


def test_the_masker_lags_and_is_set_to_the_policy_now_and_then(toy):
    learner = learner_of(toy("t5"), mask_top_p=0.9999)  # GOOD is unlikely at the start

    def gap():
        behind = dict(learner.masker.net.named_parameters())
        ours = {n: p for n, p in learner.policy.net.named_parameters() if p.requires_grad}
        return max((p - behind[n]).abs().max().item() for n, p in ours.items())

    gaps = []
    for step in range(4):
        run_step(learner, ShareOfGood(), PROMPTS, step)
        gaps.append(gap())
    assert gaps[0] > 0
    assert gaps[1] > 0
    assert gaps[2] == 0
    assert gaps[3] > 0
    assert any(name.startswith("masker.") for name in learner.tensors())


@pytest.mark.parametrize("vocabulary", [8, 9, 16, 17])
def test_kept_sets_survive_as_bits(vocabulary):
    generator = torch.Generator().manual_seed(vocabulary)
    kept = torch.rand(6, vocabulary, generator=generator) > 0.5
    assert torch.equal(unpack(pack(kept), vocabulary), kept)
    assert pack(kept).shape == (6, -(-vocabulary // 8))
