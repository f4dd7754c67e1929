"""Two populations for personal.py: simulated people with opposite tastes, and Tulu's sixteen evaluators."""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from _real_models import say
from _real_rewards import Base
from _study_data import load
from accord.judgements import Anchor, Comparison
from accord.lm.classifier import SequenceClassifier
from accord.lm.render import Template
from accord.recipes.helpdesk.demo import MODELS
from accord.recipes.helpdesk.judge import OFFER, GoldJudge
from accord.recipes.helpdesk.labelers import must_fail
from accord.recipes.helpdesk.world import make_prompts, write_reply
from accord.reward.judged import key
from accord.reward.lastlayer import LastLayer
from accord.reward.personal import Features, Seen, Shared, pair_opinion
from accord.reward.style import features as style_of
from accord.reward.taste import Opinion
from accord.reward.train import RewardConfig, train
from accord.types import Completion, Group, Prompt, Score
from reward_study import score

Array = NDArray[np.float64]
KINDS = ("last layer", "style")
STRENGTH = 1.5
"""Log-odds that one standard deviation of what a simulated person likes is worth to them."""
GOLD = 6.0
"""Log-odds that one unit of gold score is worth to everybody."""


@dataclass(frozen=True)
class Crowd:
    """People's opinions, by kind of features."""

    population: Mapping[str, Mapping[str, Sequence[Opinion]]]
    """Kind -> person -> opinions: what tastes are learned from. Person by person left out where ``new`` are
    the same people."""
    new: Mapping[str, Mapping[str, Sequence[Opinion]]]
    """Kind -> person -> opinions, pair by pair the same for every kind."""
    prompt_of: Mapping[str, str]
    """Opinion's key -> prompt: a prompt is taught or tested, never both."""
    fails: tuple[list[Group], Shared] | None = None
    """Prompts to try the floor on."""


# -- simulated ---------------------------------------------------------------------------------


def style_features(groups: Sequence[Group]) -> Features:
    """Style features, each scaled so that pairs of ``groups`` differ by 1 in root mean square."""
    found = [np.array([style_of(c.text) for c in group]) for _, group in groups]
    squares, pairs = np.zeros(found[0].shape[1]), 0.0
    for x in found:
        squares += len(x) * ((x - x.mean(axis=0)) ** 2).sum(axis=0)
        pairs += len(x) * (len(x) - 1) / 2
    scale = np.sqrt(np.where(squares > 0, squares, pairs) / pairs)
    mean = np.concatenate(found).mean(axis=0)
    return lambda asked: [(np.array([style_of(c.text) for c in group]) - mean) / scale for _, group in asked]


