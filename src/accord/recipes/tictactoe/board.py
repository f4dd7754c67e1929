"""Tic-tac-toe: rules, values and perfect play. A board is nine characters, "X", "O" or "." (free).

X begins. Squares are numbered from 1 in text, from 0 in code, row by row.
"""

from __future__ import annotations

from functools import cache

from accord.errors import DataError

EMPTY = "." * 9
LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


def mover(board: str) -> str:
    """Whose turn it is."""
    return "X" if board.count("X") == board.count("O") else "O"


def free(board: str) -> list[int]:
    """The free squares."""
    return [square for square, mark in enumerate(board) if mark == "."]


def put(board: str, square: int) -> str:
    """The board after the mover took ``square``."""
    return board[:square] + mover(board) + board[square + 1 :]


def winner(board: str) -> str | None:
    """Who has three in a line."""
    for a, b, c in LINES:
        if board[a] != "." and board[a] == board[b] == board[c]:
            return board[a]
    return None


def finished(board: str) -> bool:
    """Whether there is nothing left to play."""
    return winner(board) is not None or "." not in board


@cache
def value(board: str) -> int:
    """What the game is worth to the mover under perfect play: 1 won, 0 drawn, -1 lost (minimax)."""
    if winner(board) is not None:
        return -1  # the other has just made three
    if "." not in board:
        return 0
    return max(-value(put(board, square)) for square in free(board))


@cache
def best(board: str) -> tuple[int, ...]:
    """Every move that keeps the board's value, all ties."""
    return tuple(square for square in free(board) if -value(put(board, square)) == value(board))


def show(board: str) -> str:
    """The board as text: three lines of words, each a mark and its square ("X1 .2 O3")."""
    words = [f"{mark}{number}" for number, mark in enumerate(board, start=1)]
    return "\n".join(" ".join(words[at : at + 3]) for at in (0, 3, 6))


def read(text: str) -> str:
    """The board that :func:`show` wrote.

    Raises:
        DataError: the text is no board, or none that a game comes to.
    """
    words = text.split()
    board = "".join(word[:1] for word in words)
    marked = [f"{mark}{number}" for number, mark in enumerate(board, start=1)]
    if len(words) != 9 or words != marked or set(board) - set("XO."):
        raise DataError(f"{text[:60]!r} is no board; nine words such as 'X1 .2 O3' are one")
    if board.count("X") - board.count("O") not in (0, 1):
        raise DataError(f"{text[:60]!r} is no board of a game: X begins and the two take turns")
    return board
