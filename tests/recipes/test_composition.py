"""Rewards named by a file: what is built, what is refused, and a run that keeps its prices."""

from __future__ import annotations

import sys

import pytest

from accord.errors import ConfigError
from accord.lm.tiny import write_tiny
from accord.recipes.composition import RULES, SOURCES, read_composition
from accord.recipes.steps import AlignStepConfig, align, scorer_of
from accord.reward.compose import PartConfig
from accord.reward.pool import PooledReward
from accord.reward.remote import RemoteConfig, RemoteReward
from accord.reward.rules import Length
from accord.types import Completion, Prompt
from accord.workspace import Workspace

PROMPT = Prompt.from_text("2 + 2?", meta={"answer": 4})
FILE = """
[quality]
reward = "hf:some/model"
label = "good"
weight = 2.0

[short]
rule = "length"
longest = 3
at_least = 0.5

[right]
rule = "number"
sd = 0.5

[mine]
function = "my_composed_rules:polite"
weight = 0.25
pool = { workers = 2 }
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my_composed_rules.py").write_text(
        "def polite(prompt, completion):\n    return float('please' in completion.text)\n"
    )

    def made(text: str):
        (tmp_path / "rewards.toml").write_text(text)
        asked = []

        def resolve(name, label):
            asked.append((name, label))
            return Length(unit="characters", longest=1000), ["artefact-1"]

        reward, inputs = read_composition(tmp_path / "rewards.toml", resolve)
        return reward, inputs, asked

    yield made
    sys.modules.pop("my_composed_rules", None)


def test_every_kind_of_part_is_built_and_counts_as_it_says(write):
    reward, inputs, asked = write(FILE)
    assert asked == [("hf:some/model", "good")]
    assert inputs[1:] == ["artefact-1", "function:my_composed_rules:polite"]
    assert inputs[0].startswith("composition:")
    (score,) = reward.score(PROMPT, [Completion("please say 4")])
    assert score.parts["right"] == score.parts["mine"] == score.parts["short"] == score.parts["quality"] == 1
    assert score.value == 2 * 1 + 1 + 1 / 0.5 + 0.25
    assert reward.multipliers == {"short": 0.0}
    assert isinstance(reward.part("mine").scorer, PooledReward)


def test_a_remote_part_takes_its_settings(write):
    reward, *_ = write('[far]\nremote = "https://scores.example.org/score"\ntoken_env = "T"\nbatch = 7\n')
    scorer = reward.part("far").scorer
    assert isinstance(scorer, RemoteReward)
    assert scorer.config == RemoteConfig(url="https://scores.example.org/score", token_env="T", batch=7)


def test_another_text_is_another_input(write):
    assert write(FILE)[1][0] != write(FILE.replace("2.0", "3.0"))[1][0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = ", "is not TOML"),
        ("weight = 1", "outside of a part"),
        ("", "at least one part"),
        ("[a]\nweight = 1", "names none of them"),
        ('[a]\nrule = "length"\nlongest = 3\nreward = "reward"', "names reward and rule"),
        ('[a]\nrule = "lenght"\nlongest = 3', r"\[a\]: there is no rule 'lenght'; did you mean 'length'"),
        ('[a]\nrule = "length"\nlongst = 3', r"\[a\]: unknown key 'longst'; did you mean 'longest'"),
        ('[a]\nrule = "length"', "longest"),
        ('[a]\nreward = "reward"\nwieght = 3', "unknown key 'wieght'; did you mean 'weight'"),
        ('[a]\nreward = "other.toml"', "holds no other"),
        ("[a]\nreward = 3", "takes a text"),
        ('[a]\nreward = "reward"\nsd = 0', r"\[a\]: sd = 0"),
        ('[a]\nreward = "reward"\npool = 3', "pool = 3"),
        ('[a]\nreward = "reward"\npool = { worker = 3 }', "did you mean 'workers'"),
        ('[a]\nfunction = "no_such_module_here:f"', "could not be imported"),
        ('[a]\nremote = "somewhere"', "no http or https address"),
    ],
)
def test_a_file_that_means_nothing_says_where(write, text, said):
    with pytest.raises(ConfigError, match=said):
        write(text)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"rewards\.toml cannot be read"):
        read_composition(tmp_path / "rewards.toml", lambda name, label: (None, []))


def test_no_setting_of_a_rule_is_taken_for_how_it_counts():
    """The keys of a part stand in one table: none may mean two things."""
    taken = {*PartConfig.model_fields, "pool", *SOURCES}
    for config in (*RULES.values(), RemoteConfig):
        assert not taken & config.model_fields.keys(), config


def test_a_run_is_aligned_by_a_file_in_the_workspace_and_logs_its_prices(tmp_path):
    """The tiny model's answers are far longer than three characters, so the price of that rises each step."""
    write_tiny(tmp_path / "model", "llama", chat=True)
    workspace = Workspace.create(tmp_path / "desk")
    workspace.store.add_prompts([Prompt.from_text(f"Where is parcel {i}?") for i in range(4)], "train")
    (workspace.path / "rewards.toml").write_text(
        '[varied]\nrule = "repetition"\n[short]\nrule = "length"\nunit = "characters"\nlongest = 0\n'
        "weight = 0.0\nat_least = 1.0\n"
    )
    config = AlignStepConfig(
        model=str(tmp_path / "model"),
        reward="rewards.toml",
        steps=2,
        prompts_per_step=2,
        minibatch=2,
        epochs=1,
        max_new_tokens=4,
        lora_rank=2,
    )
    run, result = align(workspace, config)
    prices = [row["multiplier.short"] for row in result.history]
    assert 0 < prices[0] < prices[1]
    assert {"part.varied", "part.short"} <= result.history[0].keys()
    assert any(each.startswith("composition:") for each in run.inputs)


def test_a_composition_takes_no_label_of_its_own(tmp_path):
    workspace = Workspace.create(tmp_path / "desk")
    with pytest.raises(ConfigError, match="drop --label"):
        scorer_of(workspace, "rewards.toml", "good")
    with pytest.raises(ConfigError, match=r"desk/rewards\.toml cannot be read"):
        scorer_of(workspace, "rewards.toml")
