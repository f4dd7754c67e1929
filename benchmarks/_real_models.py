"""Small language models made for real_feedback.py: a decoder and an encoder-decoder, trained from nothing.

They stand in for pretrained models where none can be had, so that the whole path runs on real data in
minutes. Both are kept in a cache folder under the digest of all that made them.

Legend: B rows, T tokens, V vocabulary, N real tokens of a batch.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from accord.lm.fit import fit
from accord.lm.model import LanguageModel, best_device
from accord.lm.schedule import cosine
from accord.lm.tokens import TokenBatch
from accord.types import digest

PAD, EOS = "<|pad|>", "<|end|>"
Pair = tuple[Sequence[int], Sequence[int]]


def say(*words: object) -> None:
    """Progress goes to stderr; stdout is for the figures."""
    print(*words, file=sys.stderr, flush=True)


def cached(cache: Path, name: str, made_from: object, make: Callable[[Path], None]) -> Path:
    """The folder ``make`` fills, made once for each digest of ``made_from``; a half-made one never counts."""
    folder = cache / f"{name}-{digest(made_from)}"
    if folder.is_dir():
        say(f"{name}: kept from an earlier run")
        return folder
    draft = cache / f".draft-{folder.name}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    started = time.monotonic()
    make(draft)
    draft.rename(folder)
    say(f"{name}: made in {time.monotonic() - started:.0f} s")
    return folder


def tokenizer(texts: Iterable[str], size: int, *, ends: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE of ``texts``; with ``ends`` it closes each text with the end token (T5's frame)."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=[PAD, EOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    if ends:
        frame = processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, 1)])
        bpe.post_processor = frame
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=PAD, eos_token=EOS, model_max_length=1024)


def decoder_net(size: int) -> PreTrainedModel:
    """A Llama of about three million weights."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size, hidden_size=192, intermediate_size=512, num_hidden_layers=4,
            num_attention_heads=6, num_key_value_heads=6, max_position_embeddings=1024,
            initializer_range=0.05, tie_word_embeddings=True, bos_token_id=None, pad_token_id=0,
            eos_token_id=1,
        )
    )  # fmt: skip


def summariser_net(size: int) -> PreTrainedModel:
    """A T5 of about two million weights; embeddings and head are one, which helps it to copy words."""
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=size, d_model=160, d_kv=32, d_ff=384, num_layers=2, num_decoder_layers=2, num_heads=5,
            dropout_rate=0.0, feed_forward_proj="gated-gelu", tie_word_embeddings=True, pad_token_id=0,
            eos_token_id=1, decoder_start_token_id=0,
        )
    )  # fmt: skip


