"""The completions of a prompt as one row, so that what they begin with passes a decoder once: for training.

A row is the shared beginning followed by what is left of each text, end to end. The attention mask lets a
token see the beginning and its own text alone, and positions go on from the beginning in each, so every
state and gradient is that of the text by itself, to rounding. A row has no padding between its texts.

Left out: encoders, which read both ways; attention in windows, where a text is longer than the window.

Legend: G groups, N inputs of all groups, L labels, T completion tokens, W width in tokens, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from accord.lm.classifier import Encoded, SequenceClassifier
from accord.lm.invariants import LOGPROB_BOUND
from accord.lm.model import Kind, LanguageModel
from accord.lm.score import score_hidden, score_tokens
from accord.lm.shared_prefix import shared_length
from accord.lm.tokens import TokenBatch, pad

log = logging.getLogger(__name__)

Groups = Sequence[Sequence[Encoded]]
Asked = tuple[Sequence[int], Sequence[Sequence[int]]]
"""A prompt and its completions, in token ids."""


@dataclass(frozen=True)
class _Rows:
    """A beginning and what goes on from it, a row a group; ``starts[n]`` is where text n goes on."""

    ids_GW: Tensor
    seen_GWW: Tensor
    places_GW: Tensor
    starts: list[tuple[int, int]]

    @classmethod
    def of(cls, groups: Sequence[Asked], pad_id: int, device: torch.device) -> _Rows:
        ids: list[list[int]] = []
        owners, places, starts = [], [], []
        for beginning, rests in groups:
            row, owner, place = list(beginning), [0] * len(beginning), list(range(len(beginning)))
            for number, rest in enumerate(rests, start=1):
                starts.append((len(ids), len(row)))
                row += rest
                owner += [number] * len(rest)
                place += range(len(beginning), len(beginning) + len(rest))
            ids.append(row)
            owners.append(owner)
            places.append(place)
        owners_GW = pad(owners, -1).to(device)
        width = owners_GW.shape[1]
        earlier_WW = torch.ones(width, width, dtype=torch.bool, device=device).tril()
        own_GWW = (owners_GW[:, None, :] == 0) | (owners_GW[:, None, :] == owners_GW[:, :, None])
        return cls(pad(ids, pad_id).to(device), own_GWW & earlier_WW, pad(places, 0).to(device), starts)

    @property
    def inputs(self) -> dict[str, Any]:
        """What a trunk is called with."""
        return {
            "input_ids": self.ids_GW,
            "attention_mask": self.seen_GWW[:, None],
            "position_ids": self.places_GW,
            "use_cache": False,
        }


def packed_logits(classifier: SequenceClassifier, groups: Groups) -> Tensor:
    """(N, L) float32 logits of the groups' inputs, in order: those of ``classifier.logits``, to rounding."""
    asked: list[Asked] = []
    for inputs in groups:
        start = shared_length(inputs)
        asked.append((inputs[0].ids[:start], [one.ids[start:] for one in inputs]))
    device = classifier.net.device
    rows = _Rows.of(asked, classifier.tokenizer.pad_token_id or 0, device)
    states_GWD = classifier.net.base_model(**rows.inputs).last_hidden_state
    row_N, start_N = torch.tensor(rows.starts, device=device).T
    lengths_N = torch.tensor([len(rest) for _, rests in asked for rest in rests], device=device)
    return classifier.net.score(states_GWD[row_N, start_N + lengths_N - 1]).float()


def packed_logprobs(model: LanguageModel, groups: Sequence[Asked]) -> tuple[Tensor, Tensor]:
    """(N,) log-probs of the groups' whole completions, in order, and (N,) their lengths.

    Those of ``score_tokens``, to rounding. A completion's first token is predicted from the prompt's last;
    its last token predicts nothing, so it is not read at all.
    """
    completions = [ids for _, texts in groups for ids in texts]
    batch = TokenBatch.of([()] * len(completions), completions, model.pad_id).to(model.device)
    asked = [(prompt, [ids[:-1] for ids in texts]) for prompt, texts in groups]
    rows = _Rows.of(asked, model.pad_id, model.device)
    states_GWD = model.trunk(**rows.inputs).last_hidden_state
    row_N, start_N = torch.tensor(rows.starts, device=model.device).T
    ends_N = torch.tensor([len(prompt) - 1 for prompt, texts in groups for _ in texts], device=model.device)
    steps_T = torch.arange(batch.ids_BT.shape[1], device=model.device)
    at_NT = start_N[:, None] + steps_T - 1
    at_NT[:, 0] = ends_N
    at_NT = at_NT.clamp(max=states_GWD.shape[1] - 1)  # columns behind a text's end are masked
    # A prompt's completions share its last state. On several threads the gradient of fancy indexing adds what
    # they send to it in no fixed order; that of index_select does.
    flat_NT = row_N[:, None] * states_GWD.shape[1] + at_NT
    states_NTD = states_GWD.flatten(0, 1).index_select(0, flat_NT.flatten()).unflatten(0, flat_NT.shape)
    scores = score_hidden(model, states_NTD, batch, entropy=False)
    return scores.logprobs.sum(1), batch.lens_B


