"""Tic-tac-toe as an environment: the board as text, a square's number as the action.

The prompt is a board, and the policy plays the side whose turn it is. It says a square ("5"); the
environment plays the other side and answers with the board. A game ends with the board and a word for how:
won, drawn, lost, or illegal where the policy named no free square, which loses. The course's smallest
example, since the best that can be reached is known: never to lose.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from accord.environment import Turn
from accord.recipes.tictactoe.board import EMPTY, best, finished, free, mover, put, read, show, winner
from accord.types import Prompt, Rollout

Opponent = Callable[[str, random.Random], int]
"""Chooses a square of a board, with the chance it is given."""


class Outcome(StrEnum):
    """How a game ended for the policy."""

    WON = "won"
    DRAWN = "drawn"
    LOST = "lost"
    ILLEGAL = "illegal"
    """It named no free square."""
    CUT = "cut"
    """It was still talking when its limit came."""


PAY: Mapping[Outcome, float] = {
    Outcome.WON: 1.0, Outcome.DRAWN: 0.0, Outcome.LOST: -1.0, Outcome.ILLEGAL: -1.0
}  # fmt: skip


def random_player(board: str, chance: random.Random) -> int:
    """Any free square."""
    return chance.choice(free(board))


def perfect_player(board: str, chance: random.Random) -> int:
    """Any of the moves that minimax finds best."""
    return chance.choice(best(board))


def either_player(board: str, chance: random.Random) -> int:
    """By a coin at each move the perfect player or the random one."""
    return perfect_player(board, chance) if chance.random() < 0.5 else random_player(board, chance)


@dataclass
class TicTacToe:
    """The environment; ``opponent`` plays the other side, ``pay`` says what each end is worth."""

    opponent: Opponent = either_player
    pay: Mapping[Outcome, float] = field(default_factory=lambda: dict(PAY))

    def begin(self, prompt: Prompt, seed: int) -> Callable[[str], Turn]:
        """A game from the prompt's board on.

        Raises:
            DataError: the prompt is no board.
        """
        board, chance = read(prompt.text), random.Random(seed)
        me = mover(board)

        def answer(text: str) -> Turn:
            nonlocal board
            square = named(text)
            if square not in free(board):
                return self._end(board, Outcome.ILLEGAL)
            board = put(board, square)
            if not finished(board):
                board = put(board, self.opponent(board, chance))
            if not finished(board):
                return Turn(f"\n{show(board)}\n")
            marks = {None: Outcome.DRAWN, me: Outcome.WON}
            return self._end(board, marks.get(winner(board), Outcome.LOST))

        return answer

    def _end(self, board: str, outcome: Outcome) -> Turn:
        return Turn(f"{show(board)}\n{outcome}", self.pay[outcome], over=True)


def named(text: str) -> int:
    """The square a text names, -1 for none."""
    word = text.strip()
    return int(word) - 1 if word in "123456789" and len(word) == 1 else -1


def opening() -> Prompt:
    """The empty board: the policy begins."""
    return Prompt.from_text(show(EMPTY))


def outcome(rollout: Rollout) -> Outcome:
    """How a game that was played ended."""
    words = rollout.text.split()
    return Outcome(words[-1]) if words and words[-1] in set(Outcome) else Outcome.CUT
