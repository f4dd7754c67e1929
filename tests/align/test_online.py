"""PPO's five verbs: the known optimum, credit by hand, and what is refused."""

import math
import statistics
from dataclasses import replace
from functools import partial

import pytest
import torch

from accord.align import online
from accord.align.learner import Learner, step_seed
from accord.align.online import act, credit, draw, judge, learn, minibatches, run_step
from accord.align.settings import AlignConfig
from accord.errors import ConfigError, DataError, NumericsError
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.model import LanguageModel
from accord.lm.tiny import END, EOS, write_tiny
from accord.lm.tokens import TokenBatch
from accord.types import Prompt, Rollout, Score, Stop
from toys import GOOD, OTHER, PROMPTS, VOCABULARY, FirstToken, ShareOfGood, first_token, run_config

BOTH = ("llama", "t5")


def prepared(policy, **changes):
    """A learner whose policy is not its reference and whose critic says something."""
    learner = Learner(policy, run_config(**changes))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in [*policy.trainable(), *learner.critic.parameters()]:
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return learner


def rollouts_of(learner, step=0):
    rollouts = act(learner.engine(step), draw(PROMPTS, step, learner.config), 2)
    return rollouts, judge(ShareOfGood(), rollouts)


def state(learner):
    return [p.detach().clone() for p in [*learner.policy.net.parameters(), *learner.critic.parameters()]]


# -- learning to a known optimum ---------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("rank", [4, 0], ids=["lora", "full"])
@pytest.mark.parametrize("model_type", BOTH)
def test_the_better_action_passes_95_percent_within_50_updates(toy, model_type, rank, seed):
    policy = toy(model_type, seed)
    config = AlignConfig(
        steps=50, prompts_per_step=32, minibatch=32, epochs=1, max_new_tokens=1, lora_rank=rank, beta=0,
        learning_rate=5e-3 if rank else 2e-3, truncation_penalty=0, seed=seed,
    )  # fmt: skip
    learner = Learner(policy, config)
    ids = learner.engine(0).encode(PROMPTS[0])
    start = best = float(first_token(policy, ids)[GOOD])
    assert start < 0.5
    for step in range(50):  # one optimiser step each
        run_step(learner, FirstToken(), PROMPTS[:1], step)
        best = float(first_token(policy, ids)[GOOD])
        if best > 0.95:
            break
    assert best > 0.95


@pytest.mark.parametrize(("model_type", "rank", "beta"), [("t5", 4, 0.5), ("llama", 0, 0.2)])
def test_beta_holds_the_policy_at_the_optimum_of_the_leashed_problem(toy, model_type, rank, beta):
    """max E[r] - beta KL(pi || ref) has pi*(a) = ref(a) exp(r(a) / beta) / Z; total variation within 0.05."""
    policy = toy(model_type)
    config = AlignConfig(
        steps=40, prompts_per_step=64, minibatch=64, epochs=2, max_new_tokens=1, lora_rank=rank, beta=beta,
        learning_rate=5e-3 if rank else 2e-3, critic_learning_rate=0.05, truncation_penalty=0,
    )  # fmt: skip
    learner = Learner(policy, config)
    ids = learner.engine(0).encode(PROMPTS[0])
    reference = first_token(policy, ids)
    weight = reference.clone()
    weight[GOOD] *= math.exp(1 / beta)
    optimum = weight / weight.sum()
    assert optimum[GOOD] > reference[GOOD] + 0.2
    for step in range(40):
        run_step(learner, FirstToken(), PROMPTS[:1], step)
    assert float((first_token(policy, ids) - optimum).abs().sum()) / 2 < 0.05


# -- invariants --------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [4, 0], ids=["lora", "full"])
@pytest.mark.parametrize("model_type", BOTH)
def test_the_first_step_has_ratio_one_and_no_kl(toy, model_type, rank):
    learner = Learner(toy(model_type), run_config(lora_rank=rank, epochs=1, minibatch=8, micro_rows=3))
    metrics, _, _ = run_step(learner, ShareOfGood(), PROMPTS, 0)
    assert metrics["first_ratio"] == pytest.approx(1, abs=1e-5)
    assert metrics["kl"] == pytest.approx(0, abs=1e-6)
    assert metrics["kl_sampled"] == pytest.approx(0, abs=1e-6)
    assert metrics["sampler_gap"] < 1e-4
    after, _, _ = run_step(learner, ShareOfGood(), PROMPTS, 1)
    assert after["kl"] > 1e-4  # the reference did not come along


