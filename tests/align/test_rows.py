"""Every online algorithm: the known optimum, the leash in its several forms, critics, references, masks."""

import math
from dataclasses import replace

import pytest
import torch

from accord.align.algorithms import PPO, find
from accord.align.learner import Learner
from accord.align.online import act, credit, draw, judge, learn, run_step, tokens_of
from accord.align.rows import ROWS
from accord.align.run import align
from accord.align.settings import AlignConfig
from accord.errors import ConfigError, NumericsError
from accord.lm.critic import OwnCritic
from accord.lm.model import LanguageModel
from accord.types import Rollout, Score, Stop
from toys import GOOD, OTHER, PROMPTS, FirstToken, ShareOfGood, first_token, run_config

ALL = ["ppo", *ROWS]
CRITICS = ["ppo", "a2c"]


# TRPO's radius suits completions, not one token; at the start GOOD is not in NLPO's usual top-p set
OWN = {"trpo": {"clip": 0.05}, "nlpo": {"mask_top_p": 0.9999, "mask_every": 5}}


def config_of(algorithm, **changes):
    row = find(algorithm)
    settings = {
        "algorithm": algorithm, "steps": 50, "prompts_per_step": 32 // row.samples, "epochs": 1,
        "max_new_tokens": 1, "lora_rank": 4, "beta": 0, "learning_rate": 1e-2, "truncation_penalty": 0,
    }  # fmt: skip
    return AlignConfig(**(settings | OWN.get(algorithm, {}) | changes))


def test_the_settings_name_every_row_and_no_other():
    named = AlignConfig.model_fields["algorithm"].annotation.__args__
    assert list(named) == ALL
    assert find("ppo") is PPO


@pytest.mark.parametrize("algorithm", ALL)
def test_the_better_action_passes_95_percent_within_50_updates(toy, algorithm):
    policy = toy("llama", 0)
    learner = Learner(policy, config_of(algorithm))
    ids = learner.engine(0).encode(PROMPTS[0])
    best = float(first_token(policy, ids)[GOOD])
    assert best < 0.5
    for step in range(50):
        run_step(learner, FirstToken(), PROMPTS[:1], step)
        best = float(first_token(policy, ids)[GOOD])
        if best > 0.95:
            break
    assert best > 0.95


@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize("model_type", ["llama", "t5"])
def test_the_first_step_has_ratio_one_and_no_kl(toy, model_type, algorithm):
    learner = Learner(toy(model_type), config_of(algorithm, max_new_tokens=4, minibatch=32, beta=0.1))
    metrics, _, _ = run_step(learner, ShareOfGood(), PROMPTS, 0)
    assert metrics["first_ratio"] == pytest.approx(1, abs=1e-5)
    assert metrics["kl"] == pytest.approx(0, abs=1e-6)
    after, _, _ = run_step(learner, ShareOfGood(), PROMPTS, 1)
    assert after["kl"] > 1e-5


LEASHES = [
    ("ppo", "reward", "k1"),
    ("ppo", "reward", "exact"),
    ("ppo", "loss", "k1"),
    ("reinforce-baseline", "reward", "k1"),
    ("reinforce-baseline", "reward", "exact"),
    ("reinforce-baseline", "loss", "k3"),
    ("rloo", "reward", "k1"),
    ("dr-grpo", "loss", "k3"),
    ("dr-grpo", "loss", "exact"),
]


@pytest.mark.parametrize(("algorithm", "kl_in", "kl"), LEASHES)
def test_each_right_leash_holds_the_policy_at_the_optimum_of_the_leashed_problem(toy, algorithm, kl_in, kl):
    """max E[r] - beta KL(pi || ref) has pi*(a) = ref(a) exp(r(a) / beta) / Z; total variation within 0.06."""
    beta, policy, row = 0.2, toy("llama"), find(algorithm)
    config = config_of(
        algorithm, beta=beta, kl_in=kl_in, kl=kl, prompts_per_step=128 // row.samples, steps=60,
        minibatch=128, learning_rate=1e-2, **({"critic_learning_rate": 0.05} if row.critic else {}),
    )  # fmt: skip
    learner = Learner(policy, config)
    ids = learner.engine(0).encode(PROMPTS[0])
    reference = first_token(policy, ids)
    weight = reference.clone()
    weight[GOOD] *= math.exp(1 / beta)
    optimum = weight / weight.sum()
    assert optimum[GOOD] > reference[GOOD] + 0.2
    for step in range(60):
        run_step(learner, FirstToken(), PROMPTS[:1], step)
    assert float((first_token(policy, ids) - optimum).abs().sum()) / 2 < 0.06


