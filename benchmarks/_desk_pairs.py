"""The help desk's judgements for reward_labels.py and reward_vs_trl.py: simulated people, known truth.

Each seed has its own prompts, four completions of each by the packaged starter, three of the seven simulated
labelers a prompt, and one consensus of all. What is measured on are other prompts of the hold-out split:
their pairs by gold (as the guidelines order them: what must FAIL is below everything, and two FAILs have no
order) and by the consensus of the same pool.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _real_models import remembered
from accord.feedback.consensus import AgreeConfig, Consensus, agree
from accord.judgements import Anchor, Comparison
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.model import LanguageModel
from accord.recipes.anchors import FAIL_SOURCE
from accord.recipes.helpdesk.demo import GOLD_MARGIN, MODELS
from accord.recipes.helpdesk.judge import GoldJudge
from accord.recipes.helpdesk.labelers import make_labelers, must_fail
from accord.recipes.helpdesk.world import make_prompts
from accord.types import Completion, Prompt, Scorer, score_groups

BASE = MODELS / "decoder"
LABELERS = 3
"""A prompt, of seven."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Desk:
    """One seed's judgements."""

    comparisons: list[Comparison]
    """To train on, with soft labels."""
    anchors: list[Anchor]
    """FAIL of the same completions."""
    tuning: list[Comparison]
    """Of further prompts of the same split: for the temperature alone."""
    by_people: list[Comparison]
    """The consensus on the hold-out prompts..."""
    by_gold: list[Comparison]
    """...and their true order."""


def desk(cache: Path, seed: int, ranked: int, tuned: int, held: int) -> Desk:
    """Judgements on ``ranked`` prompts to train on, ``tuned`` for the temperature, ``held`` to measure."""
    groups = [
        (prompt, completions)
        for split, count in (("train", ranked + tuned), ("holdout", held))
        for prompt, completions in _answered(cache, split, seed, count)
    ]
    consensus = _consensus(groups, seed)
    part = {
        prompt.id: min(i // ranked, 1) if i < ranked + tuned else 2 for i, (prompt, _) in enumerate(groups)
    }
    sides: list[list[Comparison]] = [[], [], []]
    for comparison in consensus.comparisons:
        sides[part[comparison.prompt.id]].append(comparison)
    anchors = [
        Anchor(prompt, c, 1 - consensus.scores[prompt.id][c.id].p_fail, source=FAIL_SOURCE)
        for prompt, completions in groups[:ranked]
        for c in completions
    ]
    return Desk(sides[0], anchors, sides[1], sides[2], _by_gold(groups[ranked + tuned :]))


def _answered(cache: Path, split: str, seed: int, count: int) -> list[tuple[Prompt, list[Completion]]]:
    prompts = make_prompts(count, seed, split)

    def sampled() -> dict[str, list[list[str]]]:
        engine = Engine(LanguageModel.load(str(BASE)), SamplingConfig(max_new_tokens=64, seed=seed))
        return {"texts": [[c.text for c in group] for group in engine.sample(prompts, 4)]}

    texts = remembered(cache, f"desk-{split}-{seed}", [split, seed, count], sampled)["texts"]
    return [
        (prompt, [Completion(text, id=f"{prompt.id}-{i}") for i, text in enumerate(dict.fromkeys(group))])
        for prompt, group in zip(prompts, texts, strict=True)
    ]


def _consensus(groups: Sequence[tuple[Prompt, list[Completion]]], seed: int) -> Consensus:
    rng, people = random.Random(f"desk:{seed}"), make_labelers(seed)
    rankings = [
        person.rank(prompt, completions, rng)
        for prompt, completions in groups
        for person in rng.sample(people, LABELERS)
    ]
    prompts = {prompt.id: prompt for prompt, _ in groups}
    texts = {prompt.id: completions for prompt, completions in groups}
    return agree(prompts, texts, rankings, AgreeConfig(seed=seed, bootstrap=100))


def _by_gold(groups: Sequence[tuple[Prompt, list[Completion]]]) -> list[Comparison]:
    found = []
    for (prompt, completions), scores in zip(groups, score_groups(GoldJudge(), groups), strict=True):
        worth = [-1.0 if must_fail(score) else score.value for score in scores]
        for i, j in combinations(range(len(worth)), 2):
            if abs(worth[i] - worth[j]) >= GOLD_MARGIN:
                better, worse = (i, j) if worth[i] > worth[j] else (j, i)
                found.append(Comparison(prompt, completions[better], completions[worse], source="gold"))
    return found


def flat(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Every pair a prompt of its own, so that pairs are shuffled apart and each of its texts passes twice."""
    return [
        Comparison(
            Prompt(c.prompt.messages, id=f"{c.prompt.id}/{i}"), c.chosen, c.rejected, c.p_chosen, c.source
        )
        for i, c in enumerate(comparisons)
    ]


def hard(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The consensus's winner as a certain one; undecided pairs are left out."""
    return [
        Comparison(c.prompt, c.chosen, c.rejected, 1.0, c.source) for c in comparisons if c.p_chosen > 0.5
    ]


def differences(scorer: Scorer, comparisons: Sequence[Comparison]) -> Array:
    """The logit of each pair's chosen side less that of the other; each completion is scored once."""
    groups: dict[str, tuple[Prompt, dict[str, Completion]]] = {}
    for c in comparisons:
        groups.setdefault(c.prompt.id, (c.prompt, {}))[1].update({x.id: x for x in (c.chosen, c.rejected)})
    asked = [(prompt, list(completions.values())) for prompt, completions in groups.values()]
    logit = {
        x.id: score.parts["logit"]
        for (_, completions), scores in zip(asked, score_groups(scorer, asked), strict=True)
        for x, score in zip(completions, scores, strict=True)
    }
    return np.array([logit[c.chosen.id] - logit[c.rejected.id] for c in comparisons])


def accuracy(d_P: Array) -> float:
    """The share above zero; zero counts a half."""
    return float(((np.sign(d_P) + 1) / 2).mean())
