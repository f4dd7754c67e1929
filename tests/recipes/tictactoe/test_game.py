"""The environment: games by hand, illegal moves, both sides, its opponents."""

import random
from collections import Counter

import pytest

from accord.environment import Environment
from accord.recipes.tictactoe.board import EMPTY, best, free, read, show
from accord.recipes.tictactoe.game import (
    Outcome,
    TicTacToe,
    either_player,
    named,
    opening,
    outcome,
    perfect_player,
    random_player,
)
from accord.types import Prompt, Rollout, Stop


def scripted(*squares):
    moves = iter(squares)
    return lambda board, chance: next(moves) - 1


def game(opponent, board=EMPTY, **settings):
    return TicTacToe(opponent, **settings).begin(Prompt.from_text(show(board)), 0)


def test_a_game_by_hand():
    answer = game(scripted(5, 3))
    first = answer("1")
    assert (read(first.text), first.paid, first.over) == ("X...O....", 0.0, False)
    assert read(answer(" 4 ").text) == "X.OXO...."
    last = answer("7")
    assert (last.paid, last.over) == (1.0, True)
    assert last.text == "X1 .2 O3\nX4 O5 .6\nX7 .8 .9\nwon"


def test_the_other_side_ends_a_game_too():
    answer = game(scripted(1, 2, 3))
    assert not answer("9").over
    assert not answer("5").over
    lost = answer("4")
    assert (lost.paid, lost.over, lost.text.split()[-1]) == (-1.0, True, "lost")


def test_the_last_square_draws_and_nobody_answers():
    drawn = game(scripted(), "XOXXOOO.X")
    # X and O have four and four: X is to move
    turn = drawn("8")
    assert (turn.paid, turn.over, turn.text.split()[-1]) == (0.0, True, "drawn")


def test_the_policy_plays_the_side_to_move():
    answer = game(scripted(2, 3), "X........")
    assert read(answer("5").text) == "XX..O...."
    lost = answer("9")
    assert lost.text.split()[-1] == "lost"
    assert read(lost.text.rsplit(maxsplit=1)[0]) == "XXX.O...O"


@pytest.mark.parametrize("said", ["", "0", "10", "X", "five", "1 2", "-1", "٣", "5"])
def test_what_is_no_free_square_loses_at_once(said):
    answer = game(scripted(), "X...O....")
    turn = answer(said)
    assert (turn.paid, turn.over, turn.text.split()[-1]) == (-1.0, True, "illegal")
    assert read(turn.text.rsplit(maxsplit=1)[0]) == "X...O...."
    assert named("5") == 4


def test_what_an_end_pays_can_be_said():
    turn = game(scripted(), "XX.OO....", pay={Outcome.WON: 3.0})("3")
    assert turn.paid == 3.0


def test_opponents_choose_as_they_say():
    board, chance = "X...O...X", random.Random(0)
    drawn = Counter(random_player(board, chance) for _ in range(3000))
    assert set(drawn) == set(free(board))
    assert max(drawn.values()) < 1.3 * min(drawn.values())
    perfect = Counter(perfect_player(board, chance) for _ in range(3000))
    assert set(perfect) == set(best(board)) == {1, 3, 5, 7}
    either = Counter(either_player(board, chance) for _ in range(3000))
    share = sum(either[s] for s in best(board)) / 3000
    assert share == pytest.approx(0.5 + 0.5 * 4 / 6, abs=0.04)


def test_games_are_a_function_of_their_seed():
    prompt = opening()
    assert isinstance(TicTacToe(), Environment)
    replies = {seed: TicTacToe(random_player).begin(prompt, seed)("5").text for seed in range(8)}
    assert replies == {seed: TicTacToe(random_player).begin(prompt, seed)("5").text for seed in range(8)}
    assert len(set(replies.values())) > 3


def test_how_a_game_ended_is_read_from_its_text():
    def of(text):
        return Rollout(opening(), (1,), (2,), (-1.0,), (1,), Stop.EOS, text)

    assert outcome(of("5\nX1 O2\nlost")) is Outcome.LOST
    assert outcome(of("5\nX1 O2\n3 4")) is Outcome.CUT
    assert outcome(of("")) is Outcome.CUT
