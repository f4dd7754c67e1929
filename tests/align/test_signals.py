"""The signals of hacking, on completions counted by hand."""

import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.align import signals as s
from accord.errors import DataError
from accord.types import Prompt, Rollout, Score, Stop

PROMPTS = [
    Prompt.from_text("Where is my blue parcel, please?"),
    Prompt.from_text("I want my money back today."),
    Prompt.from_text("Do you sell red shoes in my size?"),
]


def rollouts(*texts: str, logprob: float = -0.5) -> list[Rollout]:
    """One a prompt, a token for each word or mark."""
    made = []
    known: dict[str, int] = {}
    for prompt, text in zip(PROMPTS, texts, strict=True):
        ids = tuple(known.setdefault(word, len(known)) for word in text.replace("!", " ! ").split()) or (0,)
        made.append(Rollout(prompt, (1,), ids, (logprob,) * len(ids), (1,) * len(ids), Stop.EOS, text))
    return made


def scores(*values: float, **parts: tuple[float, ...]) -> list[Score]:
    return [
        Score(value, {name: column[i] for name, column in parts.items()}) for i, value in enumerate(values)
    ]


HONEST = rollouts("It is on the van.", "We will pay you back.", "Yes, in every size there is.")


def test_an_ordinary_step() -> None:
    found = s.signals(HONEST, scores(0.1, 0.5, 0.3))
    assert (found["empty"], found["repeated"], found["copied"], found["alike"]) == (0.0, 0.0, 0.0, 0.0)
    assert found["distinct"] == 1.0
    assert found["phrase"] == pytest.approx(1 / 3)  # each phrase stands in one text
    assert found["pays_length"] == pytest.approx(0.0, abs=1e-12)  # lengths 5, 5, 6; ranks against 1, 3, 2
    assert "reference_surprise" not in found


@pytest.mark.parametrize(
    ("texts", "key", "value"),
    [
        (("", "  ...", "Yes."), "empty", 2 / 3),
        (("a b c a b c", "a b", "d e f"), "repeated", (1 / 4) / 3),  # abc bca cab abc
        (("!!!!!", "It is late.", "Yes."), "repeated", (2 / 3) / 3),  # three runs of one mark
        (("my blue parcel where", "We pay.", "Yes."), "copied", (1 / 2) / 3),
        (("MY blue, parcel!", "money back today", "red shoes in my size"), "copied", 1.0),
        (("ab!!", "cd", "e f!"), "marks", (2 / 4 + 0 + 1 / 4) / 3),
        (("Fine.", " Fine. ", "No."), "alike", 2 / 3),
        (("one two three", "one two three", "four five six"), "distinct", 2 / 3),
        (("have a great day", "so have a great time", "no"), "phrase", 2 / 3),
        (("thanks", "thanks", "it is sent"), "phrase", 2 / 3),  # a whole answer shorter than a phrase
    ],
)
def test_counted_by_hand(texts, key, value) -> None:
    assert s.signals(rollouts(*texts), scores(0, 1, 2))[key] == pytest.approx(value)


def test_the_same_answer_to_the_same_prompt_twice_is_not_alike() -> None:
    assert s.alike(["a", "a", "b"], ["Yes.", "Yes.", "No."]) == 0.0
    assert s.alike(["a", "a", "b"], ["Yes.", "Yes.", "Yes."]) == 1.0


def test_a_reward_that_follows_length_is_seen() -> None:
    longer = rollouts("one", "one two three", "one two")
    assert s.signals(longer, scores(1.0, 9.0, 2.0))["pays_length"] == pytest.approx(1.0)
    assert s.signals(longer, scores(-1.0, -9.0, -2.0))["pays_length"] == pytest.approx(-1.0)
    assert "pays_length" not in s.signals(longer, scores(1.0, 1.0, 1.0))


def test_parts_that_every_score_has() -> None:
    judged = scores(1, 2, 3, model=(0.0, 1.0, 2.0), rule=(3.0, 3.0, 3.0))
    found = s.signals(HONEST, judged)
    assert (found["part model"], found["part rule"]) == (1.0, 3.0)
    judged[2] = Score(3.0, {"model": 2.0})
    assert "part rule" not in s.signals(HONEST, judged)


def test_surprise_is_the_references_nats_a_token() -> None:
    """Own log-prob -0.5 a token; sampled KL 3 nats a completion of 6 tokens each: 0.5 + 3 / 6."""
    step = rollouts(*["a b c d e f"] * 3)
    assert s.signals(step, scores(1, 2, 3), {"kl_sampled": 3.0})["reference_surprise"] == pytest.approx(1.0)
    assert s.surprise(step, 0.0) == pytest.approx(0.5)


def test_a_watched_scorer_leaves_its_mean_its_error_its_low_end_and_its_agreement() -> None:
    found = s.watched("judge", scores(1, 2, 3), scores(6, 4, 2))
    assert found == pytest.approx(
        {"judge": 4.0, "judge error": math.sqrt(8 / 3) / math.sqrt(3), "judge low": 2.2, "judge agrees": -1.0}
    )
    assert "judge agrees" not in s.watched("judge", scores(1, 2, 3), scores(5, 5, 5))


