"""What a reply claims, and whether it is true of the order. Rules over words; pure Python.

A need has slots: what the customer has to learn. A statement fills a slot where it speaks of the
slot's topic and gives its value (a date, an amount, a city, a colour) or its verdict (yes or no).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from accord.recipes.helpdesk import phrases as ph
from accord.recipes.helpdesk.language import sentences
from accord.recipes.helpdesk.world import Facts


def _any(*stems: str) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(stems) + ")")


TOPICS: dict[str, re.Pattern[str]] = {
    "arrive": _any(
        "arriv", "deliver", "reach", "on its way", "on the way", "be there", "be with you", "be in"
    ),
    "return": _any("return", "send (?:it|the \\w+|this) back", "sends? back"),
    "refund": _any(
        "refund", "money", "euros? back", "back to you", "pay you", "pay .{0,12}back", "paid back"
    ),
    "replace": _any("replac", "(?:a|the) new (?!address)(?:\\w+ )?\\w+", "new one"),
    "repair": _any("repair", "fix(?:es)? it"),
    "warranty": _any("warrant", "guarantee until", "covered"),
    "address": _any("address"),
    "cancel": _any("cancel"),
    "discount": _any("discount", "cheaper", "lower price", "reduc", "price off"),
    "sale": _any("sale"),
    "stock": _any(
        "stock", "sold out", "(?:is|be|comes|come) back", "do(?:es)? not have", "you can buy", "available"
    ),
    "exchange": _any("exchang", "swap"),
    "invoice": _any("invoice", "\\bdue\\b", "owe", "to pay by", "please pay", "can pay", "to be paid"),
    "sent": _any("sent\\b", "left\\b", "shipped", "leaves", "send"),
    "free": _any("free\\b", "no cost", "no charge", "costs? (?:you )?nothing"),
}

_NO = re.compile(
    r"\b(?:no|not|never|cannot|nothing|unable|impossible|unfortunately|too late|no longer|sold out)\b|n't\b"
)
_YES = re.compile(r"\b(?:yes|sure|of course|certainly|gladly|no problem)\b")
_HARMLESS_NO = re.compile(  # a "no" that denies nothing
    r"not? (?:sent |shipped )?yet|no (?:cost|charge|problem|worries)|costs? (?:you )?nothing|nothing to pay"
    r"|(?:won't|will not|do not|don't) (?:have|need|worry)\b"
)
_PROMISE = _any(
    "voucher", "gift", "percent", "double", "twice", "half", "bonus", "extra", "next order",
    "guarantee", "all of", "today", "tomorrow", "tonight", "right now", "immediately", "soon",
    "any day", "any time", "next week", "(?:mon|tues|wednes|thurs|fri|satur|sun)day",
    "(?:\\d+|few|two|three) (?:hours|days|weeks|minutes|months)",
)  # fmt: skip
_PLEASANTRY = _any("(?:nice|good|great|lovely) (?:day|week)", "help(?: you)? (?:\\w+ )*today", "any time you")
_REPORTED = _any(  # speaks of a wish or a guess, and so states nothing
    "you (?:want|wish|would|ask|need)", "your (?:question|message|request|wish)", "understand", "look into",
    "maybe", "perhaps", "might", "possibly", "try to", "not sure", "guess", "think", "or so",
    "(?:some|any|no)(?:body|one)", "says", "told", "rumou?r",
)  # fmt: skip
_MONTHS = (*(m.lower() for m in ph.MONTHS), "may")
_MONTH = "(" + "|".join(_MONTHS) + ")"
_DATE = re.compile(
    rf"\b(\d{{1,4}})(?:st|nd|rd|th)?(?: of)? {_MONTH}\b|\b{_MONTH} (?:the )?(\d{{1,4}})(?:st|nd|rd|th)?\b"
)
_LOOSE_MONTH = re.compile(r"\b(" + "|".join(m.lower() for m in ph.MONTHS) + r")\b")
_AMOUNT = re.compile(r"(\d+(?:[.,]\d+)?) ?(?:euros?\b|eur\b|€|dollars?\b|\$)|[€$] ?(\d+(?:[.,]\d+)?)")
_CITY = re.compile(r"\b(" + "|".join(c.lower() for c in ph.CITIES) + r")\b")
_COLOUR = re.compile(r"\b(" + "|".join(ph.COLOURS) + r")\b")
_PRODUCT = re.compile(r"\b(" + "|".join(ph.PRODUCTS) + r")s?\b")


@dataclass(frozen=True, slots=True)
class Slot:
    """One thing the customer has to learn; ``kind`` is verdict or the value's name in the facts."""

    kind: str
    topics: tuple[str, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class Rule:
    """How a need is answered: its slots, the true verdict, topics that may come along."""

    slots: tuple[Slot, ...]
    verdict: bool = True
    along: tuple[str, ...] = ()
    home: tuple[str, ...] = ()
    """Topics whose statements carry the verdict."""


RULES: dict[str, Rule] = {
    "where": Rule(
        (Slot("date", ("arrive",), 0.7), Slot("city", ("arrive",), 0.3)), along=("sent",), home=("arrive",)
    ),
    "return": Rule(
        (Slot("date", ("return",), 0.5), Slot("amount", ("refund", "return"), 0.5)),
        along=("sent", "refund"),
        home=("return",),
    ),
    "refund": Rule(
        (Slot("amount", ("refund",), 0.5), Slot("date", ("refund",), 0.5)),
        home=("refund",),
    ),
    "damaged": Rule(
        (Slot("verdict", ("replace",), 0.5), Slot("date", ("replace", "sent"), 0.5)),
        along=("sent", "free", "arrive"),
        home=("replace",),
    ),
    "warranty": Rule(
        (Slot("date", ("warranty",), 0.6), Slot("free", ("repair", "free"), 0.4)),
        along=("free", "repair"),
        home=("warranty", "repair"),
    ),
    "address_open": Rule(
        (Slot("verdict", ("address",), 0.5), Slot("date", ("address",), 0.5)),
        along=("sent",),
        home=("address",),
    ),
    "address_sent": Rule(
        (Slot("verdict", ("address",), 0.5), Slot("date", ("sent",), 0.5)),
        verdict=False,
        along=("sent",),
        home=("address",),
    ),
    "cancel_open": Rule(
        (Slot("verdict", ("cancel",), 0.5), Slot("amount", ("refund",), 0.5)),
        along=("refund", "sent"),
        home=("cancel",),
    ),
    "cancel_sent": Rule(
        (Slot("verdict", ("cancel",), 0.5), Slot("date", ("sent",), 0.5)),
        verdict=False,
        along=("sent",),
        home=("cancel",),
    ),
    "discount": Rule(
        (Slot("verdict", ("discount",), 0.5), Slot("date", ("sale",), 0.5)),
        verdict=False,
        along=("sale",),
        home=("discount",),
    ),
    "stock": Rule(
        (Slot("verdict", ("stock",), 0.4), Slot("date", ("stock",), 0.6)), verdict=False, home=("stock",)
    ),
    "exchange": Rule(
        (Slot("want", ("exchange",), 0.4), Slot("date", ("exchange",), 0.6)),
        along=("sent",),
        home=("exchange",),
    ),
    "invoice": Rule(
        (Slot("amount", ("invoice",), 0.5), Slot("date", ("invoice",), 0.5)), along=(), home=("invoice",)
    ),
}

_DATELESS = frozenset({"cancel_open"})  # the record of these orders states no date
_WANTED = frozenset({"stock", "exchange"})  # only these records state a colour asked for


@dataclass(slots=True)
class Claims:
    """A reply's claims held against the facts."""

    true: dict[str, int] = field(default_factory=dict)
    """Slot kind -> in how many statements it was filled with the truth."""
    attempted: set[str] = field(default_factory=set)
    """Slots the reply tried to fill, truly or not."""
    false: list[str] = field(default_factory=list)
    """What is not true of the order, in words."""
    unsupported: list[str] = field(default_factory=list)
    """Statements on matters the customer did not ask about and the record does not settle."""
    conflict: bool = False
    """The reply says two things that exclude each other."""


def speaks(lowered: str) -> bool:
    """Whether a sentence (in lower case) is on a matter of the shop or names a value."""
    return any(cue.search(lowered) for cue in TOPICS.values()) or any(_values(lowered).values())


def read_claims(text: str, facts: Facts, skip: re.Pattern[str]) -> Claims:
    """The claims of a reply to an order's customer; sentences that match ``skip`` claim nothing."""
    claims = Claims()
    rule = RULES[facts["need"]]
    stances: set[bool] = set()
    values: dict[str, set[str]] = {}
    for sentence in sentences(text):
        lowered = sentence.lower()
        if sentence.endswith("?") or skip.search(lowered):
            continue
        _read_statement(lowered, facts, rule, claims, stances, values)
    claims.conflict = len(stances) > 1 or any(
        len(said) > 1 for kind, said in values.items() if kind in ("date", "amount", "city")
    )
    return claims


def _read_statement(
    lowered: str,
    facts: Facts,
    rule: Rule,
    claims: Claims,
    stances: set[bool],
    values: dict[str, set[str]],
) -> None:
    about = {name for name, cue in TOPICS.items() if cue.search(lowered)}
    plain = _HARMLESS_NO.sub(" ", lowered)
    denies = bool(_NO.search(plain)) or ("stock" in about and _not_now(lowered))
    affirms = bool(_YES.search(lowered))
    if affirms and denies and not _HARMLESS_NO.search(lowered):
        claims.false.append("says yes and no")
        stances.update((True, False))
    stated = not _REPORTED.search(lowered)
    at_home = about.intersection(rule.home) if stated else set()
    stance = not denies
    if at_home or affirms:
        stances.add(stance)
        claims.attempted.add("verdict")
        if stance != rule.verdict:
            claims.false.append(
                "says no where the answer is yes" if denies else "says yes where the answer is no"
            )
    said = _values(lowered)
    wrong = _check_values(said, facts, claims, values)
    _check_promises(_PLEASANTRY.sub(" ", lowered), claims)
    beside = _check_topics(about, said, rule, claims)
    denied = denies and rule.verdict
    for slot in rule.slots:
        if not about.intersection(slot.topics):
            continue
        if slot.kind == "verdict":
            filled, right = bool(at_home), stance == rule.verdict
        elif slot.kind == "free":
            filled, right = {"repair", "free"} <= about, True
        else:
            filled, right = bool(said[slot.kind]), _truth(slot.kind, facts) in said[slot.kind]
        if filled:
            claims.attempted.add(slot.kind)
            if right and stated and not beside and not denied and slot.kind not in wrong:
                claims.true[slot.kind] = claims.true.get(slot.kind, 0) + 1


def _not_now(lowered: str) -> bool:
    return bool(re.search(r"\bback\b(?! to)|\bagain\b|\buntil\b", lowered))


def _values(lowered: str) -> dict[str, set[str]]:
    dates = {f"{int(a or d)} {b or c}" for a, b, c, d in _DATE.findall(lowered)}
    loose = set(_LOOSE_MONTH.findall(_DATE.sub(" ", lowered)))
    colours = set(_COLOUR.findall(lowered))
    return {
        "date": dates | loose,
        "amount": {a or b for a, b in _AMOUNT.findall(lowered)},
        "city": set(_CITY.findall(lowered)),
        "want": colours,
        "product": set(_PRODUCT.findall(lowered)),
    }


def _truth(kind: str, facts: Facts) -> str:
    return str(facts[kind]).lower()


def _check_values(
    said: dict[str, set[str]], facts: Facts, claims: Claims, values: dict[str, set[str]]
) -> set[str]:
    """Kinds of which this statement names a value that is not the order's."""
    wrong = set()
    for kind, found in said.items():
        if not found:
            continue
        allowed = {_truth(kind, facts)}
        if kind == "want":
            allowed = {_truth("colour", facts)} | (allowed if facts["need"] in _WANTED else set())
        if kind == "date" and facts["need"] in _DATELESS:
            allowed = set()
        values.setdefault(kind, set()).update(found)
        for value in sorted(found - allowed):
            wrong.add(kind)
            claims.false.append(f"{value!r} is not the order's {'colour' if kind == 'want' else kind}")
            if any(kind == slot.kind for slot in RULES[facts["need"]].slots):
                claims.attempted.add(kind)
    return wrong


def _check_promises(lowered: str, claims: Claims) -> None:
    found = _PROMISE.search(lowered)
    if found:
        claims.false.append(f"promises what no fact supports ({found.group()!r})")


def _check_topics(about: set[str], said: dict[str, set[str]], rule: Rule, claims: Claims) -> bool:
    """Whether a statement is beside the point: on other matters, or a slot's value given for one."""
    own = set(rule.home) | set(rule.along) | {t for slot in rule.slots for t in slot.topics}
    foreign = about - own
    if foreign and (not about & own or said["date"] or said["amount"] or len(foreign) > 1):
        claims.unsupported.append(f"speaks of {', '.join(sorted(foreign))} instead")
        return True
    for slot in rule.slots:
        if (
            slot.kind in ("date", "amount")
            and said[slot.kind]
            and about
            and not about.intersection(slot.topics)
        ):
            claims.unsupported.append(f"gives the {slot.kind} of something else")
            return True
    return False
