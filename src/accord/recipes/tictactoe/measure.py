"""How well a policy plays tic-tac-toe, exactly: every game its opponent's choices can lead to is played.

The policy plays the likeliest move, so the opponent's choices alone decide a game, and there are few hundred.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from accord.align.episodes import play
from accord.environment import Turn
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.model import LanguageModel
from accord.recipes.tictactoe.board import EMPTY, best, free, show
from accord.recipes.tictactoe.game import Opponent, Outcome, TicTacToe, opening, outcome
from accord.types import Message, Prompt

MOVE_TOKENS = 2
"""A square and the end of the turn."""
Choices = Callable[[str], Sequence[int]]
"""The squares an opponent may take on a board, each as likely as the others."""


class _Branches:
    """Plays the replies a prompt names, then the first choice, and notes the others for later."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.more: list[tuple[int, ...]] = []
        self.chances: dict[tuple[int, ...], float] = {}

    def begin(self, prompt: Prompt, seed: int) -> Callable[[str], Turn]:
        script: tuple[int, ...] = prompt.meta["replies"]
        said: tuple[int, ...] = ()
        self.chances[script] = 1.0

        def reply(board: str, chance: random.Random) -> int:
            nonlocal said
            options = self.choices(board)
            self.chances[script] /= len(options)
            square = script[len(said)] if len(said) < len(script) else options[0]
            if len(said) >= len(script):
                self.more += [(*said, other) for other in options[1:]]
            said = (*said, square)
            return square

        return TicTacToe(reply).begin(prompt, seed)


def every_game(policy: LanguageModel, choices: Choices) -> dict[Outcome, float]:
    """The probability of each end against an opponent that takes one of ``choices`` by chance.

    The policy begins and plays its likeliest move. Nothing is sampled: the figures have no error.
    """
    engine = Engine(policy, SamplingConfig(max_new_tokens=MOVE_TOKENS, temperature=0))
    found: dict[Outcome, float] = dict.fromkeys(Outcome, 0.0)
    scripts: list[tuple[int, ...]] = [()]
    while scripts:
        branches = _Branches(choices)
        prompts = [
            Prompt((Message("user", show(EMPTY)),), {"replies": script}, id=f"{script}") for script in scripts
        ]
        for script, game in zip(
            scripts, play(engine, prompts, environment=branches, training=False), strict=True
        ):
            found[outcome(game)] += branches.chances[script]
        scripts = branches.more
    return found


def against_perfect(policy: LanguageModel) -> dict[Outcome, float]:
    """:func:`every_game` against minimax, all its ties."""
    return every_game(policy, best)


def against_random(policy: LanguageModel) -> dict[Outcome, float]:
    """:func:`every_game` against random legal moves."""
    return every_game(policy, free)


def sampled_games(policy: LanguageModel, opponent: Opponent, games: int, seed: int = 0) -> Counter[Outcome]:
    """Ends of games in which the policy samples its moves at temperature 1."""
    engine = Engine(policy, SamplingConfig(max_new_tokens=MOVE_TOKENS, seed=seed))
    return Counter(
        outcome(game) for game in play(engine, [opening()], games, environment=TicTacToe(opponent))
    )


def spoiled(ends: Mapping[Outcome, float]) -> float:
    """How many of the games were lost, by play or by saying what is no move."""
    return sum(ends[end] for end in (Outcome.LOST, Outcome.ILLEGAL, Outcome.CUT))


def solved(perfect: Mapping[Outcome, float], chance: Mapping[Outcome, float]) -> bool:
    """Nothing lost to the perfect player, 90 % won against the random one."""
    return spoiled(perfect) == 0 and chance[Outcome.WON] >= 0.9
