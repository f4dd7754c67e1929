"""What a model thinks likely, without sampling: options to choose among, and texts to find surprising.

What gives log-probs of texts after a prompt is a ``judging.Likelihoods``. Nothing here loads weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from accord.config import Config
from accord.errors import DataError
from accord.judging import TOO_LONG, TextLogprob
from accord.types import Prompt, Score


class Choice(Config):
    """Which keys of a prompt's meta hold its options: ``options`` with ``answer``, or ``right`` and
    ``wrong``."""

    options: str = "options"
    """A list of texts..."""
    answer: str = "answer"
    """...and the right one: a letter, a number from 0, or the text, in this order."""
    right: str = ""
    """Or: the right texts (one or a list)..."""
    wrong: str = ""
    """...and the wrong ones."""
    best: str = ""
    """The right text that MC1 asks for; the first unless given."""

    def of(self, prompt: Prompt) -> tuple[list[str], list[bool]]:
        """A prompt's options and which of them are right; DataError without two, or without a right one."""
        meta = prompt.meta
        if self.right:
            right, wrong = (_texts(meta.get(key, [])) for key in (self.right, self.wrong))
            if self.best:
                right = list(dict.fromkeys([*_texts(meta.get(self.best, [])), *right]))
            options, good = [*right, *wrong], [True] * len(right) + [False] * len(wrong)
        else:
            options = _texts(meta.get(self.options, []))
            good = [i == _index(meta.get(self.answer), options) for i in range(len(options))]
        if len(options) < 2 or not any(good) or all(good):
            keys = (self.right, self.wrong) if self.right else (self.options, self.answer)
            raise DataError(
                f"prompt {prompt.id!r} has {len(options)} options, {sum(good)} of them right, in its meta "
                f"{' and '.join(map(repr, keys))}; a choice needs two and more, some right and some wrong"
            )
        return options, good


class Reference(Config):
    """Which key of a prompt's meta holds the reference answer."""

    key: str = "reference"
    """A text."""

    def of(self, prompt: Prompt) -> str:
        """The reference; DataError without one."""
        text = prompt.meta.get(self.key)
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                f"prompt {prompt.id!r} has no text in meta[{self.key!r}] (it is {text!r}); a model's "
                "surprise at "
                "reference answers needs one for each prompt"
            )
        return text


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(v) for v in value]


def _index(answer: Any, options: Sequence[str]) -> int:
    if isinstance(answer, int) and not isinstance(answer, bool):
        return answer
    if not isinstance(answer, str):
        return -1
    letter = answer.strip("() ").upper()
    at = ord(letter) - ord("A") if len(letter) == 1 else -1
    if 0 <= at < len(options):
        return at
    return options.index(answer) if answer in options else -1


def choice(logprobs: Sequence[TextLogprob], right: Sequence[bool]) -> Score:
    """A choice among options: 1 where the likeliest is right.

    Parts: ``per_token`` (1 where the likeliest a token is), ``mc1`` (1 where the first right option beats
    every wrong one), ``mc2`` (the right options' share of the probability), as TruthfulQA's (Lin et al. 2021,
    arXiv:2109.07958), ``confidence``, the probability of the likeliest among the options, and what an
    even guess gets on average: ``chance`` of the value, of ``per_token`` and ``mc2``, and ``mc1_chance``.
    """
    if len(logprobs) != len(right):
        raise DataError(f"{len(logprobs)} log-probs for {len(right)} options")
    total_O = np.array([one.logprob for one in logprobs])
    each_O = total_O / np.array([one.tokens for one in logprobs])
    right_O = np.array(right, bool)
    p_O = special.softmax(total_O)
    first = int(np.flatnonzero(right_O)[0])
    return Score(
        float(right_O[int(total_O.argmax())]),
        {
            "per_token": float(right_O[int(each_O.argmax())]),
            "mc1": float(total_O[first] > total_O[~right_O].max()),
            "mc2": float(p_O[right_O].sum()),
            "confidence": float(p_O.max()),
            **_chances(right_O),
        },
    )


def unread(right: Sequence[bool]) -> Score:
    """The choice of a model that could not read the question: wrong, with the confidence of a guess."""
    parts = {"per_token": 0.0, "mc1": 0.0, "mc2": 0.0, "confidence": 1 / len(right)}
    return Score(0.0, parts | _chances(np.array(right, bool)), TOO_LONG)


def _chances(right_O: np.ndarray) -> dict[str, float]:
    # MC1 is among the best right answer and the wrong ones
    return {"chance": float(right_O.mean()), "mc1_chance": 1 / (1 + int((~right_O).sum()))}


def reference_loss(found: TextLogprob) -> Score:
    """Nats a token of a reference answer; lower is better, and e to the mean is its perplexity."""
    return Score(-found.logprob / found.tokens, {"tokens": float(found.tokens)})
