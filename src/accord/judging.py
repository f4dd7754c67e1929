"""Which of two answers is better: whoever compares, asked in both orders. Loads no torch.

Models that judge like what they read first (Zheng et al. 2023, arXiv:2306.05685). Asked in both orders, a
liking that adds the same to the log-odds of whatever stands first cancels in their mean, exactly; what is
left of the liking is doubt: the probability moves towards one half, and a judge that goes by position alone
gives one half.

Anything that compares is a ``Chooser``: a local model by the likelihood of "A" and "B"
(``LikelihoodChooser``), a server, a person, a planted judge of a test. Stages that judge (a
constitution's feedback, an evaluation) meet here; ``evaluate.judges`` measures what a judge is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Protocol, runtime_checkable

from pydantic import Field
from scipy import special

from accord.config import Config
from accord.errors import DataError, NumericsError
from accord.types import Prompt

SURE = 1e-6
"""Probabilities are kept so far from 0 and 1, so that one certain order does not outvote any doubt."""
TOO_LONG = "(the question is longer than the context)"
QUESTION = (
    "Here is a message and two answers to it.\n\nMessage:\n{prompt}\n\nAnswer A:\n{first}\n\nAnswer "
    "B:\n{second}\n\n"
    "Which answer is better: {criterion}? Reply with A or B only."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: which of two answers to a prompt is better.

    ``criterion`` says what better means for this pair (a principle drawn for it, say); a chooser's own
    where it is empty. A chooser that has no words for it (a scorer, a person) may leave it unread.
    """

    prompt: Prompt
    first: str
    """The answer shown first..."""
    second: str
    """...and second."""
    criterion: str = ""

    def turned(self) -> Asked:
        """The same question with the answers the other way round."""
        return replace(self, first=self.second, second=self.first)


def worded(asked: Asked, template: str, criterion: str) -> str:
    """The question in words; ``criterion`` stands where the question brings none of its own."""
    parts = {"{prompt}": asked.prompt.text, "{first}": asked.first, "{second}": asked.second,
             "{criterion}": asked.criterion or criterion}  # fmt: skip
    out = ""
    while template:  # from left to right, so that a brace in an answer stays a brace
        at, name = min(((template.find(n), n) for n in parts if n in template), default=(len(template), ""))
        out, template = out + template[:at] + parts.get(name, ""), template[at + len(name) :]
    return out


@dataclass(frozen=True, slots=True)
class Choice:
    """What a judge said once."""

    p_first: float | None
    """Probability that the answer shown first is the better; ``None`` where nothing usable was said."""
    said: str = ""
    """Its words, where it gave some."""


@runtime_checkable
class Chooser(Protocol):
    """Anything that compares two answers."""

    def choose(self, asked: Sequence[Asked]) -> list[Choice]:
        """One choice for each, in order. What cannot be used is a choice of ``None``, never left out."""
        ...


@dataclass(frozen=True, slots=True)
class Judged:
    """One pair in both orders."""

    p: float | None
    """Probability that ``first`` of the pair as listed is better; ``None`` where neither order was usable."""
    as_listed: Choice
    turned: Choice
    """Asked the other way round; its ``p_first`` is of the pair's second."""

    @property
    def flipped(self) -> bool | None:
        """Whether the two orders name different answers; ``None`` where one of them was unusable."""
        one, other = self.as_listed.p_first, self.turned.p_first
        return None if one is None or other is None else (one - 0.5) * (other - 0.5) > 0


def both_orders(chooser: Chooser, pairs: Sequence[Asked]) -> list[Judged]:
    """Judge pairs in both orders: the mean of the log-odds; one order alone where the other was unusable.

    Raises:
        DataError: the judge gave another number of choices, or a probability outside of 0..1.
    """
    found = chooser.choose([*pairs, *(pair.turned() for pair in pairs)])
    if len(found) != 2 * len(pairs):
        raise DataError(f"the judge gave {len(found)} choices for {2 * len(pairs)} questions")
    for one in found:
        if one.p_first is not None and not 0 <= one.p_first <= 1:
            raise DataError(f"the judge gave a probability of {one.p_first}; it must lie in 0..1")
    return [
        Judged(_mean(one.p_first, other.p_first), one, other)
        for one, other in zip(found[: len(pairs)], found[len(pairs) :], strict=True)
    ]


