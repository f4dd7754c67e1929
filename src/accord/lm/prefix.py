"""A batch's states with each of its prompts read once, however many of its completions stand in it.

Prompts pass a decoder as rows of their own; completions then read their keys and values, with gradients, so
that states and gradients are those of each row by itself, to rounding. ``lm.hasten`` checks it and puts it to
use.

Left out: encoder-decoders, whose encoder reads a prompt for each completion; attention in windows.

Legend: B rows, P prompts that differ, S prompt tokens, T completion tokens, D width, N tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from accord.lm.invariants import LOGPROB_BOUND
from accord.lm.model import Kind, LanguageModel
from accord.lm.tokens import TokenBatch

WORTH = 0.9
"""Prompts are shared where that leaves at most this much of the tokens to be read."""


def may_share(model: LanguageModel) -> bool:
    """Whether ``model`` is a decoder whose attention takes a mask of ours and sees all that came before."""
    config: Any = model.net.config
    sdpa = getattr(config, "_attn_implementation", "") == "sdpa"
    return sdpa and model.kind is Kind.DECODER and not getattr(config, "sliding_window", None)


def shared_hidden(model: LanguageModel, batch: TokenBatch, after: bool) -> Tensor | None:
    """What ``model.hidden`` gives of a batch on the model's device; ``None`` where sharing does not pay."""
    lens_B, rows, said = batch.prompt_lens_B, len(batch), batch.ids_BT.shape[1] - (not after)
    numbers: dict[tuple[int, ...], int] = {}
    at = [
        numbers.setdefault(tuple(ids[:length]), len(numbers))
        for ids, length in zip(batch.prompt_ids_BS.tolist(), lens_B.tolist(), strict=True)
    ]
    plain = rows * (int((lens_B + batch.lens_B).max()) - (not after))
    if not said or len(numbers) * batch.prompt_ids_BS.shape[1] + rows * said > WORTH * plain:
        return None
    at_B, cache = torch.tensor(at, device=model.device), DynamicCache()
    first_P = torch.tensor([at.index(number) for number in range(len(numbers))], device=model.device)
    # Padded on the right prompts need no mask: no token sees what comes after it.
    read = model.trunk(input_ids=batch.prompt_ids_BS[first_P], past_key_values=cache, use_cache=True)
    cache.batch_select_indices(at_B)
    of_prompt_BTS = batch.prompt_mask_BS[:, None].expand(-1, said, -1)
    earlier_TT = torch.ones(said, said, dtype=torch.bool, device=model.device).tril()
    states_BTD = model.trunk(
        input_ids=batch.ids_BT[:, :said],
        attention_mask=torch.cat([of_prompt_BTS, earlier_TT.expand(rows, -1, -1)], dim=2)[:, None],
        position_ids=lens_B[:, None] + torch.arange(said, device=model.device),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return torch.cat([read.last_hidden_state[at_B, lens_B - 1][:, None], states_BTD], dim=1)


def sharing_differs(model: LanguageModel, seed: int = 0) -> str | None:
    """How log-probs of a few random rows, or their gradient, differ where prompts are shared; ``None``: not.

    The gradient is that of the embeddings, which all of a backward pass comes down to.
    """
    generator = torch.Generator().manual_seed(seed)
    size, bound = model.net.config.vocab_size, LOGPROB_BOUND.get(model.net.dtype, 0.0)
    prompts_PS = torch.randint(size, (2, 12), generator=generator)
    ids_BT = torch.randint(size, (5, 6), generator=generator)
    at, lens_P = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([12, 7])
    batch = TokenBatch(prompts_PS[at], lens_P[at], ids_BT, torch.tensor([6, 4, 6, 1, 5])).to(model.device)
    try:
        (ours_NV, ours), (theirs_NV, theirs) = (_read(model, batch, shared) for shared in (True, False))
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
        return f"it does not run ({type(error).__name__}: {error})"
    gap = float((ours_NV - theirs_NV).abs().max())
    turned = float((ours - theirs).norm() / theirs.norm().clamp(min=1e-30))
    if gap <= bound and turned <= 10 * bound:
        return None
    return f"log-probs differ by {gap:.2g}, {bound:g} is allowed, their gradient by {turned:.2g} of its size"


def _read(model: LanguageModel, batch: TokenBatch, shared: bool) -> tuple[Tensor, Tensor]:
    """(N, V) log-probs at the completions' tokens, the state behind them included, and a gradient."""
    weight: Any = model.net.get_input_embeddings().weight
    wanted, reading, model.reading = weight.requires_grad, model.reading, None
    try:
        weight.requires_grad_(True)
        with torch.enable_grad():
            states_BUD = shared_hidden(model, batch, True) if shared else model.hidden(batch, after=True)
            if states_BUD is None:
                raise ValueError("the rows do not share enough")
            real_BU = torch.arange(states_BUD.shape[1], device=model.device) <= batch.lens_B[:, None]
            logp_NV = torch.log_softmax(model.logits(states_BUD[real_BU]), -1)
            slope = torch.autograd.grad(logp_NV[:, :2].sum(), weight)[0]
        return logp_NV.detach(), slope
    finally:
        weight.requires_grad_(wanted)
        model.reading = reading
