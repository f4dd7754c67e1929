import random

import pytest

from accord.errors import DataError
from accord.recipes.helpdesk import phrases as ph
from accord.recipes.helpdesk import world
from accord.types import Prompt

TRAIN = world.make_prompts(3000, 0, "train")
HOLDOUT = world.make_prompts(1000, 0, "holdout")


def order(prompt: Prompt) -> tuple:
    return tuple(sorted(prompt.meta["facts"].items()))


def test_thousands_of_distinct_messages_the_same_for_a_seed():
    assert len({p.text for p in TRAIN}) == 3000
    assert [p.text for p in world.make_prompts(3000, 0, "train")] == [p.text for p in TRAIN]
    assert world.make_prompts(5, 1, "train") != TRAIN[:5]


def test_the_holdout_shares_no_order_no_message_phrasing_and_no_layout_with_training():
    assert not {order(p) for p in TRAIN} & {order(p) for p in HOLDOUT}

    def phrasing(prompt: Prompt) -> tuple[str, str]:
        record, message = prompt.text.split("\nCustomer: ")
        layout = " ".join(w for w in record.split() if w.endswith(":"))
        for name in ("product", "colour", "want"):
            message = message.replace(prompt.meta["facts"][name], "<value>")
        return layout, message

    train, holdout = [phrasing(p) for p in TRAIN], [phrasing(p) for p in HOLDOUT]
    assert not {layout for layout, _ in train} & {layout for layout, _ in holdout}
    assert not {message for _, message in train} & {message for _, message in holdout}
    for need in ph.NEEDS.values():
        assert not set(need.asks) & set(need.held_out_asks)


def test_every_need_and_mood_occurs_in_both_splits():
    for prompts in (TRAIN, HOLDOUT):
        assert {p.meta["need"] for p in prompts} == set(ph.NEEDS)
        assert {p.meta["mood"] for p in prompts} == set(ph.MOODS)


def test_the_prompt_states_every_value_its_true_answer_needs():
    rng = random.Random(0)
    for prompt in HOLDOUT[:300]:
        facts = prompt.meta["facts"]
        reply = world.good_reply(prompt, rng)
        for name in ("date", "city", "amount", "want"):
            if str(facts[name]) in reply.replace(".", " ").replace(",", " ").split():
                assert str(facts[name]) in prompt.text


def test_texts_are_short():
    assert max(len(p.text.split()) for p in TRAIN + HOLDOUT) <= 45
    assert max(len(reply.split()) for _, reply in world.conversations(2000, 0, "train")) <= 48


def test_bad_arguments_are_told():
    with pytest.raises(DataError, match="'test'"):
        world.make_prompts(1, 0, "test")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="at least one"):
        world.make_prompts(0, 0, "train")
    with pytest.raises(DataError, match="no help-desk facts"):
        world.facts_of(Prompt.from_text("hello"))


def test_drills_tell_only_what_the_record_tells():
    for prompt, told in world.drills(400, 0, "train"):
        facts = prompt.meta["facts"]
        for name in ("date", "city", "amount", "want"):
            if f" {facts[name]}" in told.replace(".", " ").replace(",", " ") + " ":
                assert str(facts[name]) in prompt.text, (prompt.text, told)
