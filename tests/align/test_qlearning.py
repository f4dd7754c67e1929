"""Q-learning of tokens: the values of a known task, delayed pay, the memory, the target net."""

import pytest
import torch

from accord.align.episodes import play
from accord.align.online import act, judge
from accord.align.qlearning import QConfig, QLearner, learn_q
from accord.environment import Turn
from accord.errors import ConfigError, DataError
from accord.lm.tokens import TokenBatch
from accord.types import Rollout, Score, Stop
from toys import GOOD, PROMPTS, VOCABULARY, FirstToken, ShareOfGood, first_token


def config_of(**changes):
    settings = {
        "steps": 60, "updates": 4, "minibatch": 64, "learning_rate": 3e-3, "lora_rank": 0, "temperature": 0.5,
        "max_new_tokens": 1, "truncation_penalty": 0.0,
    }  # fmt: skip
    return QConfig(**(settings | changes))


def test_the_values_are_the_rewards_and_the_policy_their_softmax(toy):
    policy = toy()
    config = config_of(steps=80)
    learner = QLearner(policy, config)
    batch = TokenBatch.of([learner.engine(0).encode(PROMPTS[0])], [[GOOD]], policy.pad_id)
    assert learner.values(batch).abs().max() < 1e-5  # nothing is known yet
    habit = first_token(policy, learner.engine(0).encode(PROMPTS[0]))
    for step in range(config.steps):
        rollouts = act(learner.engine(step), PROMPTS[:1], 64, step)
        learn_q(learner, rollouts, judge(FirstToken(), rollouts), step)
    values = learner.values(batch)[0]
    truth = torch.zeros(VOCABULARY)
    truth[GOOD] = 1.0
    usual = habit > 0.01  # what is said about once in 64 or more
    assert int(usual.sum()) == 6
    assert (values - truth)[usual].abs().max() < 0.02
    assert float(values[GOOD]) == pytest.approx(1.0, abs=0.02)
    drawn = act(learner.engine(999), PROMPTS[:1], 2000)
    share = sum(r.ids[0] == GOOD for r in drawn) / 2000
    boltzmann = habit * (values / config.temperature).exp()
    chance = boltzmann[GOOD] / boltzmann.sum()
    assert share == pytest.approx(float(chance), abs=0.04)  # the starting model's habit times exp(Q / tau)


class Twice:
    """Two turns; only what was said in the first pays, and only when the second is over."""

    def begin(self, prompt, seed):
        said = []

        def answer(text):
            said.append(text)
            if len(said) == 2:
                return Turn(paid=float(said[0][:1] == "!"), over=True)
            return Turn('"')

        return answer


@pytest.mark.parametrize(("kind", "lam", "habit"), [("llama", 0.0, 0.1), ("t5", 0.7, 1.0)])
def test_what_is_paid_late_reaches_the_token_that_earned_it(toy, kind, lam, habit):
    config = config_of(
        steps=80, max_new_tokens=2, temperature=0.1, lam=lam, target_every=4, truncation_penalty=0.5
    )
    policy = toy(kind)
    with torch.no_grad():
        policy.net.get_output_embeddings().weight.mul_(habit)  # little of one: it says anything
    learner = QLearner(policy, config)
    paid = []
    for step in range(config.steps):
        rollouts = play(learner.engine(step), PROMPTS[:2], 32, step, environment=Twice())
        learn_q(learner, rollouts, [Score(0.0)] * len(rollouts), step)
        paid.append(sum(sum(r.paid) for r in rollouts) / len(rollouts))
        if paid[-1] > 0.9:
            break
    assert paid[0] < 0.3
    assert paid[-1] > 0.9


def rollouts_of(learner, step, samples=8):
    rollouts = act(learner.engine(step), PROMPTS, samples, step)
    return rollouts, judge(ShareOfGood(), rollouts)


def test_the_memory_forgets_and_the_target_follows(toy):
    learner = QLearner(toy(), config_of(memory=2, updates=3, target_every=4, max_new_tokens=3))
    before = [p.detach().clone() for p in learner.target.net.parameters()]
    for step in range(3):
        learn_q(learner, *rollouts_of(learner, step), step)
        same = all(map(torch.equal, before, learner.target.net.parameters()))
        assert same == (learner.updates < 4)  # set after 4 and 8 updates
    assert len(learner.memory) == 2
    assert {r.policy_version for step in learner.memory for r, _ in step} == {1, 2}


@pytest.mark.parametrize("rank", [0, 4], ids=["full", "lora"])
def test_micro_batches_change_nothing_and_a_step_again_gives_the_same_bits(toy, rank):
    found = []
    for rows in (64, 64, 7):
        config = config_of(max_new_tokens=3, updates=1, micro_rows=rows, lora_rank=rank)
        learner = QLearner(toy(), config)
        metrics = learn_q(learner, *rollouts_of(learner, 0), 0)
        found.append((metrics, [p.detach() for p in learner.policy.trainable()]))
    assert found[0][0] == found[1][0]
    assert all(map(torch.equal, found[0][1], found[1][1]))
    assert found[0][0] == pytest.approx(found[2][0], rel=1e-4)
    for one, other in zip(found[0][1], found[2][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_a_cut_episode_is_fined_and_the_rest_is_not(toy):
    learner = QLearner(toy(), config_of(truncation_penalty=2.0, updates=1, temperature=0.5))
    cut = Rollout(PROMPTS[0], (3, 4), (7,), (-1.0,), (1,), Stop.LENGTH, "")
    done = Rollout(PROMPTS[0], (3, 4), (7,), (-1.0,), (1,), Stop.EOS, "")
    metrics = learn_q(learner, [cut, done], [Score(1.0), Score(1.0)], 0)
    assert metrics["q_mean"] == pytest.approx(0.0)
    assert metrics["q_error"] == pytest.approx(((1 - 2) ** 2 + 1**2) / 2, rel=1e-5)


def test_no_rollouts_are_refused(toy):
    with pytest.raises(DataError, match="no rollouts"):
        learn_q(QLearner(toy(), config_of()), [], [], 0)


def test_all_weights_do_not_train_below_adapters(toy):
    policy = toy()
    policy.add_lora(2)
    with pytest.raises(ConfigError, match="has adapters"):
        QLearner(policy, config_of())
