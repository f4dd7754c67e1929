"""An environment's words between two turns: the tokenizer's own template is the judge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.lm.render import Template, prompt_text
from accord.lm.tiny import END, EOS, tiny_tokenizer
from accord.lm.turns import words_between, words_ids
from accord.types import Message, Prompt

CHAT, PLAIN = tiny_tokenizer("llama", chat=True), tiny_tokenizer("llama")
ENDS = frozenset({EOS, END})
ASK = Prompt.from_text("Where is it?")
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="<>"), max_size=30)


@given(TEXT, TEXT, TEXT)
def test_turn_by_turn_a_dialogue_reads_as_the_template_writes_it_whole(ask, said, words):
    prompt = Prompt((Message("system", "Be kind."), Message("user", ask)))
    whole = Prompt((*prompt.messages, Message("assistant", said), Message("user", words)))
    begun = prompt_text(CHAT, prompt, Template.CHAT)
    # the policy ends its own message: its end token is sampled, not written by the template
    turns = begun + said + "<end>" + words_between(CHAT, prompt, words, Template.CHAT, ENDS)
    assert turns == prompt_text(CHAT, whole, Template.CHAT)


def test_words_by_hand():
    assert words_between(CHAT, ASK, "No.", Template.CHAT, ENDS) == "<user>No.<end><assistant>"
    assert words_between(CHAT, ASK, "No.", Template.HH, ENDS) == "\n\nHuman: No.\n\nAssistant:"
    assert words_between(PLAIN, ASK, "No.", Template.PLAIN, ENDS) == "No."


@pytest.mark.parametrize(("behind", "left"), [
    ("</s>", "[INST] No. [/INST]"),  # no end token of the model: all of it stays
    ("<end>\n", "\n[INST] No. [/INST]"),  # the template's line break behind the end token stays
    ("<eos><end>", "<end>[INST] No. [/INST]"),  # one end token was sampled, one is left out
])  # fmt: skip
def test_only_the_end_token_that_was_sampled_is_left_out(behind, left):
    tokenizer = tiny_tokenizer("llama")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
        "{% else %}{{ m['content'] | trim }}" + behind + "{% endif %}{% endfor %}"
    )
    found = words_between(tokenizer, ASK, "No.", Template.CHAT, ENDS)
    assert found == ("</s>" + left if behind == "</s>" else left)


def test_the_tokenizers_frame_is_not_put_around_words():
    assert PLAIN.decode(words_ids(PLAIN, "No.")) == "No."
    assert words_ids(CHAT, "<end>") == [END]
    assert words_ids(PLAIN, "") == []
