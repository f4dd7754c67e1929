"""A language model as accord uses it: any causal or encoder-decoder model of transformers.

Sampler, scorer and trainer all reach the weights through two methods: ``hidden`` (the trunk, one
state for each completion token to be predicted) and ``logits`` (the output head). So policy, old
policy, reference, entropy and KL cannot disagree about positions, masks or the head.

One set of weights serves as policy (adapters on) and as reference (adapters off); where all weights
train, ``frozen_copy`` is the reference.

Legend: B rows, S prompt tokens, T completion tokens, D width, V vocabulary, N any number of tokens.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import operator
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from accord.errors import ConfigError, ModelError
from accord.lm.adapters import fresh_lora, load_lora
from accord.lm.dropout import silence_dropout
from accord.lm.linear import quicken
from accord.lm.render import Template, default_template
from accord.lm.tokens import TokenBatch

ADAPTER_DIR = "adapter"


class Kind(StrEnum):
    """How a prompt enters the model."""

    DECODER = "decoder"
    """Prompt and completion are one causal sequence."""
    ENCODER_DECODER = "encoder-decoder"
    """The prompt is encoded, the completion decoded."""


class LanguageModel:
    """Weights, tokenizer and template of one policy. Build it with :meth:`load`."""

    def __init__(
        self,
        net: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        template: Template | None = None,
    ) -> None:
        self.net = net
        self.tokenizer = tokenizer
        self.name = name
        self.kind = Kind.ENCODER_DECODER if net.config.is_encoder_decoder else Kind.DECODER
        self.template = template or default_template(tokenizer, self.kind is Kind.ENCODER_DECODER)
        self.peft: PeftModel | None = None
        self.decoding: Any = None  # how the engine decodes, where lm.hasten found a faster way
        self.rough: Any = None  # a way that is faster still and less exact, for engines that ask for it
        self.eos_ids = end_tokens(net, tokenizer)
        # Any id will do that has an embedding, since masks come from lengths; a tokenizer's may have none.
        pad_id = tokenizer.pad_token_id
        self.pad_id = pad_id if pad_id is not None and pad_id < net.config.vocab_size else 0
        silence_dropout(net)
        net.eval()
        quicken(net)
        trust_lengths(net.get_decoder())
        check_head(self)

    # -- folders -----------------------------------------------------------------------------

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        dtype: str | torch.dtype = "float32",
        device: str | None = None,
        template: Template | None = None,
    ) -> LanguageModel:
        """Load a model folder or hub name, with the LoRA adapter in its ``adapter/`` folder if any.

        Raises:
            ModelError: nothing loadable there, no end token, or an architecture whose own logits
                accord cannot reproduce.
        """
        dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        check_place(name)
        try:
            config = AutoConfig.from_pretrained(name)
            auto: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            net, loading = auto.from_pretrained(name, dtype=dtype, output_loading_info=True)
            tokenizer = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"no language model could be loaded from {str(name)!r}: {error}. Give a folder with "
                "config.json, weights and tokenizer, or the name of a model the hub can be reached for"
            ) from error
        if loading["missing_keys"]:
            raise ModelError(
                f"{name}: weights are missing for {sorted(loading['missing_keys'])[:5]}; they would be "
                "random. The folder is incomplete or not of a language model"
            )
        net = own_memory(net.to(device or best_device()))
        model = cls(net, tokenizer, str(name), template)
        adapter = Path(name) / ADAPTER_DIR
        if adapter.is_dir():
            model.peft = load_lora(model.net, adapter)
            silence_dropout(model.net)
            model.net.eval()
        return model

    def save(self, path: str | Path, *, merge: bool = False) -> None:
        """Write a Hugging Face folder: the weights, and the adapter beside them or merged into them.

        ``merge=True`` gives a plain folder any other program loads; it merges a copy, the model
        in memory is left as it is. What an earlier save left in the folder is replaced.
        """
        path = Path(path)
        # An adapter of an earlier save would be put on top of these weights when they are loaded.
        if (path / ADAPTER_DIR).is_dir():
            shutil.rmtree(path / ADAPTER_DIR)
        net: PreTrainedModel = self.net
        if self.peft is not None and merge:
            net = copy.deepcopy(self.peft).merge_and_unload()
        elif self.peft is not None:
            net = copy.deepcopy(self.peft).unload()
            self.peft.save_pretrained(str(path / ADAPTER_DIR))
        net.save_pretrained(path)
        self.tokenizer.save_pretrained(path)

    # -- variants ----------------------------------------------------------------------------

    def add_lora(self, rank: int = 16, alpha: int | None = None, seed: int = 0) -> None:
        """Put fresh LoRA adapters on every linear layer of the trunk and freeze the rest (in place).

        Raises:
            ModelError: there are adapters already.
        """
        if self.peft is not None:
            raise ModelError(f"{self.name} has adapters already; merge them before adding others")
        self.peft = fresh_lora(self.net, rank, alpha or 2 * rank, seed)
        self.net.eval()

    def make_trainable(self, lora_rank: int, seed: int = 0) -> bool:
        """Let fresh adapters train, those there are, or with rank 0 all weights (in place).

        Returns whether adapters off is the model as it is now, which a reference needs to be.

        Raises:
            ConfigError: all weights are to train and there are adapters; or they have less than float32.
        """
        if not lora_rank and self.peft is not None:
            raise ConfigError(
                f"{self.name} has adapters and lora_rank is 0: merge them first to train all weights, or "
                "set lora_rank to train the adapters"
            )
        fresh = bool(lora_rank) and self.peft is None
        if fresh:
            self.add_lora(lora_rank, seed=seed)
        elif not lora_rank:
            self.net.requires_grad_(True)
        coarse = {str(p.dtype) for p in self.trainable() if torch.finfo(p.dtype).bits < 32}
        if coarse:
            raise ConfigError(
                f"the weights that train are {', '.join(coarse)}, which rounds small updates away; load "
                f"{self.name} with dtype float32, or train adapters (lora_rank above 0)"
            )
        return fresh

    def merge(self) -> None:
        """Fold the adapters into the weights (in place), if there are any."""
        if self.peft is not None:
            self.net = self.peft.merge_and_unload()
            self.peft = None

    def frozen_copy(self) -> LanguageModel:
        """A deep copy that never trains: the reference where all weights train."""
        other = copy.deepcopy(self)
        other.net.requires_grad_(False)
        return other

    @contextmanager
    def adapters_off(self) -> Iterator[None]:
        """Inside, the model is its own reference."""
        with self.peft.disable_adapter() if self.peft is not None else nullcontext():
            yield

    # -- computation -------------------------------------------------------------------------

    def hidden(self, batch: TokenBatch, *, after: bool = False) -> Tensor:
        """(B, T, D) states from which each completion token is predicted, before the output head.

        With ``after`` (B, T+1, D): row b's column ``lens_B[b]`` is the state behind its last token,
        which a critic needs to bootstrap a truncated row. Columns beyond hold finite garbage; mask them.
        """
        batch = batch.to(self.device)
        if self.kind is Kind.ENCODER_DECODER:
            return self._decode_hidden(batch, after)
        both_BX = torch.cat([batch.prompt_ids_BS, batch.ids_BT], dim=1)
        prompt_lens_B1, last = batch.prompt_lens_B[:, None], both_BX.shape[1] - 1
        longest = int((batch.prompt_lens_B + batch.lens_B).max()) - (not after)  # the last predicts nothing
        at_L = torch.arange(longest, device=self.device)
        behind_BL = at_L + batch.prompt_ids_BS.shape[1] - prompt_lens_B1
        ids_BL = both_BX.gather(1, torch.where(at_L < prompt_lens_B1, at_L, behind_BL).clamp(max=last))
        # Rows that start on the left need neither mask nor positions: under causal attention no real token
        # sees what stands behind it, and without a mask attention takes its fast path.
        states_BLD = self.trunk(input_ids=ids_BL, use_cache=False).last_hidden_state
        offsets_T = torch.arange(-1, batch.ids_BT.shape[1] - 1 + after, device=self.device)
        at_BT = (prompt_lens_B1 + offsets_T).clamp(max=ids_BL.shape[1] - 1)
        return states_BLD.gather(1, at_BT[:, :, None].expand(-1, -1, states_BLD.shape[-1]))

    def _decode_hidden(self, batch: TokenBatch, after: bool) -> Tensor:
        mask_BS = batch.prompt_mask_BS.long()
        memory = self.net.get_encoder()(input_ids=batch.prompt_ids_BS, attention_mask=mask_BS)
        start = torch.full((len(batch), 1), self.start_id, device=self.device)
        inputs_BT = torch.cat([start, batch.ids_BT if after else batch.ids_BT[:, :-1]], dim=1)
        states_BTD = self.trunk(
            input_ids=inputs_BT[:, : self.context], encoder_hidden_states=memory.last_hidden_state,
            encoder_attention_mask=mask_BS, use_cache=False,
        ).last_hidden_state  # fmt: skip
        # Behind a completion that fills the context is no place: the state before its end stands there.
        over = inputs_BT.shape[1] - states_BTD.shape[1]
        return torch.cat([states_BTD, states_BTD[:, -1:]], dim=1) if over else states_BTD

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """(N, V) float32 logits, temperature 1: the head with the scale, bias and cap its model has."""
        config = self.net.config
        if getattr(config, "scale_decoder_outputs", False):  # T5 with tied embeddings
            hidden_ND = hidden_ND * config.d_model**-0.5
        logits_NV = self.net.get_output_embeddings()(hidden_ND)
        bias = getattr(self.net, "final_logits_bias", None)  # BART and its kin
        if bias is not None:
            logits_NV = logits_NV + bias
        logits_NV = logits_NV.float()
        if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma 2
            logits_NV = cap * torch.tanh(logits_NV / cap)
        if (scale := getattr(config, "logit_scale", None)) is not None:  # Cohere
            logits_NV = logits_NV * scale
        if (scaling := getattr(config, "logits_scaling", None)) is not None:  # Granite
            logits_NV = logits_NV / scaling
        return logits_NV

    def trunk(self, **inputs: Any) -> Any:
        """The decoder stack; position ids are dropped where its forward takes none (T5)."""
        if not self._takes_positions:
            inputs.pop("position_ids", None)
        return self.net.get_decoder()(**inputs)

    @cached_property
    def _takes_positions(self) -> bool:
        takes = inspect.signature(self.net.get_decoder().forward).parameters
        return "position_ids" in takes or any(p.kind is p.VAR_KEYWORD for p in takes.values())

    # -- facts -------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.net.device

    @property
    def width(self) -> int:
        """D, the width of the states the output head reads."""
        return self.net.get_output_embeddings().in_features

    @property
    def start_id(self) -> int:
        """The token an encoder-decoder's completion starts from."""
        start = self.net.config.decoder_start_token_id
        if start is None:
            raise ModelError(
                f"{self.name} is an encoder-decoder without decoder_start_token_id in its config"
            )
        return start

    @property
    def context(self) -> int | None:
        """Most tokens a sequence may have, ``None`` where positions are relative (T5)."""
        config = self.net.config
        if hasattr(config, "relative_attention_num_buckets"):
            return None
        limit = getattr(config, "max_position_embeddings", getattr(config, "n_positions", None))
        return None if limit is None else int(limit)

    def trainable(self) -> list[nn.Parameter]:
        """The parameters that train: the adapters, or all weights."""
        return [p for p in self.net.parameters() if p.requires_grad]

    def trained(self) -> dict[str, Tensor]:
        """The same by name, without their gradients, sharing memory with the model."""
        return {name: p.detach() for name, p in self.net.named_parameters() if p.requires_grad}

    def weights_hash(self) -> str:
        """Digest of the base weights, adapters left out."""
        return tensors_hash({k: v for k, v in self.net.state_dict().items() if "lora_" not in k})

    def adapter_hash(self) -> str | None:
        """Digest of the adapters, ``None`` without any."""
        if self.peft is None:
            return None
        return tensors_hash({k: v for k, v in self.net.state_dict().items() if "lora_" in k})


