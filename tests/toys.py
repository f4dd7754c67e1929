"""A toy to align: a language of nine tokens, a reward that knows the best one, and a run to be killed.

The vocabulary is cut to the seven special tokens, "!" and one more, so that what a policy should
become can be worked out on paper and read from its logits exactly.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from accord.align.run import align
from accord.align.settings import AlignConfig
from accord.lm.model import LanguageModel
from accord.lm.tiny import write_tiny
from accord.lm.tokens import TokenBatch
from accord.types import Completion, Prompt, Score

transformers.utils.logging.disable_progress_bar()

GOOD, OTHER, VOCABULARY = 7, 8, 9
PROMPTS = [Prompt.from_text(text) for text in ("!", '"', "!!", '!"', '"!', '""!', "!!!")]


class FirstToken:
    """1 where the completion starts with GOOD, else 0."""

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        return [Score(float(c.ids[0] == GOOD)) for c in completions]


class ShareOfGood:
    """The share of GOOD among a completion's tokens; at a given call it may sleep, kill or spoil."""

    def __init__(self, *, kill_at: int = -1, nan_at: int = -1, sleep: float = 0.0) -> None:
        self.calls, self.kill_at, self.nan_at, self.sleep = 0, kill_at, nan_at, sleep

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        return self.score_groups([(prompt, completions)])[0]

    def score_groups(self, groups):
        if self.calls == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        bad = self.calls == self.nan_at
        self.calls += 1
        time.sleep(self.sleep)
        return [
            [Score(float("nan") if bad else c.ids.count(GOOD) / len(c.ids)) for c in group]
            for _, group in groups
        ]


def write_toy(path: Path, model_type: str, seed: int = 0) -> Path:
    return write_tiny(path, model_type, vocab_size=VOCABULARY, seed=seed)


@torch.no_grad()
def first_token(model: LanguageModel, prompt_ids: Sequence[int]) -> torch.Tensor:
    """(V,) exact probabilities of a completion's first token."""
    batch = TokenBatch.of([prompt_ids], [[GOOD]], model.pad_id)
    return model.logits(model.hidden(batch)[0, :1]).softmax(-1)[0]


def run_config(**changes) -> AlignConfig:
    """A short run with everything in it: several prompts, samples, epochs, minibatches, adaptive beta."""
    settings = {
        "steps": 6, "prompts_per_step": 4, "samples_per_prompt": 2, "epochs": 2, "minibatch": 4,
        "max_new_tokens": 3, "lora_rank": 4, "learning_rate": 1e-2, "kl_target": 0.5, "kl_horizon": 50,
        "seed": 3,
    }  # fmt: skip
    settings |= changes
    if settings["kl_target"] is None:
        del settings["kl_horizon"]  # nothing would read it
    return AlignConfig.build(settings)


def main(model: str, folder: str, save_every: str, kill_at: str, sleep: str) -> None:
    """A run in a process of its own, to be killed (from inside, at a call of the scorer) or interrupted."""
    scorer = ShareOfGood(kill_at=int(kill_at), sleep=float(sleep))
    policy = LanguageModel.load(model)
    result = align(policy, scorer, PROMPTS, run_config(), folder, save_every=int(save_every))
    print(result.end, len(result.history))


if __name__ == "__main__":
    main(*sys.argv[1:])