@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "trpo"])
@pytest.mark.parametrize("model_type", BOTH)
def test_bfloat16_products_learn_the_same_task_on_float32_weights(toy, model_type, algorithm):
    learner = Learner(toy(model_type), run_config(lora_rank=0, algorithm=algorithm, mixed_precision=True))
    for step in range(3):
        metrics, _, _ = run_step(learner, FirstToken(), PROMPTS, step)
        assert metrics["kl"] >= 0
        assert metrics["first_ratio"] == pytest.approx(1, abs=0.01)
    native = torch.cpu.get_capabilities().get("avx512_bf16", False)
    assert (metrics["sampler_gap"] > 1e-4) is native  # sampled in float32
    assert metrics["sampler_gap"] < 0.5
    assert {tensor.dtype for tensor in learner.tensors().values()} == {torch.float32}


@pytest.mark.parametrize("algorithm", ["ppo", "trpo"])
def test_in_bfloat16_no_forward_reads_weights_as_they_were_before_an_update(toy, monkeypatch, algorithm):
    """autocast keeps its casts of weights; without keeping any the run must come to the same bits."""
    config = run_config(
        algorithm=algorithm, lora_rank=0, mixed_precision=True, minibatch=4, learning_rate=0.02
    )
    ends = []
    for autocast in (torch.autocast, partial(torch.autocast, cache_enabled=False)):
        monkeypatch.setattr(torch, "autocast", autocast)
        learner = Learner(toy("llama"), config)
        run_step(learner, FirstToken(), PROMPTS, 0)
        ends.append({name: tensor.clone() for name, tensor in learner.tensors().items()})
    kept, anew = ends
    assert all(torch.equal(kept[name], anew[name]) for name in kept)


def test_a_policy_other_than_the_sampler_is_found_by_its_first_ratio(toy):
    learner = prepared(toy())
    batch = credit(learner, *rollouts_of(learner))
    with torch.no_grad():
        for p in learner.policy.trainable():
            p.mul_(1.2)
    with pytest.raises(NumericsError, match="first importance ratio"):
        learn(learner, batch, 0)


@pytest.mark.parametrize("algorithm", ["ppo", "rloo", "grpo", "nlpo"])
@pytest.mark.parametrize("model_type", BOTH)
def test_states_kept_in_sampling_stand_for_a_forward_of_the_policy(toy, monkeypatch, model_type, algorithm):
    learner = Learner(toy(model_type), run_config(algorithm=algorithm, lora_rank=0, micro_rows=3))
    run_step(learner, ShareOfGood(), PROMPTS, 0)  # the policy is no longer the reference
    rollouts, scores = rollouts_of(learner, 1)
    read, hidden = [], LanguageModel.hidden
    monkeypatch.setattr(LanguageModel, "hidden", lambda *a, **k: read.append(a[0]) or hidden(*a, **k))
    known = credit(learner, rollouts, scores, fresh=True)
    assert learner.policy not in read
    read_again = credit(learner, [replace(r, states=None) for r in rollouts], scores, fresh=True)
    assert learner.policy in read
    for name, value in vars(known).items():
        if name.endswith("_BT"):
            torch.testing.assert_close(value, getattr(read_again, name), atol=1e-4, rtol=1e-4, msg=name)
    assert known.metrics == pytest.approx(read_again.metrics, abs=1e-4)
    assert known.metrics["kl"] > 1e-4


def test_a_loop_of_ones_own_reads_the_policy_as_it_is(toy):
    """States of weights that have changed since are not taken for theirs, however little they changed."""
    learner = prepared(toy())
    rollouts, scores = rollouts_of(learner)
    assert all(r.states is not None for r in rollouts)
    with torch.no_grad():
        for p in learner.policy.trainable():
            p.mul_(1.0 + 1e-4)
    now = credit(learner, [replace(r, states=None) for r in rollouts], scores)
    assert torch.equal(credit(learner, rollouts, scores).logprobs_BT, now.logprobs_BT)
    assert not torch.equal(credit(learner, rollouts, scores, fresh=True).logprobs_BT, now.logprobs_BT)


