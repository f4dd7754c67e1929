"""What one side of a benchmark of training is asked, what both sides do in a step, and how a side reports."""

import argparse
import itertools
import json
import resource
import statistics
import time

import torch

from _sizes import MODELS, draw

LEARNING_RATE = 1e-5

# -- online: rollouts of as many prompts and new tokens ------------------------------------------

PROMPT_TOKENS = 24
NEW_TOKENS = 64
ROLLOUTS = 32
EPOCHS = 4
"""Passes of PPO; the algorithms that compare completions take one."""
SAMPLES = 4
"""Completions of a prompt where they are compared."""
PROMPTS = 1024


def prompts(model: str) -> list[list[int]]:
    """Random prompts of one length."""
    return draw(model, PROMPTS, PROMPT_TOKENS)


# -- rewards and preferences: rankings without ties ----------------------------------------------

COMPLETIONS = 4
COMPLETION_TOKENS = 64
PROMPTS_A_STEP = 8
CENTERING = 0.01
PAIRS = list(itertools.combinations(range(COMPLETIONS), 2))
"""Positions in a ranking, the better one first: six pairs, so 48 a step."""


def rankings(model: str, count: int) -> list[tuple[list[int], list[list[int]]]]:
    """Random prompts, each with its completions, best first."""
    asked, said = (
        draw(model, count, PROMPT_TOKENS),
        draw(model, count, COMPLETIONS, COMPLETION_TOKENS, seed=1),
    )
    return list(zip(asked, said, strict=True))


# -- a side ------------------------------------------------------------------------------------


def arguments(**more: int | str) -> argparse.Namespace:
    """Model, steps, threads, rows and precision of a side's run, and ``more`` options with their defaults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=list(MODELS), default="S")
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    for name, default in more.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    return given


def now() -> tuple[float, float]:
    """Seconds on the clock and on the processor."""
    return time.perf_counter(), time.process_time()


def report(
    marks: list[tuple[float, float]], given: argparse.Namespace, work: int,
    before: tuple[float, float] = (0.0, 0.0),
) -> None:  # fmt: skip
    """Print a side's figures as one JSON line: ``marks`` are :func:`now` around every step of ``work`` items,
    ``before`` what was spent ahead of the first step, as much for each."""
    steps = [(b[0] - a[0] + before[0], b[1] - a[1] + before[1]) for a, b in itertools.pairwise(marks)][
        given.warmup :
    ]
    seconds, cpu = (statistics.median(column) for column in zip(*steps, strict=True))
    print(
        json.dumps(
            {
                "seconds_per_step": seconds,
                "items_per_second": work / seconds,
                "cpu_seconds_per_step": cpu,
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )
