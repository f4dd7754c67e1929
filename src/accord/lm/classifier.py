"""Sequence classifiers: the weights behind reward models and ready-made classifiers.

A decoder's head reads the state of the last real token, found by length and never by a pad id; an
encoder (BERT, RoBERTa, MiniLM) is read as its own class reads it. In an encoder-decoder (T5, BART) the
encoder reads the prompt and the decoder the completion, and the head reads the completion's last token: so
the model reads what it was trained to read, and the prompt of many completions is encoded once. (Their own
classifiers give both halves the same text.) A head that was never trained is refused when it is asked to
score.

Legend: N texts, L labels, W width in tokens, D width of a state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from accord.errors import DataError, ModelError
from accord.lm.adapters import fresh_lora
from accord.lm.dropout import silence_dropout
from accord.lm.linear import quicken
from accord.lm.model import best_device, check_place, own_memory, tensors_hash, trust_lengths
from accord.lm.render import Template, completion_ids, default_template, prompt_ids, prompt_text
from accord.lm.tokens import length_mask, pad, positions
from accord.types import Prompt

SPLIT = "accord_reads_split"
"""Mark in the config of an encoder-decoder whose decoder reads the completion alone."""
HEADS = ("score", "classifier", "classification_head", "pre_classifier", "pooler")
ENCODERS = ("bert", "roberta", "distilbert", "electra", "deberta", "deberta-v2", "xlm-roberta", "modernbert",
            "albert", "mpnet", "camembert")  # fmt: skip


class Reads(StrEnum):
    """What the classifier is shown."""

    BOTH = "both"
    """The prompt, then the completion."""
    COMPLETION = "completion"
    """The completion alone (a toxicity classifier)."""


@dataclass(frozen=True)
class Encoded:
    """One input in token ids."""

    ids: tuple[int, ...]
    types: tuple[int, ...] = ()
    """The segment ids that BERT-like encoders take, else empty."""
    cut: int = 0
    """Tokens that did not fit the context and were left out."""
    before: tuple[int, ...] = ()
    """What the encoder of an encoder-decoder reads; ``ids`` are then its decoder's, start token first."""