def train(
    net: PreTrainedModel,
    words: PreTrainedTokenizerFast,
    batches: Iterator[list[Pair]],
    steps: int,
    rate: float,
) -> float:
    """Cross-entropy on the second of each pair; returns the mean loss of the last tenth, nats a token."""
    model = LanguageModel(net.to(best_device()), words, "small")
    optimiser = torch.optim.AdamW(model.trainable(), lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
    native = model.device.type == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16"))

    def loss(pairs: list[Pair]) -> tuple[Tensor, dict[str, Tensor]]:
        batch = rounded(TokenBatch.of([a for a, _ in pairs], [b for _, b in pairs], model.pad_id))
        batch = batch.to(model.device)
        # On a CPU the fused attention's backward in bfloat16 is several times slower than the plain one.
        with torch.autocast(model.device.type, torch.bfloat16, enabled=native), sdpa_kernel(SDPBackend.MATH):
            logits_NV = model.logits(model.hidden(batch).flatten(0, 1))
            targets_BT = batch.ids_BT.masked_fill(~batch.mask_BT, -100)  # -100 counts for nothing
            return F.cross_entropy(logits_NV, targets_BT.flatten()), {}

    losses, started = [], time.monotonic()
    schedule = cosine(steps, warmup=max(1, steps // 20), floor=0.02)
    for step, metrics in enumerate(fit(([b] for b in batches), loss, optimiser, schedule=schedule), 1):
        losses.append(metrics["loss"])
        if step % max(1, steps // 20) == 0:
            tail = losses[-max(1, steps // 20) :]
            say(f"  {step}/{steps}: {sum(tail) / len(tail):.3f} nats a token, "
                f"{time.monotonic() - started:.0f} s")  # fmt: skip
    tail = losses[-max(1, steps // 10) :]
    return sum(tail) / len(tail)


def rounded(batch: TokenBatch) -> TokenBatch:
    """The batch with its widths padded to multiples of 32 and 16.

    On a CPU every new shape leaves a compiled kernel in memory: some gigabytes after a few hundred steps.
    """
    prompts, answers = (
        F.pad(ids, (0, -ids.shape[1] % multiple))
        for ids, multiple in ((batch.prompt_ids_BS, 32), (batch.ids_BT, 16))
    )
    return TokenBatch(prompts, batch.prompt_lens_B, answers, batch.lens_B)


def epochs(pairs: Sequence[Pair], steps: int, batch: int, seed: int) -> Iterator[list[Pair]]:
    """``steps`` batches of alike length: each pass cuts a fresh shuffle into runs and sorts within a run."""
    order = torch.Generator().manual_seed(seed)
    done = 0
    while done < steps:
        shuffled = torch.randperm(len(pairs), generator=order).tolist()
        found = []
        for at in range(0, len(shuffled), batch * 32):
            run = sorted(shuffled[at : at + batch * 32], key=lambda i: len(pairs[i][0]))
            found += [run[i : i + batch] for i in range(0, len(run), batch)]
        for i in torch.randperm(len(found), generator=order).tolist():
            if done == steps:
                return
            yield [pairs[j] for j in found[i]]
            done += 1


def blocks(texts: Sequence[str], words: PreTrainedTokenizerFast, width: int) -> list[Pair]:
    """The texts, an end token behind each, cut into blocks of ``width``; each block follows an end token."""
    stream = [i for ids in words(list(texts))["input_ids"] for i in (*ids, words.eos_token_id)]
    return [((words.eos_token_id,), stream[at : at + width]) for at in range(0, len(stream) - width, width)]


def make_decoder(folder: Path, texts: Sequence[str], steps: int, seed: int) -> None:
    """Train the decoder on plain texts and save it in ``folder``."""
    torch.manual_seed(seed)
    words = tokenizer(texts, 6000, ends=False)
    net = decoder_net(len(words))
    pairs = blocks(texts, words, 128)
    loss = train(net, words, epochs(pairs, steps, 32, seed), steps, 3e-3)
    _save(net, words, folder, loss)


def make_summariser(
    folder: Path, pairs: Sequence[tuple[str, str]], steps: int, batch: int, seed: int
) -> None:
    """Train the encoder-decoder on (prompt, summary) pairs and save it in ``folder``."""
    torch.manual_seed(seed)
    words = tokenizer((text for pair in pairs for text in pair), 4000, ends=True)
    net = summariser_net(len(words))
    sides = [words([pair[side] for pair in pairs])["input_ids"] for side in (0, 1)]
    encoded = list(zip(*sides, strict=True))
    loss = train(net, words, epochs(encoded, steps, batch, seed), steps, 3e-3)
    _save(net, words, folder, loss)


def _save(net: PreTrainedModel, words: PreTrainedTokenizerFast, folder: Path, loss: float) -> None:
    net.save_pretrained(folder)
    words.save_pretrained(folder)
    (folder / "loss.txt").write_text(f"{loss:.4f}\n")
    count = sum(p.numel() for p in net.parameters())
    say(f"  {count / 1e6:.1f} million weights, {loss:.3f} nats a token at the end")


def remembered(cache: Path, name: str, made_from: object, compute: Callable[[], dict[str, Any]]) -> Any:
    """What ``compute`` returned for this digest, from the cache where it was computed before."""
    file = "result.json"

    def make(folder: Path) -> None:
        (folder / file).write_text(json.dumps(compute()))

    return json.loads((cached(cache, name, made_from, make) / file).read_text())
