"""Composed rewards: sums worked out by hand, prices that find the analytic ones, faults that are named."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import ConfigError, DataError, NumericsError, StoreError
from accord.reward.compose import ComposedReward, Part, PartConfig
from accord.types import Adapts, Completion, Prompt, Score, Scorer

PROMPT = Prompt.from_text("say something")
WORDS = [Completion(text) for text in ("a", "bb", "dddd")]


class Length:
    """The number of characters, in a group's own call."""

    def score(self, prompt, completions):
        return [Score(float(len(c.text)), {"squared": float(len(c.text) ** 2)}) for c in completions]


class Table:
    """What the table says of a text, with a reason."""

    def __init__(self, values):
        self.values, self.calls = values, 0

    def score(self, prompt, completions):
        return self.score_groups([(prompt, completions)])[0]

    def score_groups(self, groups):
        self.calls += 1
        return [[Score(self.values[c.text], why=f"as {c.text}") for c in group] for _, group in groups]


def composed(values=(0.0, 1.0, 2.0), **config) -> ComposedReward:
    table = Table(dict(zip(("a", "bb", "dddd"), values, strict=True)))
    return ComposedReward(
        [
            Part("length", Length(), PartConfig(weight=2.0, mean=1.0, sd=4.0)),
            Part("table", table, PartConfig(**config)),
        ]
    )


# -- the sum -----------------------------------------------------------------------------------


def test_the_sum_is_the_one_on_paper():
    reward = composed(values=(-3.0, 0.5, 9.0), weight=-1.0, low=-1.0, high=2.0)
    assert [s.value for s in reward.score(PROMPT, WORDS)] == [
        2 * (1 - 1) / 4 + 1.0,  # -3 counts as -1
        2 * (2 - 1) / 4 - 0.5,
        2 * (4 - 1) / 4 - 2.0,  # 9 counts as 2
    ]
    assert isinstance(reward, Scorer)
    assert isinstance(reward, Adapts)


def test_parts_are_named_raw_and_with_their_own_parts():
    score = composed(values=(-3.0, 0.5, 9.0), low=-1.0).score(PROMPT, WORDS)[0]
    assert score.parts == {"length": 1.0, "length.squared": 1.0, "table": -3.0}
    assert score.why == "table: as a"


def test_a_part_of_weight_zero_is_shown_and_not_paid():
    plain, watched = composed(weight=0.0).score(PROMPT, WORDS), composed(weight=1.0).score(PROMPT, WORDS)
    assert [s.value for s in plain] == [0.0, 0.5, 1.5]
    assert [s.parts for s in plain] == [s.parts for s in watched]


def test_the_batch_does_not_change_a_score():
    """No scale is taken from the batch in silence."""
    reward = composed(low=-1.0, at_least=1.0)
    alone = [reward.score(PROMPT, [c])[0] for c in WORDS]
    assert reward.score(PROMPT, WORDS) == alone


def test_many_groups_are_one_call_a_part():
    reward = composed()
    scored = reward.score_groups([(PROMPT, WORDS[:2]), (Prompt.from_text("x"), WORDS[2:]), (PROMPT, [])])
    assert [[s.value for s in group] for group in scored] == [[0.0, 1.5], [3.5], []]
    assert reward.part("table").scorer.calls == 1


# -- the price of a constraint -----------------------------------------------------------------


def test_the_multiplier_moves_as_on_paper():
    reward = composed(values=(0.0, 1.0, 2.0), weight=0.0, at_least=2.0, sd=0.5, rate=0.25, limit=1.2)
    scores = reward.score(PROMPT, WORDS)
    assert [s.value for s in scores] == [0.0, 0.5, 1.5]  # the price starts at 0
    metrics = reward.adapt(scores)  # mean slack (-2 - 1 + 0) / 3 / 0.5 = -2, so 0 + 0.25 * 2
    assert metrics == {"part.length": pytest.approx(7 / 3), "part.table": 1.0, "multiplier.table": 0.5}
    scores = reward.score(PROMPT, WORDS)
    assert [s.value for s in scores] == pytest.approx([0.0 + 0.5 * -4, 0.5 + 0.5 * -2, 1.5 + 0.5 * 0])
    assert scores[0].parts["table multiplier"] == 0.5
    assert reward.adapt(scores)["multiplier.table"] == 1.0
    assert reward.adapt(scores)["multiplier.table"] == 1.2  # the ceiling


def test_at_most_is_at_least_turned_round():
    most = composed(values=(0.0, 1.0, 2.0), weight=0.0, at_most=0.5)
    least = composed(values=(0.0, -1.0, -2.0), weight=0.0, at_least=-0.5)
    for _ in range(3):
        scores = [reward.score(PROMPT, WORDS) for reward in (most, least)]
        assert [s.value for s in scores[0]] == [s.value for s in scores[1]]
        prices = [r.adapt(s)["multiplier.table"] for r, s in zip((most, least), scores, strict=True)]
        assert prices[0] == prices[1] > 0


def test_a_constraint_that_holds_costs_nothing():
    reward = composed(weight=0.0, at_least=-5.0)
    for _ in range(3):
        assert reward.adapt(reward.score(PROMPT, WORDS))["multiplier.table"] == 0.0


