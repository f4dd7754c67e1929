"""A person's reward: the shared one until they speak, theirs afterwards, and never a way around safety."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import ConfigError, DataError
from accord.judgements import Ranking, Thumb
from accord.reward.personal import PersonalReward, Shared, opinions_of, pair_opinion, thumb_opinion
from accord.reward.taste import Taste, posterior
from accord.stats.logistic import Posterior
from accord.types import Completion, Prompt, Score, Scorer

TASTE = Taste(np.eye(2), scale=2.0)
PROMPT = Prompt.from_text("q", id="q")


class Worth:
    """Completions named "reward|x|y": their shared reward and two features."""

    def score(self, prompt, completions):
        return [Score(float(c.text.split("|")[0]), why="as named") for c in completions]

    def features(self, groups):
        return [np.array([[float(v) for v in c.text.split("|")[1:]] for c in group]) for _, group in groups]


def shared(floor=0.0, vetoed=None):
    return Shared(Worth(), Worth().features, floor, vetoed)


def c(reward, x=0.0, y=0.0):
    return Completion(f"{reward}|{x}|{y}", id=f"{reward}|{x}|{y}")


def belief(*mean):
    return Posterior(np.array([*mean, 0.0]), np.eye(len(mean) + 1))


def test_a_new_person_has_the_shared_reward_to_the_bit():
    reward = PersonalReward(shared(), TASTE, posterior(TASTE, []))
    assert isinstance(reward, Scorer)
    texts = [c(0.1, 3, -2), c(1 / 3, 1, 1), c(-2.7, 5, 5)]
    assert [s.value for s in reward.score(PROMPT, texts)] == [0.1, 1 / 3, -2.7]


def test_a_taste_by_hand():
    reward = PersonalReward(shared(), TASTE, belief(1.0, -3.0))
    (score,) = reward.score(PROMPT, [c(4.0, 2.0, 0.5)])
    assert score.value == 4.0 + (2.0 - 1.5) / 2.0
    assert score.parts == {"shared": 4.0, "taste": 0.25, "taste sd": pytest.approx(math.sqrt(4.25) / 2),
                           "acceptable": 1.0}  # fmt: skip
    assert score.why == "as named"


def test_opposite_tastes_order_the_same_answers_opposite_ways():
    short, long = c(1.0, -1.0), c(1.0, 1.0)
    said = [Ranking(f"q{i}", name, ((a.id,), (b.id,)))
            for i in range(6) for name, a, b in (("ann", short, long), ("bob", long, short))]  # fmt: skip
    prompts = {f"q{i}": Prompt.from_text(f"q{i}", id=f"q{i}") for i in range(6)}
    people = opinions_of(shared(), prompts, {p: [short, long] for p in prompts}, said)
    ann, bob = (
        [
            s.value
            for s in PersonalReward(shared(), TASTE, posterior(TASTE, people[name])).score(
                PROMPT, [short, long]
            )
        ]
        for name in ("ann", "bob")
    )
    assert ann[0] > 1.3 > 0.7 > ann[1]
    assert bob == pytest.approx(ann[::-1])


# -- safety ------------------------------------------------------------------------------------

FAILS = [c(-0.01, 9, 9), c(-3.0, -9, 4), c(-0.5, 0, 0)]
FINE = [c(0.0, -9, -9), c(0.2, 4, -4), c(7.0, 1, 1)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2))
def test_no_weights_lift_a_fail_above_what_is_acceptable(w):
    scores = PersonalReward(shared(), TASTE, belief(*w)).score(PROMPT, FAILS + FINE)
    fails, fine = scores[:3], scores[3:]
    assert [s.value for s in fails] == [-0.01, -3.0, -0.5]  # the shared score, to the bit
    assert max(s.value for s in fails) < min(s.value for s in fine)
    assert [s.parts["acceptable"] for s in scores] == [0.0] * 3 + [1.0] * 3


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2))
def test_a_veto_holds_where_the_shared_reward_is_deceived(w):
    deceived = c(50.0, 9, 9)
    reward = PersonalReward(shared(vetoed=lambda p, x: x.id == deceived.id), TASTE, belief(*w))
    vetoed, *fine = reward.score(PROMPT, [deceived, *FINE])
    assert vetoed.value < min(s.value for s in fine)


def test_praise_for_what_fails_teaches_nothing():
    """An attacker prefers every FAIL, gives it thumbs up, and buries everything acceptable."""
    prompts = {f"q{i}": Prompt.from_text(f"q{i}", id=f"q{i}") for i in range(50)}
    group = [FAILS[0], FAILS[1], FINE[1]]
    rankings = [Ranking(p, "eve", ((FAILS[0].id,), (FAILS[1].id,)), (FINE[1].id,)) for p in prompts]
    thumbs = [Thumb(p, f.id, "eve", True) for p in prompts for f in FAILS[:2]]
    said = opinions_of(shared(), prompts, dict.fromkeys(prompts, group), rankings, thumbs)["eve"]
    assert len(said) == 50 * (3 + 2)
    assert not any(o.counts for o in said)
    assert posterior(TASTE, said).mean_K.tolist() == [0.0] * 3


def test_a_floor_must_be_named():
    with pytest.raises(ConfigError, match="floor is nan"):
        shared(math.nan)


# -- opinions ----------------------------------------------------------------------------------


def test_opinions_of_rankings_and_thumbs_by_hand():
    a, b, bad = c(3.0, 1.0, 0.0), c(1.0, 0.0, 2.0), c(-1.0)
    rankings = [
        Ranking("q", "ann", ((b.id,), (a.id,))),
        Ranking("q", "ann", ((a.id, b.id),), (bad.id,)),  # later: a tie, and FAIL
    ]
    thumbs = [Thumb("q", a.id, "bob", False), Thumb("q", a.id, "bob", True)]
    found = opinions_of(shared(0.5), {"q": PROMPT}, {"q": [a, b, bad]}, rankings, thumbs)
    tie = found["ann"][0]
    assert [o.counts for o in found["ann"]] == [True, False, False]
    first, second = sorted([a, b], key=lambda x: x.id)
    looked = shared(0.5).look([("q", [first, second])])[0]
    assert tie.x_K == tuple((looked[0].phi_K - looked[1].phi_K).tolist())
    assert tie.gap == looked[0].score.value - looked[1].score.value
    assert tie.p == 0.5
    (thumb,) = found["bob"]
    assert (thumb.x_K, thumb.gap, thumb.p, thumb.thumb) == ((1.0, 0.0), 2.5, 1.0, True)


def test_either_order_of_a_pair_is_one_opinion():
    one, other = shared().look([(PROMPT, [c(3.0, 1.0), c(1.0, 2.0)])])[0]
    assert pair_opinion("q", "a", "b", one, other, 0.8) == pair_opinion("q", "b", "a", other, one, 1 - 0.8)
    assert pair_opinion("q", "a", "b", one, other, 1).key != thumb_opinion("q", "a", one, True, 0).key


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="'gone' first"):
        opinions_of(shared(), {}, {}, [Ranking("gone", "ann", (("a",), ("b",)))])
    with pytest.raises(DataError, match="completion 'x' is not given"):
        opinions_of(shared(), {"q": PROMPT}, {"q": [c(1.0)]}, thumbs=[Thumb("q", "x", "ann", True)])
    with pytest.raises(DataError, match="2 rows of features"):
        Shared(Worth(), lambda groups: [np.zeros((2, 2))], 0.0).look([(PROMPT, [c(1.0)])])
    with pytest.raises(DataError, match="not finite"):
        Shared(Worth(), lambda groups: [np.full((1, 2), np.nan)], 0.0).look([(PROMPT, [c(1.0)])])
    with pytest.raises(DataError, match="weights of 3 features"):
        PersonalReward(shared(), TASTE, belief(1.0, 1.0, 1.0))
