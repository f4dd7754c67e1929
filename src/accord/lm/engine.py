"""The sampler over weights: prompts in, tokens with their log-probs out.

Every row draws from a random stream of its own, keyed by seed, prompt, and sample number, so a
completion does not depend on which others share its batch. Completions of one prompt share its
prefill. Rows that have finished leave the batch, and waiting rows join it (with ``lm.decode``).

Legend: B rows alive, S prompt tokens, V vocabulary, D width.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
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

Arrival = tuple[int, int, Stop | None]  # the row, its next token, and why it is the last if it is
Ids = Sequence[Sequence[int]]


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
            raise ConfigError(f"min_new_limit {self.min_new_limit} > max_new_tokens {self.max_new_tokens}")
        return self


@dataclass(frozen=True)
class Sampled:
    """One row's result: ids with the end token if it came, log-probs at the sampling temperature
    over the full vocabulary (before top-k/top-p), and why it ended."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop: Stop
    kept: tuple[bytes, ...] = ()
    states: Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Support:
    """What a token may be chosen among: the top-p set of ``model`` at the same prefix and temperature.

    The sets are kept with the sample (``Sampled.kept``), so that training scores what was sampled from.
    """

    model: LanguageModel
    top_p: float


@dataclass
class _Row:
    number: int
    index: int
    limit: int
    uniforms: list[float]
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    stop: Stop | None = None