def test_what_a_step_returns_holds_no_states(toy):
    _, rollouts, _ = run_step(Learner(toy(), run_config()), ShareOfGood(), PROMPTS, 0)
    assert all(r.states is None for r in rollouts)


def test_more_states_than_memory_is_meant_for_are_not_kept(toy, monkeypatch):
    learner = Learner(toy(), run_config())
    config = learner.config
    tokens = config.prompts_per_step * config.samples * config.max_new_tokens
    for room, kept in ((tokens * learner.policy.width, True), (tokens * learner.policy.width - 1, False)):
        monkeypatch.setattr("accord.align.learner.KEPT_FLOATS", room)
        assert learner.engine(0).keep_states is kept


def test_a_loop_in_bfloat16_of_ones_own_is_held_to_bfloat16(toy):
    """Two lines of docs/loop.md: rounding of the products alone must not end a run."""
    learner = prepared(toy(), epochs=1)
    rollouts, scores = rollouts_of(learner)
    with torch.autocast("cpu", torch.bfloat16):
        batch = credit(learner, rollouts, scores)
        torch.clear_autocast_cache()
        moved = batch.metrics | {"sampler_gap": online.GAP_BOUND * 2}
        assert learn(learner, replace(batch, metrics=moved), 0)["sampler_gap"] > online.GAP_BOUND


@pytest.mark.parametrize(
    "settings", [{"mixed_precision": True}, {"algorithm": "trpo"}, {"truncation": "bootstrap"}]
)
def test_where_states_could_mislead_none_are_kept(toy, settings):
    learner = Learner(toy(), run_config(**settings))
    assert all(r.states is None for r in rollouts_of(learner)[0])


@pytest.mark.parametrize("gap", [0.06, 0.03])
def test_states_of_slightly_other_weights_are_found_by_a_log_prob(toy, gap):
    """The mean ratio need not show it."""
    learner = prepared(toy(), epochs=1, minibatch=8)
    batch = credit(learner, *rollouts_of(learner))
    moved = batch.logprobs_BT.clone()
    moved[:2, 0] += torch.tensor([gap, -gap])
    batch = replace(batch, logprobs_BT=moved)
    if gap > online.GAP_BOUND:
        with pytest.raises(NumericsError, match=r"differ by up to 0.06 .*0.05 is allowed"):
            learn(learner, batch, 0)
    else:
        assert learn(learner, batch, 0)["sampler_gap"] == pytest.approx(gap, abs=1e-3)


def test_a_rate_near_zero_changes_nothing(toy):
    policy = toy()
    learner = Learner(policy, run_config(learning_rate=1e-12, critic_learning_rate=1e-12))
    ids = learner.engine(0).encode(PROMPTS[0])
    before = first_token(policy, ids)
    run_step(learner, ShareOfGood(), PROMPTS, 0)
    torch.testing.assert_close(first_token(policy, ids), before, atol=1e-7, rtol=0)


def test_critic_warmup_leaves_the_policy_to_the_bit_and_adam_without_a_trace_of_it(toy):
    learner = Learner(toy(), run_config(critic_warmup=2))
    before = state(learner)
    run_step(learner, ShareOfGood(), PROMPTS, 0)
    run_step(learner, ShareOfGood(), PROMPTS, 1)
    after = state(learner)
    assert all(torch.equal(a, b) for a, b in zip(before[:-2], after[:-2], strict=True))
    assert not torch.equal(before[-2], after[-2])
    assert not any(p in learner.optimiser.state for p in learner.policy.trainable())
    run_step(learner, ShareOfGood(), PROMPTS, 2)
    assert not all(torch.equal(a, b) for a, b in zip(before[:-2], state(learner)[:-2], strict=True))


