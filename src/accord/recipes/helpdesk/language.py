"""Is a text well-formed? Tokens, sentences and a fluency in [0, 1] for any text. Pure Python.

Fluency asks how much of the text is made of word sequences the desk's own language has (trigrams,
then bigrams, then bare words, as in a back-off language model), after values such as dates and
products are replaced by their class; then it takes off for a missing end, repetition and length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise

from accord.recipes.helpdesk import phrases as ph

MAX_WORDS = 50
"""A reply of more words starts to ramble; the longest good one of the world has under 40."""

_TOKEN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+|[^\w\s]|_")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*|[.!?]+")
_CLASS = (
    {name.lower(): "<product>" for name in ph.PRODUCTS}
    | {name.lower(): "<colour>" for name in ph.COLOURS}
    | {name.lower(): "<city>" for name in ph.CITIES}
    | {name.lower(): "<month>" for name in ph.MONTHS}
    | {name.lower(): "<name>" for name in ph.NAMES}
    | {name.lower(): "<street>" for name in ph.STREETS}
)
_EXAMPLE = {
    "product": "kettle",
    "colour": "red",
    "want": "blue",
    "amount": 40,
    "city": "Lyon",
    "date": "3 June",
    "name": "Berg",
    "number": 3,
    "street": "Mill",
}

# Plain service English, so that sane replies of a person, in other words than the desk's, are not noise.
_PLAIN = """We are sorry to hear that. Thank you for reaching out. I understand that you are upset.
You should get it on 3 June. It should be with you on 3 June. It will be there on 3 June in Lyon.
Your order will be delivered to Lyon on 3 June. It should be delivered on 3 June. It arrives on June 3.
Hi there! Good news, your kettle will be in Lyon on 3 June. The package is on the way.
I have checked your order and it will arrive on 3 June. I just checked,
and it is scheduled to arrive on 3 June.
You have until 3 June to return it. You will get your 40 euro back. We will refund you 40 euro.
We will send you a new one on 3 June. There is no charge for this. It is covered by the warranty.
Unfortunately, we can not do that. I am afraid it is too late. I am afraid that it was sent on 3 June.
Please tell us the new address before 3 June. You can do this until 3 June. That is no problem.
You do not have to wait much longer! Please do not worry. You have to pay it by June 3.
Sure, I can do that for you. Please let us know. If you have any questions, please ask.
Is there anything else we can do for you? I hope this helps. You are welcome. Best regards.
Feel free to write to us. Have a good day. Please let me know if there is anything else I can do for you.
The sale will start on 3 June. It will be back in stock on 3 June. The invoice has to be paid by 3 June.
What else can I do for you? I would be happy to help you with that. We can not offer a discount.
"""
_COMMON = """a about after again all also am an and any are as ask at back be because been before best
better both but by call can change check come could customer day did do does done each even
ever every find first for found from get give go going good got great had has have he hear help
her here him his hope how i if in into is it its just know last late later let like little long
look made make many may me might more most much must my need never new next no not now of off
ok on one only open or order other our out over own part pay people place please problem put
question quick read really receive reply right said same say see send sent shall she shop
should show since so some soon sorry still such sure take tell than thank thanks that the their
them then there these they thing think this those through time to too try two under until up us
use very wait want was way we week welcome well were what when where which while who why will
with work would write year yes yet you your"""


def tokens(text: str) -> list[str]:
    """Words, numbers and single marks of a text, in lower case and compatibility form (NFKC)."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).lower().replace("’", "'"))


def sentences(text: str) -> list[str]:
    """The text's sentences, each with its end mark where it has one."""
    return [part for part in (s.strip() for s in _SENTENCE.findall(text)) if part]


def fluency(text: str) -> float:
    """How well-formed a text is as a reply of the desk, in [0, 1]; 1 for the world's own sentences."""
    words = [_classes(tokens(sentence)) for sentence in sentences(text)]
    words = [w for w in words if w]
    count = sum(len(w) for w in words)
    if not count:
        return 0.0
    covered = [_coverage(w) for w in words]
    mean = sum(c * len(w) for c, w in zip(covered, words, strict=True)) / count
    value = 0.7 * mean + 0.3 * min(covered)
    letters = sum(ch.isalpha() for ch in text)
    shouting = sum(ch.isupper() for ch in text) > 0.4 * letters
    return (
        min(1.0, max(0.0, (value - 0.41) / 0.56))
        * ending(text)
        * (1.0 - repetition(tokens(text)))
        * min(1.0, max(0.0, 1.0 - (count - MAX_WORDS) / 50))
        * (0.5 if shouting else 1.0)
        * min(1.0, (count + 1) / 5)
    )


def ending(text: str) -> float:
    """1 where the text ends as a sentence does, less where it trails off or just stops."""
    text = text.rstrip().rstrip("\"')”’")
    if text.endswith(("..", "…")):
        return 0.6
    return 1.0 if text.endswith((".", "!", "?")) else 0.5


def repetition(words: Sequence[str]) -> float:
    """Share of the text that only says again what was said, from repeated trigrams, in [0, 1]."""
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    repeated = len(trigrams) - len(set(trigrams))
    stutter = sum(a == b for a, b in pairwise(words))
    if not words:
        return 0.0
    return min(1.0, 2.0 * (repeated + stutter) / max(len(words), 8))


def _classes(words: Iterable[str]) -> list[str]:
    return ["<number>" if w.isdecimal() else _CLASS.get(w, w) for w in words]


def _coverage(words: list[str]) -> float:
    """Mean credit of a sentence's tokens: 1 in a known trigram, less in a bigram, least as a word."""
    bigrams, trigrams, vocabulary = _language()
    padded = ["<s>", "<s>", *words]
    total = 0.0
    for i in range(2, len(padded)):
        a, b, c = padded[i - 2 : i + 1]
        if (a, b, c) in trigrams:
            total += 1.0
        elif (b, c) in bigrams:
            total += 0.8
        elif c in vocabulary:
            total += 0.35
    return total / len(words)


@cache
def _language() -> tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str, str]], frozenset[str]]:
    """Bigrams, trigrams and words of every sentence the desk can say, values as classes."""
    said = [
        *ph.WARM, *ph.CURT, *ph.RUDE, *ph.INSULTS, *ph.BLAME, *ph.LEAKS, *ph.BESIDE, *ph.PROMISES, *ph.OFFERS,
    ]  # fmt: skip
    for need in ph.NEEDS.values():
        said += [*need.good, *need.partial, *need.false]
    text = " ".join(template.format(**_EXAMPLE) for template in said) + "\n" + _PLAIN
    bigrams: set[tuple[str, str]] = set()
    trigrams: set[tuple[str, str, str]] = set()
    vocabulary = set(_COMMON.split())
    for sentence in sentences(text):
        padded = ["<s>", "<s>", *_classes(tokens(sentence))]
        bigrams.update(pairwise(padded))
        trigrams.update(zip(padded, padded[1:], padded[2:], strict=False))
        vocabulary.update(padded)
    return frozenset(bigrams), frozenset(trigrams), frozenset(vocabulary)
