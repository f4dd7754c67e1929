"""ILQL: the loss by hand and by finite differences, what the records teach, and exact resume."""

import math

import pytest
import torch

import accord.align.ilql as module
from accord.align.ilql import ILQLConfig, ILQLearner
from accord.align.online import tokens_of
from accord.align.qlearning import draw_episodes
from accord.errors import ConfigError, DataError, NumericsError, StoreError
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.tokens import TokenBatch
from accord.types import Rollout, Score, Stop
from toys import GOOD, OTHER, PROMPTS, VOCABULARY

END = 1


def config_of(**changes):
    settings = {"updates": 150, "minibatch": 32, "learning_rate": 1e-2, "lora_rank": 0, "follow": 0.1}
    return ILQLConfig(**(settings | changes))


def episode(learner, *ids, paid=(), mask=None, stop=Stop.EOS):
    prompt = tuple(Engine(learner.policy, SamplingConfig()).encode(PROMPTS[0]))
    mask = mask or (1,) * len(ids)
    return Rollout(PROMPTS[0], prompt, ids, (-1.0,) * len(ids), mask, stop, "", 0, paid)


def randomised(learner, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in learner.heads.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return learner


@torch.no_grad()
def test_the_loss_by_hand(toy):
    """Two tokens of the policy with a word of the environment between them, token by token on paper."""
    settings = {"expectile": 0.8, "conservative": 0.25, "gamma": 0.9, "truncation_penalty": 2.0}
    learner = randomised(ILQLearner(toy(), config_of(**settings)))
    cut = episode(
        learner, GOOD, 3, OTHER, paid=(0.5, 0.0, 0.0), mask=(1, 0, 1), stop=Stop.LENGTH
    )  # the score is 1, less the fine of 2
    loss, metrics = learner._loss(([(cut, 1.0)], 2.0))
    tokens = tokens_of([cut], learner.policy.pad_id)
    hidden = learner.policy.hidden(tokens)[0]
    expected = 0.0
    v = learner.heads.value(hidden)[[0, 2]].tolist()
    ahead = {0: 0.5 + 0.9 * v[1], 2: 1.0 - 2.0}
    for own, (t, token) in enumerate(((0, GOOD), (2, OTHER))):
        log_pi = learner.policy.logits(hidden)[t].log_softmax(0)[token]
        u = float(learner.heads.lagging(hidden)[t, token]) - v[own]
        expected += -float(log_pi) + (0.8 if u > 0 else 0.2) * u * u
        for q in learner.heads.learned(hidden):
            values = [float(x) for x in q[t]]
            expected += (ahead[t] - values[token]) ** 2
            expected += 0.25 * (math.log(sum(map(math.exp, values))) - values[token])
    assert float(loss) == pytest.approx(expected / 2, rel=1e-5)
    assert float(metrics["v_mean"]) == pytest.approx(sum(v) / 2, rel=1e-5)


def test_gradients_equal_finite_differences(toy):
    """Of the heads, where V's target (the lagging Q) and Q's target (V) must have none."""
    learner = randomised(ILQLearner(toy(), config_of(expectile=0.7, conservative=0.3)))
    episodes = [(episode(learner, GOOD, OTHER, END), 1.0), (episode(learner, OTHER, END), 0.0)]
    micro = (episodes, 5.0)
    loss, _ = learner._loss(micro)
    loss.backward()
    heads = learner.heads
    assert all(p.grad is None for p in heads.target.parameters())
    for parameter in (
        heads.q[0][2].bias,
        heads.q[1][2].weight,
        heads.q[1][0].weight,
        heads.v[2].bias,
        heads.v[0].weight,
    ):
        flat = parameter.detach().view(-1)
        for at in (0, len(flat) // 2, len(flat) - 1):
            frozen = targets_held(learner, micro)
            slope = (frozen(flat, at, 1e-2) - frozen(flat, at, -1e-2)) / 2e-2
            assert float(parameter.grad.view(-1)[at]) == pytest.approx(slope, abs=2e-4)


def targets_held(learner, micro):
    """The loss as a function of one weight, with Q's targets as they were."""
    held = []
    real = module.targets
    module.targets = lambda *a, **k: held.append(real(*a, **k)) or held[-1]
    with torch.no_grad():
        learner._loss(micro)
    module.targets = real

    def loss(flat, at, step):
        module.targets = lambda *a, **k: held[0]
        before = float(flat[at])
        flat[at] = before + step
        with torch.no_grad():
            value = float(learner._loss(micro)[0])
        flat[at] = before
        module.targets = real
        return value

    return loss


# -- a game ------------------------------------------------------------------------------------

RISK, SAFE = GOOD, OTHER
CALLS = {3: 5, 4: 6}
"""A coin that the environment shows, and the call that is right behind it."""


def records(learner):
    """SAFE pays 0.6. RISK shows a coin, and the right call of it pays 1, the wrong one 0.

    Three authors spoke alike often: one calls the first coin right and the second wrong, one the other
    way round, one always wrong. So RISK pays who copies them 1/3 and the best author 1/2, and both coins
    called right, which pays 1, is what no author could.
    """
    rollouts, scores = [], []
    for right_about in (3, 4, None):
        for coin, other in ((3, 4), (4, 3)):
            called = CALLS[coin if coin == right_about else other]
            rollouts += [episode(learner, RISK, coin, called, mask=(1, 0, 1)), episode(learner, SAFE)] * 4
            scores += [Score(float(coin == right_about)), Score(0.6)] * 4
    return rollouts, scores


@torch.no_grad()
def chances(model, prefix):
    """(V,) exact probabilities of the token behind the first prompt and ``prefix``."""
    prompt = Engine(model, SamplingConfig()).encode(PROMPTS[0])
    batch = TokenBatch.of([prompt], [[*prefix, GOOD]], model.pad_id)
    return model.logits(model.hidden(batch)[0, -1:]).softmax(-1)[0]


def worth(model, greedy):
    """Exact mean pay of the game, by sampled or by likeliest tokens."""

    def chosen(*prefix):
        found = chances(model, prefix)
        return torch.zeros_like(found).index_fill(0, found.argmax(), 1.0) if greedy else found

    first = chosen()
    called = sum(float(chosen(RISK, coin)[call]) for coin, call in CALLS.items()) / 2
    return 0.6 * float(first[SAFE]) + float(first[RISK]) * called


def learned(policy, **changes):
    learner = ILQLearner(policy, config_of(**changes))
    return learner, learner.run(*records(learner))


def test_it_joins_the_best_of_three_players_none_of_whom_is_good(toy):
    learner, history = learned(toy("t5"), lora_rank=4)
    copied, advised = learner.advised(0.0), learner.advised(16.0)
    assert history[-1]["log_loss"] < 0.8
    assert worth(copied, greedy=False) == pytest.approx(0.5 * 0.6 + 0.5 / 3, abs=0.06)  # as the records do
    assert worth(copied, greedy=True) <= 0.6 + 1e-6
    assert worth(advised, greedy=True) == pytest.approx(1.0)
    assert worth(advised, greedy=False) > 0.9


def test_the_values_are_the_expectiles_of_the_records_and_the_mean_would_not_do(toy):
    """V of a coin is the expectile of a 1 and two 0: tau / (tau + 2 (1 - tau)), and so is Q of RISK."""
    for tau, best in ((0.9, 0.9 / 1.1), (0.5, 1 / 3)):
        learner, _ = learned(toy(), expectile=tau, conservative=0.0)
        tokens = tokens_of([episode(learner, RISK, 3, 5)], learner.policy.pad_id)
        with torch.no_grad():
            hidden = learner.policy.hidden(tokens)[0]
            q, v = learner.heads.lagging(hidden), learner.heads.value(hidden)
        assert float(v[2]) == pytest.approx(best, abs=0.12)
        assert float(q[0, RISK]) == pytest.approx(best, abs=0.12)
        assert float(q[0, SAFE]) == pytest.approx(0.6, abs=0.08)
        assert float(q[2, CALLS[3]]) == pytest.approx(1.0, abs=0.08)
        assert float(q[2, CALLS[4]]) == pytest.approx(0.0, abs=0.08)
        optimal = worth(learner.advised(16.0), greedy=True)
        assert optimal == pytest.approx(1.0 if tau == 0.9 else 0.6)  # the mean of RISK is below SAFE


def test_the_conservative_term_keeps_unseen_tokens_low(toy):
    unseen = torch.ones(VOCABULARY, dtype=torch.bool)
    unseen[[RISK, SAFE]] = False
    found = []
    for weight in (0.0, 0.1):
        learner, _ = learned(toy(), updates=40, conservative=weight)
        tokens = tokens_of([episode(learner, RISK)], learner.policy.pad_id)
        with torch.no_grad():
            values = learner.heads.lagging(learner.policy.hidden(tokens)[0])[0]
        found.append(float(values[unseen].max() - values[SAFE]))
    assert found[1] < found[0] - 0.1


# -- runs --------------------------------------------------------------------------------------


def weights(learner):
    return [p.detach() for p in (*learner.policy.net.parameters(), *learner.heads.parameters())]


def test_micro_batches_change_nothing_and_the_same_seed_gives_the_same_bits(toy):
    found = []
    for rows in (64, 64, 5):
        learner, history = learned(toy(), updates=2, micro_rows=rows, lora_rank=4)
        found.append((history[-1], weights(learner)))
    assert found[0][0] == found[1][0]
    assert all(map(torch.equal, found[0][1], found[1][1]))
    assert found[0][0] == pytest.approx(found[2][0], rel=1e-3)


@pytest.mark.parametrize("rank", [0, 4], ids=["full", "lora"])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(toy, tmp_path, rank):
    def kill(row):
        if row["step"] == 5:
            raise RuntimeError("killed")

    settings = {"updates": 7, "lora_rank": rank}
    whole, history = learned(toy(), **settings)
    learner = ILQLearner(toy(), config_of(**settings))
    with pytest.raises(RuntimeError, match="killed"):
        learner.run(*records(learner), tmp_path, save_every=2, progress=kill)
    again = ILQLearner(toy(), config_of(**settings))
    assert again.run(*records(again), tmp_path, resume=True) == history
    assert all(map(torch.equal, weights(again), weights(whole)))
    assert again.run(*records(again), tmp_path, resume=True) == history  # nothing is left to do
    with pytest.raises(ConfigError, match="holds a run already"):
        again.run(*records(again), tmp_path)


def test_other_records_or_settings_are_not_gone_on_with(toy, tmp_path):
    learner = ILQLearner(toy(), config_of(updates=1))
    rollouts, scores = records(learner)
    learner.run(rollouts, scores, tmp_path)
    other = [Score(0.5), *scores[1:]]
    for policy, settings, told in (
        (toy(), {}, other),
        (toy(), {"gamma": 0.5}, scores),
        (toy(seed=1), {}, scores),
    ):
        again = ILQLearner(policy, config_of(updates=1, **settings))
        with pytest.raises(StoreError, match="another model, or with other settings or records"):
            again.run(rollouts, told, tmp_path, resume=True)


def test_nothing_to_learn_from_is_refused(toy):
    learner = ILQLearner(toy(), config_of())
    with pytest.raises(DataError, match="no recorded episodes"):
        learner.run([], [])
    rollouts, scores = records(learner)
    with pytest.raises(DataError, match="48 episodes and 47 scores"):
        learner.run(rollouts, scores[1:])
    for wrong in (math.nan, math.inf):
        with pytest.raises(NumericsError, match=r"episode 2 .*scored"):
            learner.run(rollouts, [*scores[:2], Score(wrong), *scores[3:]])
    with pytest.raises(ConfigError, match="save_every"):
        learner.run(*records(learner), save_every=0)


def test_a_minibatch_has_different_episodes(toy):
    learner = ILQLearner(toy(), config_of())
    known = [(episode(learner, *([GOOD] * (1 + i % 3))), float(i)) for i in range(20)]
    micros = draw_episodes(known, 12, 5, torch.Generator().manual_seed(0))
    assert [len(part) for part, _ in micros] == [5, 5, 2]
    drawn = [score for part, _ in micros for _, score in part]
    assert len(set(drawn)) == 12
    assert {total for _, total in micros} == {float(sum(1 + int(v) % 3 for v in drawn))}