def test_the_price_falls_again_once_the_constraint_holds():
    reward = composed(weight=0.0, at_least=2.0)
    reward.adapt(reward.score(PROMPT, WORDS[:1]))
    high = reward.multipliers["table"]
    reward.adapt(reward.score(PROMPT, WORDS[2:]))
    assert reward.multipliers["table"] == high  # exactly met
    assert composed(values=(0.0, 1.0, 3.0), weight=0.0, at_least=2.0).multipliers == {"table": 0.0}
    reward = composed(values=(0.0, 1.0, 3.0), weight=0.0, at_least=2.0)
    for words in (WORDS[:1], WORDS[2:]):
        reward.adapt(reward.score(PROMPT, words))
    assert reward.multipliers["table"] == pytest.approx(0.2 - 0.1)


@given(share=st.floats(0.05, 0.95), beta=st.floats(0.2, 2.0))
def test_dual_ascent_finds_the_analytic_price(share, beta):
    """Answers "a" (reward 1, safety 0) and "b" (0, 1); the best policy on a leash of beta to the fair coin.

    It says b with probability sigma((lambda - 1) / beta); the constraint E[safety] >= share then costs
    lambda = 1 + beta logit(share), or nothing where the unconstrained policy meets it.
    """
    quality = Part("quality", Table({"a": 1.0, "b": 0.0}))
    safety = Part(
        "safety", Table({"a": 0.0, "b": 1.0}), PartConfig(weight=0.0, at_least=share, rate=0.4 * beta)
    )
    reward = ComposedReward([quality, safety])
    for _ in range(400):
        a, b = (reward.score(PROMPT, [Completion(c)])[0] for c in "ab")
        p_b = 1 / (1 + math.exp((a.value - b.value) / beta))
        # the mean over as many answers as one likes, in the policy's exact proportion
        mean = {name: (1 - p_b) * a.parts[name] + p_b * b.parts[name] for name in ("quality", "safety")}
        reward.adapt([Score(0.0, mean)])
    analytic = max(0.0, 1 + beta * math.log(share / (1 - share)))
    assert reward.multipliers["safety"] == pytest.approx(analytic, abs=1e-3)


def test_scores_of_another_reward_are_not_learned_from():
    reward = composed(at_least=1.0)
    with pytest.raises(DataError, match="no scores"):
        reward.adapt([])
    with pytest.raises(DataError, match="no part 'length'"):
        reward.adapt([Score(1.0, {"table": 0.0})])
    assert reward.multipliers == {"table": 0.0}


# -- kept in checkpoints -----------------------------------------------------------------------


def test_the_state_goes_through_json_and_on():
    first, second = composed(weight=0.0, at_least=2.0), composed(weight=0.0, at_least=2.0)
    first.adapt(first.score(PROMPT, WORDS))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for reward in (first, second):
        reward.adapt(reward.score(PROMPT, WORDS))
    assert first.multipliers == second.multipliers
    assert first.multipliers["table"] > 0.1


@pytest.mark.parametrize("other", [composed(at_least=1.0), composed(at_least=2.0, rate=0.2), composed()])
def test_the_state_of_another_composition_is_refused(other):
    state = composed(at_least=2.0).state_dict()
    with pytest.raises(StoreError, match="another composition"):
        other.load_state_dict(state)


# -- refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([], "at least one part"),
        ([Part("a", Length()), Part("a", Length())], "two parts are called 'a'"),
        ([Part("", Length())], "called ''"),
        ([Part("a.b", Length())], "without dots"),
        ([Part("a", Length(), PartConfig(weight=0.0))], "nothing would be rewarded"),
    ],
)
def test_a_composition_that_means_nothing_is_refused(parts, said):
    with pytest.raises(ConfigError, match=said):
        ComposedReward(parts)


def test_an_unknown_part_is_named_with_those_there_are():
    with pytest.raises(ConfigError, match=r"no part 'lenght'; there are length, table"):
        composed().part("lenght")


@pytest.mark.parametrize(
    "config",
    [{"sd": 0.0}, {"sd": -1.0}, {"weight": math.nan}, {"mean": math.inf}, {"low": 1.0, "high": 1.0},
     {"rate": 0.0}, {"at_least": 0.0, "at_most": 1.0}, {"at_least": math.nan}, {"wieght": 1.0}],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(config):
    with pytest.raises(ConfigError):
        PartConfig.build(config)
    with pytest.raises(ConfigError):
        PartConfig(**config)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_none_is_an_error_with_part_and_text_and_never_zero(bad):
    with pytest.raises(NumericsError, match=rf"part 'table' gave {bad} to 'bb'.*prompt '{PROMPT.id}'"):
        composed(values=(0.0, bad, 1.0), low=-1.0, high=1.0).score(PROMPT, WORDS)


def test_too_few_scores_name_the_part():
    class Short:
        def score(self, prompt, completions):
            return [Score(0.0)]

    with pytest.raises(NumericsError, match=r"part 'short' returned 1 scores for the 3"):
        ComposedReward([Part("short", Short())]).score(PROMPT, WORDS)


def test_too_few_groups_name_the_part():
    class Lost:
        def score_groups(self, groups):
            return []

    with pytest.raises(NumericsError, match=r"part 'lost' returned scores for 0 of 1"):
        ComposedReward([Part("lost", Lost())]).score(PROMPT, WORDS)
