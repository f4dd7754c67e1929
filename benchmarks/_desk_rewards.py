"""Reward models of several seeds on the help desk, one and an ensemble, kept in a folder between runs.

The customers, and the gold judge whose preferences are learned, are simulated by the project; the starter
model's samples, the training and PPO are real. A share of the preferences is turned around, as people's are
(Coste et al. 2023, arXiv:2310.02743, turn 25 %). Gold measures and is never shown to training.

Shapes: R prompts, N samples a prompt, E members.
"""

from __future__ import annotations

import json
import pickle
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from accord.align.run import align
from accord.align.settings import AlignConfig
from accord.judgements import Anchor, Comparison
from accord.lm.classifier import SequenceClassifier
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.model import LanguageModel
from accord.lm.shared_prefix import score_shared
from accord.recipes.helpdesk.demo import MAX_NEW_TOKENS, MODELS
from accord.recipes.helpdesk.judge import GoldJudge
from accord.recipes.helpdesk.world import make_prompts
from accord.reward.ensemble import Ensemble, Rule, train_members
from accord.reward.model import RewardModel
from accord.reward.train import RewardConfig, train
from accord.types import Completion, Prompt, Scorer, digest

Array = NDArray[np.float64]
T = TypeVar("T")
Say = Callable[[str], None]
STARTER = MODELS / "decoder"


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    ranked: int = 200
    """Prompts whose completions are compared, for the reward models."""
    completions: int = 4
    """Of each."""
    noise: float = 0.25
    """Share of comparisons turned around."""
    epochs: int = 1
    """Passes of a reward model over its comparisons."""
    members: int = 3
    """Of the ensemble, beside the single model, which learns all comparisons."""


@dataclass(frozen=True)
class Pool:
    """Prompts with samples of the starter and the truth about them."""

    prompts: list[Prompt]
    samples: list[list[Completion]]
    gold_RN: Array


@dataclass(frozen=True)
class Models:
    """What one seed trained, and on what."""

    desk: Pool
    single: RewardModel
    members: list[RewardModel]

    def ensemble(self, caution: float) -> Ensemble:
        """The members by mean less caution times variance."""
        return Ensemble(self.members, Rule.VARIANCE, caution)


def kept(folder: Path, name: str, settings: Any, make: Callable[[], T]) -> T:
    """What ``make`` returns, kept in ``folder`` under the digest of what it was made with."""
    path = folder / f"{name}-{digest(settings)}.pickle"
    if not path.exists():
        found = make()
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_bytes(pickle.dumps(found))
        draft.rename(path)
    return pickle.loads(path.read_bytes())  # a file of this script's own


def sample_pool(prompts: list[Prompt], samples: int, seed: int) -> Pool:
    """``samples`` completions of each prompt by the starter, judged by gold."""
    engine = Engine(LanguageModel.load(STARTER), SamplingConfig(max_new_tokens=MAX_NEW_TOKENS, seed=seed))
    answered = [group for prompt in prompts for group in engine.sample([prompt], samples)]
    judge = GoldJudge()
    gold = [[s.value for s in judge.score(p, c)] for p, c in zip(prompts, answered, strict=True)]
    return Pool(prompts, answered, np.array(gold))


def pairs(pool: Pool, noise: float, seed: int, margin: float = 0.0) -> list[tuple[int, int, int]]:
    """(prompt, better, worse) for every two samples whose gold differs by more than ``margin``, a share of
    them turned around."""
    rng = random.Random(f"noise:{seed}")
    found = []
    for r, gold_N in enumerate(pool.gold_RN):
        for i, j in combinations(range(len(gold_N)), 2):
            if abs(gold_N[i] - gold_N[j]) > margin:
                first = (gold_N[i] > gold_N[j]) != (rng.random() < noise)
                found.append((r, i, j) if first else (r, j, i))
    return found


def comparisons_of(pool: Pool, noise: float, seed: int) -> list[Comparison]:
    """The same as comparisons."""
    return [
        Comparison(pool.prompts[r], pool.samples[r][i], pool.samples[r][j], source="simulated")
        for r, i, j in pairs(pool, noise, seed)
    ]


def models_of(seed: int, size: Size, folder: Path, say: Say) -> Models:
    """The reward models of a seed, trained or read from ``folder``."""
    at = folder / f"seed-{seed}-{digest(asdict(size))}"
    prompts = make_prompts(size.ranked, seed, "train")
    desk = kept(
        folder, f"desk-{seed}", [size.ranked, size.completions],
        lambda: sample_pool(prompts, size.completions, seed),
    )  # fmt: skip
    if not (at / "done").exists():
        comparisons = comparisons_of(desk, size.noise, seed)

        def one(comparisons: Sequence[Comparison], anchors: Sequence[Anchor], seed: int) -> RewardModel:
            config = RewardConfig(
                learning_rate=1e-3, epochs=size.epochs, batch_prompts=16, mixed_precision=True, seed=seed
            )
            return train(comparisons, SequenceClassifier.load(STARTER, labels=1), config)[0]

        one(comparisons, (), seed).save(at / "single")
        Ensemble(train_members(one, comparisons, size.members, seed)).save(at / "ensemble")
        (at / "done").write_text(json.dumps(asdict(size)))
        say(f"seed {seed}: {1 + size.members} reward models from {len(comparisons)} comparisons")
    return Models(desk, RewardModel.load(at / "single"), Ensemble.load(at / "ensemble").members)


def rewards(model: RewardModel, pool: Pool) -> Array:
    """(R, N) rewards, each prompt read once for all its completions."""
    found = []
    for prompt, completions in zip(pool.prompts, pool.samples, strict=True):
        inputs = [model.classifier.encode(prompt, c.text) for c in completions]
        found.append(score_shared(model.classifier, inputs)[:, 0].double().numpy())
    return (np.array(found) - model.mean) / model.std


def ppo(
    scorer: Scorer, desk: Pool, *, steps: int, rollouts: int, beta: float, seed: int
) -> list[dict[str, float]]:
    """Each step's exact KL, proxy and gold (means over its rollouts) of one run of accord's PPO."""
    config = AlignConfig(
        steps=steps,
        prompts_per_step=rollouts,
        minibatch=rollouts,
        epochs=2,
        learning_rate=1.2e-3,
        critic_learning_rate=5e-3,
        lam=1.0,
        beta=beta,
        max_new_tokens=MAX_NEW_TOKENS,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        result = align(
            LanguageModel.load(STARTER), scorer, desk.prompts, config, folder,
            watch={"gold": GoldJudge()}, save_every=steps,
        )  # fmt: skip
    names = {"kl": "kl", "proxy": "reward", "gold": "gold", "length": "length"}
    return [{name: row[key] for name, key in names.items()} for row in result.history]