def tensors_hash(tensors: dict[str, Tensor]) -> str:
    """The first 16 hex digits of a SHA-256 over names, dtypes, shapes and bytes, in the names' order."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        # PEFT renames a wrapped layer's weight; the digest names the weight, not its wrapper.
        sha.update(f"{name.replace('.base_layer', '')}:{value.dtype}:{tuple(value.shape)}".encode())
        sha.update(value.flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]


def best_device() -> str:
    """ "cuda" where there is one, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_place(name: str | Path) -> None:
    """Refuse a path that is not there, before a hub is asked for it again and again.

    Raises:
        ModelError: ``name`` is written as a path (it begins with / . or ~, or is a Path) and is no folder.
    """
    is_path = isinstance(name, Path) or str(name).startswith(("/", ".", "~"))
    if is_path and not Path(name).is_dir():
        raise ModelError(
            f"no model could be loaded from {str(name)!r}: there is no such folder. Give a folder "
            "with config.json, weights and tokenizer, or a hub name such as Qwen/Qwen2.5-0.5B-Instruct"
        )


def own_memory(net: Any) -> Any:
    """Move ``net``'s weights from the mapped file to memory of their own (in place).

    A mapped file must not be overwritten, and a product's last bit depends on how its operands lie
    in memory: what is loaded would otherwise differ from what was saved.
    """
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()
    return net