@pytest.mark.parametrize("setting", [{"top_p": 0.9}, {"top_k": 3}, {"temperature": 0.0}])
def test_sampling_that_changes_the_support_is_refused(toy, setting):
    with pytest.raises(ConfigError, match="whole distribution"):
        act(Engine(toy(), SamplingConfig(**setting)), PROMPTS)


def test_a_nan_reward_is_named_and_nothing_is_learned(toy):
    learner = Learner(toy(), run_config())
    before = state(learner)
    rollouts = act(learner.engine(0), draw(PROMPTS, 0, learner.config), 2)
    with pytest.raises(NumericsError, match="nan for the completion") as error:
        run_step(learner, ShareOfGood(nan_at=0), PROMPTS, 0)
    assert repr(rollouts[0].text) in str(error.value)
    assert all(torch.equal(a, b) for a, b in zip(before, state(learner), strict=True))
    assert not learner.optimiser.state


class Short:
    def score(self, prompt, completions):
        return [Score(0.0)] * (len(completions) - 1)


def test_a_missing_score_is_an_error(toy):
    learner = Learner(toy(), run_config())
    with pytest.raises(NumericsError, match="1 scores for the 2 completions"):
        run_step(learner, Short(), PROMPTS, 0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"minibatch": 9}, ["minibatch 9", "8 rollouts"]),
        ({"learning_rat": 0.1}, ["'learning_rat'", "'learning_rate'"]),
        ({"min_new_limit": 7}, ["min_new_limit 7", "max_new_tokens 3"]),
        ({"beta": 0.0}, ["kl_target", "beta 0"]),
        ({"kl_horizon": 1.5}, ["kl_horizon 1.5", "1.6"]),
        ({"algorithm": "rloo", "lam": 0.5, "value_coef": 1.0}, ["lam, value_coef", "algorithm rloo"]),
        ({"algorithm": "grpo", "critic_learning_rate": 0.1}, ["critic_learning_rate would do nothing"]),
        ({"truncation": "mask", "truncation_penalty": 5.0}, ["truncation_penalty would do nothing"]),
        (
            {
                "algorithm": "reinforce-baseline",
                "prompts_per_step": 1,
                "samples_per_prompt": 1,
                "minibatch": 1,
            },
            ["compares a step's rollouts"],
        ),
        ({"steps": 0}, ["steps", "0"]),
    ],
)
def test_settings_that_cannot_be_are_refused_with_their_values(settings, words):
    with pytest.raises(ConfigError) as error:
        run_config(**settings)
    assert all(word in str(error.value) for word in words)


def test_all_weights_cannot_train_below_adapters(toy):
    policy = toy()
    policy.add_lora(2)
    with pytest.raises(ConfigError, match="adapters"):
        Learner(policy, run_config(lora_rank=0))


# -- judge and draw ----------------------------------------------------------------------------


class Places:
    """The place of a completion within its group, and the group's size behind the point."""

    def score(self, prompt, completions):
        return [Score(i + len(completions) / 10) for i in range(len(completions))]


def test_completions_of_a_prompt_are_judged_as_one_group_wherever_they_stand():
    a, b = PROMPTS[:2]
    rollouts = [Rollout(p, (7,), (8,), (0.0,), (1,), Stop.EOS, "x") for p in (a, b, a, a, b)]
    assert [s.value for s in judge(Places(), rollouts)] == [0.3, 0.2, 1.3, 2.3, 1.2]


def test_prompts_are_drawn_in_whole_shuffled_epochs():
    config = run_config(prompts_per_step=4)
    drawn = [p for step in range(7) for p in draw(PROMPTS, step, config)]
    epochs = [drawn[at : at + 7] for at in range(0, 28, 7)]
    assert all({p.id for p in epoch} == {p.id for p in PROMPTS} for epoch in epochs)
    assert len({tuple(p.id for p in epoch) for epoch in epochs}) > 1
    other = [p for step in range(7) for p in draw(PROMPTS, step, run_config(seed=4))]
    assert other != drawn
    assert len({step_seed(0, step) for step in range(1000)}) == 1000


# -- credit by hand ----------------------------------------------------------------------------

