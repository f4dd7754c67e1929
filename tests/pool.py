"""A pool of simulated labelers of known reliability, written apart from the code that is to find it out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from accord.types import Completion, Prompt, Ranking


@dataclass
class Pool:
    """Planted truth and the rankings it led to."""

    reliability: np.ndarray
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
) -> Pool:
    """Pairs (size 2) drawn from the Davidson model by its odds win : tie : loss = e^(bd/2) : nu : e^(-bd/2);
    longer rankings, without ties, by noisy utilities b s + Gumbel noise (Plackett-Luce)."""
    pool = Pool(np.array(reliability))
    for n in range(prompts):
        prompt = f"p{n:04d}"
        s = rng.normal(size=size)
        names = [f"c{i}" for i in range(size)]
        pool.gold[prompt] = dict(zip(names, s.tolist(), strict=True))
        for k in rng.choice(len(reliability), per_prompt, replace=False):
            b = reliability[k]
            if size == 2:
                odds = np.array([np.exp(b * (s[0] - s[1]) / 2), tie, np.exp(-b * (s[0] - s[1]) / 2)])
                outcome = rng.choice(3, p=odds / odds.sum())
                tiers = [(("c0",), ("c1",)), (("c0", "c1"),), (("c1",), ("c0",))][outcome]
            else:
                order = np.argsort(-(b * s + rng.gumbel(size=size)))
                tiers = tuple((names[i],) for i in order)
            pool.rankings.append(Ranking(prompt, f"w{k}", tiers, shown=tuple(names)))
    return pool
