"""The tiny model, the exact measure of its play, and that it learns."""

import random
from collections import Counter

import pytest

from accord.align.episodes import play
from accord.align.learner import Learner
from accord.align.online import credit, learn
from accord.align.settings import AlignConfig
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.model import LanguageModel
from accord.recipes.tictactoe.board import best, free
from accord.recipes.tictactoe.game import Outcome, TicTacToe, opening, outcome, perfect_player, random_player
from accord.recipes.tictactoe.measure import (
    MOVE_TOKENS,
    against_perfect,
    against_random,
    every_game,
    sampled_games,
    solved,
    spoiled,
)
from accord.recipes.tictactoe.model import _games, legal_player, word_tokenizer
from accord.types import Score


@pytest.fixture(scope="module")
def beginner(tmp_path_factory):
    """A folder with a model that has mostly learned what is legal."""
    folder = tmp_path_factory.mktemp("beginner")
    legal_player(steps=100, rows=24).save(folder)
    return folder


def test_the_words_come_back_as_they_were_and_games_are_spelled_as_they_are_played():
    tokenizer = word_tokenizer()
    text = opening().text
    assert tokenizer.decode(tokenizer(text)["input_ids"]).split() == text.split()
    assert len(tokenizer(text)["input_ids"]) == 9


def test_a_beginner_plays_legally_and_at_random(beginner):
    policy = LanguageModel.load(beginner)
    engine = Engine(policy, SamplingConfig(max_new_tokens=MOVE_TOKENS))
    assert list(_games(policy, random.Random(0), 1).prompt_ids_BS[0]) == engine.encode(opening())
    games = play(engine, [opening()], 300, environment=TicTacToe(random_player))
    ends = Counter(outcome(game) for game in games)
    assert ends[Outcome.ILLEGAL] + ends[Outcome.CUT] < 200
    firsts = Counter(game.text[0] for game in games)
    assert set(firsts) >= set("123456789")


def test_the_exact_measure_is_what_playing_many_games_comes_to(beginner):
    policy = LanguageModel.load(beginner)
    engine = Engine(policy, SamplingConfig(max_new_tokens=MOVE_TOKENS, temperature=0))
    for choices, opponent in ((free, random_player), (best, perfect_player)):
        exact = every_game(policy, choices)
        assert sum(exact.values()) == pytest.approx(1)
        games = play(engine, [opening()], 300, environment=TicTacToe(opponent), training=False)
        counted = Counter(outcome(game) for game in games)
        for end, chance in exact.items():
            spread = (chance * (1 - chance) / 300) ** 0.5
            assert abs(counted[end] / 300 - chance) <= 4 * spread + 1e-9, end


def test_what_counts_as_solved():
    ends = dict.fromkeys(Outcome, 0.0)
    perfect, won = ends | {Outcome.DRAWN: 1.0}, ends | {Outcome.WON: 0.9, Outcome.DRAWN: 0.1}
    assert solved(perfect, won)
    for bad in (Outcome.LOST, Outcome.ILLEGAL, Outcome.CUT):
        assert not solved(perfect | {bad: 0.01}, won)
    assert not solved(perfect, won | {Outcome.WON: 0.89})
    assert spoiled(Counter({Outcome.LOST: 2, Outcome.CUT: 1, Outcome.WON: 5})) == 3


def trained(folder, algorithm, steps, until_solved=False):
    policy = LanguageModel.load(folder)
    config = AlignConfig(
        algorithm=algorithm, steps=steps, prompts_per_step=1, samples_per_prompt=128, minibatch=128,
        max_new_tokens=MOVE_TOKENS, lora_rank=0, learning_rate=3e-3, beta=0.03, micro_rows=128,
    )  # fmt: skip
    learner = Learner(policy, config)
    for step in range(steps):
        games = play(learner.engine(step), [opening()], 128, step, environment=TicTacToe())
        learn(learner, credit(learner, games, [Score(0.0)] * len(games)), step)
        if until_solved and step % 10 == 9 and solved(against_perfect(policy), against_random(policy)):
            break
    return policy


def test_a_few_hundred_games_improve_its_play(beginner):
    before, after = LanguageModel.load(beginner), trained(beginner, "rloo", 12)
    lost = {name: spoiled(sampled_games(policy, random_player, 300)) for name, policy in
            (("before", before), ("after", after))}  # fmt: skip
    won = [against_random(policy)[Outcome.WON] for policy in (before, after)]
    assert lost["after"] < 0.6 * lost["before"]
    assert won[1] > won[0]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_it_becomes_unbeatable(tmp_path, algorithm):
    legal_player().save(tmp_path)
    policy = trained(tmp_path, algorithm, 150, until_solved=True)
    assert spoiled(against_perfect(policy)) == 0
    assert against_random(policy)[Outcome.WON] >= 0.9
