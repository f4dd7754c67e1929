"""Make the help desk's starter models: ``python -m accord.recipes.helpdesk.starter``.

A tokenizer, a small Llama decoder and a small T5 encoder-decoder, trained from nothing (loss on
the reply only): first on drills that read the record aloud, then on the world's imperfect
conversations, so that they speak fluently and often badly, as a model trained on the internet
does. Deterministic on one machine and torch version.

Left out: packing (the texts are short and about equally long) and validation during training; the
figures in the model card are measured on the saved files, on hold-out prompts.

Legend: B rows, T reply tokens, V vocabulary, N real reply tokens of a batch.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
import tyro
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from accord.errors import ModelError
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.fit import fit
from accord.lm.model import LanguageModel, best_device
from accord.lm.precision import mixed_precision
from accord.lm.render import completion_ids, prompt_ids
from accord.lm.schedule import cosine
from accord.lm.tokens import TokenBatch
from accord.recipes.helpdesk.judge import GoldJudge
from accord.recipes.helpdesk.world import conversations, drills, make_prompts
from accord.types import Stop

Kind = Literal["decoder", "seq2seq"]
KINDS: tuple[Kind, ...] = ("decoder", "seq2seq")
MODELS = Path(__file__).parent / "models"
"""Where the package keeps the starter models, one folder a kind."""

PAD, EOS, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
MAX_NEW_TOKENS = 64


@dataclass(frozen=True)
class Recipe:
    """How one starter model is made."""

    steps: int = 1000
    drill_steps: int = 250
    """Of these, how many go to reading the record aloud before imitating the imperfect desk."""
    batch: int = 32
    lr: float = 3e-3
    weight_decay: float = 0.05
    seed: int = 0
    vocabulary: int = 1500
    tokenizer_texts: int = 20_000


RECIPES: dict[Kind, Recipe] = {"decoder": Recipe(steps=1200), "seq2seq": Recipe(steps=1400, lr=2e-3)}


def train_tokenizer(recipe: Recipe, kind: Kind) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the training conversations; the encoder-decoder's ends each text itself."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[PAD, EOS, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (
        t for p, reply in conversations(recipe.tokenizer_texts, recipe.seed, "train") for t in (p.text, reply)
    )
    bpe.train_from_iterator(texts, trainer)
    if kind == "seq2seq":
        bpe.post_processor = processors.TemplateProcessing(
            single=f"$A {EOS}", special_tokens=[(EOS, bpe.token_to_id(EOS))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=EOS,
        additional_special_tokens=[USER, ASSISTANT],
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    if kind == "decoder":
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def fresh_net(tokenizer: PreTrainedTokenizerFast, kind: Kind) -> PreTrainedModel:
    """A network with random weights, in accord's hands a policy as any other."""
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    net: Any
    if kind == "decoder":
        net = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=192,
                initializer_range=0.06,
                intermediate_size=512,
                num_hidden_layers=5,
                num_attention_heads=6,
                num_key_value_heads=6,
                max_position_embeddings=512,
                tie_word_embeddings=True,
                bos_token_id=None,
                **ends,
            )
        )
    else:
        net = T5ForConditionalGeneration(
            T5Config(
                vocab_size=len(tokenizer),
                d_model=192,
                d_kv=32,
                d_ff=384,
                num_layers=3,
                num_decoder_layers=3,
                num_heads=6,
                dropout_rate=0.0,
                feed_forward_proj="gated-gelu",
                **ends,
                **{"decoder_start_token_id": tokenizer.pad_token_id, "tie_word_embeddings": True},
            )
        )
    net.generation_config = GenerationConfig(
        decoder_start_token_id=tokenizer.pad_token_id if kind == "seq2seq" else None,
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=True,
        **ends,
    )
    return cast(PreTrainedModel, net)


def batches(model: LanguageModel, recipe: Recipe, kind: Kind) -> Iterator[list[TokenBatch]]:
    """Training batches of one micro-batch each: drills, then conversations, each seen once."""
    tokenizer, template = model.tokenizer, model.template
    practice = recipe.drill_steps * recipe.batch
    data = drills(practice, recipe.seed + 2, "train")
    data += conversations(recipe.steps * recipe.batch - practice, recipe.seed + 1, "train")
    for at in range(0, len(data), recipe.batch):
        part = data[at : at + recipe.batch]
        prompts = [prompt_ids(tokenizer, p, template, encoder_decoder=kind == "seq2seq") for p, _ in part]
        replies = [completion_ids(tokenizer, reply, template) for _, reply in part]
        yield [TokenBatch.of(prompts, replies, model.pad_id)]


