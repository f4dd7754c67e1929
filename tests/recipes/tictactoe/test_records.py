"""Tic-tac-toe by ILQL from records of a player who blunders: no game is played in learning."""

import random

import pytest

from accord.align.episodes import play
from accord.align.ilql import ILQLConfig, ILQLearner
from accord.lm.engine import Engine, Sampled, SamplingConfig
from accord.recipes.tictactoe.board import free, put, read, value
from accord.recipes.tictactoe.game import Outcome, TicTacToe, opening, outcome, random_player
from accord.recipes.tictactoe.measure import MOVE_TOKENS, against_random, spoiled
from accord.recipes.tictactoe.model import EOS, fresh_model
from accord.types import Score, Stop


class Blunderer(Engine):
    """By a coin at each move any move, or one of the worst there are."""

    def __init__(self, model, seed):
        super().__init__(model, SamplingConfig(max_new_tokens=MOVE_TOKENS))
        self.chance = random.Random(seed)

    def generate(self, prompts, n=1, begun=None):
        begun = begun or [()] * len(prompts)
        return [[self.moved([*p, *b]) for _ in range(n)] for p, b in zip(prompts, begun, strict=True)]

    def moved(self, ids):
        tokenizer = self.model.tokenizer
        board = read(tokenizer.decode(ids[-9:]))
        worths = {square: -value(put(board, square)) for square in free(board)}
        bad = [square for square, worth in worths.items() if worth == min(worths.values())]
        square = self.chance.choice(bad if self.chance.random() < 0.5 else list(worths))
        said = tokenizer.convert_tokens_to_ids([str(square + 1), EOS])
        return Sampled(tuple(said), (0.0, 0.0), Stop.EOS)


@pytest.mark.slow
def test_it_plays_better_than_who_copies_the_records():
    """Both play their likeliest moves, against every choice of an opponent who moves by chance: no error."""
    policy = fresh_model()
    games = play(Blunderer(policy, 0), [opening()], 6000, environment=TicTacToe(random_player))
    ends = [outcome(game) for game in games]
    assert not ends.count(Outcome.ILLEGAL)
    assert ends.count(Outcome.LOST) > ends.count(Outcome.WON)
    config = ILQLConfig(
        updates=400, learning_rate=3e-3, lora_rank=0, expectile=0.8, conservative=0.02, follow=0.05
    )
    learner = ILQLearner(policy, config)
    learner.run(games, [Score(0.0)] * len(games))
    copied, advised = against_random(learner.advised(0.0)), against_random(learner.advised(16.0))
    assert advised[Outcome.WON] > copied[Outcome.WON] + 0.1
    assert spoiled(advised) < spoiled(copied) - 0.1
    assert spoiled(advised) < ends.count(Outcome.LOST) / len(ends) - 0.1