class Engine:
    """Samples from a :class:`LanguageModel`; a ``Sampler``. It may keep the states that tokens come from, and
    be ``rough``: decode from a copy in bfloat16 where ``lm.hasten`` found one; log-probs are then the copy's.

    Raises:
        ConfigError: ``max_new_tokens`` is more than an encoder-decoder can count.
    """

    def __init__(
        self, model: LanguageModel, config: SamplingConfig | None = None, support: Support | None = None,
        keep_states: bool = False, rough: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.support, self.keep_states, self.rough = model, support, keep_states, rough
        self.config = config or SamplingConfig()
        limit, new = model.context, self.config.max_new_tokens
        if model.kind is Kind.ENCODER_DECODER and limit is not None and new > limit:
            raise ConfigError(f"lower max_new_tokens {new}: {model.name}'s decoder has {limit} positions")

    def sample(self, prompts: Sequence[Prompt], n: int = 1) -> list[list[Completion]]:
        """``n`` completions a prompt, with token ids, log-probs and origin kept.

        Raises:
            DataError: a prompt is empty or does not fit the context.
        """
        encoded = [self.encode(prompt) for prompt in prompts]
        results = self.generate(encoded, n)
        model, hashes, sampling = self.model, self.hashes, self.settings
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
        kept = self.config.model_dump(include=set(SamplingConfig.model_fields) - {"seed", "rows"})
        return kept | ({"rough": True} if self.rough and self.model.rough else {})

    def encode(self, prompt: Prompt) -> list[int]:
        """The prompt in ids; refuses one that leaves no room for ``max_new_tokens``."""
        model, limit = self.model, self.model.context
        encoder = model.kind is Kind.ENCODER_DECODER
        if limit is not None and not encoder:
            limit -= self.config.max_new_tokens
        return prompt_ids(model.tokenizer, prompt, model.template, encoder_decoder=encoder, limit=limit)

    def decode(self, ids: Sequence[int]) -> str:
        """Sampled ids as text, end token removed."""
        return completion_text(self.model.tokenizer, ids, self.model.eos_ids, self.model.template)

    def generate(self, prompts: Ids, n: int = 1, begun: Ids | None = None) -> list[list[Sampled]]:
        """``n`` sampled rows for each prompt of token ids, behind what of each completion is ``begun``.

        An encoder-decoder goes on from completions of one length; they are not padded.
        """
        prompts, begun, rows = self._rows(prompts, n, begun)
        for _ in self._run(prompts, begun, rows):
            pass
        done = [Sampled(tuple(r.ids), tuple(r.logprobs), r.stop or Stop.EOS, tuple(r.kept),
                        torch.stack(r.states) if r.states else None) for r in rows]  # fmt: skip
        return [done[i * n : (i + 1) * n] for i in range(len(prompts))]

    def stream(self, prompts: Ids, n: int = 1) -> Iterator[Arrival]:
        """The tokens of :meth:`generate` as they come; sample k of prompt i is row i * n + k."""
        return self._run(*self._rows(prompts, n, None))

    def _rows(self, prompts: Ids, n: int, begun: Ids | None) -> tuple[Ids, Ids, list[_Row]]:
        begun = [()] * len(prompts) if begun is None else begun
        if self.model.kind is Kind.DECODER:
            prompts, begun = [[*p, *b] for p, b in zip(prompts, begun, strict=True)], [()] * len(prompts)
        seen: Counter[tuple[int, ...]] = Counter()
        rows: list[_Row] = []
        low, high = self.config.min_new_limit, self.config.max_new_tokens
        for i, ids in enumerate((*p, *b) for p, b in zip(prompts, begun, strict=True)):
            for _ in range(n):
                # The same prompt twice in a call must not give the same completion twice.
                key = hashlib.sha256(f"{self.config.seed}:{seen[ids]}:{ids}".encode()).digest()
                seen[ids] += 1
                stream = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
                limit = high if low is None else int(stream.integers(low, high + 1))
                rows.append(_Row(len(rows), i, limit, stream.random(limit).tolist()))
        return prompts, begun, rows

    @torch.no_grad()
    def _run(self, prompts: Ids, begun: Ids, waiting: list[_Row]) -> Iterator[Arrival]:
        models = [self.model] if self.support is None else [self.model, self.support.model]
        states: list[State] = [((self.rough and m.rough) or m.decoding or State)(m) for m in models]
        joins, most = all(state.joins for state in states), min(self.config.rows, len(waiting))
        alive: list[_Row] = []
        while waiting or alive:
            # A few together: one by one their prefill would cost more than the places they leave empty.
            if waiting and (not alive or (joins and most - len(alive) >= min(len(waiting), -(-most // 8)))):
                new, waiting = waiting[: most - len(alive)], waiting[most - len(alive) :]
                first, last = new[0].index, new[-1].index + 1
                at_B = torch.tensor([row.index - first for row in new])
                for state in states:
                    state.join(prompts[first:last], begun[first:last], at_B)
                alive += new
            for row, state_D in zip(alive, states[0].hidden_BD, strict=True) if self.keep_states else ():
                row.states.append(state_D)
            for row, token, logprob in zip(alive, *self._choose(states, alive), strict=True):
                row.ids.append(token)
                row.logprobs.append(logprob)
                cut = Stop.LENGTH if len(row.ids) == row.limit else None
                row.stop = Stop.EOS if token in self.model.eos_ids else cut
                yield row.number, token, row.stop
            keep = [at for at, row in enumerate(alive) if row.stop is None]
            if len(keep) < len(alive):
                # Rows from the end take the places that fell empty, so that few of them move.
                late = iter([at for at in keep if at >= len(keep)])
                keep = [at if alive[at].stop is None else next(late) for at in range(len(keep))]
                alive = [alive[at] for at in keep]
                for state in states:
                    state.select(torch.tensor(keep, dtype=torch.long))
            if alive:
                for state in states:
                    state.step(torch.tensor([row.ids[-1] for row in alive]))

    def _keep(self, state: State, rows: list[_Row]) -> Tensor:
        """(B, V) what each row may choose among, noted in the row."""
        assert self.support is not None
        p_BV = log_softmax(state.logits(), self.config.temperature or 1.0, exp=True)
        kept_BV = truncate(p_BV, None, self.support.top_p) > 0
        for row, bits in zip(rows, pack(kept_BV).numpy(), strict=True):
            row.kept.append(bits.tobytes())
        return kept_BV

    def _choose(self, states: list[State], rows: list[_Row]) -> tuple[list[int], list[float]]:
        """Each row's next token by inverse CDF of its own uniform number, with its log-prob."""
        config, state, logits_BV = self.config, states[0], states[0].logits()
        kept_BV = self._keep(states[1], rows) if self.support is not None else None
        p_BV = log_softmax(logits_BV, config.temperature or 1.0, kept_BV, exp=True)
        if not math.isfinite(float(p_BV[:, 0].sum())):  # one logit that is NaN or inf makes its whole row NaN
            raise NumericsError("the model's logits are not finite while sampling; its weights are damaged")
        if config.temperature == 0:  # of the logits, for two may round to one probability
            tokens_B = (logits_BV if kept_BV is None else logits_BV.where(kept_BV, -torch.inf)).argmax(-1)
        else:
            u_B = torch.tensor([row.uniforms[len(row.ids)] for row in rows], dtype=torch.float64)
            tokens_B = state.draw(truncate(p_BV, config.top_k, config.top_p), u_B.to(p_BV.device))
        return tokens_B.tolist(), p_BV.gather(1, tokens_B[:, None])[:, 0].log().tolist()


def truncate(probs_BV: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """(B, V) probabilities with everything outside top-k and top-p set to zero (not renormalised)."""
    if top_k is not None and top_k < probs_BV.shape[-1]:
        floor_B1 = probs_BV.topk(top_k, dim=-1).values[:, -1:]
        probs_BV = probs_BV.where(probs_BV >= floor_B1, 0.0)
    if top_p is not None and top_p < 1:
        enough_B1, vocabulary = top_p * probs_BV.sum(-1, keepdim=True), probs_BV.shape[-1]
        for size in (min(256, vocabulary), vocabulary):  # as a rule the likeliest hold the mass
            sorted_Bk, order_Bk = probs_BV.topk(size, dim=-1)
            before_Bk = sorted_Bk.cumsum(-1) - sorted_Bk
            if bool((before_Bk[:, -1:] >= enough_B1).all()):
                break
        kept_Bk = sorted_Bk.where(before_Bk < enough_B1, 0.0)
        probs_BV = torch.zeros_like(probs_BV).scatter(-1, order_Bk, kept_Bk)
    return probs_BV


class State:
    """The rows under way on a model, by transformers' forward: cache, masks, each row's last state."""

    joins = False
    """Whether rows may join while others are alive."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.cache: DynamicCache | EncoderDecoderCache
        self.mask_BS: Tensor
        self.hidden_BD: Tensor
        self.memory_BSD: Tensor | None = None

    def join(self, prompts: Ids, begun: Ids, at_B: Tensor) -> None:
        """Prefill ``prompts`` once each; new row b goes on from prompt ``at_B[b]``."""
        model, config = self.model, self.model.net.config
        if model.kind is Kind.ENCODER_DECODER:
            ids_BS = pad(prompts, model.pad_id).to(model.device)
            self.mask_BS = length_mask([len(p) for p in prompts], ids_BS.shape[1]).long().to(model.device)
            self.memory_BSD = model.net.get_encoder()(input_ids=ids_BS, attention_mask=self.mask_BS)[0]
            self.cache = EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
            ids_BL = torch.tensor([[model.start_id, *said] for said in begun], device=model.device)
            self._forward(ids_BL, ids_BL)
        else:
            ids_BS = pad(prompts, model.pad_id, "left").to(model.device)
            mask_BS = length_mask([len(p) for p in prompts], ids_BS.shape[1]).flip(1).long()
            self.mask_BS, self.cache = mask_BS.to(model.device), DynamicCache(config=config)
            self._forward(ids_BS, positions(self.mask_BS))
        self.select(at_B)

    def logits(self) -> Tensor:
        """(B, V) float32 logits of each row's next token."""
        return self.model.logits(self.hidden_BD)

    def draw(self, p_BV: Tensor, u_B: Tensor) -> Tensor:
        """(B,) tokens where sums of ``p_BV``, whose total need not be 1, pass the share ``u_B`` of it."""
        cdf_BV = p_BV.cumsum(-1, dtype=torch.float64)
        # Scaled by the row's own total, u < 1 always falls on a token of positive probability.
        return torch.searchsorted(cdf_BV, (u_B * cdf_BV[:, -1])[:, None], right=True)[:, 0]

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
