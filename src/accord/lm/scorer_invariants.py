"""The invariants of what judges: reward models and classifiers, checked in seconds.

The counterpart of :mod:`accord.lm.invariants`, for a head that gives a text one number.

Legend: N texts, L labels.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from accord.errors import ModelError
from accord.lm.classifier import Encoded, SequenceClassifier
from accord.lm.dropout import dropout_rates
from accord.lm.invariants import LOGPROB_BOUND, Check, check, gap
from accord.types import Completion, Group, Prompt, Score

WORDS = ("the", "parcel", "is", "late", "sorry", "refund", "7", "tomorrow", "please", "no", "thanks", "why?")
TEXTS = 6


class SavedScorer(Protocol):
    """A scorer over one classifier that can be written to a folder and read back."""

    classifier: SequenceClassifier

    def score_groups(self, groups: Sequence[Group]) -> list[list[Score]]:
        """One score a completion."""
        ...

    def save(self, path: str | Path) -> None:
        """Write a folder."""
        ...

    @classmethod
    def load(cls, path: str | Path) -> SavedScorer:
        """Read it back."""
        ...


def check_scorer(scorer: SavedScorer, seed: int = 0) -> list[Check]:
    """Whether a reward model reads the right token, alone as in a batch, and survives its own folder."""
    checks = _check_all(scorer.classifier, seed)
    if scorer.classifier.fresh:
        return checks
    groups = _groups(seed)

    def scores(one: SavedScorer) -> Tensor:
        return torch.tensor([s.value for group in one.score_groups(groups) for s in group])

    def saved_and_loaded(folder: str) -> Tensor:
        scorer.save(folder)
        return scores(type(scorer).load(folder))

    return [*checks, _check_folder(scores(scorer), saved_and_loaded)]


def check_classifier(classifier: SequenceClassifier, seed: int = 0) -> list[Check]:
    """The same for a bare classifier with any number of labels."""
    checks = _check_all(classifier, seed)
    if classifier.fresh:
        return checks
    inputs = _inputs(classifier, seed)

    def saved_and_loaded(folder: str) -> Tensor:
        classifier.save(folder)
        loaded = SequenceClassifier.load(folder, device=str(classifier.net.device))
        return loaded.score_inputs(inputs)

    return [*checks, _check_folder(classifier.score_inputs(inputs), saved_and_loaded)]


# -- the checks --------------------------------------------------------------------------------


def _check_all(classifier: SequenceClassifier, seed: int) -> list[Check]:
    fresh = check(
        "the head was trained",
        int(classifier.fresh),
        0,
        "The head's weights are random, and so would be every score; train it with `accord reward`",
    )
    if classifier.fresh:
        return [fresh]
    inputs = _inputs(classifier, seed)
    with torch.no_grad(), torch.random.fork_rng(devices=_cuda(classifier)):
        return [fresh, *_check_dropout(classifier, inputs), *_check_reading(classifier, inputs)]


def _check_reading(classifier: SequenceClassifier, inputs: list[Encoded]) -> Iterator[Check]:
    right_NL = classifier.logits(inputs)
    bound = LOGPROB_BOUND[classifier.net.dtype] * max(1.0, float(right_NL.abs().max()))
    alone_NL = torch.cat([classifier.logits([x]) for x in inputs])
    plain_NL = torch.cat([_plain_logits(classifier, x) for x in _with_special_ends(classifier, inputs)])
    ours_NL = classifier.logits(_with_special_ends(classifier, inputs))
    yield check(
        "the score is read at the last real token",
        gap(ours_NL, plain_NL),
        bound,
        "The head reads another position than the end of the text: it must be found by length, because the "
        "pad id may be the end token",
    )
    advice = "A score depends on padding or on the other texts of its batch; look at masks and positions"
    yield check("alone = in a batch", gap(alone_NL, right_NL), bound, advice)
    turned_NL = classifier.logits(inputs[::-2])
    yield check("other batch composition", gap(turned_NL, right_NL.flip(0)[::2]), bound, advice)
    if not (classifier.encoder or classifier.split):
        left_NL = classifier.logits(inputs, pad_side="left")
        yield check("left padded = right padded", gap(left_NL, right_NL), bound, advice)
    spread = float(right_NL.std(0).max())
    yield Check(
        "different texts get different scores",
        spread > 1e-6,
        spread,
        1e-6,
        "Every text gets the same score: the head is zero or reads a token that is the same in all of them",
    )
    yield check(
        "a fresh head is refused",
        int(not _refuses_fresh(classifier, inputs)),
        0,
        "A head marked as never trained was used to score; its random numbers would pass for rewards",
    )


def _check_dropout(classifier: SequenceClassifier, inputs: list[Encoded]) -> Iterator[Check]:
    rates = dropout_rates(classifier.net)
    yield check(
        "no dropout",
        len(rates),
        0,
        f"Dropout is on in {[type(holder).__name__ + '.' + key for holder, key in rates[:3]]}; call "
        "accord.lm.dropout.silence_dropout on what you changed",
    )
    yield check(
        "scoring twice gives the same bits",
        gap(classifier.logits(inputs), classifier.logits(inputs)),
        0,
        "Two calls differ: dropout is active, or a kernel is not deterministic",
    )


def _check_folder(before: Tensor, saved_and_loaded: Callable[[str], Tensor]) -> Check:
    name = "saved and loaded, the same scores to the bit"
    advice = "What is loaded is not what was saved: a lost head, template, length limit or standardisation"
    with tempfile.TemporaryDirectory() as folder:
        try:
            after = saved_and_loaded(folder)
        except ModelError as error:
            return Check(name, False, float("inf"), 0.0, f"{advice}. {error}")
    return check(name, gap(after, before), 0, advice)


# -- measuring ---------------------------------------------------------------------------------


def _plain_logits(classifier: SequenceClassifier, one: Encoded) -> Tensor:
    """(1, L) logits by transformers alone: one unpadded text; a decoder's last token is read here."""
    net = classifier.net
    ids_1W = torch.tensor([one.ids], device=net.device)
    ones_1W = torch.ones_like(ids_1W)
    if classifier.split:
        read_1S = torch.tensor([one.before], device=net.device)
        states_1WD = net.base_model(input_ids=read_1S, decoder_input_ids=ids_1W).last_hidden_state
        return net.classification_head(states_1WD[:, -1]).float()
    if classifier.encoder:
        extra = {"token_type_ids": torch.tensor([one.types], device=net.device)} if one.types else {}
        return net(input_ids=ids_1W, attention_mask=ones_1W, **extra).logits.float()
    states_1WD = net.base_model(input_ids=ids_1W, attention_mask=ones_1W).last_hidden_state
    return net.score(states_1WD[:, -1]).float()


