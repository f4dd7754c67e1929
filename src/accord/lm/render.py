"""The one place where messages become tokens.

A template says how a prompt is written for a model; everything that samples, scores or trains goes through
:func:`prompt_ids` and :func:`completion_ids`, so a policy and its data cannot disagree. A sampled completion
is never tokenised again for its own policy; only text from elsewhere passes :func:`completion_ids`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from transformers import PreTrainedTokenizerBase

from accord.errors import DataError, ModelError
from accord.types import Message, Prompt


class Template(StrEnum):
    """How messages are written for the model."""

    CHAT = "chat"
    """The tokenizer's own chat template, with its generation prompt."""
    PLAIN = "plain"
    """The bare content of a single message; a transcript "role: content" of several."""
    HH = "hh"
    """Anthropic's transcripts: "\\n\\nHuman: ...\\n\\nAssistant:"."""


HH_NAMES = {"user": "Human", "assistant": "Assistant"}


def default_template(tokenizer: PreTrainedTokenizerBase, encoder_decoder: bool = False) -> Template:
    """CHAT where the tokenizer brings a chat template and the model is a decoder, else PLAIN."""
    has_chat = bool(getattr(tokenizer, "chat_template", None))
    return Template.CHAT if has_chat and not encoder_decoder else Template.PLAIN


def prompt_text(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, template: Template) -> str:
    """The prompt as text, special tokens of the chat template included.

    Raises:
        ModelError: CHAT without a chat template.
        DataError: HH with a role other than user and assistant.
    """
    if template is Template.CHAT:
        if not tokenizer.chat_template:
            raise ModelError(
                f"{tokenizer.name_or_path}: the tokenizer has no chat template; use template plain or hh"
            )
        messages = [{"role": m.role, "content": m.content} for m in prompt.messages]
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    if template is Template.HH:
        return hh_transcript(prompt.messages) + "\n\nAssistant:"
    return prompt.text


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    template: Template,
    *,
    encoder_decoder: bool = False,
    limit: int | None = None,
) -> list[int]:
    """The prompt in token ids, as the model is to see it.

    A decoder gets no end token after the prompt (some tokenizers append one); an encoder gets
    whatever frame its tokenizer was trained with.

    Raises:
        DataError: the prompt is empty or longer than ``limit`` tokens.
    """
    text = prompt_text(tokenizer, prompt, template)
    # A chat template writes its own special tokens; adding the tokenizer's would double the first.
    ids = list(tokenizer(text, add_special_tokens=template is not Template.CHAT)["input_ids"])
    if not encoder_decoder and template is not Template.CHAT:
        while ids and ids[-1] == tokenizer.eos_token_id:
            ids.pop()
    if not ids:
        raise DataError(f"prompt {prompt.id!r} has no tokens; remove it or give it text")
    if limit is not None and len(ids) > limit:
        raise DataError(
            f"prompt {prompt.id!r} has {len(ids)} tokens, {limit} fit: shorten it, lower "
            "max_new_tokens, or take a model with a longer context"
        )
    return ids


def completion_ids(
    tokenizer: PreTrainedTokenizerBase, text: str, template: Template, *, end: bool = True
) -> list[int]:
    """A completion's text in token ids, with the end token unless ``end`` is false.

    HH transcripts put a space between "Assistant:" and the reply.
    """
    if template is Template.HH and text:
        text = " " + text
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if end and tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    return ids


def completion_text(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], eos_ids: frozenset[int], template: Template
) -> str:
    """The text of sampled ids without the end token; special tokens inside are left out."""
    kept = list(ids)
    while kept and kept[-1] in eos_ids:
        kept.pop()
    text = str(tokenizer.decode(kept, skip_special_tokens=True))
    return text.removeprefix(" ") if template is Template.HH else text


def hh_transcript(messages: Sequence[Message]) -> str:
    """Messages in Anthropic's transcript form, without a closing "Assistant:"."""
    parts = []
    for message in messages:
        if message.role not in HH_NAMES:
            raise DataError(
                f"an HH transcript has user and assistant turns; this prompt has the role {message.role!r}"
            )
        parts.append(f"\n\n{HH_NAMES[message.role]}: {message.content}")
    return "".join(parts)
