"""How near training and decoding come to what the machine allows.

    python benchmarks/roofline.py --model S

Measured first: the fastest square product and the reading of memory. From the model's sizes follows the
least time for an update (one pass forward and backward over the rollouts) and for a step of decoding (its
products, or the reading of weights, keys and values, whichever takes longer). train_share and decode_share
are those least times over the measured ones. losses says where the rest goes: the shares of the measured
time by kind of operation, from torch's profiler, and the largest of those that are no products.

The last line is one JSON object. --quick runs it at sizes that prove nothing but that it runs.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from _real_models import say
from _sizes import MODELS
from _speed import (
    Distinct,
    Work,
    bandwidth_limit,
    best_of,
    decode_seconds,
    forward_operations,
    learner_of,
    policy_of,
    product_limit,
    prompts_of,
)
from accord.align.online import act, credit, judge, learn
from accord.lm.precision import mixed_precision

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "matmul", "linear", "_linear_pointwise")
NAMES = dict.fromkeys(PRODUCTS, "products") | {"exp": "softmax", "exp_": "softmax", "sqrt": "optimiser"}
"""Kinds of operation by whole names, which are parts of other operations' names too."""
KINDS = {
    "attention": ("scaled_dot_product", "embedding_bag"),
    "softmax": ("softmax", "logsumexp", "searchsorted", "cumsum", "gather"),
    "optimiser": ("lerp", "addcdiv", "_foreach"),
}
"""Other kinds of operation by what their names hold; the rest is elementwise work and copies."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=list(MODELS), default="S")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of training")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    work = Work(rollouts=4, new=8) if given.quick else Work()
    repeats = 1 if given.quick else given.repeats
    bfloat16 = given.precision == "bfloat16"
    plain = product_limit("cpu", torch.float32)
    limits = {"operations": plain, "bandwidth": bandwidth_limit("cpu")}
    limits["training_operations"] = product_limit("cpu", torch.bfloat16) if bfloat16 else plain
    say(f"products {plain / 1e9:.0f} GFLOPS, memory {limits['bandwidth'] / 1e9:.1f} GB/s")
    result: dict[str, Any] = {"benchmark": "roofline", "quick": given.quick, "model": given.model}
    result |= {"threads": given.threads, "precision": given.precision, "limits": limits}
    print(json.dumps(result | measured(given.model, work, repeats, limits, bfloat16)))


def measured(
    model: str, work: Work, repeats: int, limits: dict[str, float], bfloat16: bool
) -> dict[str, Any]:
    """Shares, speeds and losses of an update and of decoding."""
    policy = policy_of(model)
    learner = learner_of(policy, work, mixed_precision=bfloat16)
    prompts = prompts_of(model, work)
    rollouts = act(learner.engine(0), prompts)
    with mixed_precision(policy.device, bfloat16):
        batch = credit(learner, rollouts, judge(Distinct(), rollouts))

    def update() -> None:
        with mixed_precision(policy.device, bfloat16):
            learn(learner, batch, 0)

    def decode() -> None:
        act(learner.engine(0), prompts)

    train, sample = best_of(update, repeats), best_of(decode, repeats)
    least_train = 3 * forward_operations(policy, work) / limits["training_operations"]
    step = decode_seconds(policy, work, limits["operations"], limits["bandwidth"])
    prefill = forward_operations(policy, Work(work.rollouts, work.prompt, 0)) / limits["operations"]
    losses = {"train": shares(update), "decode": shares(decode)}
    return {
        "train_share": least_train / train,
        "decode_share": (work.new * step + prefill) / sample,
        "train_tokens_per_second": work.tokens / train,
        "decode_tokens_per_second": work.rollouts * work.new / sample,
        "losses": losses,
        "largest_loss": {part: largest(found) for part, found in losses.items()},
    }


def shares(run: Callable[[], None]) -> dict[str, float]:
    """The time of one run by kind of operation; python: what no operation accounts for."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    spent: Counter[str] = Counter()
    for event in profiled.key_averages():
        spent[kind_of(event.key)] += event.self_cpu_time_total
    return {kind: seconds / sum(spent.values()) for kind, seconds in spent.most_common()}


def kind_of(name: str) -> str:
    """The kind of an operation of torch's profiler."""
    space, _, plain = name.rpartition("::")
    if plain in NAMES:
        return NAMES[plain]
    kinds = (kind for kind, parts in KINDS.items() if any(part in plain for part in parts))
    return next(kinds, "elementwise and copies" if space else "python and bookkeeping")


def largest(found: dict[str, float]) -> str:
    """The largest share that is no product."""
    return max((kind for kind in found if kind != "products"), key=lambda kind: found[kind])


if __name__ == "__main__":
    main()
