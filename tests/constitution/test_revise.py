import pytest

from accord.constitution.principles import Constitution, Example, Principle
from accord.constitution.revise import Chain, ReviseConfig, Step, as_row, effects, from_row, revise
from accord.errors import ConfigError, DataError
from accord.types import Completion, Message, Origin, Prompt, Stop

RULES = Constitution(
    name="c",
    principle=(
        Principle(
            name="damn",
            critique="Find damn.",
            revision="Remove damn.",
            example=(Example(prompt="p", response="r", critique="c", revision="v"),),
        ),
        Principle(name="shout", critique="Find shouting.", revision="Be quiet."),
    ),
)
PROMPTS = [Prompt.from_text(f"question {i}") for i in range(6)]


class Writer:
    """Answers with a text; counts what it was asked."""

    def __init__(self, text):
        self.text = text

    def sample(self, prompts, n=1):
        return [[Completion(self.text) for _ in range(n)] for _ in prompts]


class Critic:
    """Follows the two principles to the letter; ``fails`` gives what cannot be used."""

    def __init__(self, fails=lambda prompt: None):
        self.fails = fails
        self.asked = []

    def sample(self, prompts, n=1):
        self.asked += prompts
        return [[self.fails(prompt) or Completion(f" {self.answer(prompt)}\n")] for prompt in prompts]

    def answer(self, prompt):
        request, turns = prompt.messages[-1].content, [m.content for m in prompt.messages]
        if request.startswith("Find"):
            return f"about {turns[-2]!r}"
        reply = turns[-4]
        return reply.replace("damn ", "") if request == "Remove damn." else reply.lower()


def test_each_round_mends_by_another_principle_what_the_round_before_left():
    chains = revise(Writer("DAMN damn it"), Critic(), RULES, PROMPTS, ReviseConfig(rounds=2))
    assert [chain.prompt for chain in chains] == PROMPTS
    orders = set()
    for chain in chains:
        names = tuple(step.principle for step in chain.steps)
        orders.add(names)
        assert sorted(names) == ["damn", "shout"]
        wanted = ["DAMN it", "damn it"] if names[0] == "damn" else ["damn damn it", "it"]
        assert [step.revision for step in chain.steps] == wanted
        assert chain.steps[0].critique == "about 'DAMN damn it'"
        assert chain.steps[1].critique == f"about {wanted[0]!r}"
    assert len(orders) == 2, "six prompts draw both orders"


def test_a_request_is_the_conversation_so_far():
    critic = Critic()
    revise(Writer("damn"), critic, RULES, PROMPTS[:1], ReviseConfig(rounds=1))
    first, second = critic.asked
    rule = next(p for p in RULES.principle if p.critique == first.messages[-1].content)
    assert first.messages == (
        Message("user", "question 0"), Message("assistant", "damn"), Message("user", rule.critique)
    )  # fmt: skip
    assert second.messages == (
        *first.messages, Message("assistant", "about 'damn'"), Message("user", rule.revision)
    )  # fmt: skip


def test_worked_examples_go_before_and_more_than_there_are_is_an_error():
    critic = Critic()
    revise(Writer("damn"), critic, RULES, PROMPTS[:1], ReviseConfig(rounds=1, shown=1))
    assert [m.content for m in critic.asked[0].messages[:6]] == [
        "p",
        "r",
        "Find damn.",
        "c",
        "Remove damn.",
        "v",
    ]
    with pytest.raises(ConfigError, match="shown is 2, and 'c' has 1"):
        revise(Writer("damn"), critic, RULES, PROMPTS[:1], ReviseConfig(shown=2))


@pytest.mark.parametrize("broken", [Completion("  "), Completion("half a sen", stop=Stop.LENGTH)])
@pytest.mark.parametrize("turns", [3, 5])
def test_what_is_empty_or_cut_mends_nothing_and_is_counted(broken, turns):
    def fails(prompt):
        return (
            broken if len(prompt.messages) == turns and prompt.messages[0].content == "question 2" else None
        )

    critic = Critic(fails)
    chains = revise(Writer("damn x"), critic, RULES, PROMPTS, ReviseConfig(rounds=1))
    step = chains[2].steps[0]
    assert step.unusable == ("critique" if turns == 3 else "revision")
    assert step.revision == "damn x"
    assert sum(row.unusable for row in effects(chains)) == 1
    revisions = [p for p in critic.asked if len(p.messages) == 5]
    assert len(revisions) == (5 if turns == 3 else 6), "no revision is asked for without a critique"
    assert all(not chain.steps[0].unusable for i, chain in enumerate(chains) if i != 2)


NO = "I'm sorry, but I can't help with that."
FILTERED = Completion("This may break a rule.", origin=Origin("m", "", None, "", (), {}, 0))


