"""Judged and sampled completions as a policy reads them, and their log-probs.

Tokens in, tokens out: a completion that brings the token ids it was sampled with keeps them, if this policy's
tokenizer reads them as the same text; one that was cut by a length limit then has no end token, so nothing is
learned about ending it. Any other completion is its text, tokenised, with the end token.

Legend: N completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.errors import DataError
from accord.lm.grouped import PromptGroup
from accord.lm.model import Kind, LanguageModel
from accord.lm.packed import Asked, packed_logprobs, packing_agrees_on_answers, worth_packing_answers
from accord.lm.render import completion_ids, completion_text, prompt_ids
from accord.lm.score import score_tokens
from accord.lm.tokens import TokenBatch
from accord.types import Completion, Prompt, Stop


@dataclass(frozen=True)
class Answer:
    """A completion behind its prompt in token ids: ``ids[:start]`` is the prompt."""

    ids: tuple[int, ...]
    start: int
    cut: int = 0
    """Tokens that did not fit and were left out."""


Group = PromptGroup[Answer]


class Reader:
    """Encodes completions for ``policy``; in ``max_length`` tokens, or in the context where that is shorter.

    Too long, a decoder's input loses the beginning of the prompt first, then the end of the completion; the
    halves of an encoder-decoder have the length each to itself.
    """

    def __init__(self, policy: LanguageModel, max_length: int | None = None) -> None:
        self.policy = policy
        self.limit = min((x for x in (policy.context, max_length) if x is not None), default=10**9)
        self._prompts: dict[str, tuple[int, ...]] = {}

    def __call__(self, prompt: Prompt, completion: Completion) -> Answer:
        """The completion's own tokens where they are this policy's, else its text's.

        Raises:
            DataError: the prompt or the completion has no token.
        """
        return self.behind(self.prompt(prompt), self.completion(completion))

    def prompt(self, prompt: Prompt) -> tuple[int, ...]:
        """The prompt in token ids, uncut."""
        if prompt.id not in self._prompts:
            policy = self.policy
            ids = prompt_ids(policy.tokenizer, prompt, policy.template, encoder_decoder=self._split)
            self._prompts[prompt.id] = tuple(ids)
        return self._prompts[prompt.id]

    def completion(self, completion: Completion) -> tuple[int, ...]:
        """The completion in token ids, uncut."""
        if self._are_ours(completion):
            return completion.ids
        policy = self.policy
        ids = tuple(completion_ids(policy.tokenizer, completion.text, policy.template))
        if not ids:
            raise DataError(f"completion {completion.id or completion.text[:40]!r} has no tokens; remove it")
        return ids

    def behind(self, before: tuple[int, ...], answer: tuple[int, ...]) -> Answer:
        """``answer`` behind ``before``, cut to what fits; of each at least one token is left."""
        if self._split:
            cuts = [max(0, len(part) - self.limit) for part in (before, answer)]
        else:
            over = max(0, len(before) + len(answer) - self.limit)
            first = min(over, len(before) - 1)
            cuts = [first, over - first]
        before, answer = before[cuts[0] :], answer[: len(answer) - cuts[1]]
        return Answer((*before, *answer), len(before), sum(cuts))

    @property
    def _split(self) -> bool:
        return self.policy.kind is Kind.ENCODER_DECODER

    def _are_ours(self, completion: Completion) -> bool:
        policy, ids = self.policy, completion.ids
        if not ids or max(ids) >= policy.net.config.vocab_size:
            return False
        if completion.stop is Stop.EOS and ids[-1] not in policy.eos_ids:
            return False
        return completion_text(policy.tokenizer, ids, policy.eos_ids, policy.template) == completion.text


def logprobs_of(policy: LanguageModel, answers: Sequence[Answer]) -> tuple[Tensor, Tensor]:
    """(N,) log-probs of whole completions in nats, and (N,) their token counts."""
    batch = TokenBatch.of(
        [a.ids[: a.start] for a in answers], [a.ids[a.start :] for a in answers], policy.pad_id
    ).to(policy.device)
    return score_tokens(policy, batch, entropy=False).logprobs.sum(1), batch.lens_B


def logprobs_of_groups(
    policy: LanguageModel, groups: Sequence[Group], pack: bool = False
) -> tuple[Tensor, Tensor]:
    """The same of the groups' completions, in order; ``pack``: a prompt is read once, where that pays."""
    if pack and (asked := _asked(groups)) is not None and worth_packing_answers(policy, asked):
        return packed_logprobs(policy, asked)
    return logprobs_of(policy, [answer for group in groups for answer in group.inputs])


def may_pack(policy: LanguageModel, groups: Sequence[Group]) -> bool:
    """Whether packing pays on these groups and gives what the plain way gives."""
    asked = _asked(groups)
    return (
        asked is not None
        and worth_packing_answers(policy, asked)
        and packing_agrees_on_answers(policy, asked)
    )


def _asked(groups: Sequence[Group]) -> list[Asked] | None:
    """Prompts with their completions; ``None`` where one was cut differently before two completions."""
    asked: list[Asked] = []
    for group in groups:
        prompts = {answer.ids[: answer.start] for answer in group.inputs}
        if len(prompts) > 1:
            return None
        asked.append((prompts.pop(), [answer.ids[answer.start :] for answer in group.inputs]))
    return asked


@torch.no_grad()
def measured(policy: LanguageModel, answers: Sequence[Answer], rows: int) -> Tensor:
    """(N,) log-probs on the CPU of any number of completions, ``rows`` at a time, those of like length."""
    order = sorted(range(len(answers)), key=lambda i: len(answers[i].ids))
    out_N = torch.zeros(len(answers))
    for at in range(0, len(order), rows):
        part = order[at : at + rows]
        out_N[part] = logprobs_of(policy, [answers[i] for i in part])[0].cpu()
    return out_N
