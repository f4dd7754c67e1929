"""The consensus on simulated pools of known truth: is it right, are its intervals, and how long does it take.

    python benchmarks/consensus.py

Pools of twenty labelers, of whom a fifth is careless and one adversarial, rank four completions of a prompt
(or judge two), three or five labelers a prompt, with and without a position bias of their own. The labelers
are simulated (Plackett-Luce, Davidson for two). Progress goes to stderr; the last line of stdout is one JSON
object. --quick runs everything at sizes that prove nothing but that it runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import stats

from accord.feedback.consensus import AgreeConfig, agree
from accord.stats.baselines import borda, majority, pair_shares
from accord.stats.fitting import Fit, fit
from accord.stats.intervals import bootstrap_mean, paired_bootstrap, wilson
from accord.stats.rankings import ranking_table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from pool import Pool, simulate  # the tests' simulated labelers

LABELERS = 20
CONDITIONS = {
    "four, 3 labelers": {"size": 4, "per_prompt": 3},
    "four, 5 labelers": {"size": 4, "per_prompt": 5},
    "four, 3 labelers, position bias": {"size": 4, "per_prompt": 3, "bias": 0.5},
    "two, 3 labelers, position bias": {"size": 2, "per_prompt": 3, "bias": 0.5},
}


@dataclass
class Tally:
    """What one condition showed, over its pools."""

    pairs: dict[str, list[float]] = field(
        default_factory=lambda: {"consensus": [], "majority": [], "borda": []}
    )
    """Share of a prompt's pairs in the order of their true scores, a prompt an entry."""
    covered: list[bool] = field(default_factory=list)
    """Of reliabilities: whether the interval holds the truth."""
    bias_covered: list[bool] = field(default_factory=list)
    auroc: list[float] = field(default_factory=list)
    reliability: list[tuple[float, float]] = field(default_factory=list)
    """True and found."""
    scores: list[float] = field(default_factory=list)
    """Correlation of true and found scores within prompts, a pool an entry."""


def planted(rng: np.random.Generator, bias: float) -> tuple[list[float], list[float]]:
    """Twenty labelers: four careless, one adversarial, the others from middling to good."""
    reliability = [*rng.uniform(1.0, 3.5, LABELERS - 5), 0.0, 0.0, 0.0, 0.0, -1.5]
    return [float(b) for b in reliability], [float(c) for c in bias * rng.normal(size=LABELERS)]


def count(pool: Pool, tally: Tally) -> None:
    """Fit one pool and hold it against its truth."""
    fitted = fit(ranking_table(pool.rankings))
    order_K = np.array([int(name[1:]) for name in fitted.table.labelers])
    true_K, bias_K = pool.reliability[order_K], pool.position[order_K]
    found_K, sd_K = fitted.own.reliability_K, fitted.reliability_sd()
    tally.covered += (np.abs(found_K - true_K) < 1.96 * sd_K).tolist()
    tally.bias_covered += (np.abs(fitted.own.position_K - bias_K) < 1.96 * fitted.position_sd()).tolist()
    tally.reliability += list(zip(true_K.tolist(), found_K.tolist(), strict=True))
    tally.auroc.append(auroc(-(found_K + 1.96 * sd_K), true_K <= 0))
    told = {"consensus": consensus_shares(fitted), "majority": majority(pool.rankings),
            "borda": pair_shares(borda(pool.rankings))}  # fmt: skip
    for name, shares in told.items():
        tally.pairs[name] += list(right(shares, pool.gold))
    tally.scores.append(score_correlation(fitted, pool))


def consensus_shares(fitted: Fit) -> dict[str, dict[tuple[str, str], float]]:
    """The consensus in the form of the baselines: prompt -> (first, second) -> P(first preferred)."""
    shares: dict[str, dict[tuple[str, str], float]] = {}
    items = fitted.table.items
    columns = (*fitted.table.votes.pair_items(), fitted.p_first())
    for a, b, p in zip(*(column.tolist() for column in columns), strict=True):
        shares.setdefault(items[a][0], {})[items[a][1], items[b][1]] = p
    return shares


def right(
    shares: Mapping[str, Mapping[tuple[str, str], float]], gold: Mapping[str, Mapping[str, float]]
) -> Iterator[float]:
    """Each prompt's share of pairs in the true order; a share of one half counts half."""
    for prompt, scores in gold.items():
        wanted = {pair: np.sign(scores[pair[0]] - scores[pair[1]]) for pair in shares[prompt]}
        yield float(np.mean([0.5 + 0.5 * np.sign(shares[prompt][p] - 0.5) * w for p, w in wanted.items()]))


