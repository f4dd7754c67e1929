"""accord's offline losses equal TRL 1.12's on the tensors of TRL's own trainers (see trl_offline_side.py).

ORPO is compared without its supervised term, which TRL takes of the prompt's tokens too.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from accord.align.answers import Answer, logprobs_of
from accord.lm.model import LanguageModel
from accord.rl.preference import dpo_loss, ipo_loss, kto_loss, kto_reference_point, orpo_loss, simpo_loss

SIDES = ("chosen_logps", "rejected_logps")
PYTHON = Path(__file__).parents[2] / ".venv-trl/bin/python"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="needs the peer's environment: run scripts/setup-trl-env"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trl")


@pytest.fixture(scope="module")
def captured(folder):
    side = Path(__file__).with_name("trl_offline_side.py")
    command = [str(PYTHON), str(side), str(folder / "captured.npz"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        key: torch.from_numpy(np.asarray(value)) for key, value in np.load(folder / "captured.npz").items()
    }


def close(ours, theirs):
    assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def of(captured, name):
    start = f"{name}/"
    return {key.removeprefix(start): value for key, value in captured.items() if key.startswith(start)}


def ratios(trl):
    """Both sides' log-probs, to be differentiated by, and their log-ratios."""
    sides = [trl[key].requires_grad_() for key in SIDES]
    return sides, [side - trl[f"ref_{key}"] for side, key in zip(sides, SIDES, strict=True)]


def check(loss, theirs, inputs, trl):
    close(loss, theirs)
    loss.backward()
    for name, tensor in inputs.items():
        close(tensor.grad, trl[f"gradient/{name}"])


def test_the_captures_are_what_they_claim(captured):
    trl = of(captured, "dpo")
    assert len(set(trl["lengths"].tolist())) > 3
    assert (trl["chosen_logps"] - trl["ref_chosen_logps"]).abs().min() > 0.01
    assert len(set(of(captured, "kto")["bool_labels"].tolist())) == 2


def test_log_probs_of_whole_completions(captured, folder):
    """From the ids to the log-prob, policy and reference, each row at its own length."""
    trl = of(captured, "dpo")
    answers = []
    for ids, attended, completion in zip(
        trl["input_ids"], trl["attention_mask"], trl["completion_mask"], strict=True
    ):
        length, said = int(attended.sum()), int(completion.sum())
        answers.append(Answer(tuple(ids[attended.bool()].tolist()), length - said))
    for kind, prefix in (("policy", ""), ("reference", "ref_")):
        found, lengths = logprobs_of(LanguageModel.load(folder / kind), answers)
        theirs = torch.cat([trl[f"{prefix}chosen_logps"], trl[f"{prefix}rejected_logps"]])
        assert_close(found.detach(), theirs, atol=2e-5, rtol=1e-5)
        assert lengths.tolist() == trl["lengths"].tolist()


def test_dpo(captured):
    trl = of(captured, "dpo")
    sides, (chosen, rejected) = ratios(trl)
    loss, _ = dpo_loss(chosen, rejected, torch.ones(len(chosen)), beta=0.3)
    check(loss, trl["loss"], dict(zip(SIDES, sides, strict=True)), trl)


def test_ipo(captured):
    trl = of(captured, "ipo")
    sides, logs = ratios(trl)
    chosen, rejected = (x / n for x, n in zip(logs, trl["lengths"].chunk(2), strict=True))
    loss, _ = ipo_loss(chosen, rejected, torch.ones(len(chosen)), beta=0.3)
    check(loss, trl["loss"], dict(zip(SIDES, sides, strict=True)), trl)


def test_kto(captured):
    trl = of(captured, "kto")
    point = kto_reference_point(trl["KL_logps"] - trl["ref_KL_logps"])
    close(point, trl["kl"])
    logps = trl["completion_logps"].requires_grad_()
    loss, _ = kto_loss(
        logps - trl["ref_completion_logps"],
        trl["bool_labels"].float(),
        point,
        beta=0.3,
        desirable=1.3,
        undesirable=0.7,
    )
    check(loss, trl["loss"], {"completion_logps": logps}, trl)


def test_orpo(captured):
    trl = of(captured, "orpo")
    names = ("policy_chosen_logps", "policy_rejected_logps")
    chosen, rejected = (trl[name].requires_grad_() for name in names)
    whole, _ = orpo_loss(chosen, rejected, torch.ones(len(chosen)), beta=0.3)
    odds = -(whole - -chosen.mean())  # TRL's is the log-sigmoid itself, which it then takes away
    check(odds, trl["mean"], dict(zip(names, (chosen, rejected), strict=True)), trl)


def test_simpo(captured):
    trl = of(captured, "simpo")
    names = ("policy_chosen_logps", "policy_rejected_logps")
    chosen, rejected = (trl[name].requires_grad_() for name in names)
    loss, _ = simpo_loss(chosen, rejected, torch.ones(len(chosen)), beta=2.0, margin=0.4)
    check(loss, trl["mean"], dict(zip(names, (chosen, rejected), strict=True)), trl)
