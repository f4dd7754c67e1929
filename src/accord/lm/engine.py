"""The sampler over weights: prompts in, tokens with their log-probs out.

Every row draws from a random stream of its own, keyed by seed, prompt, and sample number, so a
completion does not depend on which others share its batch. Completions of one prompt share its
prefill. Rows that have finished leave the decode batch.

Left out: paged caches, waiting rows that join a running batch (see "Not built yet" in ARCHITECTURE.md).

Legend: B rows alive, S prompt tokens, V vocabulary, D width.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from accord.config import Config
from accord.errors import ConfigError, NumericsError
from accord.lm.model import Kind, LanguageModel
from accord.lm.render import completion_text, prompt_ids, prompt_text
from accord.lm.score import log_softmax
from accord.lm.tokens import length_mask, pack, pad, positions
from accord.types import Completion, Origin, Prompt, Stop


class SamplingConfig(Config):
    """How completions are sampled."""

    max_new_tokens: int = Field(128, ge=1)
    """Length limit in tokens, the end token included."""
    min_new_limit: int | None = Field(None, ge=1)
    """Draw each row's length limit uniformly from [min_new_limit, max_new_tokens]; off by default."""
    temperature: float = Field(1.0, ge=0)
    """Logits are divided by it; 0 takes the likeliest token."""
    top_k: int | None = Field(None, ge=1)
    """Keep the k likeliest tokens. Changes the support: refused in reinforcement learning."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Keep the smallest set of tokens with this mass. Refused in reinforcement learning."""
    seed: int = 0
    """Same seed, same completions, whatever else is in the batch."""
    rows: int = Field(256, ge=1)
    """Most rows decoded at a time."""

    @model_validator(mode="after")
    def _limits(self) -> SamplingConfig:
        if self.min_new_limit is not None and self.min_new_limit > self.max_new_tokens:
            raise ConfigError(
                f"min_new_limit {self.min_new_limit} is larger than max_new_tokens {self.max_new_tokens}"
            )
        return self