HAND = [
    ((GOOD, OTHER, EOS), Stop.EOS, 2.0),
    ((OTHER, GOOD), Stop.LENGTH, -1.0),
    ((OTHER, END), Stop.EOS, 0.5),
]
GAMMA, LAM, BETA = 0.9, 0.8, 0.3


def by_hand(learner, ids, prompt_ids):
    """Log-probs, the reference's, exact KL a token, and values of the T + 1 states, by transformers alone."""

    def look():
        out = learner.policy.net(input_ids=torch.tensor([[*prompt_ids, *ids]]), output_hidden_states=True)
        first = len(prompt_ids) - 1
        return out.logits[0, first:-1].log_softmax(-1), out.hidden_states[-1][0, first:]

    with torch.no_grad():
        logp, hidden = look()
        with learner.policy.peft.disable_adapter():
            ref, _ = look()
        at = torch.arange(len(ids)), torch.tensor(ids)
        values = hidden @ learner.critic.linear.weight[0] + learner.critic.linear.bias
        kl = (logp.exp() * (logp - ref)).sum(-1)
    return logp[at].tolist(), ref[at].tolist(), kl.tolist(), values.tolist()


def advantages_by_hand(rewards, values):
    """A_t = sum_k (gamma lam)^k (r + gamma V' - V); the last of ``values`` is that after the end."""
    deltas = [r + GAMMA * values[t + 1] - values[t] for t, r in enumerate(rewards)]
    return [
        sum((GAMMA * LAM) ** (k - t) * deltas[k] for k in range(t, len(deltas))) for t in range(len(deltas))
    ]


@pytest.mark.parametrize("truncation", ["bootstrap", "penalise", "mask"])
def test_credit_by_hand(toy, truncation):
    fine = {"truncation_penalty": 1.5} if truncation == "penalise" else {}
    settings = {"gamma": GAMMA, "lam": LAM, "beta": BETA, "kl_target": None, "truncation": truncation}
    learner = prepared(toy(), **settings, **fine)
    prompt_ids = tuple(learner.engine(0).encode(PROMPTS[3]))
    rollouts = [
        Rollout(PROMPTS[3], prompt_ids, ids, (0.0,) * len(ids), (1,) * len(ids), stop, "")
        for ids, stop, _ in HAND
    ]
    batch = credit(learner, rollouts, [Score(value) for _, _, value in HAND])
    seen = [by_hand(learner, ids, prompt_ids) for ids, _, _ in HAND]
    expected = []
    for (old, ref, _, values), (_, stop, score) in zip(seen, HAND, strict=True):
        cut = stop is Stop.LENGTH
        if cut and truncation == "mask":
            continue
        rewards = [-BETA * (o - r) for o, r in zip(old, ref, strict=True)]
        if not (cut and truncation == "bootstrap"):  # the value of its last state stands for its score
            rewards[-1] += score - 1.5 * (cut and truncation == "penalise")
        values = [*values[:-1], values[-1] if cut and truncation == "bootstrap" else 0.0]
        expected.append((old, values[:-1], advantages_by_hand(rewards, values)))
    flat = [a for _, _, advantages in expected for a in advantages]
    mean, scale = statistics.mean(flat), math.sqrt(statistics.variance(flat) + 1e-8)
    assert len(batch.tokens) == len(expected)
    for i, (old, values, advantages) in enumerate(expected):
        n = len(old)
        assert batch.mask_BT[i].tolist() == [True] * n + [False] * (3 - n)
        assert batch.logprobs_BT[i, :n].tolist() == pytest.approx(old, abs=1e-5)
        assert batch.values_BT[i, :n].tolist() == pytest.approx(values, abs=1e-5)
        returns = [a + v for a, v in zip(advantages, values, strict=True)]
        assert batch.returns_BT[i, :n].tolist() == pytest.approx(returns, abs=1e-4)
        whitened = [(a - mean) / scale for a in advantages]
        assert batch.advantages_BT[i, :n].tolist() == pytest.approx(whitened, abs=1e-4)
        for column in (batch.logprobs_BT, batch.values_BT, batch.returns_BT, batch.advantages_BT):
            assert not column[i, n:].any()
    metrics = batch.metrics
    assert metrics["reward"] == pytest.approx(0.5)  # the scorer's, no fine in it
    assert metrics["truncated"] == pytest.approx(1 / 3)
    assert metrics["length"] == pytest.approx(7 / 3)
    assert metrics["kl"] == pytest.approx(sum(sum(kl) for _, _, kl, _ in seen) / 3, abs=1e-5)
    sampled = sum(o - r for old, ref, _, _ in seen for o, r in zip(old, ref, strict=True)) / 3
    assert metrics["kl_sampled"] == pytest.approx(sampled, abs=1e-5)
    assert metrics["sampler_gap"] == pytest.approx(max(-o for old, *_ in seen for o in old), abs=1e-5)
    assert metrics["kl"] > 1e-3


