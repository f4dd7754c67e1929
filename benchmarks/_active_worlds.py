"""Where active_choice.py compares ways to choose: simulated pools with a planted reward, and human pairs.

A world is prompts with features, what labelers would say of each (asked or not), and the truth on test
prompts. In a simulated pool the truth is the planted reward; on human pairs it is what people said.

Legend: P prompts, N completions of a prompt, D features, K pairs of a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from _real_models import say
from _real_rewards import Pairs, hh_pairs, tulu_pairs
from accord.feedback.active import Array, Pool, Votes, pool
from accord.lm.classifier import SequenceClassifier
from accord.lm.features import features
from accord.lm.render import Template
from real_feedback import minilm_folder


@dataclass(frozen=True)
class World:
    """One split or draw of a pool."""

    pool: Pool
    answers: Votes
    """What labelers would say of every prompt; votes on a prompt are seen once it is asked."""
    truth: Votes
    """Decided pairs of all prompts, to test on."""
    test: frozenset[int]
    """Prompts that are never asked."""


@dataclass(frozen=True)
class Budget:
    """How many labels: at random first, the step between two fits, and where random is said to end."""

    start: int
    step: int
    end: int

    @property
    def sizes(self) -> list[int]:
        """Up to half as much again as random's end, so that a choice that costs labels is seen to."""
        return list(range(self.start, self.end * 3 // 2 + 1, self.step))


# -- simulated ---------------------------------------------------------------------------------


def simulated(seed: int, uneven: bool, prompts: int = 1200, test: int = 600, width: int = 48) -> World:
    """Prompts of four completions with a planted linear reward; rankings with Gumbel noise (Plackett-Luce).

    Even: features are independent and all prompts alike. Uneven: the k-th feature has variance 1/k and a
    prompt's completions lie apart by a log-normal factor, as embeddings do.
    """
    rng = np.random.default_rng([904, seed, uneven])
    total = prompts + test
    spectrum_D = 1 / np.sqrt(np.arange(1, width + 1)) if uneven else np.ones(width)
    spread_P = np.exp(rng.normal(size=total)) if uneven else np.ones(total)
    x_PND = spread_P[:, None, None] * rng.normal(size=(total, 4, width)) * spectrum_D
    made = pool({f"p{n}": x_ND for n, x_ND in enumerate(x_PND)}, width)
    w_D = rng.normal(size=width)
    reward_PN = made.features_PND @ w_D
    reward_PN *= 1.5 / np.sqrt(np.median((reward_PN[:, 0] - reward_PN[:, 1]) ** 2))
    noisy_PN = reward_PN + rng.gumbel(size=reward_PN.shape)
    held = frozenset(range(prompts, total))
    return World(made, _all_pairs(noisy_PN), _all_pairs(reward_PN), held)


def _all_pairs(value_PN: Array) -> Votes:
    n_prompts, n = value_PN.shape
    first, second = np.triu_indices(n, 1)
    won_PK = value_PN[:, first] > value_PN[:, second]
    return Votes(
        np.repeat(np.arange(n_prompts), len(first)),
        np.tile(first, n_prompts),
        np.tile(second, n_prompts),
        won_PK.ravel().astype(np.float64),
        np.full(won_PK.size, np.sqrt(2 / n)),
    )


# -- people ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class People:
    """Human pairs with the features of both sides; the chosen one is the first."""

    pool: Pool
    clusters: Sequence[str]

    def world(self, seed: int) -> World:
        """A third of the prompts held out for the test; sides are turned at random."""
        rng = np.random.default_rng([904, seed])
        names = sorted(set(self.clusters))
        held = set(rng.permutation(names)[: len(names) // 3].tolist())
        n = len(self.clusters)
        # that the winner stands first gives nothing away: the model is odd in the difference
        said = Votes(np.arange(n), np.zeros(n, int), np.ones(n, int), np.ones(n), np.ones(n))
        return World(self.pool, said, said, frozenset(i for i in range(n) if self.clusters[i] in held))


def people(data: Path, name: str, limit: int | None, max_length: int) -> People:
    """Tulu's human evaluation or HH harmless, by MiniLM's embedding of prompt and reply."""
    pairs: Pairs = {"tulu": tulu_pairs, "hh": hh_pairs}[name](data, limit)
    reader = SequenceClassifier.load(minilm_folder(), labels=1, template=Template.HH, max_length=max_length)
    inputs = [reader.encode(p.prompt, c.text) for p in pairs.comparisons for c in (p.chosen, p.rejected)]
    say(f"{name}: {len(inputs)} embeddings")
    x_PND = features(reader, inputs).double().numpy().reshape(len(pairs.comparisons), 2, -1)
    return People(pool({f"p{n}": x_ND for n, x_ND in enumerate(x_PND)}), pairs.clusters)