def end_tokens(net: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every token that ends a completion: the generation config's, the config's and the tokenizer's.

    Raises:
        ModelError: there is none; sampling would always run into the length limit.
    """
    found: set[int] = set()
    generation = getattr(net, "generation_config", None)
    for value in (getattr(generation, "eos_token_id", None), net.config.eos_token_id, tokenizer.eos_token_id):
        found.update(value if isinstance(value, list | tuple) else [] if value is None else [value])
    if not found:
        raise ModelError(
            f"{net.config.model_type}: no eos token in generation config, config or tokenizer; set "
            "eos_token_id in generation_config.json"
        )
    return frozenset(found)


def trust_lengths(stack: Any) -> None:
    """Keep GPT-2 from guessing by pad ids that a mask is missing; here masks come from lengths."""
    stack.warn_if_padding_and_no_attention_mask = operator.is_  # takes both, says nothing, and pickles


@torch.no_grad()
def check_head(model: LanguageModel, tolerance: float = 1e-3) -> None:
    """Refuse an architecture whose own logits differ from ``logits(hidden)`` (a silent extra scale).

    Raises:
        ModelError: the largest difference exceeds ``tolerance`` relative to the logits' range.
    """
    size = min(model.net.config.vocab_size, 50)
    prompt = torch.arange(5, device=model.device)[None, :] % size
    answer = (torch.arange(4, device=model.device)[None, :] + 5) % size
    batch = TokenBatch(prompt, torch.tensor([5]), answer, torch.tensor([4]))
    ours = model.logits(model.hidden(batch)[0])
    if model.kind is Kind.ENCODER_DECODER:
        start, ones = torch.full((1, 1), model.start_id, device=model.device), torch.ones_like(prompt)
        shifted = torch.cat([start, answer[:, :-1]], 1)
        own = model.net(input_ids=prompt, attention_mask=ones, decoder_input_ids=shifted).logits[0]
    else:
        whole = torch.cat([prompt, answer], 1)
        own = model.net(input_ids=whole, attention_mask=torch.ones_like(whole)).logits[0, 4:8]
    gap = float((ours - own.float()).abs().max()) / max(float(own.float().std()), 1e-6)
    if not gap <= (tolerance if own.dtype is torch.float32 else 0.05):
        raise ModelError(
            f"{model.net.config.model_type}: accord's logits differ from the model's own by {gap:.3g} "
            "of their spread; its output head has a step accord does not know. Please report the model"
        )
