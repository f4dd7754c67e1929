"""The models of the benchmarks of speed: two random Llamas, what they read, and how it is spelled.

S has 4.07 million weights, M 33 million; embeddings and head are one matrix. Token i is spelled "wi"; the pad
and end token lies behind the vocabulary, so that where a model is not widened to hold it none can be sampled
and every completion is as long as it may be.
"""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

MODELS = {
    "S": {
        "vocab_size": 4096, "hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 4,
        "num_attention_heads": 4,
    },
    "M": {
        "vocab_size": 16000, "hidden_size": 512, "intermediate_size": 1344, "num_hidden_layers": 8,
        "num_attention_heads": 8,
    },
}  # fmt: skip


def outside(model: str) -> int:
    """The id of pad and end token."""
    return MODELS[model]["vocab_size"]


def llama(model: str, *, end: bool = False, **more) -> LlamaConfig:
    """The model both sides have; with ``end`` it can read, and say, the end token."""
    config = {
        **MODELS[model], "tie_word_embeddings": True, "max_position_embeddings": 2048, "bos_token_id": None,
        "eos_token_id": None,
    }  # fmt: skip
    if end:
        ends = {"pad_token_id": outside(model), "eos_token_id": outside(model)}
        config |= {"vocab_size": outside(model) + 1, **ends}
    return LlamaConfig(**config | more)


def draw(model: str, *shape: int, seed: int = 0) -> list:
    """Random token ids, the same for both sides."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(outside(model), shape, generator=generator).tolist()


def words(ids: list[int]) -> str:
    """Token ids as the text that the tokenizer reads them from."""
    return " ".join(f"w{i}" for i in ids)


def tokenizer(model: str) -> PreTrainedTokenizerFast:
    """Token i is spelled "wi"."""
    known = {f"w{i}": i for i in range(outside(model))} | {"</s>": outside(model)}
    inner = Tokenizer(models.WordLevel(known, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="</s>", eos_token="</s>", padding_side="left"
    )
