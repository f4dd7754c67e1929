"""What roofline.py, growth.py and gpu.py share: a policy to be timed, steps of it, and what they must cost.

Products of a token: 2 for each weight of a matrix forward, 4 more backward (Kaplan et al. 2020,
arXiv:2001.08361); attention adds 2 W D a layer for each of the W tokens a token sees, for queries with keys
and as much for weights with values.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import LlamaForCausalLM

from _sizes import draw, llama, outside, tokenizer, words
from accord.align.learner import Learner
from accord.align.settings import AlignConfig
from accord.lm.hasten import hasten
from accord.lm.linear import linear
from accord.lm.model import LanguageModel
from accord.lm.render import Template
from accord.types import Prompt, Score


class Distinct:
    """The share of distinct tokens in a completion."""

    def score(self, prompt, completions):
        return [Score(len(set(c.ids)) / len(c.ids)) for c in completions]


@dataclass(frozen=True)
class Work:
    """A step: so many rollouts of so many tokens behind so long a prompt."""

    rollouts: int = 32
    prompt: int = 24
    new: int = 64

    @property
    def tokens(self) -> int:
        """Of all rollouts, prompts included."""
        return self.rollouts * (self.prompt + self.new)


def policy_of(model: str, **config) -> LanguageModel:
    """The random Llama, which no token ends, made fast as ``align`` makes it in float32."""
    vocabulary = config.get("vocab_size", outside(model))
    net = LlamaForCausalLM(llama(model, **{"eos_token_id": vocabulary} | config))
    policy = LanguageModel(net, tokenizer(model), "random", Template.PLAIN)
    hasten(policy)
    return policy


def prompts_of(model: str, work: Work) -> list[Prompt]:
    """A step's prompts."""
    return [Prompt.from_text(words(ids)) for ids in draw(model, work.rollouts, work.prompt)]


def learner_of(policy: LanguageModel, work: Work, passes: int = 1, **settings) -> Learner:
    """PPO, all weights training."""
    # A rate near zero: updates are timed again and again, and the policy has to stay the one that sampled.
    config = AlignConfig(
        prompts_per_step=work.rollouts, minibatch=min(32, work.rollouts), epochs=passes, lora_rank=0,
        learning_rate=1e-9, max_new_tokens=work.new, truncation_penalty=0.0, **settings,
    )  # fmt: skip
    return Learner(policy, config)


def best_of(run: Callable[[], object], repeats: int, wait: Callable[[], None] = lambda: None) -> float:
    """Seconds of the fastest of ``repeats`` runs, after one that is not counted; ``wait`` ends each."""
    run()
    found = []
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        run()
        wait()
        found.append(time.perf_counter() - start)
    return min(found)


# -- what a machine allows -----------------------------------------------------------------------


def product_limit(device: str, dtype: torch.dtype, size: int = 2048) -> float:
    """Operations a second of a square product, by the faster of the libraries at hand."""
    x, w = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    ways = (lambda: linear(x, w), lambda: torch.nn.functional.linear(x, w))
    return 2 * size**3 / min(best_of(way, 10, wait) for way in ways)


def bandwidth_limit(device: str, megabytes: int = 256) -> float:
    """Bytes a second that memory gives when it is only read."""
    x = torch.ones(megabytes << 18, device=device)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    return x.numel() * 4 / best_of(x.sum, 10, wait)


# -- what the work needs -------------------------------------------------------------------------


def weights(policy: LanguageModel) -> tuple[int, int]:
    """Weights in the matrices of the layers, and in the output head."""
    inside = sum(
        p.numel() for n, p in policy.net.get_decoder().named_parameters() if p.dim() == 2 and "embed" not in n
    )
    return inside, policy.net.get_output_embeddings().weight.numel()


def head_width(policy: LanguageModel) -> int:
    """Of one head of attention."""
    config = policy.net.config
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def forward_operations(policy: LanguageModel, work: Work) -> float:
    """Of one pass over the rollouts; the head reads the completions alone."""
    inside, head = weights(policy)
    config, length = policy.net.config, work.prompt + work.new
    seen = length * (length + 1) / 2
    attention = 4 * seen * config.num_hidden_layers * config.num_attention_heads * head_width(policy)
    return work.rollouts * (2 * inside * length + 2 * head * work.new + attention)


def decode_seconds(policy: LanguageModel, work: Work, operations: float, bandwidth: float) -> float:
    """The least time for one step of decoding all rollouts, half of their tokens behind them."""
    inside, head = weights(policy)
    config, behind = policy.net.config, work.prompt + work.new / 2
    width = config.num_attention_heads * head_width(policy)
    size = next(policy.net.parameters()).element_size()
    computed = work.rollouts * (2 * (inside + head) + 4 * behind * config.num_hidden_layers * width)
    keys = 2 * config.num_key_value_heads * head_width(policy) * config.num_hidden_layers * behind
    return max(computed / operations, (inside + head + work.rollouts * keys) * size / bandwidth)
