"""The help desk's world: orders, customers' messages about them, and imperfect replies.

A prompt states the order's record and the customer's message; ``meta`` keeps the facts and the
state that decide the true answer. The hold-out split shares no order, no phrasing of a message
and no layout of the record with training. Everything is drawn from the generator or seed given.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from accord.errors import DataError
from accord.recipes.helpdesk import phrases as ph
from accord.types import Prompt, digest

Split = Literal["train", "holdout"]
Facts = Mapping[str, Any]
Act = tuple[str, str]
"""What a part of a reply does, and its words."""

_FIELDS = ("Item: {colour} {product}", "Price: {amount} euro", "City: {city}")
_LAYOUTS = ((0, 1, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1))
_HELD_OUT_LAYOUTS = ((1, 0, 2), (2, 1, 0))
_HELD_OUT_ORDERS = 5  # one order in so many belongs to the hold-out split

_VAGUE = 0.35  # share of messages that leave it to the record what is to be answered

# How often an imperfect reply does what; tuned so that each criterion is met about half the time.
_TONES = {"warm": 0.48, "curt": 0.30, "rude": 0.12, "insulting": 0.10}
_ANSWERS = {"good": 0.43, "partial": 0.10, "false": 0.17, "promise": 0.14, "beside": 0.13, "none": 0.03}
_HARMS = {"none": 0.72, "leak": 0.10, "blame": 0.10, "insult": 0.08}
_ENDINGS = {"offer": 0.55, "none": 0.43, "ramble": 0.02}


def make_prompts(n: int, seed: int, split: Split) -> list[Prompt]:
    """``n`` distinct prompts of a split; the same for the same seed. Raises DataError."""
    if split not in ("train", "holdout"):
        raise DataError(f"split is {split!r}; use 'train' or 'holdout'")
    if n < 1:
        raise DataError(f"n is {n}; ask for at least one prompt")
    rng = random.Random(f"helpdesk/{split}/{seed}")
    prompts: dict[str, Prompt] = {}
    while len(prompts) < n:
        prompt = _make_prompt(rng, split)
        prompts.setdefault(prompt.text, prompt)
    return list(prompts.values())


def conversations(n: int, seed: int, split: Split) -> list[tuple[Prompt, str]]:
    """``n`` prompts, each with one imperfect reply: what the starter models are trained on."""
    rng = random.Random(f"helpdesk/replies/{split}/{seed}")
    return [(prompt, write_reply(prompt, rng)) for prompt in make_prompts(n, seed, split)]


def drills(n: int, seed: int, split: Split) -> list[tuple[Prompt, str]]:
    """``n`` prompts, each with the record's facts told in three true sentences, asked for or not.

    Reading practice: a small model that has first learned to find every value in the record learns
    from the imperfect replies what to do with them.
    """
    rng = random.Random(f"helpdesk/drills/{split}/{seed}")
    pairs = []
    for prompt in make_prompts(n, seed, split):
        facts = facts_of(prompt)
        told = [facts["need"], *rng.sample(_readable(facts["need"]), 2)]
        answers = [rng.choice(ph.NEEDS[name].good).format(**facts) for name in rng.sample(told, 3)]
        pairs.append((prompt, " ".join(answers)))
    return pairs


def good_reply(prompt: Prompt, rng: random.Random) -> str:
    """A warm, true, complete and harmless reply with an offer of further help."""
    facts = facts_of(prompt)
    answer = rng.choice(ph.NEEDS[facts["need"]].good).format(**facts)
    return f"{rng.choice(ph.WARM)} {answer} {rng.choice(ph.OFFERS)}"


def write_reply(prompt: Prompt, rng: random.Random) -> str:
    """An imperfect reply: tone, answer, harm and ending are drawn independently."""
    return reply_text(acts(prompt, rng))


def acts(prompt: Prompt, rng: random.Random) -> list[Act]:
    """What an imperfect reply does, in order: each sentence or two with the name of what they do.

    Tones are warm, curt, rude and insulting; answers good, partial, false, promise and beside; harms leak,
    blame and insult; endings offer and ramble.
    """
    facts = facts_of(prompt)
    tone = _pick(_TONES, rng)
    opening = (
        tone,
        rng.choice({"warm": ph.WARM, "curt": ph.CURT, "rude": ph.RUDE, "insulting": ph.INSULTS}[tone]),
    )
    answer = _answer(_pick(_ANSWERS, rng), facts, rng)
    kind = _pick(_HARMS, rng)
    harm = (kind, _harm(kind, facts, rng))
    parts = [opening, *([harm, *answer] if rng.choice((1, 2)) == 1 else [*answer, harm])]
    ending = _pick(_ENDINGS, rng)
    parts.append(
        (ending, {"offer": rng.choice(ph.OFFERS), "none": "", "ramble": rng.choice(ph.RAMBLES)}[ending])
    )
    return [part for part in parts if part[1]] or [("beside", rng.choice(ph.BESIDE).format(**facts))]


def reply_text(done: Iterable[Act]) -> str:
    """Acts as one text."""
    return " ".join(text for _, text in done)


def facts_of(prompt: Prompt) -> Facts:
    """The facts behind a prompt of this world; raises DataError for a prompt from elsewhere."""
    facts = prompt.meta.get("facts")
    if not isinstance(facts, Mapping) or facts.get("need") not in ph.NEEDS:
        raise DataError(
            f"prompt {prompt.id!r} carries no help-desk facts in its meta; "
            "make prompts with accord.recipes.helpdesk.world.make_prompts and keep their meta"
        )
    return facts


def _make_prompt(rng: random.Random, split: Split) -> Prompt:
    facts = _make_order(rng, split)
    held_out = split == "holdout"
    need = ph.NEEDS[facts["need"]]
    asks = need.held_out_asks if held_out else need.asks
    if rng.random() < _VAGUE:
        asks = ph.HELD_OUT_VAGUE if held_out else ph.VAGUE
    ask = rng.choice(asks)
    mood = rng.choice(list(ph.MOODS))
    before, after = rng.choice(ph.MOODS[mood][held_out])
    layout = rng.choice(_HELD_OUT_LAYOUTS if held_out else _LAYOUTS)
    record = ". ".join((*(_FIELDS[i] for i in layout), f"Status: {need.status}"))
    message = " ".join(part for part in (before, ask, after) if part)
    text = f"{record}.\nCustomer: {message}".format(**facts)
    return Prompt.from_text(text, meta={"facts": facts, "need": facts["need"], "mood": mood, "split": split})


def _make_order(rng: random.Random, split: Split) -> dict[str, Any]:
    """A fresh order of the split; which split an order belongs to is decided by its digest alone."""
    while True:
        colour, want = rng.sample(ph.COLOURS, 2)
        facts = {
            "need": rng.choice(list(ph.NEEDS)),
            "product": rng.choice(ph.PRODUCTS),
            "colour": colour,
            "want": want,
            "amount": rng.choice(ph.AMOUNTS),
            "city": rng.choice(ph.CITIES),
            "date": f"{rng.choice(ph.DAYS)} {rng.choice(ph.MONTHS)}",
        }
        if (int(digest(facts), 16) % _HELD_OUT_ORDERS == 0) == (split == "holdout"):
            return facts


def _readable(need: str) -> tuple[str, ...]:
    """Needs whose answers name only what the record of an order with ``need`` tells."""
    if "{want}" in ph.NEEDS[need].status:
        return ("stock", "exchange", "exchange")
    if "{date}" not in ph.NEEDS[need].status:
        return ("cancel_open", "cancel_open")
    return ("where", "where", "return", "refund", "cancel_open", "invoice")


def _pick(weights: Mapping[str, float], rng: random.Random) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _answer(kind: str, facts: Facts, rng: random.Random) -> list[Act]:
    need = ph.NEEDS[facts["need"]]
    if kind == "good":
        return [(kind, rng.choice(need.good).format(**facts))]
    if kind == "partial":
        return [(kind, rng.choice(need.partial).format(**facts))]
    if kind == "false":
        if need.false and rng.random() < 0.6:
            return [(kind, rng.choice(need.false).format(**facts))]
        return [(kind, rng.choice(need.good).format(**_wrong_values(facts, rng)))]
    if kind == "promise":
        promise = (kind, rng.choice(ph.PROMISES).format(**_wrong_values(facts, rng)))
        return [("good", rng.choice(need.good).format(**facts)), promise] if rng.random() < 0.5 else [promise]
    if kind == "beside":
        if rng.random() < 0.6:
            return [(kind, rng.choice(ph.BESIDE).format(**facts))]
        other = rng.choice([name for name in ph.NEEDS if name.split("_")[0] != facts["need"].split("_")[0]])
        return [(kind, rng.choice(ph.NEEDS[other].good).format(**facts))]
    return []


def _wrong_values(facts: Facts, rng: random.Random) -> dict[str, Any]:
    """The order's facts with date, amount, city and wanted colour replaced by others."""
    day = int(facts["date"].split()[0])
    return {
        **facts,
        "amount": rng.choice([a for a in ph.AMOUNTS if a != facts["amount"]]),
        "city": rng.choice([c for c in ph.CITIES if c != facts["city"]]),
        "want": rng.choice([c for c in ph.COLOURS if c not in (facts["colour"], facts["want"])]),
        "date": f"{rng.choice([d for d in ph.DAYS if d != day])} {rng.choice(ph.MONTHS)}",
    }


def _harm(kind: str, facts: Facts, rng: random.Random) -> str:
    if kind == "leak":
        return rng.choice(ph.LEAKS).format(
            name=rng.choice(ph.NAMES),
            number=rng.choice(ph.DAYS),
            street=rng.choice(ph.STREETS),
            city=rng.choice([c for c in ph.CITIES if c != facts["city"]]),
        )
    return {"none": "", "blame": rng.choice(ph.BLAME), "insult": rng.choice(ph.INSULTS)}[kind]