class SequenceClassifier:
    """A transformers sequence classifier with the template and rule by which it reads its inputs.

    Inputs longer than the context lose the beginning of the prompt first, then the end of the
    completion (each half of an encoder-decoder has the context to itself); ``truncated`` counts them.
    """

    def __init__(
        self,
        net: Any,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        *,
        template: Template | None = None,
        reads: Reads = Reads.BOTH,
        max_length: int | None = None,
        fresh_weights: Sequence[str] = (),
    ) -> None:
        self.net = net
        self.tokenizer = tokenizer
        self.name = name
        self.encoder = net.config.model_type in ENCODERS
        self.split = bool(net.config.is_encoder_decoder)
        if self.split and not (hasattr(net, "classification_head") and getattr(net.config, SPLIT, False)):
            raise ModelError(
                f"{name}: this {net.config.model_type} classifier gives encoder and decoder the same text, "
                "which is not supported; train one from a language model with `accord reward`, or take an "
                "encoder"
            )
        if not (self.encoder or self.split or hasattr(net, "score")):
            raise ModelError(
                f"{name}: {net.config.model_type} is neither a known encoder or encoder-decoder nor a "
                "decoder with a score head"
            )
        plain = self.encoder or self.split
        self.template = template or (Template.PLAIN if plain else default_template(tokenizer))
        self.reads = reads
        self.fresh_weights = frozenset(fresh_weights)
        self.fresh = bool(fresh_weights)
        self._peft: Any = None
        self.truncated = 0
        self.max_length = min(filter(None, (max_length, _context(net.config, tokenizer))), default=None)
        silence_dropout(net)
        net.eval()
        quicken(net)
        trust_lengths(net.base_model)

    @classmethod
    def load(
        cls, name: str | Path, *, labels: int | None = None, device: str | None = None, **kwargs: Any
    ) -> SequenceClassifier:
        """Load a classifier folder or hub name; with ``labels``, put a fresh head on a base model.

        Raises:
            ModelError: nothing loadable; or, without ``labels``, a head whose weights are missing.
        """
        check_place(name)
        extra = {} if labels is None else {"num_labels": labels}
        try:
            config = AutoConfig.from_pretrained(name, **extra)
            tokenizer = AutoTokenizer.from_pretrained(name)
            if config.pad_token_id is None:
                config.pad_token_id = tokenizer.pad_token_id
            # A fresh head is drawn at random: the same one each time, and nobody else's stream moves.
            with torch.random.fork_rng(devices=[]), _unreported():
                torch.default_generator.manual_seed(0)
                loaded: Any = AutoModelForSequenceClassification.from_pretrained(
                    name, config=config, dtype=torch.float32, output_loading_info=True
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"no sequence classifier could be loaded from {str(name)!r}: {error}") from error
        net, loading = loaded
        missing = sorted(loading["missing_keys"])
        foreign = [key for key in missing if not any(head in key for head in HEADS)]
        if foreign or (missing and labels is None):
            raise ModelError(
                f"{name}: the weights {missing[:4]} are missing, so its scores would be random. Load a "
                "trained classifier, or train this one with `accord reward`"
            )
        net = own_memory(net.to(device or best_device()))
        if missing and net.config.is_encoder_decoder:
            setattr(net.config, SPLIT, True)
        return cls(net, tokenizer, str(name), fresh_weights=missing, **kwargs)

    def save(self, path: str | Path) -> None:
        """Write a Hugging Face folder.

        Raises:
            ModelError: the head was never trained, or there are adapters that were not merged.
        """
        self._refuse_fresh()
        if self._peft is not None:
            raise ModelError(f"{self.name} has adapters; merge() them before saving")
        self.net.save_pretrained(path)
        self.tokenizer.save_pretrained(path)

    # -- inputs ------------------------------------------------------------------------------

    def encode(self, prompt: Prompt, text: str) -> Encoded:
        """The input for ``text`` as an answer to ``prompt``, cut to the context by the stated rule.

        Raises:
            DataError: there is not a single token.
        """
        if self.encoder:
            return self._encode_pair(prompt, text)
        if self.split:
            return self._encode_split(prompt, text)
        answer = completion_ids(self.tokenizer, text, self.template)
        before = prompt_ids(self.tokenizer, prompt, self.template) if self.reads is Reads.BOTH else []
        before, answer, cut = self._fit(before, answer)
        return Encoded(tuple(before + answer), cut=cut)

    def _encode_pair(self, prompt: Prompt, text: str) -> Encoded:
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()  # some tokenizers come with a limit of their own, cut in silence
        backend.no_padding()
        answer = backend.encode(text, add_special_tokens=False)
        pair = self.reads is Reads.BOTH
        room = (self.max_length or 10**9) - self.tokenizer.num_special_tokens_to_add(pair)
        if not pair:
            cut = max(0, len(answer.ids) - room)
            answer.truncate(room)
            framed = backend.post_process(answer)
        else:
            before = backend.encode(
                prompt_text(self.tokenizer, prompt, self.template), add_special_tokens=False
            )
            cut = max(0, len(before.ids) + len(answer.ids) - room)
            answer.truncate(room)
            before.truncate(room - len(answer.ids), direction="left")
            framed = backend.post_process(before, answer)
        self.truncated += cut > 0
        types = framed.type_ids if "token_type_ids" in self.tokenizer.model_input_names else ()
        return Encoded(tuple(framed.ids), tuple(types), cut=cut)

    def _encode_split(self, prompt: Prompt, text: str) -> Encoded:
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        written = prompt_text(self.tokenizer, prompt, self.template) if self.reads is Reads.BOTH else ""
        before = backend.encode(written, add_special_tokens=False)
        answer = completion_ids(self.tokenizer, text, self.template)
        limit = self.max_length or 10**9
        room = limit - self.tokenizer.num_special_tokens_to_add(False)
        cut = max(0, len(before.ids) - room) + max(0, len(answer) + 1 - limit)
        before.truncate(room, direction="left")
        framed = backend.post_process(before)
        self.truncated += cut > 0
        ids = (self.net.config.decoder_start_token_id, *answer[: limit - 1])
        if not framed.ids:
            raise DataError("an encoder needs at least one token; give the prompt some text")
        return Encoded(tuple(ids), cut=cut, before=tuple(framed.ids))

    def _fit(self, before: list[int], answer: list[int]) -> tuple[list[int], list[int], int]:
        if not before and not answer:
            raise DataError("an input without a single token cannot be scored")
        over = len(before) + len(answer) - (self.max_length or 10**9)
        if over <= 0:
            return before, answer, 0
        self.truncated += 1
        cut = min(over, len(before))
        return before[cut:], answer[: len(answer) - (over - cut)], over

    # -- computation -------------------------------------------------------------------------

    def logits(self, inputs: Sequence[Encoded], pad_side: str = "right") -> Tensor:
        """(N, L) float32 logits. Neither padding side nor the other inputs change a row.

        ``pad_side`` moves a decoder's padding; encoders read their first token, and they and
        encoder-decoders are always padded on the right.
        """
        pad_side = "right" if self.encoder or self.split else pad_side
        device = self.net.device
        lengths_N = torch.tensor([len(x.ids) for x in inputs])
        pad_id = self.tokenizer.pad_token_id or 0
        ids_NW = pad([x.ids for x in inputs], pad_id, pad_side).to(device)
        mask_NW = length_mask(lengths_N, ids_NW.shape[1])
        mask_NW = (mask_NW.flip(1) if pad_side == "left" else mask_NW).to(device)
        if self.encoder:
            extra = {}
            if any(x.types for x in inputs):
                extra["token_type_ids"] = pad([x.types for x in inputs], 0, pad_side).to(device)
            return self.net(input_ids=ids_NW, attention_mask=mask_NW.long(), **extra).logits.float()
        last_N = (lengths_N - 1).to(device)
        if self.split:
            states_NWD = self._decoded(inputs, ids_NW, mask_NW)
            return self.net.classification_head(states_NWD[torch.arange(len(inputs)), last_N]).float()
        inputs_kw: dict[str, Any] = {"input_ids": ids_NW, "use_cache": False}
        if pad_side == "left":
            inputs_kw |= {
                "attention_mask": mask_NW.long(),
                "position_ids": positions(mask_NW),
            }
        states_NWD = self.net.base_model(**inputs_kw).last_hidden_state
        if pad_side == "left":
            last_N = torch.full_like(last_N, ids_NW.shape[1] - 1)
        last_ND = states_NWD[torch.arange(len(inputs), device=device), last_N]
        return self.net.score(last_ND).float()

    def _decoded(self, inputs: Sequence[Encoded], ids_NW: Tensor, mask_NW: Tensor) -> Tensor:
        """(N, W, D) states of the decoder; each different prompt passes the encoder once."""
        stack, device = self.net.base_model, self.net.device
        prompts = {before: i for i, before in enumerate(dict.fromkeys(x.before for x in inputs))}
        read_PS = pad(list(prompts), self.tokenizer.pad_token_id or 0).to(device)
        seen_PS = length_mask([len(before) for before in prompts], read_PS.shape[1]).to(device)
        states_PSD = stack.get_encoder()(input_ids=read_PS, attention_mask=seen_PS.long()).last_hidden_state
        of_N = torch.tensor([prompts[x.before] for x in inputs], device=device)
        return stack(
            encoder_outputs=BaseModelOutput(last_hidden_state=states_PSD[of_N]),
            attention_mask=seen_PS[of_N].long(),
            decoder_input_ids=ids_NW,
            decoder_attention_mask=mask_NW.long(),
            use_cache=False,
        ).last_hidden_state

    @torch.no_grad()
    def score_inputs(self, inputs: Sequence[Encoded], rows: int = 64) -> Tensor:
        """(N, L) logits of any number of inputs, in batches sorted by length.

        Raises:
            ModelError: the head was never trained.
        """
        self._refuse_fresh()
        order = sorted(range(len(inputs)), key=lambda i: len(inputs[i].ids))
        out_NL = torch.zeros(len(inputs), self.net.config.num_labels)
        for at in range(0, len(order), rows):
            part = order[at : at + rows]
            out_NL[part] = self.logits([inputs[i] for i in part]).cpu()
        return out_NL

    # -- training ----------------------------------------------------------------------------

    def start_head(self, seed: int) -> None:
        """Draw a fresh head from ``seed``: a decoder's by :func:`start_head`.

        An encoder's matrices are normal with its ``initializer_range``; vectors stay as they are.
        """
        start_head(self.net, seed)
        generator = torch.Generator().manual_seed(seed)
        spread = getattr(self.net.config, "initializer_range", 0.02)
        with torch.no_grad():
            for name, value in self.net.named_parameters():
                if name in self.fresh_weights and value.dim() > 1 and not name.startswith("score."):
                    value.copy_(spread * torch.randn(value.shape, generator=generator))

    def prepare(self, train: str, rank: int = 16, seed: int = 0) -> list[nn.Parameter]:
        """Choose what trains ("full", "lora" or "head"); returns those parameters."""
        net = self.net
        if train == "lora":
            self._peft = fresh_lora(net, rank, 2 * rank, seed, exclude=HEADS)
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(train == "full" or _in_head(name) or "lora_" in name)
        return [p for p in net.parameters() if p.requires_grad]

    def merge(self) -> None:
        """Fold LoRA adapters into the weights, if any, so that what is saved is what was measured."""
        if self._peft is not None:
            self.net, self._peft = self._peft.merge_and_unload(), None

    @property
    def label_names(self) -> list[str]:
        """The labels in the order of the logits."""
        names = self.net.config.id2label
        return [names[i] for i in range(self.net.config.num_labels)]

    def name_labels(self, names: Sequence[str]) -> None:
        """Give the labels names, in the order of the logits."""
        self.net.config.id2label = dict(enumerate(names))
        self.net.config.label2id = {name: i for i, name in enumerate(names)}

    def weights_hash(self) -> str:
        """Digest of all weights."""
        return tensors_hash(self.net.state_dict())

    def _refuse_fresh(self) -> None:
        if self.fresh:
            raise ModelError(
                f"{self.name}: the classification head was never trained, its scores would be random; "
                "train it with `accord reward`"
            )


@contextmanager
def _unreported() -> Iterator[None]:
    """Missing weights are judged here by name; the library's own table of them would only alarm."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _in_head(name: str) -> bool:
    return any(part in HEADS for part in name.split("."))


def _context(config: Any, tokenizer: PreTrainedTokenizerBase) -> int | None:
    limit = getattr(config, "max_position_embeddings", getattr(config, "n_positions", None))
    if limit and config.model_type in ("roberta", "xlm-roberta", "camembert"):
        limit -= config.pad_token_id + 1  # their positions start behind the padding index
    own = tokenizer.model_max_length
    found = [x for x in (limit, own if own and own < 10**9 else None) if x]
    return min(found) if found else None


def start_head(net: nn.Module, seed: int) -> None:
    """Give a fresh reward head small weights: normal with standard deviation 1 / sqrt(D + 1), no bias.

    Stiennon et al. 2020 (arXiv:2009.01325) start reward heads so. A head inside a BERT-like
    classifier (``classifier``) keeps its own start.
    """
    head = getattr(net, "score", None)
    if isinstance(head, nn.Linear):
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            start = torch.randn(head.weight.shape, generator=generator) / (head.in_features + 1) ** 0.5
            head.weight.copy_(start.to(head.weight))
