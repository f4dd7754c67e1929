"""Tic-tac-toe by every online algorithm and Q-learning: never lost to the perfect player, 90 % won from
a random one.

    python benchmarks/tictactoe.py --folder runs/tictactoe [--only ppo q-learning] [--seeds 3] [--quick]

The board is text, a move is an action, and the policy begins. It starts as a model of fifty thousand weights
that makes random legal moves (trained here, from nothing, on random games) and learns from games against an
opponent that at each move plays perfectly or at random, by a coin. Every fifth step its likeliest moves are
played against every choice of both opponents, so these figures have no sampling error. A run ends when three
looks in a row find no game lost or spoiled against the perfect player and 90 % won against the random one, or
when its steps are used up; `episodes` are those before the first of the three, null where there were none.
`losses_vs_perfect` and `wins_vs_random` are those of the last look, of each seed and the worst of them.
`sampled_losses` are losses and illegal moves in 1,000 games against the perfect player with moves sampled at
temperature 1.

Each run is kept in --folder, so one that was stopped goes on with the next. --quick plays a few steps, which
proves nothing but that it runs. The last line of stdout is one JSON object, with each algorithm's settings.
Seeds count from 0; settings were found on others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from accord.align.episodes import play
from accord.align.learner import Learner
from accord.align.online import credit, learn
from accord.align.qlearning import QConfig, QLearner, learn_q
from accord.align.settings import AlignConfig
from accord.config import Config
from accord.lm.model import LanguageModel
from accord.recipes.tictactoe.game import Outcome, TicTacToe, opening, perfect_player
from accord.recipes.tictactoe.measure import (
    MOVE_TOKENS,
    against_perfect,
    against_random,
    sampled_games,
    solved,
    spoiled,
)
from accord.recipes.tictactoe.model import legal_player
from accord.types import Score, digest

Figures = dict[str, Any]
EPISODES = 256
"""A step."""
CRITIC = {"critic_learning_rate": 1e-2, "value_coef": 0.5, "lam": 1.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"epochs": 2, "minibatch": 128, **CRITIC},
    "a2c": CRITIC,
    "reinforce": {},
    "reinforce-baseline": {},
    "reinforce++": {},
    "rloo": {},
    "grpo": {},
    "dr-grpo": {},
    "gspo": {},
    "cispo": {},
    "trpo": {"critic_learning_rate": 1e-2, "lam": 1.0},
    "nlpo": {"epochs": 2, "minibatch": 128, **CRITIC, "mask_top_p": 0.99, "mask_every": 5},
}
"""What differs from one algorithm to another, beside its own row."""
Q = "q-learning"
ALL = (*SETTINGS, Q)


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    seeds: int = 3
    steps: int = 120
    """At most, of each run."""
    look_every: int = 5
    held: int = 3
    """Looks in a row at which the goal has to be reached."""
    start_steps: int = 400
    games: int = 1000
    """Sampled for `sampled_losses`."""


QUICK = Size(1, steps=4, look_every=2, held=2, start_steps=4, games=20)


# -- settings ----------------------------------------------------------------------------------


def settings_of(name: str, size: Size, seed: int) -> Config:
    """A run's settings; a small weight of the KL to the legal player keeps it from settling too early."""
    shared = {"max_new_tokens": MOVE_TOKENS, "lora_rank": 0, "seed": seed}
    if name == Q:
        return QConfig(
            steps=size.steps, prompts_per_step=EPISODES, updates=6, minibatch=128, learning_rate=3e-3,
            target_every=8, lam=0.7, **shared,
        )  # fmt: skip
    grouped = AlignConfig(algorithm=name, prompts_per_step=64).samples > 1
    many = {"prompts_per_step": 1, "samples_per_prompt": EPISODES}
    return AlignConfig(
        **{
            "algorithm": name, "steps": size.steps, "minibatch": EPISODES, "learning_rate": 3e-3,
            "beta": 0.06, **shared, **(many if grouped else {"prompts_per_step": EPISODES}), **SETTINGS[name],
        }
    )  # fmt: skip


def told(config: Config) -> dict[str, Any]:
    """The settings that are not the defaults."""
    fields = type(config).model_fields
    return {k: v for k, v in config.model_dump().items() if v != fields[k].default and k != "seed"}


# -- runs --------------------------------------------------------------------------------------


