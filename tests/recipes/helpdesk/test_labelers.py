import random
from itertools import combinations

import pytest

from accord.errors import DataError
from accord.judgements import Ranking
from accord.recipes.helpdesk import world
from accord.recipes.helpdesk.judge import GoldJudge
from accord.recipes.helpdesk.labelers import Labeler, make_labelers, must_fail
from accord.types import Completion

JUDGE = GoldJudge()


def groups(n: int = 120):
    rng = random.Random(1)
    for prompt in world.make_prompts(n, 9, "train"):
        shown = [Completion(world.write_reply(prompt, rng), id=f"{prompt.id}-{i}") for i in range(5)]
        yield prompt, shown, JUDGE.score(prompt, shown)


GROUPS = list(groups())


def place(ranking: Ranking) -> dict[str, int]:
    places = {c: i for i, tier in enumerate(ranking.tiers) for c in tier}
    return places | dict.fromkeys(ranking.fails, 99)


def agreement(labeler: Labeler) -> float:
    """Share of pairs that differ in gold which the labeler orders as gold does; a tie counts half."""
    rng, right, pairs = random.Random(2), 0.0, 0
    for prompt, shown, scores in GROUPS:
        places = place(labeler.rank(prompt, shown, rng))
        for (a, s), (b, t) in combinations(zip(shown, scores, strict=True), 2):
            if abs(s.value - t.value) > 0.02:
                pairs += 1
                x, y = places[a.id], places[b.id]
                right += 0.5 if x == y else (x < y) == (s.value > t.value)
    return right / pairs


def test_people_agree_with_gold_as_planted():
    rates = {labeler.name: agreement(labeler) for labeler in make_labelers(0)}
    assert 0.68 <= sum(rates.values()) / len(rates) <= 0.78, rates
    assert max(rates, key=rates.__getitem__) == "careful"
    assert 0.84 <= rates["careful"] <= 0.94
    assert 0.5 < rates["careless"] < 0.68
    assert rates["adversarial"] < 0.35


def test_habits_show():
    people = {labeler.name: labeler for labeler in make_labelers(0)}
    rng = random.Random(3)
    first, ties, words = {}, {}, {}
    for name, labeler in people.items():
        rankings = [labeler.rank(prompt, shown, rng) for prompt, shown, _ in GROUPS]
        first[name] = sum(r.tiers[0] == (r.shown[0],) for r in rankings if r.tiers) / len(rankings)
        ties[name] = sum(len(tier) - 1 for r in rankings for tier in r.tiers) / len(rankings)
        length = {c.id: len(c.text.split()) for _, shown, _ in GROUPS for c in shown}
        words[name] = sum(length[r.tiers[0][0]] for r in rankings if r.tiers) / len(rankings)
    assert first["first-come"] > first["careful"] + 0.04
    assert max(ties, key=ties.__getitem__) == "tie-prone"
    assert words["wordy"] > words["careful"] + 0.5


def test_fail_marks_what_the_guidelines_name_and_the_adversary_spares_it():
    people = {labeler.name: labeler for labeler in make_labelers(0)}
    rng = random.Random(4)
    for prompt, shown, scores in GROUPS:
        bad = {c.id for c, s in zip(shown, scores, strict=True) if must_fail(s)}
        assert set(people["careful"].rank(prompt, shown, rng).fails) <= bad
        assert not people["adversarial"].rank(prompt, shown, rng).fails


def test_rankings_are_complete_simulated_and_repeatable():
    prompt, shown, _ = GROUPS[0]
    for labeler in make_labelers(3):
        ranking = labeler.rank(prompt, shown, random.Random(5))
        assert sorted(place(ranking)) == sorted(c.id for c in shown) == sorted(ranking.shown)
        assert (ranking.source, ranking.prompt_id, ranking.labeler) == ("simulated", prompt.id, labeler.name)
        assert ranking == labeler.rank(prompt, shown, random.Random(5))
        known = JUDGE.score(prompt, shown)
        assert ranking == labeler.rank(prompt, shown, random.Random(5), known)
        assert labeler.rank(prompt, shown, random.Random(5), known[::-1]) != ranking  # they are what is used
    assert make_labelers(3) == make_labelers(3) != make_labelers(4)


def test_completions_without_ids_are_refused():
    prompt, shown, _ = GROUPS[0]
    with pytest.raises(DataError, match="distinct ids"):
        make_labelers(0)[0].rank(prompt, [Completion("a"), Completion("b")], random.Random(0))
    with pytest.raises(DataError, match="distinct ids"):
        make_labelers(0)[0].rank(prompt, [shown[0], shown[0]], random.Random(0))