# -- critics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", CRITICS)
def test_a_critic_of_its_own_leaves_the_policys_trunk_alone(toy, algorithm):
    policy = toy("llama")
    config = config_of(algorithm, critic="own", critic_warmup=1, max_new_tokens=3)
    critic = OwnCritic(policy.frozen_copy())
    learner = Learner(policy, config, critic)
    policy_before = [p.detach().clone() for p in policy.net.parameters()]
    critic_before = [p.detach().clone() for p in critic.net.parameters()]
    for step in range(2):
        run_step(learner, ShareOfGood(), PROMPTS, step)
        if not step:  # the warm-up moves the critic alone, trunk and head
            assert all(map(torch.equal, policy_before, policy.net.parameters()))
    assert not all(map(torch.equal, critic_before, critic.net.parameters()))
    assert not all(map(torch.equal, policy_before, policy.net.parameters()))


def test_a_critic_of_its_own_learns_what_the_rollouts_are_worth(toy):
    policy = toy("llama")
    config = config_of("ppo", critic="own", critic_warmup=40, critic_learning_rate=1e-2, epochs=2,
                       value_clip=10.0, max_new_tokens=4, steps=40, prompts_per_step=128)  # fmt: skip
    learner = Learner(policy, config, OwnCritic(policy.frozen_copy()))
    explained = [run_step(learner, ShareOfGood(), PROMPTS, step)[0]["value_explained"] for step in range(40)]
    assert sum(explained[-5:]) / 5 > 0.1 > abs(explained[0])


def test_a_critic_begins_as_a_reward_model_and_says_its_reward(toy):
    policy = toy("llama")
    critic = OwnCritic(policy.frozen_copy())
    base = toy("llama", 1).net.base_model
    weight = torch.randn(policy.width, generator=torch.Generator().manual_seed(0))
    critic.begin_as(base, weight, 0.25)
    learner = Learner(policy, config_of("rloo", max_new_tokens=3))
    tokens = tokens_of(act(learner.engine(0), PROMPTS[:3]), policy.pad_id)
    other = toy("llama", 1)
    hidden = other.hidden(tokens, after=True)
    torch.testing.assert_close(critic.values(tokens, hidden, after=True), hidden @ weight + 0.25)
    with pytest.raises(ConfigError, match="has another trunk"):
        critic.begin_as(torch.nn.Linear(2, 2))


def test_a_critic_is_handed_over_exactly_where_the_settings_name_its_trunk(toy):
    with pytest.raises(ConfigError, match="needs a critic with a trunk of its own"):
        Learner(toy(), config_of("ppo", critic="own"))
    policy = toy()
    for algorithm in ("ppo", "rloo"):
        with pytest.raises(ConfigError, match="takes no critic"):
            Learner(policy, config_of(algorithm), OwnCritic(policy.frozen_copy()))


def test_the_critics_lambda_is_its_own(toy):
    policy = toy("llama")
    found = {}
    for name, lam in (("same", None), ("own", 1.0)):
        learner = Learner(policy, config_of("ppo", lam=0.5, critic_lam=lam, max_new_tokens=4))
        with torch.no_grad():
            learner.critic.linear.bias.fill_(0.3)
        rollouts = act(learner.engine(0), PROMPTS)
        found[name] = credit(learner, rollouts, judge(ShareOfGood(), rollouts))
    assert torch.equal(found["same"].advantages_BT, found["own"].advantages_BT)
    long = found["own"].tokens.lens_B > 1
    last = found["own"].tokens.lens_B[long] - 1
    whole = found["own"].returns_BT[long].gather(1, last[:, None])
    # with lambda 1 and no KL every token's target is the completion's whole reward
    assert torch.allclose(found["own"].returns_BT[long, :1], whole)
    assert not torch.allclose(found["same"].returns_BT[long, :1], whole)