def score_correlation(fitted: Fit, pool: Pool) -> float:
    true_I = np.array([pool.gold[p][c] for p, c in fitted.table.items])
    first_S, second_S = fitted.table.votes.pair_items()
    found_I = fitted.posterior.mean_I
    return float(np.corrcoef(true_I[first_S] - true_I[second_S], found_I[first_S] - found_I[second_S])[0, 1])


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """The chance that a positive scores above a negative."""
    ranks = stats.rankdata(score)
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))


def summary(tally: Tally, rng: np.random.Generator) -> dict[str, object]:
    """A condition's figures with their intervals."""
    ours = tally.pairs["consensus"]
    true, found = np.array(tally.reliability).T
    return {
        "pair_accuracy": interval(bootstrap_mean(ours, rng)),
        "majority_accuracy": interval(bootstrap_mean(tally.pairs["majority"], rng)),
        "borda_accuracy": interval(bootstrap_mean(tally.pairs["borda"], rng)),
        "over_majority": interval(paired_bootstrap(tally.pairs["majority"], ours, rng)),
        "over_borda": interval(paired_bootstrap(tally.pairs["borda"], ours, rng)),
        "coverage_95": interval(wilson(sum(tally.covered), len(tally.covered))),
        "coverage_95_position": interval(wilson(sum(tally.bias_covered), len(tally.bias_covered))),
        "auroc_bad_labelers": round(float(np.mean(tally.auroc)), 4),
        "auroc_lowest": round(min(tally.auroc), 4),
        "reliability_correlation": round(float(np.corrcoef(true, found)[0, 1]), 4),
        "score_correlation": round(float(np.mean(tally.scores)), 4),
    }


def interval(found: object) -> list[float]:
    return [round(float(getattr(found, name)), 4) for name in ("value", "low", "high")]


def time_agree(prompts: int, seed: int) -> dict[str, float]:
    """Seconds of the whole consensus on three rankings a prompt by sixty labelers."""
    rng = np.random.default_rng(seed)
    reliability = np.linspace(-0.5, 4, 60).tolist()
    pool = simulate(rng, reliability, prompts, 4, 3, position=rng.normal(0, 0.3, 60).tolist())
    texts, completions = pool.prompts, pool.completions
    started, cpu = time.monotonic(), time.process_time()
    agree(texts, completions, pool.rankings, AgreeConfig())
    return {
        "rankings": len(pool.rankings),
        "seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pools", type=int, default=10, help="simulated pools a condition")
    parser.add_argument("--prompts", type=int, default=300, help="of each pool")
    parser.add_argument("--timed-prompts", type=int, default=33_334, help="of the pool that is timed")
    parser.add_argument("--untimed", action="store_true", help="leave out the timing, the longest part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    given = parser.parse_args()
    if given.quick:
        given.pools, given.prompts, given.timed_prompts = 2, 40, 100
    started = time.monotonic()
    tallies = {name: Tally() for name in CONDITIONS}
    for number, (name, condition) in enumerate(CONDITIONS.items()):
        for seed in range(given.pools):
            rng = np.random.default_rng([given.seed, number, seed])
            reliability, position = planted(rng, condition.get("bias", 0.0))
            size, per_prompt = int(condition["size"]), int(condition["per_prompt"])
            count(
                simulate(rng, reliability, given.prompts, size, per_prompt, position=position), tallies[name]
            )
        print(f"{name}: {given.pools} pools, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    timed = None if given.untimed else time_agree(given.timed_prompts, given.seed)
    rng = np.random.default_rng(given.seed)
    every = Tally()
    for tally in tallies.values():
        for name in every.pairs:
            every.pairs[name] += tally.pairs[name]
        for name in ("covered", "bias_covered", "auroc", "reliability", "scores"):
            getattr(every, name).extend(getattr(tally, name))
    overall = summary(every, rng)
    first = ("pair_accuracy", "majority_accuracy", "borda_accuracy", "coverage_95", "coverage_95_position")
    result = {"benchmark": "consensus", "quick": given.quick, "simulated": True}
    result |= {key: value[0] if key in first else value for key, value in overall.items()}  # type: ignore[index]
    result |= {f"{key}_interval": overall[key] for key in first}
    result |= {"seconds_100k": timed and timed["seconds"], "timed": timed}
    result |= {"conditions": {name: summary(tally, rng) for name, tally in tallies.items()}}
    settings = {"pools": given.pools, "prompts": given.prompts, "labelers": LABELERS, "seed": given.seed}
    result |= {"settings": settings, "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps(result, allow_nan=False))


if __name__ == "__main__":
    main()