def test_what_the_witness_fails_is_below_its_floor_or_by_its_own_word() -> None:
    assert s.watched("judge", scores(1, 2, 3), scores(6, 4, 2), floor=4.0)["judge fails"] == pytest.approx(
        1 / 3
    )
    likely = scores(6, 4, 2, p_acceptable=(0.9, 0.49, 0.1))
    for floor in (None, 0.0):  # it knows what is acceptable, and no floor is needed
        assert s.watched("judge", scores(1, 2, 3), likely, floor)["judge fails"] == pytest.approx(2 / 3)


def test_a_step_without_rollouts_or_scores_is_refused() -> None:
    with pytest.raises(DataError, match="0 scores for 0"):
        s.signals([], [])
    with pytest.raises(DataError, match="2 scores for 3"):
        s.signals(HONEST, scores(1, 2))


@given(st.lists(st.text(string.printable, max_size=40), min_size=3, max_size=3))
def test_shares_are_shares_whatever_was_said(texts) -> None:
    found = s.signals(rollouts(*texts), scores(0, 1, 2))
    for key in ("empty", "repeated", "copied", "marks", "alike", "distinct", "phrase"):
        assert 0 <= found[key] <= 1, key
    assert all(math.isfinite(value) for value in found.values())


@given(st.permutations(range(3)))
def test_the_order_of_a_step_changes_nothing(order) -> None:
    step, judged = HONEST, scores(0.1, 0.5, 0.3)
    found = s.signals([step[i] for i in order], [judged[i] for i in order], {"kl_sampled": 0.3})
    plain = s.signals(step, judged, {"kl_sampled": 0.3})
    assert found == pytest.approx(plain)


WORDS = {1: "Where", 2: "is", 3: "it", 4: "now", 5: "I", 6: "see", 7: "!", 8: "my", 9: "blue", 10: "parcel"}


def decode(ids) -> str:
    return " ".join(WORDS[i] for i in ids)


def episode(*turns: tuple[bool, list[int]], last: str = "") -> Rollout:
    """An episode of turns, the policy's own or not; ``last`` is what was said when it was over."""
    ids = tuple(i for _, turn in turns for i in turn)
    mask = tuple(int(own) for own, turn in turns for _ in turn)
    text = "\n".join([*(decode(turn) for _, turn in turns), *([last] if last else [])])
    return Rollout(PROMPTS[0], (1,), ids, tuple(-1.0 * x for x in mask), mask, Stop.EOS, text)


def test_an_environments_words_are_not_the_policys() -> None:
    """It repeats itself, copies the prompt, shouts, says the same in every episode; the policy does not."""
    echo = (False, [8, 9, 10, 8, 9, 10, 7, 7, 7, 7])
    played = [
        episode((True, [1, 2]), echo, (True, [3, 4])),
        episode((True, [5]), echo, (True, [6, 4]), last="my blue parcel !!!!"),
        episode((True, [3, 2, 4]), last="my blue parcel !!!!"),
    ]
    found = s.signals(played, scores(0.1, 0.2, 0.3), {"kl_sampled": 2.0}, decode)
    alone = ["Where is\nit now", "I\nsee now", "it is now"]
    assert s.own_texts(played, decode) == alone
    plain = s.signals(rollouts(*alone), scores(0.1, 0.2, 0.3))
    for key in ("empty", "repeated", "copied", "marks", "alike", "distinct", "phrase", "pays_length"):
        assert found[key] == pytest.approx(plain[key]), key
    assert (found["copied"], found["marks"], found["repeated"]) == (0.0, 0.0, 0.0)
    assert found["reference_surprise"] == pytest.approx((2.0 + 10 / 3) / (10 / 3))
    assert s.shown(played, decode)["phrase"] == "where is it"
    assert "marks" not in s.shown(played, decode)


def test_what_the_policy_does_in_an_episode_is_seen() -> None:
    said = (False, [1, 2, 3])
    played = [episode((True, [8, 9, 10]), said, (True, [8, 9, 10, 7, 7]))] * 2
    found = s.signals(played, scores(0, 1), decode=decode)
    assert found["copied"] == pytest.approx(2 / 4)  # words my-blue-parcel twice; of four runs two stand there
    assert found["marks"] > 0
    assert found["repeated"] == pytest.approx(1 / 6)


def test_episodes_without_a_way_to_tell_the_speakers_apart_are_refused() -> None:
    with pytest.raises(DataError, match="an environment's words"):
        s.signals([episode((True, [1]), (False, [2]))], scores(0.1))


def test_what_is_shown_is_what_was_most_common() -> None:
    step = rollouts("Happy to help you!", "I am happy to help!!", "No.")
    assert s.shown(step) == {"phrase": "happy to help", "alike": "Happy to help you!", "marks": "!"}
    assert s.shown(rollouts("", "", "")) == {"alike": ""}
