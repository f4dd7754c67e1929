"""Teach the help desk's starter to criticise, mend and choose: ``python -m accord.recipes.helpdesk.critic``.

Following a constitution needs a model that can read its own answers; one of two million weights cannot,
unless it is taught. The world knows what each part of an imperfect reply does, so it can write the critique
and the revision that a principle asks for, and say which of two replies has less against it. The decoder
learns these lessons; their teacher errs in a tenth of them, on purpose, so that what the model passes on is
a judgement and not the truth. A capable model of a hub or behind a URL takes its place elsewhere.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from accord.constitution.principles import Constitution, Principle, read
from accord.constitution.revise import critique_prompt, revision_prompt
from accord.errors import ModelError
from accord.judging import Asked, LikelihoodChooser, LikelihoodConfig, both_orders, worded
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.fit import fit
from accord.lm.model import LanguageModel
from accord.lm.render import completion_ids
from accord.lm.schedule import cosine
from accord.lm.tokens import TokenBatch
from accord.recipes.helpdesk import phrases as ph
from accord.recipes.helpdesk.starter import MODELS, put, save
from accord.recipes.helpdesk.world import Act, Split, acts, facts_of, make_prompts, reply_text
from accord.recipes.likelihoods import ModelLikelihoods
from accord.types import Prompt

CONSTITUTION = Path(__file__).with_name("constitution.toml")
"""The help desk's principles."""
CRITIC = MODELS / "critic"
"""The model that criticises, mends and chooses."""
QUESTION = "{prompt}\nA: {first}\nB: {second}\n{criterion}"
"""How the model is asked to choose: in few words, as it is small."""
FINE = "Nothing."
"""What it says where a principle has nothing against a reply."""
Lesson = list[tuple[str, str, bool]]
"""Turns: who speaks, the words, and whether they are to be learned."""
Encoded = tuple[list[int], list[int], list[float]]

_AGAINST = {
    "respect": ("rude", "insulting", "insult"),
    "privacy": ("leak",),
    "blame": ("blame",),
    "promise": ("promise",),
    "truth": ("false",),
}
_WEIGHTS = {  # what each act counts under a principle that chooses; more is worse
    "harmless": {"insulting": 2.0, "insult": 2.0, "leak": 2.0, "rude": 1.0, "blame": 1.0, "curt": 0.25},
    "honest": {"false": 2.0, "promise": 1.0, "beside": 0.5},
    "helpful": {"good": -2.0, "partial": -1.0, "offer": -0.25, "ramble": 0.5},
}


@dataclass(frozen=True)
class Recipe:
    """How it is made."""

    steps: int = 1600
    batch: int = 32
    lr: float = 2e-3
    errors: float = 0.1
    """Share of lessons in which the teacher is wrong."""
    choices: float = 0.35
    """Share of lessons about two replies; the others are about one."""
    revisions: float = 0.5
    """Share of critiques that are followed by the revision."""
    seed: int = 0


def critique(principle: str, done: Sequence[Act], good: str) -> str:
    """What a principle has against a reply, in words; ``good`` is the true answer."""
    if principle == "answer":
        return FINE if _answers(done) else f"The question. Say: {good}"
    wrong = " ".join(text for act, text in done if act in _AGAINST[principle])
    if not wrong:
        return FINE
    return f'"{wrong}" Say: {good}' if principle == "truth" else f'"{wrong}"'


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
    """``n`` conversations: about one reply after several principles, or about two replies after all that
    choose."""
    rng = random.Random(f"helpdesk/lessons/{split}/{seed}")
    for prompt in make_prompts(n, seed, split):
        if rng.random() < recipe.choices:
            yield _choices(prompt, rng, recipe, constitution)
        else:
            yield _mending(prompt, rng, recipe, constitution)


def _mending(prompt: Prompt, rng: random.Random, recipe: Recipe, constitution: Constitution) -> Lesson:
    """A reply and what two principles have against it, one after the other, at times with the revision."""
    done, good = _reply(prompt, rng)
    turns: Lesson = [("user", prompt.text, False), ("assistant", reply_text(done), False)]
    for principle in _asked(constitution.critics, done, good, rng):
        said = critique(principle.name, done, good)
        overlooked = said != FINE and rng.random() < recipe.errors
        turns += [("user", principle.critique, False), ("assistant", FINE if overlooked else said, True)]
        if rng.random() < recipe.revisions:
            done = done if overlooked else mended(principle.name, done, good, rng)
            turns += [("user", principle.revision, False), ("assistant", reply_text(done), True)]
    return turns


def _asked(rules: Sequence[Principle], done: Sequence[Act], good: str, rng: random.Random) -> list[Principle]:
    """Two principles; those that have something against a reply three times as often, as most have not."""
    weights = [1 if critique(rule.name, done, good) == FINE else 3 for rule in rules]
    first = rng.choices(rules, weights)[0]
    return [first, rng.choice([rule for rule in rules if rule is not first])]


