"""Tiny random models: folders that load like real ones, for tests without downloads or training.

Each has the real architecture of its family with two layers of width 32, a byte-level tokenizer that
spells any text, and weights large enough that a wrong position, mask or temperature moves its
log-probs by much more than rounding does. What it says is noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from accord.errors import ModelError

SPECIALS = ("<pad>", "<eos>", "<bos>", "<unk>", "<end>", "<user>", "<assistant>")
PAD, EOS, BOS, UNK, END = range(5)
CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] if m['role'] == 'assistant' else 'user' }}>"
    "{{ m['content'] }}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)

_DIMS: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 512,
}  # fmt: skip
_GROUPED = _DIMS | {"num_key_value_heads": 2, "head_dim": 8}
_SHAPES: Mapping[str, dict[str, Any]] = {
    "llama": _GROUPED,
    "mistral": _GROUPED | {"sliding_window": None},
    "qwen2": _DIMS | {"num_key_value_heads": 2},
    "qwen3": _GROUPED,
    "gemma": _GROUPED,
    "gemma2": _GROUPED | {"sliding_window": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0},
    "phi": _DIMS,
    "phi3": _DIMS | {"num_key_value_heads": 2},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
    "bart": {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
        "max_position_embeddings": 512, "encoder_layerdrop": 0.1, "decoder_layerdrop": 0.1,
    },
    "bert": _DIMS | {"type_vocab_size": 2},
    "roberta": _DIMS | {"type_vocab_size": 1, "max_position_embeddings": 514},
}  # fmt: skip

DECODERS = ("llama", "qwen2", "qwen3", "gpt2", "gemma", "gemma2", "phi", "phi3")
ENCODER_DECODERS = ("t5", "bart")
ENCODERS = ("bert", "roberta")
_FRAMES = {
    "llama": "<bos> $A", "gemma": "<bos> $A", "gemma2": "<bos> $A", "t5": "$A <eos>",
    "bart": "<bos> $A <eos>", "bert": "<bos> $A <eos>", "roberta": "<bos> $A <eos>",
}  # fmt: skip


def tiny_tokenizer(model_type: str = "gpt2", *, chat: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 263 tokens with the special tokens ``model_type`` puts around a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*SPECIALS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    if frame := _FRAMES.get(model_type):
        pair = "<bos> $A <eos> $B:1 <eos>:1" if model_type in ENCODERS else None
        tokenizer.post_processor = processors.TemplateProcessing(
            single=frame, pair=pair, special_tokens=[("<bos>", BOS), ("<eos>", EOS)]
        )
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        extra_special_tokens=["<end>", "<user>", "<assistant>"],
        chat_template=CHAT_TEMPLATE if chat else None,
        model_input_names=["input_ids", "token_type_ids", *inputs[1:]] if model_type == "bert" else inputs,
        model_max_length=512,
    )


def write_tiny(
    path: str | Path,
    model_type: str = "llama",
    *,
    labels: int | None = None,
    chat: bool = False,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Write a random model and its tokenizer to the folder ``path``; the same seed, the same bytes.

    ``labels`` makes a sequence classifier instead of a language model; further keywords go to the
    architecture's config. Two tokens end a completion, ``EOS`` and ``END``.

    Raises:
        ModelError: an unknown ``model_type``.
    """
    if model_type not in _SHAPES:
        raise ModelError(f"no tiny {model_type!r}; there are: {', '.join(_SHAPES)}")
    tokenizer = tiny_tokenizer(model_type, chat=chat)
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "bos_token_id": BOS,
    }
    if model_type in ENCODER_DECODERS:
        settings["decoder_start_token_id"] = PAD if model_type == "t5" else EOS
        settings["forced_eos_token_id"] = None
    if labels is not None:
        settings["num_labels"] = labels
    built = AutoConfig.for_model(model_type, **{**settings, **_SHAPES[model_type], **config})
    auto: Any = AutoModelForSeq2SeqLM if built.is_encoder_decoder else AutoModelForCausalLM
    net = (AutoModelForSequenceClassification if labels is not None else auto).from_config(built)
    _draw(net, torch.Generator().manual_seed(seed))
    if labels is None:
        net.generation_config.eos_token_id = [EOS, END]
    net.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return Path(path)


@torch.no_grad()
def _draw(net: nn.Module, generator: torch.Generator) -> None:
    """Matrices ~ N(0, 2.25 / width), so that logits spread by about 1.5 nats; vectors move a little."""
    tied_t5 = getattr(net.config, "scale_decoder_outputs", False)
    for name, value in net.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        if value.dim() > 1:
            # Tied T5 divides its states by sqrt(width) before the head, so its embeddings are large.
            std = 1.5 if tied_t5 and "shared" in name else 1.5 / value.shape[-1] ** 0.5
            value.copy_(std * noise)
        else:
            value.add_(0.1 * noise)
    if (bias := getattr(net, "final_logits_bias", None)) is not None:
        bias.copy_(0.5 * torch.randn(bias.shape, generator=generator))
