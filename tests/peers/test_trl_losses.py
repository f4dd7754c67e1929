"""accord's pieces equal TRL 1.12's on the tensors of TRL's own running trainers (see trl_side.py).

One difference is kept on purpose and handed around here by TRL's own mask: TRL puts a stopped row's
reward on the pad after its last token; accord puts it on the last token. On rows of full length the
two agree from the log-probs to the loss.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from accord.align.rows import ROWS
from accord.lm.score import log_softmax
from accord.rl.advantages import gae, masked_mean, masked_var, whiten
from accord.rl.groups import group_advantages, leave_one_out
from accord.rl.kl import k1, k3, kl_loss, kl_rewards
from accord.rl.losses import clipped_policy_loss, clipped_value_loss, token_weights
from accord.rl.ranking import centering_penalty, ranking_loss

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-trl/bin/python"
TEMPERATURE = {"full": 0.7, "ragged": 1.3, "scaled": 1.0, "k3": 1.0}
RUNS = sorted(TEMPERATURE)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="needs the peer's environment: run scripts/setup-trl-env"),
]


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    path = tmp_path_factory.mktemp("trl") / "captured.npz"
    command = [str(PYTHON), str(Path(__file__).with_name("trl_side.py")), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(path).items()}


def close(ours, theirs):
    assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def call(captured, run, number=0):
    prefix = f"{run}/{number}/"
    return {key.removeprefix(prefix): value for key, value in captured.items() if key.startswith(prefix)}


def test_masked_statistics(captured):
    x, mask = captured["statistics/x"], captured["statistics/mask"]
    close(masked_mean(x, mask), captured["statistics/mean"])
    close(masked_var(x, mask), captured["statistics/var"])
    close(whiten(x, mask), captured["statistics/white"])


@pytest.mark.parametrize("run", RUNS)
def test_logprobs_at_a_temperature(captured, run):
    trl = call(captured, run)
    raw = trl["logits"] * TEMPERATURE[run]  # TRL divides its logits in place
    ours = log_softmax(raw, TEMPERATURE[run]).gather(-1, trl["mb_responses"][..., None]).squeeze(-1)
    real = ~trl["padding_mask"][trl["rows"]]
    close(ours[real], trl["new_logprobs"][real])


@pytest.mark.parametrize("run", RUNS)
def test_kl_rewards_advantages_and_returns(captured, run):
    trl = call(captured, run)
    policy_mask, value_mask = ~trl["padding_mask"], ~trl["padding_mask_p1"]
    if run == "k3":
        close(torch.where(policy_mask, k3(trl["logprobs"], trl["ref_logprobs"]), 0.0), trl["kl"])
        rewards = -0.1 * trl["kl"]
    else:
        close(torch.where(policy_mask, k1(trl["logprobs"], trl["ref_logprobs"]), 0.0), trl["kl"])
        rewards = kl_rewards(k1(trl["logprobs"], trl["ref_logprobs"]), 0.1, policy_mask)
    rewards[torch.arange(len(rewards)), value_mask.sum(1) - 1] += trl["scores"]
    if run == "scaled":
        scaled = whiten(rewards, value_mask) + masked_mean(rewards, value_mask)
        rewards = torch.where(value_mask, scaled, 0.0)
    close(rewards, trl["rewards"])
    advantages, returns = gae(
        rewards, trl["values"], value_mask, torch.zeros(len(rewards)), gamma=0.97, lam=0.9
    )
    close(returns, torch.where(value_mask, trl["returns"], 0.0))
    close(whiten(advantages, policy_mask), trl["advantages"])


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("epoch", range(4))
def test_losses_and_their_gradients(captured, run, epoch):
    trl = call(captured, run, epoch)
    policy_mask, value_mask = ~trl["padding_mask"][trl["rows"]], ~trl["padding_mask_p1"][trl["rows"]]
    logprobs, values = trl["new_logprobs"].requires_grad_(), trl["vpred"].requires_grad_()
    policy_loss, policy = clipped_policy_loss(
        logprobs, trl["mb_logprobs"], trl["mb_advantage"], policy_mask, clip=0.2
    )
    value_loss, value = clipped_value_loss(values, trl["mb_values"], trl["mb_return"], value_mask, clip=0.2)
    close(policy_loss, trl["pg_loss"])
    close(value_loss, trl["vf_loss"])
    (policy_loss + 0.1 * value_loss).backward()  # TRL's vf_coef
    close(logprobs.grad, trl["policy_gradient"])
    close(values.grad, trl["value_gradient"])
    if epoch == 0:
        close(policy["ratio_max"], torch.tensor(1.0))
    else:  # the comparison has seen both branches of both clips
        assert 0 < policy["clipped_share"] < 1
        assert 0 < value["value_clipped_share"] < 1


def test_the_captures_are_what_they_claim(captured):
    assert not call(captured, "full")["padding_mask"].any()
    lengths = (~call(captured, "ragged")["padding_mask"]).sum(1)
    assert lengths.min() < 6 < lengths.max()


# -- groups ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("run", "ours"), [
    ("grpo", lambda r, g: group_advantages(r, g, scale=True)),
    ("dr-grpo", lambda r, g: group_advantages(r, g, scale=False)),
    ("rloo", leave_one_out),
])  # fmt: skip
def test_advantages_in_groups(captured, run, ours):
    trl = call(captured, run)
    found = ours(trl["rewards"].float(), torch.arange(16) // 4)
    close(found.sort().values, trl["advantages"].sort().values)  # TRL shuffles rows after scoring


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("run", ["grpo", "dr-grpo", "gspo", "cispo"])
def test_group_losses_with_their_kl(captured, run, number):
    trl, row = call(captured, run, number), ROWS[run]
    mask, logprobs = trl["completion_mask"].bool(), trl["logps"].requires_grad_()
    old, ref = trl["old_per_token_logps"], trl["ref_per_token_logps"]
    assert (number == 0) == torch.allclose(logprobs[mask], old[mask], atol=1e-6)
    weights = token_weights(mask, row.mean, 8)
    advantages = trl["advantages"][:, None] * mask
    clip = 0.1 if run == "cispo" else row.clip  # its own, 4, cuts nothing here
    loss, metrics = row.loss(logprobs, old, advantages, mask, clip=clip, weights_BT=weights)
    kl = kl_loss(logprobs, old, ref, mask, "k3")
    if run == "gspo":  # its KL stands under the completion's ratio there; ours under the token's
        log_ratio = torch.where(mask, logprobs - old, 0.0).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        kl = torch.where(mask, k3(logprobs, ref) * log_ratio.exp(), 0.0)
    loss = loss + 0.1 * (kl * weights).sum()
    close(loss, trl["loss"])
    loss.backward()
    close(logprobs.grad[mask], trl["gradient"][mask])
    if number:
        assert metrics["clipped_share"] > 0


def test_rloo_on_its_samples(captured):
    """TRL takes the ratio of whole completions; where the policy has not moved the gradients are one."""
    trl = call(captured, "rloo")
    mask, logprobs = trl["completion_mask"].bool(), trl["logps"].requires_grad_()
    weights = token_weights(mask, ROWS["rloo"].mean, 8)
    advantages = trl["advantages"][:, None] * mask
    loss, _ = ROWS["rloo"].loss(logprobs, logprobs.detach(), advantages, mask, clip=0.2, weights_BT=weights)
    loss.backward()
    close(8 * logprobs.grad[mask], trl["gradient"][mask])  # a constant, the length limit, apart


@pytest.mark.parametrize(("run", "centre"), [("reward", 0.0), ("centred", 0.01)])
def test_reward_model_loss_and_its_gradient(captured, run, centre):
    chosen = captured[f"{run}/chosen"].requires_grad_()
    rejected = captured[f"{run}/rejected"].requires_grad_()
    loss, metrics = ranking_loss(
        chosen, rejected, torch.ones(len(chosen)), margin_P=captured.get(f"{run}/margin")
    )
    loss = loss + centre * centering_penalty(chosen, rejected)
    close(loss, captured[f"{run}/loss"])
    close(metrics["accuracy"].double(), captured[f"{run}/accuracy"])
    loss.backward()
    close(torch.cat([chosen.grad, rejected.grad]), captured[f"{run}/gradient"])
