"""Labels saved against random: the figures by hand, and what they say of planted workspaces."""

from __future__ import annotations

import numpy as np
import pytest

from accord.feedback.active import Pool, Votes, pool
from accord.feedback.active_savings import FEWEST, foreseen, labels_needed, saved_share, savings


def test_labels_needed_by_hand() -> None:
    labels, curve = [10, 20, 40], [0.5, 0.6, 0.8]
    assert labels_needed(labels, curve, 0.6) == 20
    assert labels_needed(labels, curve, 0.7) == pytest.approx(30)
    assert labels_needed(labels, curve, 0.4) == 10
    assert labels_needed(labels, curve, 0.81) == np.inf
    # 0.7 then 0.5 is pooled to 0.6 at both, reached at the first of them
    assert labels_needed([10, 20, 30, 40], [0.4, 0.7, 0.5, 0.8], 0.6) == 20


def test_saved_share_by_hand() -> None:
    labels = [10, 20, 40]
    assert saved_share(labels, [0.5, 0.6, 0.7], [0.5, 0.7, 0.8], part=1.0) == pytest.approx(0.5)
    assert saved_share(labels, [0.5, 0.6, 0.7], [0.6, 0.7, 0.8]) == pytest.approx(0.5)  # 10 labels for 20
    assert saved_share(labels, [0.5, 0.6, 0.7], [0.5, 0.5, 0.7]) == pytest.approx(-0.5)  # 30 labels for 20
    assert saved_share(labels, [0.5, 0.6, 0.7], [0.5, 0.6, 0.7]) == 0
    assert saved_share(labels, [0.5, 0.7, 0.8], [0.5, 0.6, 0.6]) == -np.inf


def test_votes_foreseen_by_hand() -> None:
    x_PND = np.array([[[1.0], [0.0]], [[0.0], [0.0]], [[1.0], [0.0]]])
    made = Pool(("a", "b", "c"), x_PND, np.full(3, 2))
    said = Votes(
        np.array([0, 0, 1]), np.array([0, 0, 0]), np.array([1, 1, 1]), np.array([1.0, 0.0, 1.0]),
        np.array([3.0, 1.0, 1.0]),
    )  # fmt: skip
    assert foreseen(made, said, np.array([2.0])) == pytest.approx([0.75, 0.5, 0])


def planted(
    seed: int, random_noise: float, active_noise: float, prompts: int = 400
) -> tuple[Pool, Votes, list[str]]:
    """Two arms alike but for the share of simulated answers that are turned round."""
    rng = np.random.default_rng(seed)
    arms = ["random" if rng.random() < 0.5 else "active" for _ in range(prompts)]
    features = {f"p{n}": rng.normal(size=(3, 20)) for n in range(prompts)}
    first, second = np.triu_indices(3, 1)
    reward_PN = np.stack(list(features.values())) @ rng.normal(size=20)
    flip_P1 = np.where(np.array(arms) == "random", random_noise, active_noise)[:, None]
    won_PK = (reward_PN[:, first] > reward_PN[:, second]) ^ (rng.random((prompts, 3)) < flip_P1)
    said = Votes(
        np.repeat(np.arange(prompts), 3),
        np.tile(first, prompts),
        np.tile(second, prompts),
        won_PK.ravel().astype(float),
        np.full(3 * prompts, np.sqrt(2 / 3)),
    )
    return pool(features), said, arms


def test_a_choice_that_saves_is_seen_to_save() -> None:
    found = savings(*planted(0, 0.25, 0.0), np.random.default_rng(0))
    assert found.saved is not None
    assert found.difference is not None
    assert found.saved.value > 0.5
    assert found.saved.low > 0
    assert found.difference.low > 0
    assert found.verdict.startswith("active choice saves ")
    assert len(found.labels) == len(found.random) == len(found.active) > 3


def test_a_choice_that_costs_is_seen_to_cost() -> None:
    found = savings(*planted(1, 0.0, 0.35), np.random.default_rng(0))
    assert found.saved is not None
    assert found.saved.high < 0
    assert found.verdict.startswith("active choice costs labels")


def test_no_difference_is_not_sold_as_one() -> None:
    """Arms alike: of five verdicts at 95 %, two or more are wrong with probability 0.02."""
    told = [savings(*planted(s, 0.1, 0.1, 200), np.random.default_rng(0)).verdict for s in range(10, 15)]
    assert sum(not verdict.startswith("too few labels to tell") for verdict in told) <= 1


def test_too_few_labels_say_so_with_their_number() -> None:
    made, said, _ = planted(0, 0.1, 0.1, 120)
    arms = ["random"] * (FEWEST - 1) + ["active"] * (120 - FEWEST + 1)
    found = savings(made, said, arms, np.random.default_rng(0))
    assert found.saved is None
    assert f"{FEWEST - 1} prompts of the random arm" in found.verdict
    nobody = savings(made, said.of(np.zeros(0, int)), arms, np.random.default_rng(0))
    assert "0 prompts of the random arm and 0 of the active arm" in nobody.verdict


def test_ties_are_no_answers_to_be_foreseen() -> None:
    made, said, arms = planted(0, 0.1, 0.1)
    tied = Votes(said.prompt_V, said.first_V, said.second_V, np.full(len(said.outcome_V), 0.5), said.weight_V)
    assert savings(made, tied, arms, np.random.default_rng(0)).saved is None
