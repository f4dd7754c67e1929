"""A local model as ``judging.Likelihoods``: how likely it thinks texts are after a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from accord.judging import TextLogprob
from accord.lm.model import Kind, LanguageModel
from accord.lm.render import Template, completion_ids, prompt_ids
from accord.lm.score import score_tokens
from accord.lm.tokens import TokenBatch
from accord.types import Prompt

ROWS = 32
"""Texts scored in one pass."""


class ModelLikelihoods:
    """Log-probs over the whole vocabulary at temperature 1, of a text's own tokens, the end token left out.

    Behind a plain prompt that does not end in a space, a text is written after one, as people would.
    """

    def __init__(self, model: LanguageModel, rows: int = ROWS) -> None:
        self.model = model
        self.rows = rows

    @torch.no_grad()
    def logprobs(self, asked: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[TextLogprob]]:
        """For each prompt the log-prob of each text, in order.

        Raises:
            DataError: a prompt is empty, or it does not fit the context with its longest text.
        """
        contexts: list[list[int]] = []
        texts: list[list[int]] = []
        for prompt, options in asked:
            written = [self._text(prompt, option) for option in options]
            context = self._prompt(prompt, max(map(len, written), default=0))
            contexts += [context] * len(written)
            texts += written
        found: list[TextLogprob] = [TextLogprob(0.0, 1)] * len(texts)
        order = sorted(range(len(texts)), key=lambda i: len(contexts[i]) + len(texts[i]))
        for at in range(0, len(order), self.rows):
            part = order[at : at + self.rows]
            batch = TokenBatch.of([contexts[i] for i in part], [texts[i] for i in part], self.model.pad_id)
            scores = score_tokens(self.model, batch.to(self.model.device), entropy=False)
            sums = scores.logprobs.double().sum(1).tolist()
            for i, total in zip(part, sums, strict=True):
                found[i] = TextLogprob(min(0.0, total), len(texts[i]))
        rows = iter(found)
        return [[next(rows) for _ in options] for _, options in asked]

    def fits(self, prompt: Prompt, texts: Sequence[str]) -> bool:
        """Whether a prompt fits the context together with the longest of the texts."""
        longest = max((len(self._text(prompt, text)) for text in texts), default=0)
        limit = self._limit(longest)
        return limit is None or len(self._ids(prompt, None)) <= limit

    def _text(self, prompt: Prompt, text: str) -> list[int]:
        plain = self.model.template is Template.PLAIN and self.model.kind is Kind.DECODER
        apart = plain and not prompt.text[-1:].isspace() and not text[:1].isspace()
        return completion_ids(
            self.model.tokenizer, f" {text}" if apart else text, self.model.template, end=False
        )

    def _prompt(self, prompt: Prompt, longest: int) -> list[int]:
        return self._ids(prompt, self._limit(longest))

    def _limit(self, longest: int) -> int | None:
        """Tokens a prompt may have beside a text of so many."""
        limit = self.model.context
        return limit if limit is None or self.model.kind is Kind.ENCODER_DECODER else limit - longest

    def _ids(self, prompt: Prompt, limit: int | None) -> list[int]:
        encoder = self.model.kind is Kind.ENCODER_DECODER
        return prompt_ids(
            self.model.tokenizer, prompt, self.model.template, encoder_decoder=encoder, limit=limit
        )
