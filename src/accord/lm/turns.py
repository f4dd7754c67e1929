"""An environment's words as the tokens that stand between two turns of the policy."""

from __future__ import annotations

from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from accord.lm.render import Template, prompt_text
from accord.types import Message, Prompt, digest


def words_between(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, words: str, template: Template, ends: Iterable[int]
) -> str:
    """What follows a turn of the policy when an environment says ``words``, up to the policy's next turn.

    CHAT: the rest of the policy's message, a user's message with the words, and the generation prompt, as
    the tokenizer's template writes them. ``ends`` are the end tokens: the one the template puts behind a
    message is left out, for the policy has sampled one itself. HH: "\\n\\nHuman: words\\n\\nAssistant:".
    PLAIN: the bare words.
    """
    if template is Template.PLAIN:
        return words
    if template is Template.HH:
        return f"\n\nHuman: {words}\n\nAssistant:"
    mark = f"turn{digest(prompt.text, words)}"  # stands in for what the policy said
    messages = (*prompt.messages, Message("assistant", mark), Message("user", words))
    behind = prompt_text(tokenizer, Prompt(messages), template).partition(mark)[2]
    marks = tuple(str(tokenizer.convert_ids_to_tokens(end)) for end in ends)
    return next((behind.removeprefix(mark) for mark in marks if behind.startswith(mark)), behind)


def words_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The text of :func:`words_between` in token ids, with nothing added."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
