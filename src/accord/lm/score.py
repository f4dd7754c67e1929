"""The one scorer: log-probs, entropy and exact KL of chosen tokens, over the whole vocabulary.

Temperature and the float32 log-sum-exp live here and nowhere else. Tokens pass through the output
head a chunk at a time; where there are many, the tokens x vocabulary tensor never exists as a whole, and with
gradients a chunk's logits are computed again in the backward pass instead of being kept.

Legend: B rows, T completion tokens, N real tokens, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from accord.errors import ConfigError
from accord.lm.model import LanguageModel
from accord.lm.tokens import TokenBatch, unpack

KEPT_ELEMENTS = 1 << 25
"""Most float32 logits kept for a gradient (128 MiB); beyond, they are computed again."""
CHUNK_ELEMENTS = {"cpu": 1 << 20}
"""Logits worked on at a time: on a CPU what its cache holds (4 MiB), elsewhere all that are kept."""
LEAST_ROWS, MANY_ROWS = 64, 256  # of a chunk, for each reads the head anew; more than they hold, up to many


@dataclass(frozen=True)
class TokenScores:
    """Each (B, T), nats, zero where the policy chose no token; ``kl`` is KL(policy || reference) there."""

    logprobs: Tensor
    entropy: Tensor
    ref_logprobs: Tensor | None = None
    kl: Tensor | None = None


def log_softmax(
    logits_NV: Tensor, temperature: float, kept_NV: Tensor | None = None, *, exp: bool = False
) -> Tensor:
    """(N, V) float32 log-probs at ``temperature``, with ``exp`` probabilities, for sampler and scorer alike.
    Where only the tokens ``kept_NV`` may be chosen, they share all the mass."""
    logits_NV, normal = logits_NV.float(), torch.softmax if exp else torch.log_softmax
    if temperature != 1:  # a copy less where it changes no bit
        logits_NV = logits_NV / temperature
    logits_NV = logits_NV if kept_NV is None else logits_NV.where(kept_NV, -torch.inf)
    return normal(logits_NV, -1) if logits_NV.is_contiguous() else normal(logits_NV.t(), 0).t()


def score_hidden(
    model: LanguageModel,
    hidden_BTD: Tensor,
    batch: TokenBatch,
    temperature: float = 1.0,
    *,
    reference: LanguageModel | None = None,
    ref_hidden_BTD: Tensor | None = None,
    entropy: bool = True,
) -> TokenScores:
    """Score a batch from its states; with reference states, its log-probs and the exact KL too.

    log p(y_t) = z_{y_t} / tau - logsumexp(z / tau);  H = -sum p log p;
    KL(p || q) = sum_v p(v) (log p(v) - log q(v)) >= 0, the sum over the whole vocabulary. Where the batch
    keeps what each token was chosen among, p and q are taken over those: both leave out the rest. Without
    ``entropy`` it stays zero, which saves passes over the vocabulary.

    Raises:
        ConfigError: temperature is not positive.
    """
    if not temperature > 0:
        raise ConfigError(f"temperature is {temperature}; scoring needs a positive one")
    mask_BT = batch.chosen_BT.to(hidden_BTD.device)
    ids_N = batch.ids_BT.to(hidden_BTD.device)[mask_BT]
    hidden_ND = hidden_BTD[mask_BT]
    ref_ND = None if ref_hidden_BTD is None else ref_hidden_BTD[mask_BT]
    kept_NW = None if batch.kept_BTW is None else batch.kept_BTW.to(hidden_BTD.device)[mask_BT]
    ref_model = reference or model

    def chunk(
        hidden_cD: Tensor, ids_c: Tensor, ref_cD: Tensor | None, kept_cW: Tensor | None
    ) -> tuple[Tensor, ...]:
        logits_cV = model.logits(hidden_cD)
        kept_cV = None if kept_cW is None else unpack(kept_cW, logits_cV.shape[1])
        logp_cV = log_softmax(logits_cV, temperature, kept_cV)
        if not entropy and ref_cD is None:
            chosen_c = logp_cV.gather(1, ids_c[:, None])[:, 0]
            return chosen_c, torch.zeros_like(chosen_c)
        p_cV = logp_cV.exp()
        if kept_cV is not None:
            logp_cV = logp_cV.where(kept_cV, 0.0)  # p log p is 0 where p is, and so is its gradient
        out = [logp_cV.gather(1, ids_c[:, None])[:, 0], -(p_cV * logp_cV).sum(-1)]
        if ref_cD is not None:
            with torch.no_grad():  # adapters never touch the head, so no need to turn them off here
                ref_logp_cV = log_softmax(ref_model.logits(ref_cD), temperature, kept_cV)
                if kept_cV is not None:
                    ref_logp_cV = ref_logp_cV.where(kept_cV, 0.0)
            out += [ref_logp_cV.gather(1, ids_c[:, None])[:, 0], (p_cV * (logp_cV - ref_logp_cV)).sum(-1)]
        return tuple(out)

    width = model.net.config.vocab_size
    size = CHUNK_ELEMENTS.get(hidden_ND.device.type, KEPT_ELEMENTS) // width
    size = max(LEAST_ROWS, size, min(MANY_ROWS, 4 * size))
    recompute = torch.is_grad_enabled() and len(ids_N) * width > KEPT_ELEMENTS
    pieces = []
    for at in range(0, len(ids_N), size):
        part = slice(at, at + size)
        ref, kept = (None if each is None else each[part] for each in (ref_ND, kept_NW))
        args = (hidden_ND[part], ids_N[part], ref, kept)
        pieces.append(checkpoint(chunk, *args, use_reentrant=False) if recompute else chunk(*args))
    columns = [torch.cat(column) for column in zip(*pieces, strict=True)]

    def spread(values_N: Tensor) -> Tensor:
        return torch.zeros(mask_BT.shape, device=values_N.device).masked_scatter(mask_BT, values_N)

    return TokenScores(*(spread(column) for column in columns))


def score_tokens(
    model: LanguageModel, batch: TokenBatch, temperature: float = 1.0, *, entropy: bool = True
) -> TokenScores:
    """Score a batch's completions under ``model``: trunk and head in one call."""
    return score_hidden(model, model.hidden(batch), batch, temperature, entropy=entropy)
