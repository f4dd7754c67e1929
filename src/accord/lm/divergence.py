"""KL between two models on what one of them says."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch

from accord.errors import ConfigError
from accord.lm.model import LanguageModel
from accord.lm.score import score_hidden
from accord.lm.tokens import TokenBatch


@torch.no_grad()
def completion_kl(
    policy: LanguageModel,
    reference: LanguageModel,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    temperature: float = 1.0,
    rows: int = 64,
) -> tuple[float, float, float]:
    """KL(policy || reference) on the policy's samples: nats a completion exact and sampled, exact a token.

    ``prompts`` and ``completions`` are token ids, row by row; both models must share the vocabulary. Where
    ``reference`` is the policy itself, it is the weights below its adapters.

    Raises:
        ConfigError: the vocabularies differ in size.
    """
    sizes = policy.net.config.vocab_size, reference.net.config.vocab_size
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"the policy has a vocabulary of {sizes[0]} tokens, the reference of {sizes[1]}; KL needs one "
            "vocabulary: compare a model with the one it was trained from"
        )
    exact = sampled = tokens = 0.0
    for at in range(0, len(prompts), rows):
        batch = TokenBatch.of(prompts[at : at + rows], completions[at : at + rows], policy.pad_id)
        with reference.adapters_off() if reference is policy else nullcontext():
            ref_BTD = reference.hidden(batch)
        scores = score_hidden(
            policy,
            policy.hidden(batch),
            batch,
            temperature,
            reference=reference,
            ref_hidden_BTD=ref_BTD,
        )
        assert scores.kl is not None
        assert scores.ref_logprobs is not None
        exact += float(scores.kl.sum())
        sampled += float((scores.logprobs - scores.ref_logprobs).sum())
        tokens += float(batch.lens_B.sum())
    return exact / len(prompts), sampled / len(prompts), exact / tokens