def _with_special_ends(classifier: SequenceClassifier, inputs: list[Encoded]) -> list[Encoded]:
    """A decoder's texts, some of which end with the end or the pad token, or hold them inside."""
    tokenizer = classifier.tokenizer
    if classifier.encoder:
        return inputs
    special = [i for i in (tokenizer.eos_token_id, tokenizer.pad_token_id) if i is not None]
    longer = [replace(x, ids=(*x.ids, token)) for token in special for x in inputs]
    return [*inputs, *longer, *(replace(x, ids=(*x.ids, *inputs[0].ids)) for x in longer)]


def _refuses_fresh(classifier: SequenceClassifier, inputs: list[Encoded]) -> bool:
    untrained = copy.copy(classifier)
    untrained.fresh = True
    try:
        untrained.score_inputs(inputs)
    except ModelError:
        return True
    return False


def _inputs(classifier: SequenceClassifier, seed: int) -> list[Encoded]:
    return [classifier.encode(prompt, c.text) for prompt, group in _groups(seed) for c in group]


def _groups(seed: int) -> list[Group]:
    """Prompts and completions of different lengths, in plain words."""
    rng = np.random.default_rng(seed)

    def text(count: int) -> str:
        return " ".join(rng.choice(WORDS, count))

    return [
        (Prompt.from_text(text(2 + 3 * i)), [Completion(text(1 + i)), Completion(text(4 + 2 * i))])
        for i in range(TEXTS // 2)
    ]


def _cuda(classifier: SequenceClassifier) -> list[torch.device]:
    return [classifier.net.device] if classifier.net.device.type == "cuda" else []
