"""What the help desk's critic is taught: by hand, against gold, and without a look at hold-out prompts."""

from __future__ import annotations

import random
import statistics

import pytest

from accord.constitution.principles import read
from accord.lm.model import LanguageModel
from accord.lm.render import completion_ids, prompt_ids
from accord.recipes.helpdesk import critic
from accord.recipes.helpdesk import phrases as ph
from accord.recipes.helpdesk.constitutional import violations
from accord.recipes.helpdesk.critic import (
    CONSTITUTION,
    FINE,
    Recipe,
    against,
    critique,
    encode,
    lessons,
    mended,
)
from accord.recipes.helpdesk.judge import GoldJudge
from accord.recipes.helpdesk.starter import MODELS
from accord.recipes.helpdesk.world import acts, facts_of, make_prompts, reply_text, write_reply
from accord.types import Message, Prompt

RULES = read(CONSTITUTION)
GOOD = "It arrives on 3 June."
DONE = [
    ("insulting", "You are an idiot."),
    ("leak", "By the way, Berg lives at 3 Mill Street."),
    ("false", "It arrives on 4 May."),
    ("offer", "Have a nice day."),
]


def test_a_reply_is_its_acts():
    for prompt in make_prompts(50, 3, "train"):
        assert write_reply(prompt, random.Random(7)) == reply_text(acts(prompt, random.Random(7)))


@pytest.mark.parametrize(
    ("principle", "said", "left"),
    [
        ("respect", '"You are an idiot."', None),
        ("privacy", '"By the way, Berg lives at 3 Mill Street."', [DONE[0], DONE[2], DONE[3]]),
        ("blame", FINE, DONE),
        ("promise", FINE, DONE),
        ("truth", f'"It arrives on 4 May." Say: {GOOD}', [*DONE[:2], ("good", GOOD), DONE[3]]),
        ("answer", f"The question. Say: {GOOD}", [*DONE[:3], ("good", GOOD), DONE[3]]),
    ],
)
def test_critique_and_revision_by_hand(principle, said, left):
    assert critique(principle, DONE, GOOD) == said
    found = mended(principle, DONE, GOOD, random.Random(0))
    if principle == "respect":
        assert found[0][0] == "warm"
        assert found[0][1] in ph.WARM
        assert found[1:] == DONE[1:]
    else:
        assert found == left


def test_a_reply_of_nothing_but_harm_becomes_a_kind_true_one():
    found = mended("respect", [("insult", "You are an idiot.")], GOOD, random.Random(0))
    assert found[0][0] == "warm"
    assert mended("blame", [("blame", "Your fault.")], GOOD, random.Random(0))[1] == ("good", GOOD)


def test_choices_weigh_what_the_acts_do():
    assert against("harmless", DONE) == 4.0
    assert against("honest", DONE) == 2.0
    assert against("helpful", DONE) == -0.25
    assert against("helpful", [*DONE, ("good", GOOD)]) == -2.25


def test_every_principle_of_the_file_is_taught():
    assert {rule.name for rule in RULES.critics} == {*critic._AGAINST, "answer"}
    assert {rule.name for rule in RULES.choosers} == set(critic._WEIGHTS)


def test_mending_by_each_principle_ends_what_the_world_finds_against_it():
    rng = random.Random(1)
    judge, before, after = GoldJudge(), [], []
    for prompt in make_prompts(120, 5, "train"):
        done = acts(prompt, rng)
        good = rng.choice(ph.NEEDS[facts_of(prompt)["need"]].good).format(**facts_of(prompt))
        before.append(judge.judge(prompt, reply_text(done)))
        for rule in RULES.critics:
            done = mended(rule.name, done, good, rng)
            beside = rule.name in ("truth", "promise") and {"beside", "ramble"} & {act for act, _ in done}
            assert beside or not violations(prompt, reply_text(done))[rule.name], (
                rule.name,
                reply_text(done),
            )
        after.append(judge.judge(prompt, reply_text(done)))
    for part in ("harmless", "helpful", "honest"):
        gain = statistics.mean(s.parts[part] for s in after) - statistics.mean(s.parts[part] for s in before)
        assert gain > 0.3, part


def test_the_rules_find_what_the_acts_do():
    rng, seen = random.Random(2), 0
    for prompt in make_prompts(200, 6, "train"):
        done = acts(prompt, rng)
        found = violations(prompt, reply_text(done))
        for name, wrong in critic._AGAINST.items():
            if name != "truth" and any(act in wrong for act, _ in done):
                assert found[name], (name, reply_text(done))
                seen += 1
    assert seen > 80


def test_lessons_are_a_function_of_the_seed_and_of_training_prompts_alone():
    recipe = Recipe()
    one, same, other = (list(lessons(60, seed, "train", recipe, RULES)) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    held_out = [p.text.split("\nCustomer")[0] for p in make_prompts(300, 9, "holdout")]
    assert not any(turns[0][1].split("\nCustomer")[0] in held_out for turns in one)
    assert all(turns[-1][2] for turns in one)


def test_the_teacher_errs_as_often_as_the_recipe_says():
    perfect, poor = Recipe(errors=0.0, choices=1.0), Recipe(errors=0.5, choices=1.0)

    def letters(recipe):
        found = [turns[i + 1][1] for turns in lessons(400, 3, "train", recipe, RULES) for i in range(0, 4, 2)]
        return found

    same = statistics.mean(a == b for a, b in zip(letters(perfect), letters(poor), strict=True))
    assert 0.4 < same < 0.75


def test_a_lesson_is_encoded_as_the_model_is_asked_later():
    model = LanguageModel.load(MODELS / "decoder", device="cpu")
    lesson = [
        ("user", "a kettle?", False),
        ("assistant", "Well.", False),
        ("user", "Where?", False),
        ("assistant", "Nothing.", True),
        ("user", "Again.", False),
        ("assistant", "Well.", True),
    ]
    before, after, weights = encode(model, lesson)
    asked = Prompt(tuple(Message(role, text) for role, text, _ in lesson[:3]))
    assert before == prompt_ids(model.tokenizer, asked, model.template)
    said = completion_ids(model.tokenizer, "Nothing.", model.template)
    assert after[: len(said)] == said
    assert weights[: len(said)] == [len(said) ** -0.5] * len(said)
    end = completion_ids(model.tokenizer, "Well.", model.template)
    assert after[-len(end) :] == end
    assert len([w for w in weights if w]) == len(said) + len(end)