# -- references --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind_of_model", ["llama", "t5"])
@pytest.mark.parametrize("rank", [4, 0], ids=["lora", "full"])
def test_a_reference_that_is_reset_catches_up_and_an_average_follows(toy, kind_of_model, rank):
    kept = {}
    for kind in ("start", "reset", "ema"):
        own = {"reset": {"reference_every": 2}, "ema": {"reference_decay": 0.5}}.get(kind, {})
        learner = Learner(toy(kind_of_model), run_config(reference=kind, steps=4, lora_rank=rank, **own))
        kept[kind] = [run_step(learner, ShareOfGood(), PROMPTS, step)[0]["kl"] for step in range(3)]
    assert all(kl[0] == pytest.approx(0, abs=1e-6) for kl in kept.values())
    assert kept["start"][1] == pytest.approx(kept["reset"][1], rel=1e-3)  # not reset yet
    assert kept["reset"][2] == pytest.approx(0, abs=1e-6)  # reset after the second step
    assert 0 < kept["ema"][1] < kept["start"][1]
    assert kept["start"][2] > 0.001


@pytest.mark.parametrize("rank", [4, 0], ids=["lora", "full"])
@pytest.mark.parametrize("changes", [
    {"reference": "ema"},
    {"reference": "reset", "reference_every": 2},
    {"algorithm": "rloo", "kl_in": "loss", "kl": "exact"},
    {"algorithm": "gspo"},
])  # fmt: skip
def test_a_run_that_stopped_goes_on_to_the_same_bits(toy, tmp_path, changes, rank):
    settings = run_config(lora_rank=rank, learning_rate=1e-3, **changes)
    whole = align(toy("llama"), ShareOfGood(), PROMPTS, settings, tmp_path / "whole", save_every=1)
    with pytest.raises(NumericsError):  # the reward fails at the fourth step
        align(toy("llama"), ShareOfGood(nan_at=3), PROMPTS, settings, tmp_path / "cut", save_every=1)
    again = align(toy("llama"), ShareOfGood(), PROMPTS, settings, tmp_path / "cut", save_every=1, resume=True)
    assert again.history == whole.history
    for name, tensor in whole.learner.tensors().items():
        assert torch.equal(tensor, again.learner.tensors()[name]), name


# -- an environment's words --------------------------------------------------------------------


def episode(prompt, ids, mask, paid=()):
    """A rollout in which an environment spoke where the mask is 0."""
    logprobs = tuple(-1.0 if own else 0.0 for own in mask)
    return Rollout(prompt, (3, 4), ids, logprobs, mask, Stop.EOS, "", 0, paid)


def test_an_environments_words_are_read_and_not_learned(toy):
    policy = toy("llama")
    learner = Learner(policy, config_of("ppo", max_new_tokens=6, beta=0.1, lam=1.0))
    a = episode(PROMPTS[0], (7, 8, 7, 7), (1, 0, 0, 1), (0.0, 0.0, 0.0, 2.0))
    b = episode(PROMPTS[1], (7, 8, 7), (1, 0, 0))
    batch = credit(learner, [a, b], [Score(1.0), Score(-1.0)])
    assert batch.mask_BT.tolist() == [[True, False, False, True], [True, False, False, False]]
    for name in ("logprobs_BT", "ref_logprobs_BT", "values_BT", "advantages_BT", "returns_BT"):
        assert not getattr(batch, name)[~batch.mask_BT].any(), name
    # the score lands on the policy's last token, beside what the environment paid there
    assert batch.returns_BT[0, [0, 3]].tolist() == pytest.approx([3.0, 3.0])
    assert batch.returns_BT[1, 0].item() == pytest.approx(-1.0)
    # its words are context: another word changes what the policy thinks behind it
    other = credit(learner, [replace(a, ids=(7, 3, 7, 7)), b], [Score(1.0), Score(-1.0)])
    assert batch.logprobs_BT[0, 0] == other.logprobs_BT[0, 0]
    assert batch.logprobs_BT[0, 3] != other.logprobs_BT[0, 3]
    learn(learner, credit(learner, *sampled(learner)), 0)


