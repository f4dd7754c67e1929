"""Runs that the guard watches: what it says is kept, what it does is done, and resumed it does the same."""

import json
import logging
import signal
from collections.abc import Sequence

import pytest
import torch

import toys
from accord.align.guard import Action, GuardConfig, best_step
from accord.align.learner import Learner
from accord.align.run import End, align
from accord.errors import ConfigError, NumericsError
from accord.lm.checkpoints import latest
from accord.types import Completion, Prompt, Score
from toys import PROMPTS, ShareOfGood, run_config

CONFIG = run_config(
    steps=40, prompts_per_step=8, samples_per_prompt=4, minibatch=32, max_new_tokens=6, kl_target=None,
    beta=0.01, truncation="mask", seed=1, learning_rate=2e-2,
)  # fmt: skip
ACT = GuardConfig(mode="act")


class Endless(ShareOfGood):
    """Pays for each token: a reward that is hacked by never ending."""

    def score_groups(self, groups):
        scored = super().score_groups(groups)
        return [
            [Score(s.value * 0 + float(len(c.ids))) for s, c in zip(scores, completions, strict=True)]
            for scores, (_, completions) in zip(scored, groups, strict=True)
        ]


class Short:
    """The truth beside it: shorter is better."""

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        return [Score(-float(len(c.ids))) for c in completions]


def hacked(toy, folder, guard=ACT, scorer=None, **more):
    config = CONFIG.model_copy(update={"truncation": "penalise", "truncation_penalty": 0.0})
    return align(toy(), scorer or Endless(), PROMPTS, config, folder, guard=guard, **more)


def weights(result) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in result.learner.policy.net.named_parameters() if p.requires_grad}


@pytest.fixture(scope="module")
def rolled_back(toy_folder, tmp_path_factory):
    """A hacked run that its guard took back, and its folder."""
    folder = tmp_path_factory.mktemp("hacked")
    return hacked(lambda: toys.LanguageModel.load(toy_folder()), folder), folder


def test_a_hacked_run_is_rolled_back_and_says_why(rolled_back) -> None:
    result, folder = rolled_back
    assert result.end is End.ROLLED_BACK
    assert len(result.history) < CONFIG.steps
    assert "the longer a completion the more it is paid" in result.reason
    assert result.verdicts[-1].action is Action.ROLL_BACK
    assert result.verdicts[-1].reason == result.reason
    assert result.verdicts[-1].step == len(result.history)
    rows = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]
    assert [(row["step"], row["action"], row["example"]) for row in rows] == [
        (told.step, told.action, told.example) for told in result.verdicts
    ]
    assert result.history[-1]["guard"] == list(Action).index(Action.ROLL_BACK)


def test_the_policy_is_the_one_of_the_kept_step(rolled_back, toy, tmp_path) -> None:
    """The same run, stopped by hand after as many updates, has the same weights."""
    result, _ = rolled_back
    assert 0 < result.kept < len(result.history)
    plain = hacked(toy, tmp_path / "plain", GuardConfig(mode="warn"), save_every=1,
                   progress=_Stop(result.kept))  # fmt: skip
    assert len(plain.history) == result.kept
    for name, tensor in weights(plain).items():
        assert torch.equal(tensor, weights(result)[name]), name


class _Stop:
    """Asks a run to end after a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, metrics) -> None:
        if metrics["step"] == self.step:
            signal.raise_signal(signal.SIGINT)


def test_a_guarded_run_that_was_killed_ends_as_the_unbroken_one(rolled_back, toy, tmp_path) -> None:
    result, _ = rolled_back
    broken = len(result.history) - 2
    with pytest.raises(NumericsError):
        hacked(toy, tmp_path, scorer=Endless(nan_at=broken), save_every=3)
    again = hacked(toy, tmp_path, resume=True, save_every=3)
    assert (again.end, again.reason, again.kept) == (result.end, result.reason, result.kept)
    assert again.verdicts == result.verdicts
    for name, tensor in weights(again).items():
        assert torch.equal(tensor, weights(result)[name]), name


def test_an_ended_run_resumed_ends_the_same_way(rolled_back, toy) -> None:
    result, folder = rolled_back
    again = hacked(toy, folder, resume=True, scorer=Endless(kill_at=0))
    assert (again.end, again.reason, again.kept) == (result.end, result.reason, result.kept)
    assert again.history == result.history
    for name, tensor in weights(again).items():
        assert torch.equal(tensor, weights(result)[name]), name


def test_without_leave_to_act_it_warns_once_and_goes_on(toy, tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="accord.align"):
        result = hacked(toy, tmp_path, GuardConfig(mode="warn"))
    assert (result.end, result.kept, len(result.history)) == (End.STEPS, CONFIG.steps, CONFIG.steps)
    assert {told.action for told in result.verdicts} == {Action.WARN}
    said = [record for record in caplog.records if record.name == "accord.align"]
    assert 0 < len(said) < len(result.verdicts)
    assert not (tmp_path / "best.safetensors").exists()


def test_turned_off_it_says_nothing(toy, tmp_path) -> None:
    assert hacked(toy, tmp_path, GuardConfig(mode="off")).verdicts == []


def test_a_witness_that_falls_takes_the_run_back_to_its_best(toy, tmp_path) -> None:
    guard = GuardConfig(mode="act", witness="short")
    result = hacked(toy, tmp_path, guard, watch={"short": Short()})
    assert result.end is End.ROLLED_BACK
    assert result.kept == best_step(result.history, guard) - 1 == 0  # it only ever fell
    fresh = Learner(toy(), result.learner.config).policy.trained()
    for name, tensor in result.learner.policy.trained().items():
        assert torch.equal(tensor, fresh[name]), name
    assert "short" in result.reason


def test_a_witness_that_nobody_watches_is_refused(toy, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"witness 'judge' is not among the watched scorers \('short'\)"):
        hacked(toy, tmp_path, GuardConfig(witness="judge"), watch={"short": Short()})


def test_a_watched_scorer_may_not_take_a_figures_name(toy, tmp_path) -> None:
    with pytest.raises(ConfigError, match="figures of its own called reward"):
        hacked(toy, tmp_path, GuardConfig(), watch={"reward": Short()})


def test_an_honest_run_is_left_alone(toy, tmp_path) -> None:
    """It may be warned of: what is paid here is a sign of punctuation."""
    config = CONFIG.model_copy(update={"steps": 12, "learning_rate": 2e-3, "seed": 3})
    result = align(toy(), ShareOfGood(), PROMPTS, config, tmp_path, guard=ACT)
    assert (result.end, result.kept) == (End.STEPS, 12)
    assert all(told.action is Action.WARN for told in result.verdicts)
    assert latest(tmp_path) is not None
