"""A model behind a URL as judge: it says A or B, and its log-probs say how sure it is.

Where the server gives log-probs, P(A) is the probability of the tokens that mean A among those that mean A or
B (" A", "(A", "A"), in the place where the letter was said. A letter that is not among the ones listed has
at most the smallest listed probability and at most what the listed leave; it is given that, the most doubt
that fits. Without log-probs the letter it said stands for certain: 1 or 0.

Asked to ``reason``, it thinks in words first and ends in "Answer: A" (Bai et al. 2022, arXiv:2212.08073,
section 4.1). What was cut before its verdict, refused, empty or without a letter is ``Choice(None, said)``,
and counted.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from pydantic import Field
from scipy import special

from accord.chat import Answer, Chat, Ended, Token
from accord.judging import Asked, Choice, LikelihoodConfig, worded
from accord.types import Prompt

LETTER_ONLY = "Reply with A or B only."
REASONED = "Compare them in a few sentences. Then end with one line that says Answer: A or Answer: B."
"""Stands in for the other, or behind a question without it, where the judge is to reason."""
THOUGHT = "</think>"
"""Ends the reasoning that some models write into their answer."""
BETTER = (
    r"(?:is|was|would be|seems|looks)\s+"
    r"(?:(?:clearly|definitely|slightly|somewhat|much|far|by far|the|a|more)\s+)*"
    r"(?:better|best|preferable|preferred|superior)\b"
    r"(?![^\n]*\b(?:but|however|although|though|whereas|overall)\b)"
)
"""What may be said of the letter; in "A is worse" and "A is better, but B is true" it is no verdict."""
PREFACE = "my|the|i|choose|pick|final|better|best|answer|option|response|choice|verdict|is|boxed"
"""Words that may stand before the letter."""


class Read(StrEnum):
    """What became of one answer."""

    LOGPROBS = "read from log-probs"
    WORDS = "read from its words"
    CUT = "cut before a verdict"
    REFUSED = "refused"
    MALFORMED = "malformed"
    EMPTY = "empty"
    UNDECIDED = "no letter in it"


class ChatChooserConfig(LikelihoodConfig):
    """How a model behind a URL is asked to compare."""

    reason: bool = False
    """Think in words first; the verdict is its last line, and the question asks for it so."""
    top_logprobs: int = Field(20, ge=0, le=20)
    """Likeliest tokens asked for; 0 where the server refuses them, and the words are read."""


class ChatChooser:
    """A ``Chooser``. ``counts`` says what became of the answers, an equal question each time it is put."""

    def __init__(self, chat: Chat, config: ChatChooserConfig | None = None) -> None:
        self.chat = chat
        self.config = config or ChatChooserConfig()
        self.counts: Counter[Read] = Counter()
        self._verdict = _verdict(self.config.labels, self.config.reason)

    def choose(self, asked: Sequence[Asked]) -> list[Choice]:
        """One choice for each, in order; ``said`` is all its words, reasoning included.

        Raises:
            ModelError: as ``Chat.ask``.
        """
        config = self.config
        template = _reasoned(config.question) if config.reason else config.question
        wants: dict[str, Any] = {"logprobs": True, "top_logprobs": config.top_logprobs}
        fields = wants if config.top_logprobs else {}
        prompts = [Prompt.from_text(worded(one, template, config.criterion)) for one in asked]
        answers = self.chat.ask([(prompt, fields, 0) for prompt in prompts], temperature=0.0)
        found = [self._read(answer) for answer in answers]
        self.counts.update(how for how, _ in found)
        return [choice for _, choice in found]

    def _read(self, answer: Answer) -> tuple[Read, Choice]:
        said = f"{answer.thought}\n\n{answer.text}" if answer.thought else answer.text
        spoken = answer.text.rpartition(THOUGHT)[2]
        match = (self._verdict.search if self.config.reason else self._verdict.match)(spoken)
        if answer.ended is Ended.REFUSED or answer.ended is Ended.MALFORMED:
            return Read[answer.ended.name], Choice(None, said)
        if answer.ended is Ended.CUT and (self.config.reason or not match):
            return Read.CUT, Choice(None, said)
        if not match:
            return Read.UNDECIDED if answer.text.strip() else Read.EMPTY, Choice(None, said)
        letter = match["letter"]
        gap = _gap(_token_at(answer.tokens, spoken, match.start("letter")), letter, self.config.labels)
        if gap is None:
            return Read.WORDS, Choice(float(letter == self.config.labels[0]), said)
        return Read.LOGPROBS, Choice(float(special.expit(gap / self.config.temperature)), said)


def _reasoned(question: str) -> str:
    if LETTER_ONLY in question:
        return question.replace(LETTER_ONLY, REASONED)
    return f"{question}\n\n{REASONED}"


def _verdict(labels: tuple[str, str], reason: bool) -> re.Pattern[str]:
    """What a verdict looks like: the first words, or of one that reasons its last line."""
    letter = f"(?P<letter>{'|'.join(re.escape(label) for label in labels)})(?!\\w)"
    signs = r"(?:[^\w\n]|_)*"
    words = rf"(?:(?i:{PREFACE})\b{signs})*"
    if reason:
        return re.compile(rf"^{signs}{words}{letter}[\W_]*\Z", re.MULTILINE)
    # alone, at the end of its sentence or line, with a reason, or called the better; "A good answer" has an
    # article, "A or B" no choice, and "A: rude" says something of the answer
    closed = r"(?:[^\w\s:,;/&+-]|_)*"
    alone = rf"{closed}[ \t]*(?:\n|[.!](?=\s))(?!\s*[\W_]*(?:{'|'.join(map(re.escape, labels))})\b)"
    follows = rf"(?=[\W_]*\Z|{alone}|{closed},?\s+(?:because|since)\b|{closed}\s+{BETTER})"
    return re.compile(rf"[\W_]*{words}{letter}{follows}")


def _token_at(tokens: Sequence[Token], text: str, at: int) -> Token | None:
    """The token that holds a place of the text, which is the last that the tokens say; servers may take
    space off its ends."""
    end = -"".join(token.text for token in tokens).rfind(text)
    if end > 0:  # the tokens do not say it
        return None
    for token in tokens:
        end += len(token.text)
        if end > at:
            return token
    return None


def _gap(token: Token | None, letter: str, labels: tuple[str, str]) -> float | None:
    """Log-odds of the first label against the second where one of them was said; ``None`` where they are
    not known."""
    if token is None or _bare(token.text) != letter:
        return None
    listed = {**token.top, token.text: token.logprob}
    p = [sum(math.exp(lp) for text, lp in listed.items() if _bare(text) == label) for label in labels]
    most = min(min(map(math.exp, listed.values())), max(0.0, 1 - sum(map(math.exp, listed.values()))))
    first, second = (one or most for one in p)
    if not first or not second:
        return None if first == second else math.inf if first else -math.inf
    return math.log(first) - math.log(second)


def _bare(token: str) -> str:
    """A token's letters: " A", "(A" and "▁A" are A."""
    return re.sub(r"^[\W_Ġ]+|[\W_]+$", "", token)
