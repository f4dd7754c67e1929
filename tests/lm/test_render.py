"""Messages to tokens and back; the tokenizers' own templates are the judge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import DataError, ModelError
from accord.lm.render import (
    Template,
    completion_ids,
    completion_text,
    default_template,
    hh_transcript,
    prompt_ids,
    prompt_text,
)
from accord.lm.tiny import BOS, END, EOS, tiny_tokenizer
from accord.types import Message, Prompt

PLAIN = tiny_tokenizer("gpt2")
CHAT = tiny_tokenizer("llama", chat=True)
T5 = tiny_tokenizer("t5")
EOS_IDS = frozenset({EOS, END})
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="<>"), max_size=40)
TALK = Prompt(
    (Message("user", "Hi"), Message("assistant", "Hello, what can I do?"), Message("user", "Où est-il ?"))
)


@given(TEXT, st.sampled_from(list(Template)), st.booleans())
def test_a_completion_comes_back_as_it_was(text, template, end):
    ids = completion_ids(PLAIN, text, template, end=end)
    assert (ids[-1:] == [EOS]) == end
    assert EOS not in ids[:-1]
    assert completion_text(PLAIN, ids, EOS_IDS, template) == text


@given(TEXT.filter(bool))
def test_a_plain_prompt_is_its_bytes(text):
    ids = prompt_ids(PLAIN, Prompt.from_text(text), Template.PLAIN)
    assert PLAIN.decode(ids) == text
    assert len(ids) == len(text.encode())


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_chat_equals_the_tokenizers_own_template(texts):
    messages = tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts))
    own = CHAT.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in messages],
        tokenize=True, add_generation_prompt=True, return_dict=False,
    )  # fmt: skip
    assert prompt_ids(CHAT, Prompt(messages), Template.CHAT) == own


def test_templates_by_hand():
    assert prompt_text(CHAT, TALK, Template.CHAT) == (
        "<user>Hi<end><assistant>Hello, what can I do?<end><user>Où est-il ?<end><assistant>"
    )
    assert prompt_text(PLAIN, TALK, Template.HH) == (
        "\n\nHuman: Hi\n\nAssistant: Hello, what can I do?\n\nHuman: Où est-il ?\n\nAssistant:"
    )
    assert prompt_text(PLAIN, TALK, Template.PLAIN) == (
        "user: Hi\n\nassistant: Hello, what can I do?\n\nuser: Où est-il ?"
    )
    assert prompt_text(PLAIN, Prompt.from_text("Hi"), Template.PLAIN) == "Hi"


def test_an_hh_completion_continues_the_transcript():
    """Prompt and completion in tokens spell the transcript with its next turn."""
    ids = prompt_ids(PLAIN, TALK, Template.HH) + completion_ids(PLAIN, "On its way.", Template.HH, end=False)
    whole = (*TALK.messages, Message("assistant", "On its way."))
    assert PLAIN.decode(ids) == hh_transcript(whole)


def test_special_tokens_stand_once():
    assert prompt_ids(CHAT, Prompt.from_text("a"), Template.PLAIN)[0] == BOS
    assert BOS not in prompt_ids(CHAT, Prompt.from_text("a"), Template.CHAT)  # the template writes none


def test_a_decoder_gets_no_end_token_after_its_prompt_and_an_encoder_keeps_its_frame():
    bart = tiny_tokenizer("bart")
    prompt = Prompt.from_text("ab")
    framed = bart("ab")["input_ids"]
    assert framed[-1] == EOS
    assert prompt_ids(bart, prompt, Template.PLAIN) == framed[:-1]
    assert prompt_ids(bart, prompt, Template.PLAIN, encoder_decoder=True) == framed
    assert prompt_ids(T5, prompt, Template.PLAIN, encoder_decoder=True)[-1] == EOS


def test_end_and_special_tokens_do_not_reach_the_text():
    inner = PLAIN("a b")["input_ids"]
    assert completion_text(PLAIN, [*inner, END], EOS_IDS, Template.PLAIN) == "a b"
    assert completion_text(PLAIN, [*inner, EOS, EOS], EOS_IDS, Template.PLAIN) == "a b"
    assert completion_text(PLAIN, [BOS, *inner], EOS_IDS, Template.PLAIN) == "a b"
    assert completion_text(PLAIN, [], EOS_IDS, Template.PLAIN) == ""


def test_a_prompt_that_is_too_long_or_empty_is_refused_by_name():
    prompt = Prompt.from_text("abcdef", id="p7")
    assert len(prompt_ids(PLAIN, prompt, Template.PLAIN, limit=6)) == 6
    with pytest.raises(DataError, match=r"'p7' has 6 tokens, 5 fit"):
        prompt_ids(PLAIN, prompt, Template.PLAIN, limit=5)
    with pytest.raises(DataError, match=r"'p8' has no tokens"):
        prompt_ids(PLAIN, Prompt.from_text("", id="p8"), Template.PLAIN)


def test_what_a_template_cannot_write_is_refused():
    with pytest.raises(ModelError, match="no chat template"):
        prompt_text(PLAIN, TALK, Template.CHAT)
    with pytest.raises(DataError, match="'system'"):
        prompt_text(PLAIN, Prompt((Message("system", "x"), Message("user", "y"))), Template.HH)


def test_the_default_is_chat_where_there_is_a_template_for_a_decoder():
    assert default_template(CHAT) is Template.CHAT
    assert default_template(PLAIN) is Template.PLAIN
    assert default_template(CHAT, encoder_decoder=True) is Template.PLAIN
