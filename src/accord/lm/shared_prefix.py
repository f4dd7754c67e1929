"""Many completions of one prompt, the prompt read once: for best of n with n in the hundreds.

Legend: N inputs, L labels, W width in tokens, D width of a state.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from accord.lm.classifier import Encoded, SequenceClassifier
from accord.lm.tokens import pad

ROWS = 64


@torch.no_grad()
def score_shared(classifier: SequenceClassifier, inputs: Sequence[Encoded], rows: int = ROWS) -> Tensor:
    """(N, L) logits, those of :meth:`SequenceClassifier.score_inputs` to rounding; batches sorted by length.

    The tokens that all inputs begin with pass a decoder once, and the rest reads their keys and values. An
    encoder reads both ways, so nothing can be shared: its inputs pass whole.

    Raises:
        ModelError: the head was never trained.
    """
    shared = shared_length(inputs)
    reads_ahead = classifier.encoder or classifier.net.config.is_encoder_decoder
    if reads_ahead or classifier.fresh or len(inputs) < 2 or not shared:
        return classifier.score_inputs(inputs, rows)  # which refuses a fresh head
    net, device = classifier.net, classifier.net.device
    whole = DynamicCache(config=net.config)
    first = torch.tensor([inputs[0].ids[:shared]], device=device)
    net.base_model(input_ids=first, past_key_values=whole, use_cache=True)
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i].ids))
    out_NL = torch.zeros(len(inputs), net.config.num_labels)
    for at in range(0, len(order), rows):
        part = order[at : at + rows]
        cache = copy.deepcopy(whole)
        cache.batch_repeat_interleave(len(part))
        rest = [inputs[i].ids[shared:] for i in part]
        ids_NW = pad(rest, classifier.tokenizer.pad_token_id or 0, "right").to(device)
        states_NWD = net.base_model(input_ids=ids_NW, past_key_values=cache, use_cache=True).last_hidden_state
        last_N = torch.tensor([len(ids) - 1 for ids in rest], device=device)
        out_NL[part] = net.score(states_NWD[torch.arange(len(part), device=device), last_N]).float().cpu()
    return out_NL


def shared_length(inputs: Sequence[Encoded]) -> int:
    """How many tokens all inputs begin with; at least one of each is left to be read."""
    if not inputs:
        return 0
    low, high = min(x.ids for x in inputs), max(x.ids for x in inputs)
    most = min(len(x.ids) for x in inputs) - 1
    differ = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), most)
    return min(most, differ)
