"""What both sides of reward_vs_trl.py share: the models, the rankings, the step, and how a side reports.

The small model is the random Llama of ppo_vs_trl.py (_ppo_sizes.py), with a head of one logit; the other has
33 million weights: 8 layers, width 512, intermediate width 1920, 8 heads. A prompt has 24 tokens and four
completions of 64, ranked without ties: six pairs. A step is eight prompts, so 48 pairs, in forwards of at
most ``--rows`` rows on both sides.
"""

import argparse
import itertools
import json
import resource
import statistics

import torch

from _ppo_sizes import PROMPT_TOKENS, VOCABULARY

COMPLETIONS = 4
COMPLETION_TOKENS = 64
PROMPTS_A_STEP = 8
LEARNING_RATE = 1e-5
CENTERING = 0.01
PAIRS = list(itertools.combinations(range(COMPLETIONS), 2))
"""Positions in a ranking, the better one first."""
SIZES = {
    "small": {},
    "33m": {"hidden_size": 512, "intermediate_size": 1920, "num_hidden_layers": 8, "num_attention_heads": 8},
}


def rankings(prompts: int) -> list[tuple[list[int], list[list[int]]]]:
    """Random prompts, each with its completions, best first; the same for both sides."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> list:
        return torch.randint(VOCABULARY, shape, generator=generator).tolist()

    return [(draw(PROMPT_TOKENS), draw(COMPLETIONS, COMPLETION_TOKENS)) for _ in range(prompts)]


def arguments(**more: int) -> argparse.Namespace:
    """Size, steps, threads and rows of one side's run, and ``more`` options with their defaults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=32)
    for name, default in more.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    return given


def report(marks: list[tuple[float, float]], warmup: int, before: tuple[float, float] = (0.0, 0.0)) -> None:
    """Print a side's figures as one JSON line; ``marks`` are the times around every step.

    ``before`` was spent before the first step for all of them: seconds a step, on clock and processor.
    """
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(marks)][warmup:]
    median = statistics.median(seconds for seconds, _ in steps) + before[0]
    print(
        json.dumps(
            {
                "seconds_per_step": median,
                "prompts_per_second": PROMPTS_A_STEP / median,
                "cpu_seconds_per_step": statistics.median(cpu for _, cpu in steps) + before[1],
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )
