"""Whole runs of Q-learning: figures, resume to the bit with the memory, and what is refused."""

import json

import pytest
import torch

from accord.align.qlearning import QConfig
from accord.align.qrun import qlearn
from accord.environment import Turn
from accord.errors import ConfigError, DataError, NumericsError, StoreError
from accord.lm.checkpoints import latest
from toys import PROMPTS, FirstToken, ShareOfGood


def config_of(**changes):
    settings = {
        "steps": 6, "prompts_per_step": 4, "samples_per_prompt": 2, "minibatch": 6, "updates": 3, "memory": 3,
        "target_every": 4, "max_new_tokens": 3, "lora_rank": 4, "learning_rate": 1e-2, "seed": 3,
    }  # fmt: skip
    return QConfig(**(settings | changes))


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def bits(result):
    learner = result.learner
    return {
        "policy": dict(learner.policy.net.state_dict()),
        "target": dict(learner.target.net.state_dict()),
        "moments": [v for s in learner.optimiser.state_dict()["state"].values() for v in s.values()],
    }, (learner.memory, learner.updates, result.history)


def same(a, b):
    (tensors, plain), (others, other) = bits(a), bits(b)
    pairs = [
        (tensors[kind][name], others[kind][name]) for kind in ("policy", "target") for name in tensors[kind]
    ]
    pairs += zip(tensors["moments"], others["moments"], strict=True)
    return plain == other and all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("rank", [0, 4], ids=["full", "lora"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(toy, tmp_path, rank):
    config = config_of(lora_rank=rank)
    whole = qlearn(toy(), ShareOfGood(), PROMPTS, config, tmp_path / "whole")
    with pytest.raises(NumericsError, match="nan"):  # in the fifth step; the checkpoint is of the third
        qlearn(toy(), ShareOfGood(nan_at=4), PROMPTS, config, tmp_path / "parts", save_every=3)
    assert latest(tmp_path / "parts").name == "checkpoint-000003"
    assert len(lines(tmp_path / "parts")) == 4
    parts = qlearn(toy(), ShareOfGood(), PROMPTS, config, tmp_path / "parts", resume=True)
    assert same(parts, whole)
    assert lines(tmp_path / "parts") == whole.history
    assert (tmp_path / "parts/samples.jsonl").read_text() == (tmp_path / "whole/samples.jsonl").read_text()
    assert whole.finished
    assert [row["step"] for row in whole.history] == [1, 2, 3, 4, 5, 6]


def test_a_lost_memory_is_found_out(toy, tmp_path, monkeypatch):
    """The planted fault: a resume that forgets the episodes must not look the same."""
    whole = qlearn(toy(), ShareOfGood(), PROMPTS, config_of(), tmp_path / "whole")
    with pytest.raises(NumericsError):
        qlearn(toy(), ShareOfGood(nan_at=4), PROMPTS, config_of(), tmp_path / "parts", save_every=3)
    state = latest(tmp_path / "parts") / "state.json"
    forgot = json.loads(state.read_text()) | {"memory": []}
    monkeypatch.setattr("accord.lm.checkpoints._fault", lambda path: None)
    state.write_text(json.dumps(forgot))
    parts = qlearn(toy(), ShareOfGood(), PROMPTS, config_of(), tmp_path / "parts", resume=True)
    assert not same(parts, whole)


class Echo:
    """Pays what the first turn began with, when the second is over."""

    def begin(self, prompt, seed):
        said = []

        def answer(text):
            said.append(text)
            return Turn('"') if len(said) < 2 else Turn(paid=float(said[0][:1] == "!"), over=True)

        return answer


def test_an_environment_pays_and_a_scorer_may_judge_besides(toy, tmp_path):
    config = config_of(max_new_tokens=2, lora_rank=0, steps=2)
    alone = qlearn(toy(), None, PROMPTS, config, tmp_path / "alone", environment=Echo())
    both = qlearn(toy(), FirstToken(), PROMPTS, config, tmp_path / "both", environment=Echo())
    assert both.history[0]["reward"] >= alone.history[0]["reward"]
    assert both.history[0]["length"] == alone.history[0]["length"]
    rewards = {json.loads(line)["score"] for line in (tmp_path / "both/samples.jsonl").open()}
    assert rewards <= {0.0, 1.0, 2.0}


def test_what_cannot_be_learned_from_is_refused(toy, tmp_path):
    with pytest.raises(DataError, match="no prompts"):
        qlearn(toy(), FirstToken(), [], config_of(), tmp_path)
    with pytest.raises(ConfigError, match="nothing would be learned"):
        qlearn(toy(), None, PROMPTS, config_of(), tmp_path)
    with pytest.raises(ConfigError, match="save_every"):
        qlearn(toy(), FirstToken(), PROMPTS, config_of(), tmp_path, save_every=0)


def test_another_run_is_not_gone_on_with(toy, tmp_path):
    qlearn(toy(), FirstToken(), PROMPTS, config_of(steps=1), tmp_path)
    with pytest.raises(ConfigError, match="holds a run already"):
        qlearn(toy(), FirstToken(), PROMPTS, config_of(steps=1), tmp_path)
    others = (
        (toy(seed=1), PROMPTS, config_of(steps=1)),
        (toy(), PROMPTS[:3], config_of(steps=1)),
        (toy(), PROMPTS, config_of(steps=2)),
    )
    for policy, prompts, config in others:
        with pytest.raises(StoreError, match="another model, or with other settings or prompts"):
            qlearn(policy, FirstToken(), prompts, config, tmp_path, resume=True)