@dataclass(frozen=True)
class Sampled:
    """One row's result: ids with the end token if it came, log-probs at the sampling temperature
    over the full vocabulary (before top-k/top-p), and why it ended."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop: Stop
    kept: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Support:
    """What a token may be chosen among: the top-p set of ``model`` at the same prefix and temperature.

    The sets are kept with the sample (``Sampled.kept``), so that training scores what was sampled from.
    """

    model: LanguageModel
    top_p: float


@dataclass
class _Row:
    index: int
    limit: int
    uniforms: np.ndarray
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)


class Engine:
    """Samples from a :class:`LanguageModel`; a ``Sampler``.

    Raises:
        ConfigError: ``max_new_tokens`` is more than an encoder-decoder can count.
    """

    def __init__(
        self, model: LanguageModel, config: SamplingConfig | None = None, support: Support | None = None
    ) -> None:
        self.model = model
        self.config = config or SamplingConfig()
        self.support = support
        limit, new = model.context, self.config.max_new_tokens
        if model.kind is Kind.ENCODER_DECODER and limit is not None and new > limit:
            raise ConfigError(
                f"max_new_tokens {new} is more than the {limit} positions of {model.name}'s decoder; lower it"
            )

    def sample(self, prompts: Sequence[Prompt], n: int = 1) -> list[list[Completion]]:
        """``n`` completions a prompt, with token ids, log-probs and origin kept.

        Raises:
            DataError: a prompt is empty or does not fit the context.
        """
        encoded = [self.encode(prompt) for prompt in prompts]
        results = self.generate(encoded, n)
        model, hashes = self.model, self.hashes
        sampling = self.settings
        out = []
        for prompt, ids, group in zip(prompts, encoded, results, strict=True):
            text = prompt_text(model.tokenizer, prompt, model.template)
            origin = Origin(model.name, *hashes, text, tuple(ids), sampling, self.config.seed)
            out.append([Completion(self.decode(s.ids), s.ids, s.logprobs, s.stop, origin) for s in group])
        return out

    @cached_property
    def hashes(self) -> tuple[str, str | None]:
        """Digests of weights and adapter, taken once: after training, sample with a new engine."""
        return self.model.weights_hash(), self.model.adapter_hash()

    @property
    def settings(self) -> dict[str, Any]:
        """The sampling settings that a completion's origin keeps."""
        return self.config.model_dump(include=set(SamplingConfig.model_fields) - {"seed", "rows"})

    def encode(self, prompt: Prompt) -> list[int]:
        """The prompt in ids; refuses one that leaves no room for ``max_new_tokens``."""
        model = self.model
        encoder = model.kind is Kind.ENCODER_DECODER
        limit = model.context
        if limit is not None and not encoder:
            limit -= self.config.max_new_tokens
        return prompt_ids(model.tokenizer, prompt, model.template, encoder_decoder=encoder, limit=limit)

    def decode(self, ids: Sequence[int]) -> str:
        """Sampled ids as text, end token removed."""
        return completion_text(self.model.tokenizer, ids, self.model.eos_ids, self.model.template)

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Sequence[int]], n: int = 1, begun: Sequence[Sequence[int]] | None = None
    ) -> list[list[Sampled]]:
        """``n`` sampled rows for each prompt of token ids, behind what of each completion is ``begun``.

        An encoder-decoder goes on from completions of one length; they are not padded.
        """
        begun = [()] * len(prompts) if begun is None else begun
        if self.model.kind is Kind.DECODER:
            prompts, begun = [[*p, *b] for p, b in zip(prompts, begun, strict=True)], [()] * len(prompts)
        seen: Counter[tuple[int, ...]] = Counter()
        rows = []
        for i, ids in enumerate((*p, *b) for p, b in zip(prompts, begun, strict=True)):
            # The same prompt twice in a call must not give the same completion twice.
            for _ in range(n):
                rows.append(self._row(i, ids, seen[ids]))
                seen[ids] += 1
        out: list[list[Sampled]] = [[] for _ in prompts]
        for at in range(0, len(rows), self.config.rows):
            part = rows[at : at + self.config.rows]
            for row, sampled in zip(part, self._decode_rows(prompts, begun, part), strict=True):
                out[row.index].append(sampled)
        return out

    def _row(self, index: int, ids: tuple[int, ...], number: int) -> _Row:
        key = hashlib.sha256(f"{self.config.seed}:{number}:{ids}".encode()).digest()
        stream = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
        low, high = self.config.min_new_limit, self.config.max_new_tokens
        limit = high if low is None else int(stream.integers(low, high + 1))
        return _Row(index, limit, stream.random(limit))

    def _decode_rows(
        self, prompts: Sequence[Sequence[int]], begun: Sequence[Sequence[int]], rows: list[_Row]
    ) -> list[Sampled]:
        unique = sorted({row.index for row in rows})
        slot = {index: at for at, index in enumerate(unique)}
        models = [self.model] if self.support is None else [self.model, self.support.model]
        contexts = [prompts[i] for i in unique], [begun[i] for i in unique]
        states = [_State.prefill(model, *contexts) for model in models]
        for state in states:
            state.select(torch.tensor([slot[row.index] for row in rows]))
        alive = list(rows)
        stops: dict[int, Stop] = {}
        while alive:
            logits_BV = self.model.logits(states[0].hidden_BD)
            kept_BV = self._keep(states[1], alive) if self.support is not None else None
            tokens, logprobs = self._choose(logits_BV, alive, kept_BV)
            keep = []
            for at, (row, token, logprob) in enumerate(zip(alive, tokens, logprobs, strict=True)):
                row.ids.append(token)
                row.logprobs.append(logprob)
                if token in self.model.eos_ids:
                    stops[id(row)] = Stop.EOS
                elif len(row.ids) == row.limit:
                    stops[id(row)] = Stop.LENGTH
                else:
                    keep.append(at)
            if len(keep) < len(alive):
                alive = [alive[at] for at in keep]
                for state in states:
                    state.select(torch.tensor(keep, dtype=torch.long))
            if alive:
                for state in states:
                    state.step(torch.tensor([row.ids[-1] for row in alive]))
        return [Sampled(tuple(row.ids), tuple(row.logprobs), stops[id(row)], tuple(row.kept)) for row in rows]

    def _keep(self, state: _State, rows: list[_Row]) -> Tensor:
        """(B, V) what each row may choose among, noted in the row."""
        assert self.support is not None
        logp_BV = log_softmax(self.support.model.logits(state.hidden_BD), self.config.temperature or 1.0)
        kept_BV = truncate(logp_BV.exp(), None, self.support.top_p) > 0
        for row, bits in zip(rows, pack(kept_BV).numpy(), strict=True):
            row.kept.append(bits.tobytes())
        return kept_BV

    def _choose(
        self, logits_BV: Tensor, rows: list[_Row], kept_BV: Tensor | None
    ) -> tuple[list[int], list[float]]:
        """Each row's next token by inverse CDF of its own uniform number, with its log-prob."""
        config = self.config
        if not bool(torch.isfinite(logits_BV).all()):
            raise NumericsError("the model's logits are not finite while sampling; its weights are damaged")
        if config.temperature == 0:
            logp_BV = log_softmax(logits_BV, 1.0, kept_BV)
            tokens_B = logp_BV.argmax(-1)
        else:
            logp_BV = log_softmax(logits_BV, config.temperature, kept_BV)
            probs_BV = truncate(logp_BV.exp(), config.top_k, config.top_p)
            u_B = torch.tensor([row.uniforms[len(row.ids)] for row in rows], device=logits_BV.device)
            cdf_BV = probs_BV.double().cumsum(-1)
            # Scaled by the row's own total, u < 1 always falls on a token of positive probability.
            tokens_B = torch.searchsorted(cdf_BV, (u_B * cdf_BV[:, -1])[:, None], right=True)[:, 0]
        logprobs_B = logp_BV.gather(1, tokens_B[:, None])[:, 0]
        return tokens_B.tolist(), logprobs_B.tolist()


