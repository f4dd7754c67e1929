"""The completions of a prompt as one row, so that what they begin with passes a decoder once: for training.

A row is the shared beginning followed by what is left of each text, end to end. The attention mask lets a
token see the beginning and its own text alone, and positions go on from the beginning in each, so every
state and gradient is that of the text by itself, to rounding. A row has no padding between its texts.

Left out: encoders, which read both ways; attention in windows, where a text is longer than the window.

Legend: G groups, N inputs of all groups, L labels, W width in tokens, D width of a state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from accord.lm.classifier import Encoded, SequenceClassifier
from accord.lm.invariants import LOGPROB_BOUND
from accord.lm.shared_prefix import shared_length
from accord.lm.tokens import pad

Groups = Sequence[Sequence[Encoded]]


def packed_logits(classifier: SequenceClassifier, groups: Groups) -> Tensor:
    """(N, L) float32 logits of the groups' inputs, in order: those of ``classifier.logits``, to rounding."""
    ids: list[list[int]] = []
    owners, places, lasts = [], [], []
    for inputs in groups:
        start = shared_length(inputs)
        row = list(inputs[0].ids[:start])
        owner, place = [0] * start, list(range(start))
        for number, one in enumerate(inputs, start=1):
            rest = one.ids[start:]
            row += rest
            owner += [number] * len(rest)
            place += range(start, start + len(rest))
            lasts.append((len(ids), len(row) - 1))
        ids.append(row)
        owners.append(owner)
        places.append(place)
    device = classifier.net.device
    ids_GW = pad(ids, classifier.tokenizer.pad_token_id or 0).to(device)
    owners_GW = pad(owners, -1).to(device)
    width = ids_GW.shape[1]
    earlier_WW = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    own_GWW = (owners_GW[:, None, :] == 0) | (owners_GW[:, None, :] == owners_GW[:, :, None])
    states_GWD = classifier.net.base_model(
        input_ids=ids_GW,
        attention_mask=(own_GWW & earlier_WW)[:, None],
        position_ids=pad(places, 0).to(device),
        use_cache=False,
    ).last_hidden_state
    row_N, last_N = torch.tensor(lasts, device=device).T
    return classifier.net.score(states_GWD[row_N, last_N]).float()


def worth_packing(classifier: SequenceClassifier, groups: Groups) -> bool:
    """Whether packed rows are possible and take fewer products than padded ones.

    A row of W tokens costs about W (1 + W / 6D): 12 D^2 products a token in the matrices of a layer and 2 W D
    in its attention (Kaplan et al. 2020, arXiv:2001.08361, section 2.1).
    """
    config = classifier.net.config
    if classifier.encoder or classifier.split or getattr(config, "_attn_implementation", "") != "sdpa":
        return False
    longest = max(len(one.ids) for inputs in groups for one in inputs)
    if longest > (getattr(config, "sliding_window", None) or longest):
        return False

    def cost(rows: int, width: int) -> float:
        return rows * width * (1 + width / (6 * config.hidden_size))

    packed = max(
        sum(len(one.ids) for one in inputs) - shared_length(inputs) * (len(inputs) - 1) for inputs in groups
    )
    return cost(len(groups), packed) < 0.95 * cost(sum(map(len, groups)), longest)


@torch.no_grad()
def packing_agrees(classifier: SequenceClassifier, groups: Groups) -> bool:
    """Whether both ways give these groups the same logits, within what rounding allows."""
    plain_NL = classifier.logits([one for inputs in groups for one in inputs])
    try:
        packed_NL = packed_logits(classifier, groups)
    except (TypeError, ValueError, RuntimeError):  # an architecture that takes no mask or positions of ours
        return False
    bound = LOGPROB_BOUND[classifier.net.dtype] * max(1.0, float(plain_NL.abs().max()))
    return float((packed_NL - plain_NL).abs().max()) <= bound
