"""A model that knows tic-tac-toe's words and rules, and nothing of its strategy.

Forty-six words, a decoder of two layers with some fifty thousand weights, trained in seconds from nothing on
games in which both sides make random legal moves (loss on the moves only). So it plays legally and at
random: where reinforcement learning begins.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from accord.lm.fit import fit
from accord.lm.model import LanguageModel
from accord.lm.schedule import cosine
from accord.lm.score import score_tokens
from accord.lm.tokens import TokenBatch
from accord.recipes.tictactoe.board import EMPTY, finished, free, put, show

PAD, EOS = "<pad>", "<end>"
WORDS = [f"{mark}{number}" for number in range(1, 10) for mark in "XO."]
MOVES = [str(number) for number in range(1, 10)]
WIDTH, LAYERS, HEADS = 48, 2, 4


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A word a token: the marks of each square, the moves, padding and the end of a turn."""
    vocabulary = {word: number for number, word in enumerate([PAD, EOS, *MOVES, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=PAD,
        clean_up_tokenization_spaces=False,
    )


def fresh_model(seed: int = 0) -> LanguageModel:
    """Random weights."""
    tokenizer = word_tokenizer()
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(seed)
    net = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=2 * WIDTH,
            num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS,
            max_position_embeddings=128, tie_word_embeddings=False, bos_token_id=None,
            initializer_range=0.08, **ends,
        )
    )  # fmt: skip
    net.generation_config = GenerationConfig(**ends)
    return LanguageModel(net, tokenizer, "tic-tac-toe")


def legal_player(seed: int = 0, steps: int = 400, rows: int = 64) -> LanguageModel:
    """A model that makes random legal moves."""
    model = fresh_model(seed)
    optimiser = torch.optim.AdamW(model.trainable(), lr=4e-3, betas=(0.9, 0.98), weight_decay=0.0)

    def loss(batch: TokenBatch) -> tuple[Tensor, dict[str, Tensor]]:
        return -score_tokens(model, batch).logprobs.sum() / batch.chosen_BT.sum(), {}

    chance = random.Random(seed)
    batches = ([_games(model, chance, rows)] for _ in range(steps))
    for _ in fit(batches, loss, optimiser, schedule=cosine(steps, warmup=20, floor=0.05)):
        pass
    return model


def _games(model: LanguageModel, chance: random.Random, rows: int) -> TokenBatch:
    """Random games, the moves of X chosen and all else given."""
    prompt = _ids(model, show(EMPTY))
    games = [list(zip(*_game(model, chance), strict=True)) for _ in range(rows)]
    return TokenBatch.of([prompt] * rows, [g[0] for g in games], model.pad_id, [g[1] for g in games])


def _game(model: LanguageModel, chance: random.Random) -> Iterator[tuple[int, int]]:
    """Tokens of a random game from the empty board, each with 1 where the first side said it."""
    board = EMPTY
    while not finished(board):
        square = chance.choice(free(board))
        board = put(board, square)
        for token in _ids(model, f"{square + 1} {EOS}"):
            yield token, 1
        if finished(board):
            return
        board = put(board, chance.choice(free(board)))
        if finished(board):
            return
        for token in _ids(model, show(board)):
            yield token, 0


def _ids(model: LanguageModel, text: str) -> list[int]:
    """A word a token, as the tokenizer makes them, without its cost a call."""
    vocabulary = model.tokenizer.get_vocab()
    return [vocabulary[word] for word in text.split()]
