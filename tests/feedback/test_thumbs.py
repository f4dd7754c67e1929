"""Thumbs: which votes count, what they count, and users whose readiness to approve was planted."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from accord.errors import DataError
from accord.feedback.thumbs import VOTE_CAP, ThumbsConfig, anchors, gate, latest, offsets, vote_weights
from accord.judgements import Thumb
from accord.types import Completion, Prompt

PROMPTS = {f"p{i}": Prompt.from_text(f"q{i}", id=f"p{i}") for i in range(200)}
COMPLETIONS = {name: [Completion(f"{name} {k}", id=f"{name}c{k}") for k in range(4)] for name in PROMPTS}


def vote(user: str, i: int, up: bool, k: int = 0, **more) -> Thumb:
    return Thumb(f"p{i}", f"p{i}c{k}", user, up, **more)


def made(thumbs, **config):
    return anchors(thumbs, PROMPTS, COMPLETIONS, ThumbsConfig(**config))


def said(found) -> list[tuple[str, str, float]]:
    return [(a.labeler, a.completion.id, a.p_good) for a in found.anchors]


# -- which votes count -------------------------------------------------------------------------


def test_the_latest_vote_counts_and_the_rest_is_counted():
    found = made(
        [vote("u", 0, True), vote("v", 0, True), vote("u", 0, False), vote("u", 0, False), vote("v", 1, True)]
    )
    assert said(found) == [("u", "p0c0", 0.0), ("v", "p0c0", 1.0), ("v", "p1c0", 1.0)]
    assert (found.votes, found.changed, found.repeated) == (5, 1, 1)
    assert {a.source for a in found.anchors} == {"thumbs"}


def test_what_supersedes_counts_whichever_came_first():
    new, old = vote("u", 0, True, id="n", supersedes="o"), vote("u", 0, False, id="o")
    for order in ([new, old], [old, new]):
        assert said(made(order)) == [("u", "p0c0", 1.0)]


def test_one_vote_sent_twice_is_one():
    thumb = vote("u", 0, True, id="same")
    found = made([thumb, thumb, vote("v", 0, False)])
    assert len(found.anchors) == 2
    assert found.repeated == 1


def test_silence_is_not_a_negative():
    found = made([vote("u", 0, True), vote("v", 1, False)])
    assert {a.completion.id for a in found.anchors} == {"p0c0", "p1c0"}  # of 800 completions shown


@pytest.mark.parametrize(
    ("thumbs", "fault"),
    [
        ([], "no thumbs"),
        ([Thumb("nowhere", "x", "u", True)], "not among those passed"),
        ([Thumb("p0", "p1c0", "u", True)], "not among those passed"),
        ([vote("u", 0, True, id="a"), vote("u", 1, True, id="a")], "two different thumbs"),
        ([vote("u", 0, True, id="a"), vote("v", 0, True, id="b", supersedes="a")], "another user's"),
        ([vote("u", 0, True, id="a"), vote("u", 1, True, id="b", supersedes="a")], "another completion"),
        ([vote("u", 0, True, id="a", supersedes="b"), vote("u", 0, True, id="b", supersedes="a")], "circle"),
    ],
)
def test_votes_that_cannot_be_are_refused(thumbs, fault):
    with pytest.raises(DataError, match=fault):
        made(thumbs)


votes = st.lists(st.tuples(st.sampled_from("uvw"), st.integers(0, 3), st.booleans()), min_size=1, max_size=25)


@given(votes)
def test_every_vote_counts_or_was_changed_or_repeated(drawn):
    thumbs = [vote(*each) for each in drawn]
    standing, changed, repeated = latest(thumbs)
    assert len(standing) + changed + repeated == len(thumbs)
    last = {(t.labeler, t.prompt_id): t.up for t in thumbs}
    assert {(t.labeler, t.prompt_id): t.up for t in standing} == last


@settings(max_examples=20)
@given(votes)
def test_a_vote_sent_again_changes_nothing(drawn):
    thumbs = [vote(*each) for each in drawn]
    assert said(made([*thumbs, thumbs[-1]])) == said(made(thumbs))


# -- offsets -----------------------------------------------------------------------------------


def test_the_gradient_is_that_of_the_loss(monkeypatch):
    losses = []
    real = optimize.minimize

    def spy(loss, start, **more):
        losses.append((loss, start))
        return real(loss, start, **more)

    monkeypatch.setattr(optimize, "minimize", spy)
    rng = np.random.default_rng(0)
    offsets(rng.integers(0, 3, 20), rng.integers(0, 9, 20), rng.integers(0, 2, 20) * 1.0, ThumbsConfig())
    ((loss, start),) = losses
    at = rng.normal(size=len(start))
    assert loss(at)[1] == pytest.approx(optimize.approx_fprime(at, lambda x: loss(x)[0], 1e-6), abs=1e-4)


def test_one_user_and_one_completion_by_hand():
    """Of log sigma(b + o + q) - b^2/18 - o^2/2 - q^2/4.5 the maximum has b/9 = o = q/2.25."""
    base, (offset,) = offsets(np.zeros(1, int), np.zeros(1, int), np.ones(1), ThumbsConfig())
    total = optimize.brentq(lambda x: x - 12.25 / (1 + math.exp(x)), 0, 20)
    assert (base, offset) == pytest.approx((9 * total / 12.25, total / 12.25), abs=1e-4)


def planted(seed=0, users=60, per_user=60, spread=1.2):
    """Votes of users of known readiness on random completions of known quality."""
    rng = np.random.default_rng(seed)
    offset_U, quality = rng.normal(0, spread, users), rng.normal(0, 1.0, (200, 4))
    thumbs = []
    for u in range(users):
        for place in rng.choice(800, per_user, replace=False):
            i, k = divmod(int(place), 4)
            p = 1 / (1 + math.exp(-(0.7 + offset_U[u] + quality[i, k])))
            thumbs.append(vote(f"u{u:02}", i, bool(rng.random() < p), k))
    return thumbs, offset_U, quality


def test_planted_readiness_is_found():
    thumbs, offset_U, _ = planted()
    found = made(thumbs, offset_sd=1.2, quality_sd=1.0)
    told = {row.user: row.offset for row in found.users}
    got = np.array([told[f"u{u:02}"] for u in range(60)])
    assert np.corrcoef(got, offset_U)[0, 1] > 0.9
    assert np.polyfit(offset_U, got, 1)[0] == pytest.approx(1.0, abs=0.15)
    assert found.typical_up == pytest.approx(1 / (1 + math.exp(-0.7)), abs=0.08)


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-1, 1))
def test_weights_take_the_offset_out_of_the_odds_whatever_the_quality(offset, quality, base):
    """Expected weighted odds of approval of a user are e^(b + q): no trace of the user is left."""
    p = 1 / (1 + math.exp(-(base + offset + quality)))
    up, down = vote_weights(np.zeros(2, int), np.array([1.0, 0.0]), np.array([offset]), user_cap=1.0)
    assert math.log(p * up / ((1 - p) * down)) == pytest.approx(base + quality, abs=1e-9)


def test_a_pool_split_by_taste_of_users_and_not_of_answers_is_evened():
    """Grumpy users saw the even prompts, generous ones the odd: raw shares differ, weighted ones do not."""
    rng = np.random.default_rng(1)
    thumbs = []
    for u in range(80):
        grumpy = u % 2 == 0
        # everybody judges 20 common completions, from which readiness is known, and 20 of their own kind
        for i in [
            *rng.choice(60, 20, replace=False),
            *(60 + 2 * rng.choice(60, 20, replace=False) + (not grumpy)),
        ]:
            p = 1 / (1 + math.exp(1.5 if grumpy else -1.5))
            thumbs.append(vote(f"u{u:02}", int(i), bool(rng.random() < p)))
    found = made(thumbs, offset_sd=1.5, user_cap=1000)
    shares = {"raw": [[], []], "weighted": [[], []]}
    for a in found.anchors:
        i = int(a.prompt.id[1:])
        if i >= 60:
            shares["raw"][i % 2].append((a.p_good, 1.0))
            shares["weighted"][i % 2].append((a.p_good, a.weight))
    even, odd = (np.average([p for p, _ in x], weights=[w for _, w in x]) for x in shares["weighted"])
    raw_even, raw_odd = (np.mean([p for p, _ in x]) for x in shares["raw"])
    assert raw_odd - raw_even > 0.55
    assert abs(odd - even) < 0.25


# -- caps --------------------------------------------------------------------------------------


def test_nobody_counts_more_than_the_cap():
    loud = [vote("loud", i, i % 2 == 0, k) for i in range(100) for k in range(4)]
    quiet = [vote(f"q{i}", i, i % 3 > 0) for i in range(30)]
    found = made([*loud, *quiet], user_cap=10)
    weights = {row.user: row.weight for row in found.users}
    assert weights.pop("loud") == pytest.approx(10)
    assert list(weights.values()) == pytest.approx([1.0] * 30)
    assert found.warnings == ()


def test_one_hidden_vote_cannot_be_made_heavy():
    """Four hundred downs to turn one up into a heavy one: it counts VOTE_CAP at most."""
    rig = [vote("rig", i % 200, i == 0, i // 200) for i in range(400)]
    others = [vote(f"q{i}", i, True) for i in range(100)]
    found = made([*rig, *others], user_cap=1000)
    (heavy,) = [a.weight for a in found.anchors if a.labeler == "rig" and a.p_good == 1.0]
    assert heavy == VOTE_CAP
    assert max(a.weight for a in found.anchors) <= VOTE_CAP


def test_one_user_alone_and_one_sided_votes_are_warned_of():
    found = made([vote("u", i, True) for i in range(5)])
    assert [w.split(":")[0].split(" is ")[0] for w in found.warnings] == ["'u'", "every vote"]


def test_the_figures_do_not_depend_on_the_users_names():
    thumbs, *_ = planted(users=8, per_user=10)
    names = {f"u{u:02}": f"u{7 - u:02}" for u in range(8)}
    turned = made([replace(t, labeler=names[t.labeler]) for t in thumbs])
    assert [a.weight for a in turned.anchors] == pytest.approx(
        [a.weight for a in made(thumbs).anchors], rel=1e-3
    )


# -- the gate ----------------------------------------------------------------------------------


def pairs(right: float, n=400, seed=0):
    return (np.random.default_rng(seed).random(n) < right) * 1.0


@pytest.mark.parametrize(
    ("with_thumbs", "without", "admitted"),
    [
        (pairs(0.8), pairs(0.8), True),
        (pairs(0.9, seed=1), pairs(0.6, seed=1), True),
        (pairs(0.6, seed=1), pairs(0.9, seed=1), False),
        (pairs(0.8, n=10, seed=1), pairs(0.8, n=10, seed=2), False),  # too few to rule a loss out
    ],
)
def test_thumbs_are_admitted_where_they_are_seen_to_cost_nothing(with_thumbs, without, admitted):
    found = gate(with_thumbs, without, [f"p{i // 2}" for i in range(len(without))], np.random.default_rng(0))
    assert found.admitted is admitted
    assert ("is ruled out" if admitted else "cannot be ruled out") in found.reason