def reply_loss(model: LanguageModel, batch: TokenBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean cross-entropy of the replies' tokens, in nats."""
    batch = batch.to(model.device)
    mask_BT = batch.mask_BT
    logits_NV = model.logits(model.hidden(batch)[mask_BT])
    return F.cross_entropy(logits_NV, batch.ids_BT[mask_BT]), {}


def train(recipe: Recipe, kind: Kind) -> tuple[LanguageModel, float]:
    """A trained model and its mean loss over the last fifty steps, in nats a token."""
    torch.manual_seed(recipe.seed)
    tokenizer = train_tokenizer(recipe, kind)
    net: Any = fresh_net(tokenizer, kind)
    model = LanguageModel(net.to(best_device()), tokenizer, f"helpdesk {kind}")
    optimiser = torch.optim.AdamW(
        model.trainable(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
    )

    def loss(batch: TokenBatch) -> tuple[Tensor, dict[str, Tensor]]:
        # On a CPU the fused attention's backward in bfloat16 takes 40 % of a step, the plain one 10 %.
        with mixed_precision(model.device):
            return reply_loss(model, batch)

    schedule = cosine(recipe.steps, warmup=50, floor=0.02)
    losses, start = [], time.monotonic()
    steps = fit(batches(model, recipe, kind), loss, optimiser, schedule=schedule)
    for step, metrics in enumerate(steps, 1):
        losses.append(metrics["loss"])
        if step % 50 == 0:
            recent, seconds = statistics.mean(losses[-50:]), time.monotonic() - start
            print(f"{kind} {step}/{recipe.steps}: {recent:.3f} nats a token, {seconds:.0f} s", flush=True)
    return model, statistics.mean(losses[-50:])


def save(model: LanguageModel, folder: Path) -> None:
    """The model as a Hugging Face folder, weights in float16."""
    model.net.half().save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)


def put(folder: Path, out: Path) -> None:
    """Have ``out`` hold what ``folder`` does, readable by everybody."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(folder, out)
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors writes for the owner alone


def measure(folder: Path, prompts: int = 96, samples: int = 16) -> dict[str, float]:
    """Gold figures of a saved model: its samples at temperature 1 to hold-out prompts, nothing cut."""
    model, judge = LanguageModel.load(folder), GoldJudge()
    engine = Engine(model, SamplingConfig(max_new_tokens=MAX_NEW_TOKENS, seed=1))
    held_out = make_prompts(prompts, 1, "holdout")
    groups = engine.sample(held_out, samples)
    scores = [judge.score(p, group) for p, group in zip(held_out, groups, strict=True)]
    flat = [score for group in scores for score in group]
    completions = [c for group in groups for c in group]
    return {
        "parameters": sum(p.numel() for p in model.net.parameters()),
        "hhh": statistics.mean(s.value for s in flat),
        **{name: statistics.mean(s.parts[name] for s in flat) for name in flat[0].parts},
        f"best of {samples}": statistics.mean(max(s.value for s in group) for group in scores),
        "reply tokens": statistics.mean(len(c.ids) for c in completions),
        "cut off": statistics.mean(c.stop is Stop.LENGTH for c in completions),
    }


def accept(figures: dict[str, float], kind: Kind) -> None:
    """Raise ModelError unless the model is fluent, often bad, and able to be good."""
    good = figures["fluent"] >= 0.9 and 0.35 <= figures["hhh"] <= 0.6 and figures["best of 16"] >= 0.85
    if not good:
        raise ModelError(
            f"the {kind} starter is not what the help desk needs: {figures}; wanted fluent >= 0.9, hhh in "
            "[0.35, 0.6], best of 16 >= 0.85. Train longer (Recipe.steps) or make the world simpler"
        )


CARD = """---
license: apache-2.0
language: en
tags: [accord, helpdesk, simulated]
---
# Help desk starter: {kind}

A small {architecture} model made for accord's running example. It answers customers of an invented
shop, fluently and often badly, on purpose: it was trained on simulated conversations in which good
and bad acts mix (insults, leaks of invented addresses, false dates, over-promises), so that
alignment has something to do. It knows nothing of the world outside; do not use it for real customers.

Made by `python -m accord.recipes.helpdesk.starter --kind {kind}` in {seconds:.0f} s on {device}
(torch {torch}). Recipe: {recipe}. Training loss at the end: {loss:.3f} nats a token.

Measured on the files of this folder (float16), 96 hold-out prompts, 16 samples each, temperature 1,
no top-k or top-p, by the gold judge (simulated truth):

| figure | value |
|---|---|
{rows}

Fluent, helpful, honest, harmless and their mean (hhh) lie in [0, 1]; "best of 16" is the mean hhh
of each prompt's best sample; "cut off" is the share that ran into {limit} tokens.
"""


def make(kind: Kind, out: Path) -> dict[str, float]:
    """Train, save, measure and put one starter model in ``out/kind``; an old one stays if this fails."""
    recipe, start = RECIPES[kind], time.monotonic()
    model, loss = train(recipe, kind)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / kind
        save(model, folder)
        seconds = time.monotonic() - start
        figures = measure(folder)
        print(f"{kind}: {figures}", flush=True)
        accept(figures, kind)
        rows = "\n".join(
            f"| {name} | {value:{'.3f' if value < 1000 else ',.0f'}} |" for name, value in figures.items()
        )
        card = CARD.format(
            kind=kind, architecture=model.net.config.model_type, seconds=seconds, device=model.device.type,
            torch=torch.__version__, recipe=asdict(recipe), loss=loss, rows=rows, limit=MAX_NEW_TOKENS,
        )  # fmt: skip
        (folder / "README.md").write_text(card)
        put(folder, out / kind)
    return figures


def main(out: Path = MODELS, kind: Literal["decoder", "seq2seq", "both"] = "both") -> None:
    """Make the help desk's starter models.

    Args:
        out: Folder that gets a folder for each kind.
        kind: Which to make.
    """
    for one in KINDS if kind == "both" else (kind,):
        make(one, out)


if __name__ == "__main__":
    tyro.cli(main)