@pytest.mark.parametrize("truncation", ["bootstrap", "penalise", "mask"])
def test_a_cut_taken_for_an_end_is_found_out(toy, truncation):
    """The fault planted against the case by hand: it would show it."""
    learner = prepared(toy(), kl_target=None, truncation=truncation)
    rollouts, scores = rollouts_of(learner)
    cut = [
        replace(rollout, stop=Stop.LENGTH if i % 3 == 0 else Stop.EOS) for i, rollout in enumerate(rollouts)
    ]
    ended = [replace(rollout, stop=Stop.EOS) for rollout in rollouts]
    right, wrong = credit(learner, cut, scores), credit(learner, ended, scores)
    assert right.returns_BT.shape != wrong.returns_BT.shape or not torch.allclose(
        right.returns_BT, wrong.returns_BT
    )


def test_a_completion_that_fills_an_encoder_decoders_context_is_credited(tmp_path):
    """BART's decoder has a place for each token and none behind the last: the state before stands there."""
    policy = LanguageModel.load(
        write_tiny(tmp_path, "bart", vocab_size=VOCABULARY, max_position_embeddings=16)
    )
    learner = Learner(policy, run_config(max_new_tokens=16, truncation="bootstrap"))
    with torch.no_grad():
        learner.critic.linear.bias.fill_(0.3)
    rollouts = [
        Rollout(PROMPTS[0], (3, 4), (GOOD,) * n, (-1.0,) * n, (1,) * n, Stop.LENGTH, "") for n in (16, 5)
    ]
    batch = credit(learner, rollouts, [Score(0.0)] * 2)
    alone = credit(learner, rollouts[1:] * 2, [Score(0.0)] * 2)
    assert batch.returns_BT[0, -1] == pytest.approx(0.3, abs=0.1)  # the value bootstrapped, less the leash
    torch.testing.assert_close(batch.returns_BT[1, :5], alone.returns_BT[0], atol=1e-5, rtol=0)
    run_step(learner, ShareOfGood(), PROMPTS, 0)


def test_masking_nearly_everything_is_an_error_that_counts(toy):
    learner = prepared(toy(), truncation="mask")
    ids = tuple(learner.engine(0).encode(PROMPTS[0]))
    cut = Rollout(PROMPTS[0], ids, (GOOD, GOOD), (0.0, 0.0), (1, 1), Stop.LENGTH, "")
    ended = Rollout(PROMPTS[0], ids, (EOS,), (0.0,), (1,), Stop.EOS, "")
    for rollouts, count in (([cut, cut], "2 of 2"), ([cut, ended], "1 of 2")):
        with pytest.raises(DataError, match=count):
            credit(learner, rollouts, [Score(0.0)] * 2)


def test_measuring_by_slices_changes_nothing(toy):
    one, many = prepared(toy("t5"), micro_rows=64), prepared(toy("t5"), micro_rows=3)
    rollouts, scores = rollouts_of(one)
    a, b = credit(one, rollouts, scores), credit(many, rollouts, scores)
    torch.testing.assert_close(a.advantages_BT, b.advantages_BT, atol=1e-4, rtol=0)
    torch.testing.assert_close(a.returns_BT, b.returns_BT, atol=1e-5, rtol=0)


# -- batches -----------------------------------------------------------------------------------


