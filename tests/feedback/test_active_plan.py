"""The order of labelling: when it is random, what is left out, and that a choice does learn faster."""

from __future__ import annotations

import numpy as np
import pytest

from accord.errors import ConfigError
from accord.feedback.active import Pool, Votes, fit, pool
from accord.feedback.active_plan import ActiveConfig, plan
from accord.feedback.active_savings import foreseen


def wins(prompt_V: list[int]) -> Votes:
    n = len(prompt_V)
    return Votes(np.array(prompt_V, int), np.zeros(n, int), np.ones(n, int), np.ones(n), np.ones(n))


def pairs(*lengths: float) -> Pool:
    """Prompts of two completions along one axis, so far apart."""
    x_PND = np.array([[[z], [0.0]] for z in lengths])
    return Pool(tuple(f"p{n}" for n in range(len(lengths))), x_PND, np.full(len(lengths), 2))


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_all_is_random_until_enough_prompts_are_labelled() -> None:
    made = pairs(*np.linspace(0, 2, 40))
    config = ActiveConfig(start=3)
    before = plan(made, wins([0, 0, 1]), config, generator())
    assert (before.method, before.arm, before.labelled) == ("random", "random", 2)
    assert before.order != tuple(sorted(before.order, key=lambda name: int(name[1:])))
    assert before.scores == {}
    after = plan(made, wins([0, 1, 2]), config, generator())
    assert (after.method, after.arm, after.labelled) == ("dopt", "active", 3)
    told = [after.scores[name] for name in after.order]
    assert told == sorted(told, reverse=True)
    assert len(set(told)) == 37
    assert set(before.order) == {f"p{n}" for n in range(2, 40)}


def test_priorities_fall_in_the_order() -> None:
    made = plan(pairs(1.0, 3.0, 2.0), wins([]), ActiveConfig(start=0), generator())
    assert made.order == ("p1", "p2", "p0")
    assert made.priorities() == {"p1": 1, "p2": pytest.approx(2 / 3), "p0": pytest.approx(1 / 3)}


def test_labelled_and_closed_prompts_are_not_ordered() -> None:
    made = plan(pairs(1.0, 3.0, 2.0, 4.0), wins([1]), ActiveConfig(start=1), generator(), closed={"p3"})
    assert made.order == ("p2", "p0")
    nothing = plan(pairs(1.0), wins([0]), ActiveConfig(start=1), generator())
    assert nothing.order == ()
    assert nothing.priorities() == {}


def test_what_a_choice_left_over_is_no_random_sample() -> None:
    config = ActiveConfig(method="random")
    assert plan(pairs(1.0, 2.0), wins([]), config, generator()).arm == "random"
    assert plan(pairs(1.0, 2.0), wins([]), config, generator(), chosen_before=True).arm == "active"


def test_equal_scores_come_in_random_order() -> None:
    first = {
        plan(
            pairs(*[1.0] * 9), wins([]), ActiveConfig(start=0, method="gap"), np.random.default_rng(s)
        ).order[0]
        for s in range(60)
    }
    assert len(first) == 9


def test_only_what_labelers_see_is_scored() -> None:
    """The far completion of p0 is not shown, so p1 comes first."""
    x_PND = np.array([[[9.0], [0.1], [0.0]], [[1.0], [0.0], [0.0]]])
    made = Pool(("p0", "p1"), x_PND, np.array([3, 3]))
    config = ActiveConfig(start=0)
    assert plan(made, wins([]), config, generator()).order == ("p0", "p1")
    shown = made.only([[1, 2], [0, 1]])
    assert plan(made, wins([]), config, generator(), shown=shown).order == ("p1", "p0")


@pytest.mark.parametrize("method", ["random", "dopt", "bald", "thompson", "gap"])
def test_the_same_generator_gives_the_same_plan(method: str) -> None:
    rng = np.random.default_rng(1)
    made = pool({f"p{n}": rng.normal(size=(3, 4)) for n in range(30)})
    config = ActiveConfig(method=method, start=2)
    first, second = (plan(made, wins([0, 1, 2]), config, generator()) for _ in range(2))
    assert first == second
    assert len(first.order) == 27


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="method"):
        ActiveConfig.build({"method": "entropy"})


def test_d_optimal_needs_fewer_labels_where_prompts_differ_in_what_they_tell() -> None:
    """Nine in ten prompts hold completions that hardly differ: random wastes most of its labels on them."""
    gains = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        scale_P = np.where(rng.random(400) < 0.1, 1.0, 0.05)
        made = pool({f"p{n}": scale * rng.normal(size=(4, 8)) for n, scale in enumerate(scale_P)})
        test = pool({f"t{n}": rng.normal(size=(4, 8)) for n in range(200)})
        w_D = 2 * rng.normal(size=8)
        truth = _answers(test, w_D, rng, noise=False)
        said = _answers(made, w_D, rng, noise=True)
        right = []
        for method in ("random", "dopt"):
            config = ActiveConfig(method=method, start=0)
            order = plan(made, said.of(np.zeros(0, int)), config, rng).order[:40]
            asked = [made.prompts.index(name) for name in order]
            learnt = fit(made, said.of(np.isin(said.prompt_V, asked)))
            right.append(foreseen(test, truth, learnt.mean_D).mean())
        gains.append(right[1] - right[0])
    assert np.mean(gains) > 0.05


def _answers(made: Pool, w_D: np.ndarray, rng: np.random.Generator, *, noise: bool) -> Votes:
    first, second = np.triu_indices(4, 1)
    n = len(made.prompts)
    reward_PN = made.features_PND @ w_D
    d_PK = reward_PN[:, first] - reward_PN[:, second]
    won_PK = rng.random(d_PK.shape) < 1 / (1 + np.exp(-d_PK)) if noise else d_PK > 0
    return Votes(
        np.repeat(np.arange(n), 6), np.tile(first, n), np.tile(second, n), won_PK.ravel().astype(float),
        np.full(6 * n, np.sqrt(0.5)),
    )  # fmt: skip
