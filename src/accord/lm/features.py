"""What a classifier's head reads: the last hidden layer, one vector an input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from accord.lm.classifier import HEADS, Encoded, SequenceClassifier
from accord.lm.tokens import length_mask

ROWS = 64


@torch.no_grad()
def features(classifier: SequenceClassifier, inputs: Sequence[Encoded], rows: int = ROWS) -> Tensor:
    """(N, D) float32, in batches sorted by length.

    With a trained head: the input of its last linear layer, so that the logits are linear in it. With a fresh
    head (an encoder or a language model that was loaded for its embeddings): the mean of the last hidden
    states over an input's tokens.
    """
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i].ids))
    found_ND = torch.zeros(len(inputs), 0)
    for at in range(0, len(order), rows):
        part = order[at : at + rows]
        part_ND = _part(classifier, [inputs[i] for i in part])
        if not at:
            found_ND = torch.zeros(len(inputs), part_ND.shape[1])
        found_ND[part] = part_ND
    return found_ND


def _part(classifier: SequenceClassifier, inputs: Sequence[Encoded]) -> Tensor:
    seen: list[Tensor] = []
    net = classifier.net
    if classifier.fresh:
        hook = net.base_model.register_forward_hook(lambda _, __, out: seen.append(out.last_hidden_state))
    else:
        hook = last_linear(net).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        classifier.logits(inputs)
    finally:
        hook.remove()
    if not classifier.fresh:
        return seen[-1].float().cpu()
    states_NWD = seen[-1].float().cpu()
    mask_NW1 = length_mask(torch.tensor([len(x.ids) for x in inputs]), states_NWD.shape[1])[:, :, None]
    return (states_NWD * mask_NW1).sum(dim=1) / mask_NW1.sum(dim=1)


def last_linear(net: Any) -> nn.Linear:
    """The layer that makes the logits."""
    heads = [
        module
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear) and any(part in HEADS for part in name.split("."))
    ]
    return heads[-1]