def numbered(learner):
    """A batch whose old log-probs hold the number of their row."""
    batch = credit(learner, *rollouts_of(learner))
    batch.logprobs_BT[:] = torch.arange(len(batch.tokens), dtype=torch.float32)[:, None]
    return batch


def test_rows_are_cut_to_the_longest_of_them(toy):
    batch = numbered(prepared(toy(), max_new_tokens=6))
    lengths = batch.tokens.lens_B
    order = lengths.argsort()
    index = order[:3]
    part = batch.rows(index)
    width = int(lengths[index].max())
    assert width < int(lengths.max())
    for name in ("mask_BT", "logprobs_BT", "values_BT", "advantages_BT", "returns_BT"):
        assert torch.equal(getattr(part, name), getattr(batch, name)[index][:, :width])
    assert part.tokens.lens_B.tolist() == lengths[index].tolist()
    assert not batch.advantages_BT[index, width:].any()


def test_each_epoch_passes_each_rollout_once(toy):
    learner = prepared(toy(), epochs=3, minibatch=3, micro_rows=2)
    batch = numbered(learner)
    steps = list(minibatches(batch, 3, 3, learner.config, torch.Generator().manual_seed(0)))
    assert [len(step) for step in steps] == [2, 2, 1] * 3  # 3 + 3 + 2 rollouts, two in a forward
    epochs = []
    for epoch in range(3):
        micros = [micro for step in steps[3 * epoch : 3 * epoch + 3] for micro, _, _ in step]
        epochs.append([int(row[0]) for micro in micros for row in micro.logprobs_BT])
    assert all(sorted(rows) == list(range(8)) for rows in epochs)
    assert epochs[0] != epochs[1]
    for step in steps:
        tokens = sum(int(micro.mask_BT.sum()) for micro, _, _ in step)
        for micro, weights, _ in step:  # each token counts alike in the step's mean
            torch.testing.assert_close(weights, micro.mask_BT / tokens)


def test_a_forward_has_at_most_its_rows_and_its_tokens_of_alike_length(monkeypatch):
    monkeypatch.setattr(online, "MICRO_TOKENS", {"cpu": 12})
    lens = [5, 1, 3, 9, 2, 2, 30, 4]
    tokens = TokenBatch.of([[7]] * len(lens), [[7] * n for n in lens], 0)
    slices = [part.tolist() for part in online._slices(tokens, 3)]
    # Whole rows of 2, 3, 3; 4, 5; 6 (two of 10 would be 20); 10; 31, which has more alone.
    assert slices == [[1, 4, 5], [2, 7], [0], [3], [6]]


@pytest.mark.parametrize("model_type", BOTH)
def test_micro_batches_make_the_update_of_the_whole(toy, model_type):
    ends = []
    for micro_rows in (2, 64):
        learner = prepared(
            toy(model_type),
            minibatch=8,
            epochs=2,
            max_new_tokens=6,
            micro_rows=micro_rows,
            learning_rate=1e-3,
        )
        metrics = learn(learner, credit(learner, *rollouts_of(learner)), 0)
        ends.append((state(learner), metrics))
    (a, first), (b, second) = ends
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=0)
    assert first == pytest.approx(second, rel=1e-3, abs=1e-5)


def test_micro_batches_that_weigh_alike_are_found_out(toy, monkeypatch):
    """The fault planted against the test above: each micro-batch's own mean, however many tokens it has."""
    right = online.minibatches

    def wrong(*given):
        for micros in right(*given):
            yield [(part, w_BT / w_BT.sum() / len(micros), whole) for part, w_BT, whole in micros]

    ends = []
    for taken in (right, wrong):
        monkeypatch.setattr(online, "minibatches", taken)
        learner = prepared(toy(), minibatch=8, max_new_tokens=6, micro_rows=2, learning_rate=1e-3)
        learn(learner, credit(learner, *rollouts_of(learner)), 0)
        ends.append(state(learner))
    assert any(not torch.allclose(one, other, atol=2e-5, rtol=0) for one, other in zip(*ends, strict=True))


def test_prompts_that_do_not_fit_are_refused(toy):
    with pytest.raises(DataError, match="509 fit"):
        act(Learner(toy(), run_config()).engine(0), [Prompt.from_text("!" * 600)])
