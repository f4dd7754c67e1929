"""Where the time of a PPO step goes, with the fast paths off and on.

    python benchmarks/step_profile.py --model S

The same step (32 rollouts of 64 new tokens behind prompts of 24, four passes, all weights training) three
ways, by turns: plain (torch's own products, transformers' decoding, rollouts read again before the update,
all logits and all rows at once), fast (as accord runs), and fast in mixed precision. For each: seconds of
sampling, credit and learning, medians over the turns, and the shares of an update's time by kind of operation
(roofline.py). It also counts the forwards of the step and says what each is for. The last line is one JSON
object. --quick runs it at sizes that prove nothing but that it runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch

from _real_models import say
from _sizes import MODELS
from _speed import Distinct, Work, learner_of, policy_of, prompts_of
from accord.align import online
from accord.align.learner import Learner
from accord.align.online import act, credit, judge, learn
from accord.lm import linear, score
from accord.lm.hasten import hasten
from accord.lm.model import LanguageModel
from accord.lm.precision import mixed_precision
from accord.types import Prompt
from roofline import shares

WAYS = ("plain", "fast", "fast, bfloat16")
PASSES = 4
FORWARDS = {
    "policy, one token a row, new tokens times": "sampling; the prompt passes once. Its states give "
    "log-probs, entropy, exact KL and values before the update",
    "policy, all rollouts, once, with bfloat16 products": "the same; it is a bfloat16 copy that samples",
    "reference, all rollouts, once": "the exact KL; its log-probs are kept for the update",
    f"policy, all rollouts, forward and backward, {PASSES} times": "PPO's passes, critic and all",
}
"""Every forward of the step, and what it is for."""


@contextmanager
def way(name: str, policy: LanguageModel) -> Iterator[None]:
    """Inside, ``policy`` decodes as ``align`` would let it, or what makes a step fast is off."""
    if name != "plain":
        hasten(policy, halved="bfloat16" in name)
        yield
        return
    policy.decoding = None
    everything = {"cpu": math.inf}
    with (
        mock.patch.object(linear, "AVAILABLE", False),
        mock.patch.object(score, "CHUNK_ELEMENTS", {}),
        mock.patch.object(online, "MICRO_TOKENS", everything),
    ):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=list(MODELS), default="S")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    work, turns = (Work(4, 8, 4), 1) if given.quick else (Work(), given.turns)
    policy = policy_of(given.model)
    prompts = prompts_of(given.model, work)
    learners = {name: learner_of(policy, work, PASSES, mixed_precision="bfloat16" in name) for name in WAYS}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    for turn in range(turns + 1):  # the first is a warm-up
        for name in WAYS:
            with way(name, policy):
                seconds = step(learners[name], prompts, fresh=name != "plain")
            if turn:
                found[name].append(seconds)
                say(f"turn {turn}, {name}: " + ", ".join(f"{k} {v:.2f}" for k, v in seconds.items()))
    result: dict[str, Any] = {"benchmark": "step_profile", "quick": given.quick, "model": given.model}
    result |= {"threads": given.threads, "forwards": FORWARDS}
    for name, rows in found.items():
        medians = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        with way(name, policy):
            result[name] = medians | {"update": update(learners[name], prompts)}
    whole = [sum(row.values()) for row in found["plain"]]
    result["ratio_median"] = statistics.median(
        a / sum(b.values()) for a, b in zip(whole, found["fast"], strict=True)
    )
    print(json.dumps(result))


def step(learner: Learner, prompts: Sequence[Prompt], fresh: bool) -> dict[str, float]:
    """Seconds of the parts of a step as ``run_step`` takes them, or reading its rollouts again."""
    marks = [time.perf_counter()]
    rollouts = act(learner.engine(0), prompts)
    marks.append(time.perf_counter())
    scores = judge(Distinct(), rollouts)
    with mixed_precision(learner.policy.device, learner.config.mixed_precision):
        batch = credit(learner, rollouts, scores, fresh=fresh)
        marks.append(time.perf_counter())
        torch.clear_autocast_cache()
        learn(learner, batch, 0)
    marks.append(time.perf_counter())
    names = ("sample", "credit", "learn")
    return dict(zip(names, (b - a for a, b in itertools.pairwise(marks)), strict=True))


def update(learner: Learner, prompts: Sequence[Prompt]) -> dict[str, float]:
    """The shares of an update's time by kind of operation."""
    rollouts = act(learner.engine(0), prompts)
    with mixed_precision(learner.policy.device, learner.config.mixed_precision):
        batch = credit(learner, rollouts, judge(Distinct(), rollouts), fresh=True)
        torch.clear_autocast_cache()
        return shares(lambda: learn(learner, batch, 0))


if __name__ == "__main__":
    main()