def worth_packing(classifier: SequenceClassifier, groups: Groups) -> bool:
    """Whether packed rows are possible and take fewer products than padded ones."""
    longest = max(len(one.ids) for inputs in groups for one in inputs)
    if classifier.encoder or classifier.split or not _takes_masks(classifier.net.config, longest):
        return False
    packed = max(
        sum(len(one.ids) for one in inputs) - shared_length(inputs) * (len(inputs) - 1) for inputs in groups
    )
    return _cheaper(classifier.net.config, (len(groups), packed), (sum(map(len, groups)), longest))


def worth_packing_answers(model: LanguageModel, groups: Sequence[Asked]) -> bool:
    """The same of a language model's prompts and completions."""
    longest = max(len(prompt) + len(ids) for prompt, texts in groups for ids in texts)
    if model.kind is Kind.ENCODER_DECODER or not _takes_masks(model.net.config, longest):
        return False
    if all(len(texts) < 2 for _, texts in groups):
        return False
    packed = max(len(prompt) + sum(len(ids) - 1 for ids in texts) for prompt, texts in groups)
    plain = (sum(len(texts) for _, texts in groups), longest)
    return _cheaper(model.net.config, (len(groups), packed), plain)


def _takes_masks(config: Any, longest: int) -> bool:
    """Whether attention reads a mask of ours, and no window is shorter than a text."""
    if getattr(config, "_attn_implementation", "") != "sdpa":
        return False
    return longest <= (getattr(config, "sliding_window", None) or longest)


def _cheaper(config: Any, packed: tuple[int, int], plain: tuple[int, int]) -> bool:
    """Rows and width of either: a row of W tokens costs about W (1 + W / 6D).

    12 D^2 products a token in the matrices of a layer and 2 W D in its attention (Kaplan et al. 2020,
    arXiv:2001.08361, section 2.1).
    """

    def cost(rows: int, width: int) -> float:
        return rows * width * (1 + width / (6 * config.hidden_size))

    return cost(*packed) < 0.95 * cost(*plain)


@torch.no_grad()
def packing_agrees(classifier: SequenceClassifier, groups: Groups) -> bool:
    """Whether both ways give these groups the same logits, within what rounding allows; told where not."""
    plain_NL = classifier.logits([one for inputs in groups for one in inputs])
    bound = LOGPROB_BOUND[classifier.net.dtype] * max(1.0, float(plain_NL.abs().max()))
    return _agrees(classifier.name, bound, lambda: (packed_logits(classifier, groups) - plain_NL).abs())


@torch.no_grad()
def packing_agrees_on_answers(model: LanguageModel, groups: Sequence[Asked]) -> bool:
    """Whether both ways give these completions the same log-probs a token, within what rounding allows."""
    texts = [(prompt, ids) for prompt, completions in groups for ids in completions]
    batch = TokenBatch.of([prompt for prompt, _ in texts], [ids for _, ids in texts], model.pad_id)
    plain_N = score_tokens(model, batch.to(model.device), entropy=False).logprobs.sum(1)

    def gap() -> Tensor:
        packed_N, lengths_N = packed_logprobs(model, groups)
        return (packed_N - plain_N).abs() / lengths_N

    return _agrees(model.name, LOGPROB_BOUND[model.net.dtype], gap)


def _agrees(name: str, bound: float, gap: Callable[[], Tensor]) -> bool:
    """Whether the largest gap is within the bound; a fast path that is not taken is said."""
    try:
        largest = float(gap().max())
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:  # it takes no mask or positions of ours
        log.info("%s reads each completion with its prompt: it does not read them packed (%s)", name, error)
        return False
    if not largest <= bound:
        log.warning("%s reads each completion with its prompt: packed, it differs by %.2g", name, largest)
    return largest <= bound
