"""Sampling, training and memory on a GPU, beside transformers' generate; without one it says so.

    python benchmarks/gpu.py

Carries itself: a random model of Qwen2.5-0.5B's shape in bfloat16, no file is read. Sampling: tokens a
second of accord's engine over those of generate, by turns, and the share of the memory's bandwidth that
decoding reaches. A PPO step with adapters: rollouts a second, peak memory, and the share of the fastest
product that the update reaches (MFU). The last line is one JSON object; without a GPU its "measured" is
false and there is no figure in it. --quick runs everything on a CPU at sizes that prove nothing but that it
runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from _real_models import say
from _sizes import tokenizer
from _speed import (
    Distinct,
    Work,
    bandwidth_limit,
    decode_seconds,
    forward_operations,
    product_limit,
)
from accord.align.learner import Learner
from accord.align.online import act, credit, judge, learn
from accord.align.settings import AlignConfig
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.hasten import hasten
from accord.lm.model import LanguageModel
from accord.lm.precision import mixed_precision
from accord.lm.render import Template
from accord.types import Prompt

SHAPE = {
    "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4_864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
"""Qwen2.5-0.5B's."""
SMALL = SHAPE | {"vocab_size": 4_096, "hidden_size": 112, "intermediate_size": 224, "num_hidden_layers": 2}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5, help="turns of either sampler")
    parser.add_argument("--rollouts", type=int, default=256)
    parser.add_argument("--prompt", type=int, default=256, help="tokens")
    parser.add_argument("--new", type=int, default=256, help="tokens")
    parser.add_argument("--quick", action="store_true", help="tiny sizes on a CPU; the figures mean nothing")
    given = parser.parse_args()
    result: dict[str, Any] = {"benchmark": "gpu", "quick": given.quick}
    if not (given.quick or torch.cuda.is_available()):
        say("no GPU here: nothing was measured")
        print(json.dumps(result | {"measured": False, "device": None}))
        return
    device = "cpu" if given.quick else "cuda"
    work = Work(4, 8, 4) if given.quick else Work(given.rollouts, given.prompt, given.new)
    pairs = 1 if given.quick else given.pairs
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    limits = {
        "operations": product_limit(device, torch.bfloat16, 512 if given.quick else 8192),
        "bandwidth": bandwidth_limit(device, 8 if given.quick else 4096),
    }
    policy = policy_on(device, SMALL if given.quick else SHAPE)
    result |= {"measured": True, "device": name, "limits": limits, "work": vars(work)}
    result |= sampling(policy, work, pairs, limits)
    print(json.dumps(result | training(policy, work, limits)))


def policy_on(device: str, shape: dict[str, Any]) -> LanguageModel:
    """The random model; the end token lies behind what it can say."""
    torch.manual_seed(0)
    end = shape["vocab_size"]
    net = Qwen2ForCausalLM(
        Qwen2Config(**shape, max_position_embeddings=4096, bos_token_id=None, eos_token_id=end)
    )
    policy = LanguageModel(net.to(device, torch.bfloat16), tokenizer("S"), "random", Template.PLAIN)
    reason = hasten(policy)
    if reason:
        say(f"no fast path: {reason}")
    return policy


def wait() -> None:
    """Until the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(run: Any) -> float:
    """Seconds of one run."""
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


def drawn(work: Work) -> list[list[int]]:
    """Random prompts of ids that the small model knows too."""
    return torch.randint(4_096, (work.rollouts, work.prompt)).tolist()


def sampling(policy: LanguageModel, work: Work, pairs: int, limits: dict[str, float]) -> dict[str, Any]:
    """Both samplers by turns, after one turn of either that is not counted."""
    ids = drawn(work)
    engine = Engine(policy, SamplingConfig(max_new_tokens=work.new, rows=work.rollouts))
    asked = torch.tensor(ids, device=policy.device)
    settings = GenerationConfig(
        max_new_tokens=work.new, min_new_tokens=work.new, do_sample=True, top_k=0, pad_token_id=0
    )

    def theirs() -> None:
        with torch.no_grad():
            policy.net.generate(asked, attention_mask=torch.ones_like(asked), generation_config=settings)

    def ours() -> None:
        engine.generate(ids)

    for run in (ours, theirs):
        run()
    turns = [(timed(ours), timed(theirs)) for _ in range(pairs)]
    tokens = work.rollouts * work.new
    least = work.new * decode_seconds(policy, work, limits["operations"], limits["bandwidth"])
    return {
        "sampling_ratio_median": statistics.median(b / a for a, b in turns),
        "sampling_tokens_per_second": tokens / statistics.median(a for a, _ in turns),
        "generate_tokens_per_second": tokens / statistics.median(b for _, b in turns),
        "decode_share": least / statistics.median(a for a, _ in turns),
    }


def training(policy: LanguageModel, work: Work, limits: dict[str, float]) -> dict[str, Any]:
    """A PPO step with adapters, one pass: its speed, memory, and the share of the fastest product."""
    config = AlignConfig(
        prompts_per_step=work.rollouts, minibatch=work.rollouts, epochs=1, max_new_tokens=work.new,
        truncation_penalty=0.0, mixed_precision=True, micro_rows=32,
    )  # fmt: skip
    learner = Learner(policy, config)
    prompts = [Prompt.from_text(" ".join(f"w{i % 4096}" for i in ids)) for ids in drawn(work)]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    found: dict[str, float] = {}
    for step in range(3):

        def whole(step: int = step) -> None:
            rollouts = act(learner.engine(step), prompts)
            with mixed_precision(policy.device):
                batch = credit(learner, rollouts, judge(Distinct(), rollouts))
            with mixed_precision(policy.device):
                found["update"] = timed(lambda: learn(learner, batch, step))

        found["step"] = timed(whole)
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
    # Weights below adapters get no gradient: two products backward fall to one.
    needed = 2 * forward_operations(policy, work)
    return {
        "ppo_rollouts_per_second": work.rollouts / found["step"],
        "ppo_peak_gb": peak,
        "mfu": needed / found["update"] / limits["operations"],
    }


if __name__ == "__main__":
    main()