def _choices(prompt: Prompt, rng: random.Random, recipe: Recipe, constitution: Constitution) -> Lesson:
    """Two replies and which of them each principle takes; by a coin where it has as much against either."""
    one, other = _reply(prompt, rng)[0], _reply(prompt, rng)[0]
    turns: Lesson = []
    for principle in rng.sample(constitution.choosers, 2):
        lead = against(principle.name, other) - against(principle.name, one)
        first = rng.random() < 0.5 if lead == 0 else (lead > 0) != (rng.random() < recipe.errors)
        pair = Asked(prompt, reply_text(one), reply_text(other), principle.choose)
        asked = QUESTION[QUESTION.index("{criterion}") :] if turns else QUESTION
        turns += [("user", worded(pair, asked, ""), False), ("assistant", "A" if first else "B", True)]
    return turns


def _reply(prompt: Prompt, rng: random.Random) -> tuple[list[Act], str]:
    """A reply's acts, at times mended already, and the true answer."""
    facts = facts_of(prompt)
    good = rng.choice(ph.NEEDS[facts["need"]].good).format(**facts)
    done = acts(prompt, rng)
    while rng.random() < 0.35:
        done = mended(rng.choice([*_AGAINST, "answer"]), done, good, rng)
    return done, good


def encode(model: LanguageModel, lesson: Lesson) -> Encoded:
    """A lesson as ids up to the first turn to be learned, ids from there, and the weight of each of these.

    A turn counts as the root of its length: a choice has one word, a revision forty.
    """
    ids: list[int] = []
    weights: list[float] = []
    for role, text, learned in lesson:
        mark = model.tokenizer(f"<|{role}|>", add_special_tokens=False)["input_ids"]
        said = completion_ids(model.tokenizer, text, model.template, end=role == "assistant")
        ids += [*mark, *said]
        weights += [0.0] * len(mark) + [len(said) ** -0.5 if learned else 0.0] * len(said)
    start = next(i for i, weight in enumerate(weights) if weight)
    return ids[:start], ids[start:], weights[start:]


def _of_alike_length(lessons: Sequence[Encoded], size: int, seed: int) -> Iterator[list[Encoded]]:
    """Batches whose rows are about as long, from windows of sixteen batches, in an order drawn anew."""
    rng = random.Random(seed)
    for at in range(0, len(lessons), 16 * size):
        window = sorted(lessons[at : at + 16 * size], key=lambda one: len(one[0]) + len(one[1]))
        cut = [window[i : i + size] for i in range(0, len(window), size)]
        rng.shuffle(cut)
        yield from cut