def flip_share(judged: Sequence[Judged]) -> float:
    """Share of the pairs usable in both orders in which the orders name different answers; 0 of none."""
    flips = [one.flipped for one in judged if one.flipped is not None]
    return sum(flips) / max(1, len(flips))


def unusable_share(judged: Sequence[Judged]) -> float:
    """Share of single choices of which nothing could be used; 0 of none."""
    lost = sum(choice.p_first is None for one in judged for choice in (one.as_listed, one.turned))
    return lost / max(1, 2 * len(judged))


def _mean(first: float | None, turned: float | None) -> float | None:
    odds = [
        sign * float(special.logit(min(max(p, SURE), 1 - SURE)))
        for p, sign in ((first, 1), (turned, -1))
        if p is not None
    ]
    return float(special.expit(sum(odds) / len(odds))) if odds else None


@dataclass(frozen=True, slots=True)
class TextLogprob:
    """A text after a prompt: the sum of its tokens' log-probs in nats, and how many they are."""

    logprob: float
    tokens: int

    def __post_init__(self) -> None:
        if not isfinite(self.logprob) or self.logprob > 1e-6 or self.tokens < 1:
            raise NumericsError(
                f"a log-prob of {self.logprob} over {self.tokens} tokens; it must be finite and not above 0"
            )


@runtime_checkable
class Likelihoods(Protocol):
    """Anything that says how likely texts are."""

    def logprobs(self, asked: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[TextLogprob]]:
        """For each prompt the log-prob of each text as its answer, in order, without the end token."""
        ...


class LikelihoodConfig(Config):
    """How a model is asked."""

    question: str = QUESTION
    """The prompt; {prompt}, {first}, {second} and {criterion} are filled in."""
    criterion: str = "more helpful, honest and harmless"
    """What better means, for questions that do not say."""
    labels: tuple[str, str] = ("A", "B")
    """What it may reply."""
    temperature: float = Field(1.0, gt=0)
    """Log-odds are divided by it: fit it on pairs people judged (``stats.calibration.fit_temperature``)."""
    skip_long: bool = False
    """A question longer than the model's context is unusable, and no error."""


class BoundedLikelihoods(Likelihoods, Protocol):
    """Likelihoods that know what fits their context."""

    def fits(self, prompt: Prompt, texts: Sequence[str]) -> bool:
        """Whether a prompt fits together with the longest of the texts."""
        ...


class LikelihoodChooser:
    """A model that says how likely "A" and "B" are as its reply: no sampling, and nothing unusable but
    what is too long for it (``config.skip_long``)."""

    def __init__(self, likelihoods: BoundedLikelihoods, config: LikelihoodConfig | None = None) -> None:
        self.likelihoods = likelihoods
        self.config = config or LikelihoodConfig()

    def choose(self, asked: Sequence[Asked]) -> list[Choice]:
        """P(A) among A and B, at the config's temperature."""
        config = self.config
        questions = [Prompt.from_text(worded(one, config.question, config.criterion)) for one in asked]
        kept = [
            i
            for i, one in enumerate(questions)
            if not config.skip_long or self.likelihoods.fits(one, config.labels)
        ]
        found = self.likelihoods.logprobs([(questions[i], config.labels) for i in kept])
        choices = [Choice(None, TOO_LONG)] * len(questions)
        for i, (a, b) in zip(kept, found, strict=True):
            choices[i] = Choice(float(special.expit((a.logprob - b.logprob) / config.temperature)))
        return choices
