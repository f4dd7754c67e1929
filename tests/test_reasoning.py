"""A judge that thinks first, with a writer and log-probs of which everything is known."""

import math

import pytest

from accord.judging import Asked, LikelihoodConfig, TextLogprob, both_orders
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.model import LanguageModel
from accord.lm.tiny import write_tiny
from accord.reasoning import THINK, VERDICT, ReasoningChooser
from accord.recipes.likelihoods import ModelLikelihoods
from accord.types import Completion, Prompt, Stop


class Writer:
    """Thinks of the length of the first answer; ``broken`` gives what cannot be used."""

    def __init__(self, broken=lambda text: None):
        self.broken = broken
        self.asked = []

    def sample(self, prompts, n=1):
        self.asked += prompts
        return [
            [self.broken(p.text) or Completion(f" The first is {self.first(p.text)}.\n")] for p in prompts
        ]

    def first(self, text):
        return "long" if len(text.split("Answer A:\n")[1].split("\n")[0]) > 3 else "short"


class Likely:
    """Believes the thought: A is e times as likely as B after "long", and the other way round."""

    def __init__(self):
        self.asked = []

    def logprobs(self, asked):
        self.asked += asked
        after = ["long" in prompt.messages[1].content for prompt, _ in asked]
        return [[TextLogprob(-1.0 - (not long), 1), TextLogprob(-1.0 - long, 1)] for long in after]


PAIRS = [
    Asked(Prompt.from_text("Which?"), "a long one", "no"),
    Asked(Prompt.from_text("What?"), "no", "why not"),
]


def test_the_thought_decides_and_is_kept():
    writer, likely = Writer(), Likely()
    found = ReasoningChooser(writer, likely).choose(PAIRS)
    assert [one.p_first for one in found] == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))])
    assert [one.said for one in found] == ["The first is long.", "The first is short."]
    assert [one.p > 0.5 for one in both_orders(ReasoningChooser(writer, likely), PAIRS)] == [True, False]


def test_it_is_asked_to_think_and_then_for_a_letter():
    writer, likely = Writer(), Likely()
    ReasoningChooser(
        writer, likely, LikelihoodConfig(question="{prompt}|Answer A:\n{first}\n{second}")
    ).choose(PAIRS)
    assert writer.asked[0].text == f"Which?|Answer A:\na long one\nno\n\n{THINK}"
    ReasoningChooser(writer, likely).choose(PAIRS[:1])
    assert writer.asked[-1].text.endswith(THINK)
    assert "Reply with A or B only" not in writer.asked[-1].text
    turns = likely.asked[-1][0].messages
    assert [turn.role for turn in turns] == ["user", "assistant", "user"]
    assert turns[0].content == writer.asked[-1].text
    assert turns[2].content == VERDICT


@pytest.mark.parametrize("broken", [Completion(" \n"), Completion("The first is lo", stop=Stop.LENGTH)])
def test_a_thought_that_is_empty_or_cut_is_no_judgement(broken):
    likely = Likely()
    writer = Writer(lambda text: broken if "What?" in text else None)
    found = ReasoningChooser(writer, likely).choose(PAIRS)
    assert found[0].p_first is not None
    assert found[1].p_first is None
    assert found[1].said == broken.text.strip()
    assert len(likely.asked) == 1


def test_temperature_makes_it_less_sure():
    found = ReasoningChooser(Writer(), Likely(), LikelihoodConfig(temperature=4.0)).choose(PAIRS)
    assert found[0].p_first == pytest.approx(1 / (1 + math.exp(-0.25)))
    assert ReasoningChooser(Writer(), Likely()).choose([]) == []


def test_a_real_model_thinks_and_judges(tmp_path):
    write_tiny(tmp_path / "m", "llama", chat=True)
    model = LanguageModel.load(tmp_path / "m", device="cpu")
    engine = Engine(model, SamplingConfig(max_new_tokens=6, temperature=0.0))
    config = LikelihoodConfig(question="{first} {second}")
    judged = both_orders(ReasoningChooser(engine, ModelLikelihoods(model), config), PAIRS)
    assert all(one.as_listed.p_first is None or 0 < one.as_listed.p_first < 1 for one in judged)