def truncate(probs_BV: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """(B, V) probabilities with everything outside top-k and top-p set to zero (not renormalised)."""
    if top_k is not None and top_k < probs_BV.shape[-1]:
        floor_B1 = probs_BV.topk(top_k, dim=-1).values[:, -1:]
        probs_BV = probs_BV.where(probs_BV >= floor_B1, 0.0)
    if top_p is not None and top_p < 1:
        sorted_BV, order_BV = probs_BV.sort(dim=-1, descending=True)
        before_BV = sorted_BV.cumsum(-1) - sorted_BV
        total_B1 = probs_BV.sum(-1, keepdim=True)
        kept_BV = sorted_BV.where(before_BV < top_p * total_B1, 0.0)
        probs_BV = torch.zeros_like(probs_BV).scatter(-1, order_BV, kept_BV)
    return probs_BV


class _State:
    """The decode batch: key-value cache, masks, and the state of each row's last token."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.cache: DynamicCache | EncoderDecoderCache
        self.mask_BS: Tensor
        self.hidden_BD: Tensor
        self.memory_BSD: Tensor | None = None

    @classmethod
    def prefill(
        cls, model: LanguageModel, prompts: Sequence[Sequence[int]], begun: Sequence[Sequence[int]]
    ) -> _State:
        state = cls(model)
        if model.kind is Kind.ENCODER_DECODER:
            ids_BS = pad(prompts, model.pad_id).to(model.device)
            state.mask_BS = length_mask([len(p) for p in prompts], ids_BS.shape[1]).long().to(model.device)
            encoder = model.net.get_encoder()
            state.memory_BSD = encoder(input_ids=ids_BS, attention_mask=state.mask_BS).last_hidden_state
            config = model.net.config
            state.cache = EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
            ids_BL = torch.tensor([[model.start_id, *said] for said in begun], device=model.device)
            state._forward(ids_BL, ids_BL)
            return state
        ids_BS = pad(prompts, model.pad_id, "left").to(model.device)
        lengths = [len(p) for p in prompts]
        state.mask_BS = length_mask(lengths, ids_BS.shape[1]).flip(1).long().to(model.device)
        state.cache = DynamicCache(config=model.net.config)
        state._forward(ids_BS, positions(state.mask_BS))
        return state

    def step(self, tokens_B: Tensor) -> None:
        """Feed one token a row."""
        ids_B1 = tokens_B.to(self.model.device)[:, None]
        if self.memory_BSD is None:
            self.mask_BS = torch.cat([self.mask_BS, torch.ones_like(self.mask_BS[:, :1])], dim=1)
        self._forward(ids_B1, positions(self.mask_BS)[:, -1:])

    def _forward(self, ids_BL: Tensor, position_ids: Tensor) -> None:
        inputs = {"input_ids": ids_BL, "past_key_values": self.cache, "use_cache": True}
        if self.memory_BSD is None:
            inputs |= {"attention_mask": self.mask_BS, "position_ids": position_ids}
        else:
            inputs |= {"encoder_hidden_states": self.memory_BSD, "encoder_attention_mask": self.mask_BS}
        self.hidden_BD = self.model.trunk(**inputs).last_hidden_state[:, -1]

    def select(self, index_B: Tensor) -> None:
        """Keep (or repeat) rows."""
        index_B = index_B.to(self.model.device)
        self.cache.batch_select_indices(index_B)
        self.mask_BS = self.mask_BS[index_B]
        self.hidden_BD = self.hidden_BD[index_B]
        if self.memory_BSD is not None:
            self.memory_BSD = self.memory_BSD[index_B]