def simulated(seed: int, given: argparse.Namespace) -> Crowd:
    """A help desk whose customers like short answers or long ones, and offers of more help or none.

    A person prefers one reply to another with log-odds of gold and of both tastes, +1.5 or -1.5 a standard
    deviation each, half of the people this way and half that; what must FAIL loses to everything. The shared
    reward is trained on everybody's choices, in which the tastes cancel, and on FAIL.
    """
    rng = random.Random(f"tastes/{seed}")
    prompts = make_prompts(given.shared + given.prompts, seed, "train")
    groups: list[tuple[Prompt, list[Completion]]] = []
    for prompt in prompts:
        texts = list(dict.fromkeys(write_reply(prompt, rng) for _ in range(4)))
        groups.append((prompt, [Completion(text, id=f"{n}") for n, text in enumerate(texts)]))
    liked = _liked(groups)
    gold = {p.id: GoldJudge().score(p, group) for p, group in groups}
    tastes = {f"person {u}": np.array([(-1) ** u, (-1) ** (u // 2)]) * STRENGTH for u in range(given.people)}
    at = given.shared  # for the shared reward, the population, the new people
    split = [groups[:at], groups[at::2], groups[at + 1 :: 2]]
    comparisons, anchors = _consensus(split[0], liked, gold, tastes, rng)
    say(f"seed {seed}: shared reward from {len(comparisons)} comparisons, {len(anchors)} anchors")
    classifier = SequenceClassifier.load(MODELS / "decoder", labels=1)
    config = RewardConfig(learning_rate=1e-3, epochs=2, mixed_precision=True, seed=seed)
    model, report = train(comparisons, classifier, config, anchors=anchors)
    say(f"  held-out accuracy {report.accuracy:.2f}")
    kinds = {
        KINDS[0]: LastLayer.fit(classifier, split[0], given.features),
        KINDS[1]: style_features(split[0]),
    }
    floor = 0.0 if model.acceptable is not None else -float("inf")
    names = list(tastes)
    half = len(names) // 2
    population: dict[str, dict[str, list[Opinion]]] = {}
    new: dict[str, dict[str, list[Opinion]]] = {}
    prompt_of: dict[str, str] = {}
    for part, people, out, most in (
        (split[1], names[:half], population, 24),
        (split[2], names[half:], new, None),
    ):
        asked = {
            name: _asked(part, most or given.test + 32, random.Random(f"{seed}/{name}")) for name in people
        }
        for kind, features in kinds.items():
            looked = Shared(model, features, max(floor, -1e9)).look(part)
            seen = {p.id: dict(zip([c.id for c in group], each, strict=True))
                    for (p, group), each in zip(part, looked, strict=True)}  # fmt: skip
            out[kind] = {}
            for name in people:
                own = random.Random(f"{seed}/{name}/says")
                said = []
                for p, a, b in asked[name]:
                    vote = _vote(p.id, a, b, liked, gold, tastes[name], own)
                    opinion = pair_opinion(p.id, a, b, seen[p.id][a], seen[p.id][b], vote)
                    prompt_of[opinion.key] = p.id
                    said.append(opinion)
                out[kind][name] = said
    return Crowd(population, new, prompt_of, (split[2], Shared(model, kinds[KINDS[0]], max(floor, -1e9))))


def _liked(groups: Sequence[tuple[Prompt, list[Completion]]]) -> dict[str, Array]:
    """Prompt -> (completions, 2): log of words, and whether there is an offer, both standardised."""
    raw = {p.id: np.array([[np.log1p(len(c.text.split())), float(bool(OFFER.search(c.text.lower())))]
                           for c in group]) for p, group in groups}  # fmt: skip
    every = np.concatenate(list(raw.values()))
    return {p: (x - every.mean(axis=0)) / every.std(axis=0) for p, x in raw.items()}


def _vote(
    prompt: str, a: str, b: str, liked: Mapping[str, Array], gold: Mapping[str, Sequence[Score]],
    taste: Array, rng: random.Random,
) -> float:  # fmt: skip
    i, j = int(a), int(b)
    fails = [must_fail(gold[prompt][k]) for k in (i, j)]
    if fails[0] != fails[1]:
        return float(fails[1])
    d = GOLD * (gold[prompt][i].value - gold[prompt][j].value) + taste @ (liked[prompt][i] - liked[prompt][j])
    return float(rng.random() < special.expit(d))


def _consensus(
    groups: Sequence[tuple[Prompt, list[Completion]]], liked: Mapping[str, Array],
    gold: Mapping[str, Sequence[Score]], tastes: Mapping[str, Array], rng: random.Random,
) -> tuple[list[Comparison], list[Anchor]]:  # fmt: skip
    """Five people's votes on every pair, and FAIL as an anchor of every completion."""
    comparisons, anchors = [], []
    for prompt, group in groups:
        anchors += [
            Anchor(prompt, c, float(not must_fail(s))) for c, s in zip(group, gold[prompt.id], strict=True)
        ]
        voters = [tastes[name] for name in rng.sample(list(tastes), 5)]
        for i, a in enumerate(group):
            for b in group[i + 1 :]:
                share = np.mean([_vote(prompt.id, a.id, b.id, liked, gold, t, rng) for t in voters])
                pair = (a, b) if share >= 0.5 else (b, a)
                comparisons.append(Comparison(prompt, *pair, p_chosen=float(max(share, 1 - share))))
    return comparisons, anchors


def _asked(
    part: Sequence[tuple[Prompt, list[Completion]]], most: int, rng: random.Random
) -> list[tuple[Prompt, str, str]]:
    """A pair of each of ``most`` prompts, in an order of this person's own."""
    chosen = rng.sample([g for g in part if len(g[1]) > 1], min(most, len(part)))
    return [(p, *rng.sample([c.id for c in group], 2)) for p, group in chosen]  # type: ignore[misc]


# -- Tulu --------------------------------------------------------------------------------------


def tulu(given: argparse.Namespace, minilm: Path) -> Crowd:
    """Tulu's evaluators on the pairs that most decided; the shared reward never saw the prompt.

    The reward's scores are those of reward_study.py's folds; the features are of all-MiniLM-L6-v2 as it
    comes. All sixteen are the population and each in turn is new, left out of what tastes are learned from.
    """
    (judged,) = load(given.data, ["tulu"], given.limit, 0)
    found = score(judged, Base("minilm", minilm, 5e-5), given)
    values: dict[tuple[str, str], float] = {}
    pairs: list[Comparison] = []
    for at, (chosen, rejected) in zip([i for fold in found.tested for i in fold], found.ours, strict=True):
        pair = judged.pairs.comparisons[at]
        pairs.append(pair)
        values |= {(pair.prompt.id, key(pair.chosen)): chosen, (pair.prompt.id, key(pair.rejected)): rejected}
    texts: dict[str, dict[str, Completion]] = {}
    prompts = {pair.prompt.id: pair.prompt for pair in pairs}
    for pair in pairs:
        texts.setdefault(pair.prompt.id, {}).update({key(c): c for c in (pair.chosen, pair.rejected)})
    groups: list[Group] = [(prompts[p], list(group.values())) for p, group in texts.items()]
    encoder = SequenceClassifier.load(minilm, labels=1, template=Template.HH, max_length=128)
    layer = LastLayer.fit(encoder, groups, given.features)
    kinds: dict[str, list[Array]] = {KINDS[0]: layer(groups), KINDS[1]: style_features(groups)(groups)}
    votes = [r for r in judged.rankings if r.prompt_id in texts and _scored(r.tiers, texts[r.prompt_id])]
    new: dict[str, dict[str, list[Opinion]]] = {}
    prompt_of: dict[str, str] = {}
    for kind, phi in kinds.items():
        seen = {
            prompt.id: {
                key(c): Seen(Score(values[prompt.id, key(c)]), x, True)
                for c, x in zip(group, rows, strict=True)
            }
            for (prompt, group), rows in zip(groups, phi, strict=True)
        }
        people: dict[str, list[Opinion]] = {}
        for r in votes:
            first, second = [c for tier in r.tiers for c in tier]
            each = seen[r.prompt_id]
            p = 0.5 if len(r.tiers) == 1 else 1.0
            opinion = pair_opinion(r.prompt_id, first, second, each[first], each[second], p)
            prompt_of[opinion.key] = r.prompt_id
            people.setdefault(r.labeler, []).append(opinion)
        new[kind] = people
    return Crowd(new, new, prompt_of)


def _scored(tiers: Sequence[Sequence[str]], known: Mapping[str, Completion]) -> bool:
    named = [c for tier in tiers for c in tier]
    return len(named) == 2 and all(c in known for c in named)
