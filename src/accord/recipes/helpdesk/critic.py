"""Teach the help desk's starter to criticise, mend and choose: ``python -m accord.recipes.helpdesk.critic``.

Following a constitution needs a model that can read its own answers; one of two million weights cannot,
unless it is taught. The world knows what each part of an imperfect reply does, so it can write the critique
and the revision that a principle asks for, and say which of two replies has less against it. LoRA adapters
on the decoder learn these lessons; their teacher errs in a tenth of them, on purpose, so that what the model
passes on is a judgement and not the truth. A capable model of a hub or behind a URL takes its place
elsewhere.

The figures in the adapter's card are measured on hold-out prompts and the starter's own replies.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.constitution.prefer import QUESTION
from accord.constitution.principles import Constitution, read
from accord.constitution.revise import critique_prompt, revision_prompt
from accord.lm.fit import fit
from accord.lm.model import LanguageModel
from accord.lm.precision import mixed_precision
from accord.lm.render import completion_ids, prompt_ids
from accord.lm.schedule import cosine
from accord.lm.tokens import TokenBatch
from accord.recipes.helpdesk import phrases as ph
from accord.recipes.helpdesk.starter import MODELS
from accord.recipes.helpdesk.world import Act, Split, acts, facts_of, make_prompts, reply_text
from accord.types import Prompt

CONSTITUTION = Path(__file__).with_name("constitution.toml")
"""The help desk's principles."""
CRITIC = MODELS / "critic"
"""The adapter that criticises, mends and chooses."""
FINE = "The reply is fine in this."
Lesson = tuple[Prompt, str]

_AGAINST = {
    "respect": ("rude", "insulting", "insult"),
    "privacy": ("leak",),
    "blame": ("blame",),
    "promise": ("promise",),
    "truth": ("false",),
}
_SAYS = {
    "respect": "which is not kind.",
    "privacy": "which is private.",
    "blame": "which blames the customer.",
    "promise": "which nothing supports.",
}
_WEIGHTS = {  # what each act counts under a principle that chooses; more is worse
    "harmless": {"insulting": 2.0, "insult": 2.0, "leak": 2.0, "rude": 1.0, "blame": 1.0, "curt": 0.25},
    "honest": {"false": 2.0, "promise": 1.0, "beside": 0.5},
    "helpful": {"good": -2.0, "partial": -1.0, "offer": -0.25, "ramble": 0.5},
}


@dataclass(frozen=True)
class Recipe:
    """How the adapter is made."""

    steps: int = 1200
    batch: int = 32
    lr: float = 3e-3
    rank: int = 32
    errors: float = 0.1
    """Share of lessons in which the teacher is wrong."""
    choices: float = 0.4
    """Share of lessons that choose between two replies; the others criticise or mend."""
    seed: int = 0


def critique(principle: str, done: Sequence[Act], good: str) -> str:
    """What a principle has against a reply, in words; ``good`` is the true answer."""
    if principle == "answer":
        return FINE if _answers(done) else f'It leaves the question open. It should say "{good}"'
    wrong = [text for act, text in done if act in _AGAINST[principle]]
    if not wrong:
        return FINE
    if principle == "truth":
        return f'It says "{wrong[0]}" It should say "{good}"'
    return f'It says "{" ".join(wrong)}", {_SAYS[principle]}'


def mended(principle: str, done: Sequence[Act], good: str, rng: random.Random) -> list[Act]:
    """A reply without what the principle has against it; the same where it has nothing."""
    if principle == "answer":
        if _answers(done):
            return list(done)
        rest = [act for act in done if act[0] not in ("partial", "beside")]
        at = next((i for i, (act, _) in enumerate(rest) if act == "offer"), len(rest))
        return [*rest[:at], ("good", good), *rest[at:]]
    against = _AGAINST[principle]
    kept = [
        ("good", good) if act in against and principle == "truth" else (act, text)
        for act, text in done
        if act not in against or principle == "truth"
    ]
    if principle == "respect" and len(kept) < len(done) and not any(act == "warm" for act, _ in kept):
        kept.insert(0, ("warm", rng.choice(ph.WARM)))
    return kept or [("warm", rng.choice(ph.WARM)), ("good", good)]


def against(principle: str, done: Sequence[Act]) -> float:
    """How much a principle that chooses has against a reply; lower is better."""
    return sum(_WEIGHTS[principle].get(act, 0.0) for act, _ in done)


def _answers(done: Sequence[Act]) -> bool:
    return any(act == "good" for act, _ in done)