def train(recipe: Recipe) -> tuple[LanguageModel, float]:
    """The starter decoder, taught on, and its mean loss over the last fifty steps, in nats."""
    model = LanguageModel.load(MODELS / "decoder")
    optimiser = torch.optim.AdamW(
        model.trainable(), lr=recipe.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    constitution = read(CONSTITUTION)
    taught = [
        encode(model, lesson)
        for lesson in lessons(recipe.steps * recipe.batch, recipe.seed, "train", recipe, constitution)
    ]

    def batches() -> Iterator[list[tuple[TokenBatch, Tensor]]]:
        for part in _of_alike_length(taught, recipe.batch, recipe.seed):
            asked, said, weights = zip(*part, strict=True)
            batch = TokenBatch.of(list(asked), list(said), model.pad_id)
            yield [(batch, pad_sequence([torch.tensor(row) for row in weights], batch_first=True))]

    def loss(part: tuple[TokenBatch, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        batch, weights_BT = part[0].to(model.device), part[1].to(model.device)
        counts_BT = weights_BT > 0
        logits_NV = model.logits(model.hidden(batch)[counts_BT])
        losses_N = F.cross_entropy(logits_NV, batch.ids_BT[counts_BT], reduction="none")
        weights_N = weights_BT[counts_BT]
        return (losses_N * weights_N).sum() / weights_N.sum(), {}

    losses, start = [], time.monotonic()
    steps = fit(batches(), loss, optimiser, schedule=cosine(recipe.steps, 50, 0.02))
    for step, metrics in enumerate(steps, 1):
        losses.append(metrics["loss"])
        if step % 25 == 0:
            recent, seconds = statistics.mean(losses[-25:]), time.monotonic() - start
            print(f"{step}/{recipe.steps}: {recent:.3f} nats, {seconds:.0f} s", flush=True)
    return model, statistics.mean(losses[-50:])


def measure(model: LanguageModel, prompts: int = 150, seed: int = 9) -> dict[str, float]:
    """How well it finds, mends and chooses on hold-out prompts and the world's imperfect replies."""
    rng, constitution = random.Random(f"critic/{seed}"), read(CONSTITUTION)
    held_out = make_prompts(prompts, seed, "holdout")
    figures = _finds(model, constitution, held_out, rng)
    chooser = LikelihoodChooser(ModelLikelihoods(model), LikelihoodConfig(question=QUESTION))
    for rule in constitution.choosers:
        asked, better = [], []
        for prompt in held_out:
            one, other = acts(prompt, rng), acts(prompt, rng)
            lead = against(rule.name, other) - against(rule.name, one)
            if lead:
                asked.append(Asked(prompt, reply_text(one), reply_text(other), rule.choose))
                better.append(lead > 0)
        judged = both_orders(chooser, asked)
        hits = [
            said.p is not None and (said.p > 0.5) == first for said, first in zip(judged, better, strict=True)
        ]
        figures[f"chooses the {rule.name} one"] = statistics.mean(hits)
        figures[f"orders disagree on the {rule.name} one"] = statistics.mean(
            bool(said.flipped) for said in judged
        )
    return figures


def _finds(
    model: LanguageModel, constitution: Constitution, held_out: Sequence[Prompt], rng: random.Random
) -> dict[str, float]:
    """Share of replies with something against them of which it finds it, of those without of which it says
    nothing, and of both mended word for word."""
    engine = Engine(model, SamplingConfig(max_new_tokens=64, temperature=0.0))
    hits: dict[str, list[bool]] = {
        "finds what is wrong": [],
        "finds nothing where nothing is": [],
        "mends": [],
    }
    cases = []
    for prompt in held_out:
        done, good = _reply(prompt, rng)
        for rule in _asked(constitution.critics, done, good, rng):
            cases.append((rule, done, good, critique_prompt(prompt, reply_text(done), rule)))
    said = [group[0].text.strip() for group in engine.sample([case[3] for case in cases])]
    wanted = [critique(rule.name, done, good) for rule, done, good, _ in cases]
    for found, right in zip(said, wanted, strict=True):
        name = "finds nothing where nothing is" if right == FINE else "finds what is wrong"
        hits[name].append((found == FINE) == (right == FINE))
    asked = [revision_prompt(case[3], right, case[0]) for case, right in zip(cases, wanted, strict=True)]
    for case, group in zip(cases, engine.sample(asked), strict=True):
        rule, done, good, _ = case
        if rule.name != "respect":  # which greeting it takes is its own choice
            hits["mends"].append(group[0].text.strip() == reply_text(mended(rule.name, done, good, rng)))
    return {name: statistics.mean(rows) for name, rows in hits.items()}


def accept(figures: dict[str, float]) -> None:
    """Raise ModelError unless the model can follow the constitution."""
    bars = {"finds what is wrong": 0.6, "finds nothing where nothing is": 0.9, "mends": 0.6,
            "chooses the harmless one": 0.7}  # fmt: skip
    short = {name: round(figures[name], 3) for name, bar in bars.items() if figures[name] < bar}
    if short:
        raise ModelError(f"the critic does not follow the constitution: {short}; wanted {bars}. Train longer")


CARD = """---
license: apache-2.0
language: en
tags: [accord, helpdesk, simulated]
---
# Help desk critic

The help desk's decoder, taught on to criticise replies, mend them, and choose between two, by the principles
of the help desk's constitution. Its teacher is the world, which knows what each part of an imperfect reply
does; it errs in {errors:.0%} of the lessons, on purpose. It stands in for a capable model in accord's
running example, and is of no use for anything else.

Made by `python -m accord.recipes.helpdesk.critic` in {seconds:.0f} s on {device} (torch {torch}).
Recipe: {recipe}. Training loss at the end: {loss:.3f} nats.

Measured on the files of this folder (float16), hold-out prompts and imperfect replies of the world:

| figure | value |
|---|---|
{rows}

"Finds" counts whether it names anything, "mends" the revision word for word after the true critique;
"chooses" counts pairs that differ, asked in both orders.
"""


def make(out: Path = CRITIC, recipe: Recipe = Recipe()) -> dict[str, float]:
    """Train, save, measure and put the critic at ``out``; an old one stays if this fails."""
    start = time.monotonic()
    model, loss = train(recipe)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "critic"
        save(model, folder)
        seconds = time.monotonic() - start
        figures = measure(LanguageModel.load(folder))
        print(figures, flush=True)
        accept(figures)
        rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items())
        card = CARD.format(
            errors=recipe.errors, seconds=seconds, device=model.device.type, torch=torch.__version__,
            recipe=asdict(recipe), loss=loss, rows=rows,
        )  # fmt: skip
        (folder / "README.md").write_text(card)
        put(folder, out)
    return figures


if __name__ == "__main__":
    tyro.cli(make)
