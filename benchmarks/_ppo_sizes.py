"""What both sides of ppo_vs_trl.py share: the model, the prompts, the step, and how a side reports.

Both are run with the same random Llama in float32: 4 layers, width 256, intermediate width 1024,
4 heads, vocabulary 4096, embeddings not tied (6.3 million weights, of which 2.1 in embeddings and
head). No token ends a completion, so every rollout has its 64 new tokens on both sides.
"""

import argparse
import itertools
import json
import resource
import statistics
import time

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

VOCABULARY = 4096
OUTSIDE = VOCABULARY  # id of pad and end token: no model can sample it
PROMPT_TOKENS = 24
NEW_TOKENS = 64
ROLLOUTS = 32
EPOCHS = 4
LEARNING_RATE = 1e-5
PROMPTS = 1024


def llama(**more) -> LlamaConfig:
    """The model both sides train."""
    return LlamaConfig(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "bos_token_id": None,
            "eos_token_id": None,
        }
        | more
    )


def prompts() -> list[list[int]]:
    """Random prompts of one length, the same for both sides."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(VOCABULARY, (PROMPTS, PROMPT_TOKENS), generator=generator).tolist()


def tokenizer() -> PreTrainedTokenizerFast:
    """Token i is spelled "wi"; pad and end token lie outside the model's vocabulary."""
    words = {f"w{i}": i for i in range(VOCABULARY)} | {"</s>": OUTSIDE}
    inner = Tokenizer(models.WordLevel(words, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="</s>", eos_token="</s>", padding_side="left"
    )


def arguments() -> argparse.Namespace:
    """Steps, threads, and rows of one training forward, of one side's run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--micro", type=int, default=ROLLOUTS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    return given


def now() -> tuple[float, float]:
    """Seconds on the clock and on the processor."""
    return time.perf_counter(), time.process_time()


def report(marks: list[tuple[float, float]], warmup: int) -> None:
    """Print a side's figures as one JSON line; ``marks`` are :func:`now` around every step."""
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(marks)]
    median = statistics.median(seconds for seconds, _ in steps[warmup:])
    print(
        json.dumps(
            {
                "seconds_per_step": median,
                "rollouts_per_second": ROLLOUTS / median,
                "cpu_seconds_per_step": statistics.median(cpu for _, cpu in steps[warmup:]),
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "seconds": [seconds for seconds, _ in steps],
            }
        )
    )