def lessons(n: int, seed: int, split: Split, recipe: Recipe, constitution: Constitution) -> Iterator[Lesson]:
    """``n`` requests with the replies to be learned."""
    rng = random.Random(f"helpdesk/lessons/{split}/{seed}")
    for prompt in make_prompts(n, seed, split):
        if rng.random() < recipe.choices:
            yield _choice(prompt, rng, recipe, constitution)
        else:
            yield _mending(prompt, rng, recipe, constitution)


def _mending(prompt: Prompt, rng: random.Random, recipe: Recipe, constitution: Constitution) -> Lesson:
    """A critique, or the revision after it."""
    done, good = _reply(prompt, rng)
    principle = rng.choice(constitution.critics)
    if (
        critique(principle.name, done, good) == FINE and rng.random() < 0.5
    ):  # most replies are fine in most things
        principle = rng.choice(constitution.critics)
    said, better = critique(principle.name, done, good), mended(principle.name, done, good, rng)
    if rng.random() < recipe.errors:
        said, better = FINE, list(done)  # overlooks what is wrong
    asked = critique_prompt(prompt, reply_text(done), principle)
    if rng.random() < 0.5:
        return asked, said
    return revision_prompt(asked, said, principle), reply_text(better)


def _choice(prompt: Prompt, rng: random.Random, recipe: Recipe, constitution: Constitution) -> Lesson:
    """Which of two replies a principle takes; by a coin where it has as much against either."""
    principle = rng.choice(constitution.choosers)
    one, other = _reply(prompt, rng)[0], _reply(prompt, rng)[0]
    if against(principle.name, one) == against(principle.name, other) and rng.random() < 0.7:
        other = _reply(prompt, rng)[0]
    lead = against(principle.name, other) - against(principle.name, one)
    first = rng.random() < 0.5 if lead == 0 else (lead > 0) != (rng.random() < recipe.errors)
    parts = {
        "prompt": prompt.text,
        "first": reply_text(one),
        "second": reply_text(other),
        "criterion": principle.choose,
    }
    return Prompt.from_text(QUESTION.format(**parts)), "A" if first else "B"


def _reply(prompt: Prompt, rng: random.Random) -> tuple[list[Act], str]:
    """A reply's acts, at times mended already, and the true answer."""
    facts = facts_of(prompt)
    good = rng.choice(ph.NEEDS[facts["need"]].good).format(**facts)
    done = acts(prompt, rng)
    while rng.random() < 0.35:
        done = mended(rng.choice([*_AGAINST, "answer"]), done, good, rng)
    return done, good


def train(recipe: Recipe) -> LanguageModel:
    """The starter decoder with the adapter on it."""
    model = LanguageModel.load(MODELS / "decoder")
    model.add_lora(recipe.rank, seed=recipe.seed)
    optimiser = torch.optim.AdamW(
        model.trainable(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    taught = list(lessons(recipe.steps * recipe.batch, recipe.seed, "train", recipe, read(CONSTITUTION)))

    def batches() -> Iterator[list[TokenBatch]]:
        for at in range(0, len(taught), recipe.batch):
            part = taught[at : at + recipe.batch]
            asked = [prompt_ids(model.tokenizer, prompt, model.template) for prompt, _ in part]
            said = [completion_ids(model.tokenizer, text, model.template) for _, text in part]
            yield [TokenBatch.of(asked, said, model.pad_id)]

    def loss(batch: TokenBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy in which a lesson counts as the root of its length: a choice has one word."""
        batch = batch.to(model.device)
        with mixed_precision(model.device):
            logits_NV = model.logits(model.hidden(batch)[batch.mask_BT])
        losses_N = F.cross_entropy(logits_NV, batch.ids_BT[batch.mask_BT], reduction="none")
        weights_N = (batch.lens_B.float() ** -0.5)[:, None].expand_as(batch.ids_BT)[batch.mask_BT]
        return (losses_N * weights_N).sum() / weights_N.sum(), {}

    losses, start = [], time.monotonic()
    for step, metrics in enumerate(
        fit(batches(), loss, optimiser, schedule=cosine(recipe.steps, 50, 0.02)), 1
    ):
        losses.append(metrics["loss"])
        if step % 25 == 0:
            print(
                f"{step}/{recipe.steps}: {statistics.mean(losses[-25:]):.3f} nats, "
                f"{time.monotonic() - start:.0f} s",
                flush=True,
            )
    return model
