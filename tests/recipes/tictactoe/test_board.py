"""The rules, and perfect play against a search of its own."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import DataError
from accord.recipes.tictactoe.board import EMPTY, best, finished, free, mover, put, read, show, value, winner


@st.composite
def boards(draw):
    """A board that a game of random moves comes to."""
    board = EMPTY
    for _ in range(draw(st.integers(0, 9))):
        if finished(board):
            break
        board = put(board, draw(st.sampled_from(free(board))))
    return board


def searched(board, me):
    """What ``me`` gets by plain search, written otherwise: no cache, no change of sign."""
    if winner(board) is not None:
        return 1 if winner(board) == me else -1
    if not free(board):
        return 0
    pick = max if mover(board) == me else min
    return pick(searched(board[:s] + mover(board) + board[s + 1 :], me) for s in free(board))


@given(boards())
def test_values_and_best_moves_are_those_of_a_plain_search(board):
    if len(free(board)) > 6 or finished(board):
        return
    me = mover(board)
    values = {s: searched(put(board, s), me) for s in free(board)}
    assert value(board) == max(values.values())
    assert best(board) == tuple(s for s, v in values.items() if v == max(values.values()))


def test_what_everybody_knows():
    assert value(EMPTY) == 0
    assert set(best(EMPTY)) == set(range(9))  # every opening draws
    assert best("X........") == (4,)  # a corner is answered in the middle
    assert set(best("....X....")) == {0, 2, 6, 8}  # and the middle in a corner
    assert best("X.O.X....") == (8,)  # three in a line are taken
    assert best("XX..O....") == (2,)  # and a threat is stopped
    assert value("X.O...X..") == -1  # O stops the two in the column, and X makes a fork
    assert value("XO.......") == 1  # an edge next to a corner is no answer


def test_perfect_players_draw():
    for seed in range(50):
        board, chance = EMPTY, random.Random(seed)
        while not finished(board):
            board = put(board, chance.choice(best(board)))
        assert winner(board) is None


@pytest.mark.parametrize(("board", "who"), [
    ("XXXOO....", "X"), ("OX.OX.O.X", "O"), ("X.O.XO..X", "X"), ("..OXO.O.X", "O"), ("XOXXOOOXX", None),
    (EMPTY, None),
])  # fmt: skip
def test_three_in_a_line_win(board, who):
    assert winner(board) == who


@given(boards())
def test_a_board_is_read_as_it_is_shown(board):
    assert read(show(board)) == board
    assert len(show(board).splitlines()) == 3


@pytest.mark.parametrize("text", ["", "X1 .2", "X1 .2 .3 .4 .5 .6 .7 .9 .8", "Z1 .2 .3 .4 .5 .6 .7 .8 .9",
                                  "O1 .2 .3 .4 .5 .6 .7 .8 .9", "X1 X2 .3 .4 .5 .6 .7 .8 .9"])  # fmt: skip
def test_what_is_no_board_is_refused(text):
    with pytest.raises(DataError, match="is no board"):
        read(text)
