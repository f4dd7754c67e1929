"""A pool of simulated labelers of known reliability, written apart from the code that is to find it out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from accord.judgements import Ranking
from accord.types import Completion, Prompt


@dataclass
class Pool:
    """Planted truth and the rankings it led to."""

    reliability: np.ndarray
    position: np.ndarray
    gold: dict[str, dict[str, float]] = field(default_factory=dict)
    rankings: list[Ranking] = field(default_factory=list)

    @property
    def prompts(self) -> dict[str, Prompt]:
        return {p: Prompt.from_text(f"question {p}", id=p) for p in self.gold}

    @property
    def completions(self) -> dict[str, list[Completion]]:
        return {p: [Completion(f"answer {c}", id=c) for c in group] for p, group in self.gold.items()}


def simulate(
    rng: np.random.Generator,
    reliability: list[float],
    prompts: int,
    size: int,
    per_prompt: int,
    tie: float = 0.5,
    position: list[float] | None = None,
) -> Pool:
    """Pairs (size 2) drawn from the Davidson model by its odds win : tie : loss = e^(x/2) : nu : e^(-x/2);
    longer rankings, without ties, by noisy utilities plus Gumbel noise (Plackett-Luce).

    Each labeler sees an order of their own. ``position`` gives each one's bias c: the first shown has c more
    log odds against the last than its score gives it.
    """
    bias = np.zeros(len(reliability)) if position is None else np.array(position)
    pool = Pool(np.array(reliability), bias)
    screens = rng.spawn(1)[0]
    names = [f"c{i}" for i in range(size)]
    for n in range(prompts):
        prompt = f"p{n:04d}"
        s = rng.normal(size=size)
        pool.gold[prompt] = dict(zip(names, s.tolist(), strict=True))
        for k in rng.choice(len(reliability), per_prompt, replace=False):
            place = screens.permutation(size)  # of each completion on this labeler's screen
            utility = reliability[k] * s - bias[k] * place / (size - 1)
            if size == 2:
                x = utility[0] - utility[1]
                odds = np.array([np.exp(x / 2), tie, np.exp(-x / 2)])
                outcome = rng.choice(3, p=odds / odds.sum())
                tiers = [(("c0",), ("c1",)), (("c0", "c1"),), (("c1",), ("c0",))][outcome]
            else:
                order = np.argsort(-(utility + rng.gumbel(size=size)))
                tiers = tuple((names[i],) for i in order)
            shown = tuple(names[i] for i in np.argsort(place))
            pool.rankings.append(Ranking(prompt, f"w{k}", tiers, shown=shown))
    return pool