@pytest.mark.parametrize("broken", [Completion(NO), FILTERED], ids=["in words", "by a server's filter"])
@pytest.mark.parametrize("turns", [3, 5])
def test_a_refusal_to_do_it_mends_nothing_and_is_counted(broken, turns):
    critic = Critic(lambda p: broken if len(p.messages) == turns else None)
    chains = revise(Writer("damn x"), critic, RULES, PROMPTS, ReviseConfig(rounds=1))
    for chain in chains:
        assert chain.revision == "damn x"
        assert (chain.steps[0].unusable, chain.steps[0].refused) == (
            {3: "critique", 5: "revision"}[turns],
            True,
        )
        assert NO not in as_row(chain)["steps"][0].values()
    assert sum(row.refused for row in effects(chains)) == 6
    assert [from_row(as_row(chain), "here") for chain in chains] == chains


def test_a_refusal_with_a_reason_and_one_that_stood_there_before_are_no_refusals_to_revise():
    told = "I won't tell you how to break in; ask a locksmith."
    chains = revise(
        Writer("damn"), Critic(lambda p: Completion(told)), RULES, PROMPTS, ReviseConfig(rounds=1)
    )
    assert all(step.refused for chain in chains for step in chain.steps), "as a critique it is one"
    critic = Critic(lambda p: Completion(told) if len(p.messages) == 5 else None)
    chains = revise(Writer("damn"), critic, RULES, PROMPTS, ReviseConfig(rounds=1))
    assert {chain.revision for chain in chains} == {told}
    still = Critic(lambda p: Completion(NO) if len(p.messages) == 5 else None)
    kept = revise(Writer(NO), still, RULES, PROMPTS, ReviseConfig(rounds=1))
    assert not any(step.unusable for chain in kept for step in chain.steps)


def test_the_principles_drawn_do_not_depend_on_the_other_prompts():
    def drawn(prompts):
        chains = revise(Writer("x"), Critic(), RULES, prompts, ReviseConfig(rounds=2, seed=3))
        return {chain.prompt.id: [s.principle for s in chain.steps] for chain in chains}

    whole = drawn(PROMPTS)
    assert drawn(PROMPTS[3:][::-1]) == {p.id: whole[p.id] for p in PROMPTS[3:]}


def test_effects_count_what_changed():
    chains = revise(Writer("damn it"), Critic(), RULES, PROMPTS, ReviseConfig(rounds=2))
    found = {r.principle: (r.drawn, r.changed, r.unusable, r.refused) for r in effects(chains)}
    assert found == {"damn": (6, 6, 0, 0), "shout": (6, 0, 0, 0)}


def test_a_chain_comes_back_from_its_row():
    chain = Chain(PROMPTS[0], "a", (Step("damn", "c", "b"), Step("shout", "", "b", "critique", True)))
    assert from_row(as_row(chain), "here") == chain
    assert chain.revision == "b"
    assert Chain(PROMPTS[0], "a", ()).revision == "a"
    for key in ("messages", "initial_response", "steps"):
        row = as_row(chain)
        del row[key]
        with pytest.raises(DataError, match=f"here: no chain.*{key}"):
            from_row(row, "here")


@pytest.mark.parametrize("broken", [Completion(" "), Completion("half a sen", stop=Stop.LENGTH)])
def test_a_response_that_was_cut_is_learned_only_if_it_was_mended(broken):
    class Cut(Writer):
        def sample(self, prompts, n=1):
            return [[broken] for _ in prompts]

    stuck = revise(Cut(""), Critic(lambda p: Completion("")), RULES, PROMPTS, ReviseConfig(rounds=1))
    assert not any(chain.whole for chain in stuck)
    mended = revise(Cut(""), Critic(lambda p: Completion("well")), RULES, PROMPTS, ReviseConfig(rounds=1))
    assert all(chain.whole and chain.cut for chain in mended)
    assert all(chain.whole for chain in revise(Writer("x"), Critic(), RULES, PROMPTS, ReviseConfig()))
    assert [from_row(as_row(chain), "here") for chain in stuck] == stuck


def test_a_prompt_keeps_its_own_id_and_its_system_message_stays_first():
    prompt = Prompt((Message("system", "Be kind."), Message("user", "Hi")), id="mine")
    critic = Critic()
    chain = revise(Writer("x"), critic, RULES, [prompt], ReviseConfig(rounds=1, shown=1))[0]
    assert from_row(as_row(chain), "here").prompt.id == "mine"
    assert [turn.role for turn in critic.asked[0].messages].index("system") == 0
    assert critic.asked[0].messages[1].content == "p"


def test_nothing_to_do_is_an_error():
    with pytest.raises(DataError, match="no prompts"):
        revise(Writer("x"), Critic(), RULES, [], ReviseConfig())
    with pytest.raises(DataError, match="no principle"):
        revise(Writer("x"), Critic(), Constitution(name="none"), PROMPTS, ReviseConfig())
