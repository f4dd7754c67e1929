"""A blind A/B by people: two models' answers to the same prompts as pairs in the labelling app.

``start`` puts the pairs into a split of their own, whose name is the run's; people see two texts in an order
drawn for them, and nothing that says whose is whose. ``read`` counts what they said so far. Answers in
the same words are ties that nobody needs to look at.

Shapes: R judgements.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from pydantic import Field

from accord.config import Config
from accord.errors import ConfigError, DataError, StoreError
from accord.lm.engine import SamplingConfig
from accord.recipes.named import sampler_of
from accord.recipes.record import Progress, prompts_of, recorded
from accord.stats.paired import win_gain
from accord.stats.power import comparisons_for_wins, detectable_wins
from accord.stats.rankings import levels
from accord.store.lineage import Run, Status
from accord.types import Completion, Prompt, digest
from accord.workspace import Workspace

KIND = "blind"
PAIRS = "blind.json"
MEASURES = ("repeat", "gold", "quiz")
"""Why a labeler was asked who is measured by it; such answers count for nothing here."""


class BlindConfig(Config):
    """`accord blind A B`: how both models answer, and what is to be found."""

    split: str | None = None
    """Only the prompts of this split."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many of them."""
    max_new_tokens: int = Field(128, ge=1)
    """Length limit in tokens."""
    temperature: float = Field(1.0, ge=0)
    """Of sampling, on both sides."""
    seed: int = 0
    """Of sampling, on both sides."""
    win_rate: float = Field(0.6, gt=0.5, lt=1)
    """The smallest win rate (ties half) worth finding..."""
    ties: float = Field(0.2, ge=0, lt=1)
    """...where so large a share of the pairs is tied."""
    device: str | None = None
    """"cpu", "cuda"; the GPU where there is one."""


@dataclass(frozen=True)
class Started:
    """What people are to be asked."""

    split: str
    """Of the pairs: `accord label --split` takes it."""
    pairs: int
    """To be looked at."""
    same: int
    """Answered by both in the same words."""
    needed: int
    """Judgements that find the win rate with a power of 0.8."""
    detectable: float | None
    """The smallest win rate that one judgement of each pair finds; ``None``: not even 1."""


@dataclass(frozen=True)
class Told:
    """What people said; the win rate is the second model's against the first, ties half."""

    first: str
    second: str
    win_rate: float
    low: float
    high: float
    p: float
    """Two-sided, of a win rate of one half."""
    judgements: int
    """Of people, on pairs of different words."""
    ties: float
    """Share of all that counts: judgements, and pairs in the same words."""
    labelers: int
    pairs: int
    """Judged at least once, or in the same words."""
    unjudged: int
    detectable: float | None
    """The smallest win rate that so many judgements find with a power of 0.8."""


def start(
    workspace: Workspace,
    models: tuple[str, str],
    config: BlindConfig,
    *,
    progress: Progress = lambda _: None,
) -> tuple[Run, Started]:
    """Let both models answer, and put their answers before people as pairs.

    Raises:
        ConfigError: one model twice; a win rate that cannot be with so many ties.
        DataError: no prompts, or every answer is the same in both.
    """
    if models[0].rstrip("/") == models[1].rstrip("/"):
        raise ConfigError(f"both models are {models[0]!r}; name two")
    needed = comparisons_for_wins(config.win_rate, config.ties)
    prompts = prompts_of(workspace, config.split)[: config.limit]
    sampling = SamplingConfig(
        max_new_tokens=config.max_new_tokens, temperature=config.temperature, seed=config.seed
    )
    sides, hashes = [], []
    for number, name in enumerate(models, 1):
        sampler, made_by = sampler_of(name, sampling, config.device, workspace)
        sides.append([group[0] for group in sampler.sample(prompts)])
        hashes.append(made_by)
        progress({"step": number, "steps": len(models)})
    settings = {**config.model_dump(mode="json"), "models": list(models)}
    with recorded(workspace, KIND, settings, hashes) as record:
        pairs = _put(workspace, record.run.id, prompts, *sides)
        if not pairs:
            raise DataError(
                f"{models[0]} and {models[1]} give the same answers to all {len(prompts)} prompts"
            )
        same = len(prompts) - len(pairs)
        record.write(PAIRS, {"models": list(models), "same": same, "pairs": pairs}, "blind")
        one_each = detectable_wins(len(pairs), config.ties)
        found = Started(record.run.id, len(pairs), same, needed, one_each)
        record.metrics |= asdict(found)
    return workspace.store.run(record.run.id), found


def _put(
    workspace: Workspace,
    split: str,
    prompts: Sequence[Prompt],
    first: Sequence[Completion],
    second: Sequence[Completion],
) -> dict[str, tuple[str, str]]:
    """Store the pairs of different words; by prompt, the ids of the first's and the second's answer."""
    different = [one for one in zip(prompts, first, second, strict=True) if one[1].text != one[2].text]
    # prompts of their own, so that nobody is shown the answers that other steps stored to the same words
    asked = [Prompt(p.messages, p.meta, digest(KIND, split, p.id)) for p, _, _ in different]
    workspace.store.add_prompts(asked, split)
    groups = [
        (prompt, [replace(c, id="") for c in pair])
        for prompt, (_, *pair) in zip(asked, different, strict=True)
    ]
    ids = workspace.store.add_groups(groups)
    return {prompt.id: (one, other) for prompt, (one, other) in zip(asked, ids, strict=True)}


def read(workspace: Workspace, run_id: str = "") -> Told:
    """What people said of a blind A/B so far; the latest unless named.

    Raises:
        StoreError: none was started here, or there is no such run.
        DataError: nobody judged a pair yet.
    """
    run = _run(workspace, run_id)
    kept: Mapping[str, Any] = json.loads((run.path / PAIRS).read_text(encoding="utf-8"))
    pairs = kept["pairs"]
    shares: list[float] = []
    clusters: list[str] = []
    labelers = set()
    for ranking in workspace.store.rankings():
        placed = levels(ranking)
        pair = pairs.get(ranking.prompt_id)
        if pair is None or ranking.arm in MEASURES or not set(pair) <= set(placed):
            continue
        first, second = (placed[id] for id in pair)
        shares.append((np.sign(first - second) + 1) / 2)  # level 0 is the best
        clusters.append(ranking.prompt_id)
        labelers.add(ranking.labeler)
    if not shares:
        raise DataError(
            f"nobody judged a pair of {run.id} yet; people do with: accord label --split {run.id}"
        )
    judged, judgements = len(set(clusters)), len(shares)
    shares += [0.5] * kept["same"]
    clusters += [f"same {i}" for i in range(kept["same"])]
    gain = win_gain(shares, np.random.default_rng(run.config["seed"]), clusters)
    ties = float(np.mean(np.array(shares) == 0.5))
    return Told(
        first=kept["models"][0],
        second=kept["models"][1],
        win_rate=gain.value,
        low=gain.low,
        high=gain.high,
        p=gain.p,
        judgements=judgements,
        ties=ties,
        labelers=len(labelers),
        pairs=judged + kept["same"],
        unjudged=len(pairs) - judged,
        detectable=detectable_wins(len(set(clusters)), min(ties, 0.99)),
    )


def _run(workspace: Workspace, run_id: str) -> Run:
    if run_id:
        run = workspace.store.run(run_id)
        if run.kind != KIND:
            raise StoreError(f"{run_id} is a run of `accord {run.kind}`, and no blind A/B")
        return run
    runs = workspace.store.runs(KIND, Status.DONE)
    if not runs:
        raise StoreError("no blind A/B was started here yet; start one with: accord blind A B")
    return runs[-1]