def online_steps(policy: LanguageModel, config: AlignConfig) -> Iterator[int]:
    """Train ``policy`` in place; yields the episodes played so far after each step."""
    learner, environment = Learner(policy, config), TicTacToe()
    prompts = [opening()] * config.prompts_per_step
    for step in range(config.steps):
        games = play(learner.engine(step), prompts, config.samples, step, environment=environment)
        batch = credit(learner, games, [Score(0.0)] * len(games))
        learn(learner, batch, step)
        yield (step + 1) * len(games)


def value_steps(policy: LanguageModel, config: QConfig) -> Iterator[int]:
    """The same by Q-learning."""
    learner, environment = QLearner(policy, config), TicTacToe()
    prompts = [opening()] * config.prompts_per_step
    for step in range(config.steps):
        games = play(learner.engine(step), prompts, 1, step, environment=environment)
        learn_q(learner, games, [Score(0.0)] * len(games), step)
        yield (step + 1) * len(games)


def run(name: str, start: Path, size: Size, seed: int) -> Figures:
    """One run: how many episodes until the goal is reached and held, and how it plays at its end."""
    policy, config = LanguageModel.load(start), settings_of(name, size, seed)
    steps = value_steps(policy, config) if name == Q else online_steps(policy, config)
    reached: list[int] = []
    for step, played in enumerate(steps, start=1):
        if step % size.look_every and step != size.steps:
            continue
        found = looked(policy)
        reached = [*reached, played] if found.pop("solved") else []
        say(f"{name}, seed {seed}: {played} episodes, {shown(found)}")
        if len(reached) == size.held:
            break
    return {
        **found,
        "sampled_losses": sampled(policy, size, seed),
        "episodes": reached[0] if len(reached) == size.held else None,
        "played": played,
    }


def looked(policy: LanguageModel) -> Figures:
    """How its likeliest moves do against every choice of both opponents."""
    perfect, chance = against_perfect(policy), against_random(policy)
    return {
        "losses_vs_perfect": spoiled(perfect),
        "wins_vs_random": chance[Outcome.WON],
        "solved": solved(perfect, chance),
    }


def sampled(policy: LanguageModel, size: Size, seed: int) -> float:
    """The share of games that its sampled moves lose to the perfect player."""
    return spoiled(sampled_games(policy, perfect_player, size.games, seed)) / size.games


# -- figures -----------------------------------------------------------------------------------


def summed(runs: list[Figures]) -> Figures:
    """An algorithm over its seeds: the worst play of any, and the median of episodes (null: one missed)."""
    needed = [r["episodes"] for r in runs]
    return {
        "losses_vs_perfect": max(r["losses_vs_perfect"] for r in runs),
        "wins_vs_random": min(r["wins_vs_random"] for r in runs),
        "episodes": None if None in needed else statistics.median(needed),
        "seeds": len(runs),
        "by_seed": runs,
    }


def shown(found: Figures) -> str:
    """A look, as people read it."""
    return (
        f"{found['losses_vs_perfect']:.3f} lost to the perfect player, "
        f"{found['wins_vs_random']:.3f} won from the random one"
    )


def kept(path: Path, make: Callable[[], Figures]) -> Figures:
    """What the file holds, made first where it is not there."""
    if not path.exists():
        began = time.monotonic()
        made = make() | {"seconds": time.monotonic() - began}
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(made))
        draft.rename(path)
    return json.loads(path.read_text())


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where runs are kept")
    parser.add_argument("--only", nargs="+", choices=ALL, default=ALL)
    parser.add_argument("--seeds", type=int, help="3 unless given")
    parser.add_argument("--first-seed", type=int, default=0, help="to look for settings: 100")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    size = QUICK if given.quick else Size()
    size = size if given.seeds is None else replace(size, seeds=given.seeds)
    folder: Path = given.folder / digest(asdict(replace(size, seeds=0)))
    folder.mkdir(parents=True, exist_ok=True)
    start = folder / "start"
    if not (start / "config.json").exists():
        legal_player(steps=size.start_steps).save(start)
    runs: dict[str, list[Figures]] = {name: [] for name in given.only}
    for seed in range(given.first_seed, given.first_seed + size.seeds):
        for name in given.only:
            path = folder / f"{name}-{seed}-{digest(settings_of(name, size, seed).model_dump())}.json"
            runs[name].append(kept(path, partial(run, name, start, size, seed)))
    found = {
        name: summed(done) | {"settings": told(settings_of(name, size, 0))} for name, done in runs.items()
    }
    print(json.dumps({"benchmark": "tictactoe", "quick": given.quick, "algorithms": found}))


if __name__ == "__main__":
    main()
