"""A model that judges after it has thought: words first, then how likely "A" and "B" are.

Chain-of-thought before the choice (Bai et al. 2022, arXiv:2212.08073, section 4.1), for any model that writes
and gives log-probs; ``accord.chat_chooser`` does the same by what a server lets one ask. The letter is never
sampled: it is one of two by construction, so that no grammar is needed and nothing has to be parsed. A
thought that is empty or was cut off is no thought, and the choice is ``Choice(None, thought)``. Loads no
torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from scipy import special

from accord.chat_chooser import LETTER_ONLY
from accord.judging import Asked, Choice, LikelihoodConfig, Likelihoods, worded
from accord.types import Message, Prompt, Sampler, Stop

THINK = "Compare them in a few sentences."
"""Stands in for the request for a letter, or behind a question without it."""
VERDICT = f"So which is it? {LETTER_ONLY}"
"""What is asked behind the thought."""


class ReasoningChooser:
    """A ``Chooser`` whose ``sampler`` thinks and whose ``likelihoods`` choose: the same model, as a rule."""

    def __init__(
        self, sampler: Sampler, likelihoods: Likelihoods, config: LikelihoodConfig | None = None
    ) -> None:
        self.sampler = sampler
        self.likelihoods = likelihoods
        self.config = config or LikelihoodConfig()

    def choose(self, asked: Sequence[Asked]) -> list[Choice]:
        """P(A) among A and B after each question's thought, which is kept in ``said``."""
        config = self.config
        template = config.question.replace(LETTER_ONLY, THINK)
        template += "" if THINK in template else f"\n\n{THINK}"
        questions = [Prompt.from_text(worded(one, template, config.criterion)) for one in asked]
        thoughts = [group[0] for group in self.sampler.sample(questions)] if questions else []
        said = [thought.text.strip() for thought in thoughts]
        whole = [i for i, one in enumerate(thoughts) if said[i] and one.stop is not Stop.LENGTH]
        found = self.likelihoods.logprobs([(_after(questions[i], said[i]), config.labels) for i in whole])
        choices = [Choice(None, text) for text in said]
        for i, (a, b) in zip(whole, found, strict=True):
            p = float(special.expit((a.logprob - b.logprob) / config.temperature))
            choices[i] = Choice(p, said[i])
        return choices


def _after(question: Prompt, thought: str) -> Prompt:
    return Prompt((*question.messages, Message("assistant", thought), Message("user", VERDICT)))