def sampled(learner):
    rollouts = act(learner.engine(0), draw(PROMPTS, 0, learner.config))
    return rollouts, judge(ShareOfGood(), rollouts)


def test_a_rollout_in_which_the_policy_said_nothing_is_refused():
    with pytest.raises(ValueError, match="chose no token"):
        episode(PROMPTS[0], (OTHER,), (0,))
    with pytest.raises(ValueError, match="2 payments"):
        Rollout(PROMPTS[0], (3,), (7,), (-1.0,), (1,), Stop.EOS, "", 0, (1.0, 0.0))


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"algorithm": "grpo", "samples_per_prompt": 1}, "compares the completions of a prompt"),
        ({"algorithm": "rloo", "truncation": "bootstrap"}, "has no critic"),
        ({"algorithm": "rloo", "kl": "exact"}, "credits whole completions"),
        ({"algorithm": "gppo"}, "algorithm = 'gppo'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        AlignConfig(**settings)


def test_an_algorithm_brings_its_own_settings_and_yields_to_those_given():
    assert (AlignConfig().samples, AlignConfig().passes, AlignConfig().ratio_clip) == (1, 4, 0.2)
    gspo = AlignConfig(algorithm="gspo")
    assert (gspo.samples, gspo.passes, gspo.ratio_clip, gspo.leash) == (4, 1, 3e-4, ("loss", "k3"))
    given = AlignConfig(algorithm="gspo", samples_per_prompt=2, epochs=3, clip=0.1, kl_in="reward", kl="k1")
    assert (given.samples, given.passes, given.ratio_clip, given.leash) == (2, 3, 0.1, ("reward", "k1"))


# -- where training starts ---------------------------------------------------------------------


def nudged(policy):
    """The policy with adapters that say something, as an earlier training leaves it."""
    policy.add_lora(4)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in policy.trainable():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return policy


def test_adapters_that_are_there_belong_to_where_training_starts(toy):
    learner = Learner(nudged(toy("llama")), config_of("rloo", max_new_tokens=4, beta=0.1))
    metrics, _, _ = run_step(learner, ShareOfGood(), PROMPTS, 0)
    assert metrics["kl"] == pytest.approx(0, abs=1e-6)
    other = toy("llama")
    other.add_lora(4)
    assert learner.reference_hash != Learner(other, learner.config).reference_hash  # no resume from another


def test_weights_too_coarse_to_train_are_refused(toy_folder):
    coarse = LanguageModel.load(toy_folder(), dtype="bfloat16")
    with pytest.raises(ConfigError, match="bfloat16, which rounds small updates away"):
        Learner(coarse, config_of("rloo", lora_rank=0))
    policy = LanguageModel.load(toy_folder(), dtype="bfloat16")
    learner = Learner(policy, config_of("ppo", critic="own"), OwnCritic(policy.frozen_copy()))
    assert {p.dtype for p in learner.policy.trainable()} == {torch.float32}
    assert {p.dtype for p in learner.critic.parameters()} == {torch.float32}


def test_equal_rewards_do_not_make_the_leash_in_the_loss_a_hammer(toy):
    learner = Learner(toy("llama"), config_of("ppo", kl_in="loss", kl="k3", beta=0.05, max_new_tokens=4))
    rollouts = act(learner.engine(0), PROMPTS)
    batch = credit(learner, rollouts, [Score(0.7)] * len(rollouts))
    assert batch.kl_weight < 0.05 / math.sqrt(1e-8) * 1.001


@pytest.mark.parametrize(
    ("settings", "idle"),
    [
        ({"algorithm": "rloo", "critic": "own"}, "critic"),
        ({"algorithm": "grpo", "gamma": 0.9}, "gamma"),
        ({"mask_top_p": 0.5}, "mask_top_p"),
        ({"reference": "ema", "reference_every": 3}, "reference_every"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(settings, idle):
    with pytest.raises(ConfigError, match=f"{idle} would do nothing"):
        AlignConfig(**settings)


def test_a_budget_to_a_reference_that_moves_is_refused():
    with pytest.raises(ConfigError, match="stop_kl is a budget from where training starts"):
        AlignConfig(reference="ema", stop_kl=1.0)
