"""A judge behind a URL: its letter and its log-probs are read as they should, nothing unusable is lost."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from accord.chat_chooser import ChatChooser, ChatChooserConfig, Read
from accord.errors import ModelError
from accord.judging import Asked, Choice, Chooser, both_orders
from accord.types import Prompt

pytest.importorskip("openai", reason="openai is not installed: pip install 'accord[test]'")
from chatting import chat, chat_server, choose, completion

PAIR = Asked(Prompt.from_text("?"), "good", "bad")


@pytest.fixture
def server():
    with chat_server(lambda said: choose(0.5)) as listening:
        yield listening


def judge(server, body: str, **config) -> tuple[Choice, Read]:
    """What is read from one body."""
    server.told.append((200, {}, body))
    chooser = ChatChooser(chat(server), ChatChooserConfig(**config))
    (choice,) = chooser.choose([PAIR])
    (how,) = chooser.counts
    return choice, how


def test_the_question_is_put_in_words_and_log_probs_are_asked_for(server):
    chooser = ChatChooser(chat(server), ChatChooserConfig(criterion="kinder", top_logprobs=5))
    assert isinstance(chooser, Chooser)
    chooser.choose([PAIR, Asked(PAIR.prompt, "x", "y", "shorter")])
    bodies = sorted((body for _, body in server.asked), key=lambda body: "shorter" in str(body))
    said = [body["messages"][0]["content"] for body in bodies]
    assert "Answer A:\ngood\n\nAnswer B:\nbad\n\nWhich answer is better: kinder?" in said[0]
    assert "Answer A:\nx\n\nAnswer B:\ny\n\nWhich answer is better: shorter?" in said[1]
    assert [(b["logprobs"], b["top_logprobs"], b["temperature"]) for b in bodies] == [(True, 5, 0.0)] * 2
    ChatChooser(chat(server), ChatChooserConfig(top_logprobs=0)).choose([PAIR])
    assert not {"logprobs", "top_logprobs"} & set(server.asked[-1][1])


def test_a_judge_that_reasons_is_asked_to(server):
    for question in ("{first} or {second}? Reply with A or B only.", "{first} or {second}?"):
        ChatChooser(chat(server), ChatChooserConfig(reason=True, question=question)).choose([PAIR])
    one, other = [body["messages"][0]["content"] for _, body in server.asked]
    assert one.startswith("good or bad? Compare them")
    assert other.startswith("good or bad?\n\nCompare them")
    assert "A or B only" not in one + other


# -- log-probs ---------------------------------------------------------------------------------


def test_both_orders_of_what_a_server_says(server):
    server.should = lambda body: choose(special.expit((2 if "A:\ngood" in str(body) else -2) + 1.0))
    with chat_server(lambda said: choose(special.expit((2 if "A:\ngood" in said else -2) + 1.0))) as biased:
        (one,) = both_orders(ChatChooser(chat(biased)), [PAIR])
    assert one.p == pytest.approx(special.expit(2.0))
    assert one.as_listed.p_first == pytest.approx(special.expit(3.0))


@pytest.mark.parametrize(
    ("text", "tokens", "p"),
    [
        # by hand: the variants of a letter are summed, other words are left out
        ("A", [("A", {"A": 0.5, " A": 0.1, "B": 0.2, "The": 0.1})], 0.6 / 0.8),
        ("B", [("B", {"B": 0.6, " A": 0.1, "(A": 0.1, "**B": 0.1})], 0.2 / 0.9),
        ("(B)", [("(", {"(": 0.9, "A": 0.1}), ("B", {"B": 0.7, "A": 0.3}), (")", {")": 1.0})], 0.3),
        ("**A**", [("**", {"**": 1.0}), ("A", {"A": 0.8, "B": 0.2}), ("**", {"**": 1.0})], 0.8),
        ("Answer A is better.", [("Answer", {"Answer": 1.0}), (" A", {" A": 0.8, " B": 0.2}),
                                 (" is better.", {" is better.": 1.0})], 0.8),
        # space taken off by the server, an end token left in
        ("A", [(" A", {" A": 0.9, " B": 0.1}), ("<|end|>", {"<|end|>": 1.0})], 0.9),
        ("A", [("▁A", {"▁A": 0.9, "▁B": 0.1})], 0.9),
        ("A", [("ĠA", {"ĠA": 0.9, "ĠB": 0.1})], 0.9),
        # a letter that is not listed has at most what is left, and at most the smallest listed
        ("A", [("A", {"A": 0.9})], 0.9),
        ("A", [("A", {"A": 0.6, "The": 0.3, "x": 0.05})], 0.6 / 0.65),
        ("B", [("B", {"B": 0.7, "The": 0.1})], 0.1 / 0.8),
    ],
)  # fmt: skip
def test_the_log_probs_of_the_letters_by_hand(server, text, tokens, p):
    choice, how = judge(server, completion(text, tokens))
    assert how is Read.LOGPROBS
    assert choice.p_first == pytest.approx(p)
    assert choice.said == text


def test_log_odds_are_divided_by_the_temperature(server):
    choice, _ = judge(server, choose(special.expit(2.0)), temperature=4.0)
    assert choice.p_first == pytest.approx(special.expit(0.5))


def test_log_probs_of_another_letter_than_the_reasoning_mentions(server):
    tokens: list[tuple[str, Mapping[str, float]]] = [
        (" A", {" A": 0.99, " B": 0.01}), (" is rude.\n", {" is rude.\n": 1.0}),
        ("Answer:", {"Answer:": 1.0}), (" B", {" B": 0.7, " A": 0.3}),
    ]  # fmt: skip
    choice, how = judge(server, completion(" A is rude.\nAnswer: B", tokens), reason=True)
    assert (how, choice.p_first) == (Read.LOGPROBS, pytest.approx(0.3))
    # a server that tells reasoning apart, but gives the tokens of both
    thought = completion("B", [*tokens[:2], ("B", {"B": 0.9, "A": 0.1})], reasoning_content="A is rude.")
    choice, how = judge(server, thought)
    assert (how, choice.p_first) == (Read.LOGPROBS, pytest.approx(0.1))
    assert choice.said == "A is rude.\n\nB"
    # the letter that counts is the last one, where the reasoning named it before
    twice = completion(
        "B", [(" B", {" B": 0.99, " A": 0.01}), ("?\n", {"?\n": 1.0}), ("B", {"B": 0.6, "A": 0.4})]
    )
    assert judge(server, twice)[0].p_first == pytest.approx(0.4)


@pytest.mark.parametrize(
    "logprobs",
    [None, {}, {"content": None}, {"content": []}, {"content": [{"token": "A"}]}, {"content": [3]},
     {"content": [{"token": "A", "logprob": None}]}, {"content": [{"token": "A", "logprob": 3.0}]},
     {"content": [{"token": "A", "logprob": float("nan")}]}, {"tokens": ["A"]}, [1],
     {"content": [{"token": "Q", "logprob": -1.0, "top_logprobs": [{"token": "A", "logprob": -0.1}]}]},
     {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": "none"}]}],
)  # fmt: skip
def test_without_usable_log_probs_the_letter_stands_for_certain(server, logprobs):
    body = json.loads(completion("A."))
    body["choices"][0]["logprobs"] = logprobs
    assert judge(server, json.dumps(body)) == (Choice(1.0, "A."), Read.WORDS)


@given(st.floats(-30, 0), st.floats(-9999, 0), st.lists(st.floats(-40, 0), max_size=5))
def test_a_probability_whatever_a_server_says(a: float, b: float, others: list[float]) -> None:
    from accord.chat import Token
    from accord.chat_chooser import _gap

    top = {"A": a, "B": b, **{f"x{i}": p for i, p in enumerate(others)}}
    gap = _gap(Token("A", a, top), "A", ("A", "B"))
    assert gap is not None
    assert 0 <= special.expit(gap) <= 1
    assert (gap > 0) == (a > b) or gap == 0 or a == pytest.approx(b)


# -- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("A", "A"), (" b", None), ("B.", "B"), ("(A)", "A"), ("**B**", "B"), ("Answer: A", "A"),
        ("Answer B is better because it is kind.", "B"), ("The better answer is A.", "A"),
        ("B\n\nIt is shorter.", "B"), ("A, since it is kind", "A"), ("My choice is: **A**", "A"),
        ("<think>A is rude, so B. </think>\n\nB", "B"),
        ("A good answer has facts, so B", None), ("A or B", None), ("A/B", None), ("A & B", None),
        ("Both", None), ("Neither is good. A", None), ("Apple", None), ("AB", None), ("I cannot", None),
        ("", None), ("   ", None), ("<think>hm, A", None),
        # said of an answer, and no verdict
        ("A is worse than B", None), ("A is not better", None), ("A is no better than B.", None),
        ("A was rude, so B", None), ("A as well as B", None), ("A: rude. B: kind.", None), ("A, B", None),
        ("A. B.", None), ("A\nB", None), ("A would be ruder", None), ("A - worse", None),
        ("A is better in tone, but B is true", None), ("(A) is the worse one", None),
        ("A is the better one", "A"), ("**A** is clearly better than B.", "A"),
        ("Option B is preferable", "B"),
        ("B because it is kind", "B"), ("A. It is kind.", "A"), ("(B). It is kind.", "B"),
    ],
)  # fmt: skip
def test_words(server, said, letter):
    choice, how = judge(server, completion(said))
    assert choice == Choice({"A": 1.0, "B": 0.0, None: None}[letter], said)
    assert how is (Read.WORDS if letter else Read.UNDECIDED if said.strip() else Read.EMPTY)


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("A is rude.\nAnswer: B", "B"), ("Both are fine.\n\n**Answer: A**\n", "A"), ("Hm.\nB", "B"),
        ("x\nThe better answer is: B.", "B"), ("x\n\\boxed{A}", "A"), ("Answer: A\nNo.\nAnswer: B", "B"),
        ("**Answer A:**\nIt is kind.\n**Answer B:**\nIt is rude.", None), ("Answer: A or B", None),
        ("A is rude", None), ("", None), ("I think that A", None),
    ],
)  # fmt: skip
def test_a_verdict_after_reasoning_is_the_last_line(server, said, letter):
    choice, _ = judge(server, completion(said), reason=True)
    assert choice == Choice({"A": 1.0, "B": 0.0, None: None}[letter], said)


def test_what_is_said_of_an_answer_is_no_verdict_with_log_probs_either(server) -> None:
    tokens = [("A", {"A": 0.9, "B": 0.1}), (" is worse.", {" is worse.": 1.0})]
    assert judge(server, completion("A is worse.", tokens)) == (Choice(None, "A is worse."), Read.UNDECIDED)


@given(st.text(alphabet="AB \n*:answerAnswer_-.", max_size=60))
def test_any_words_are_read_in_time_and_name_a_letter_that_stands_there(said: str) -> None:
    from accord.chat_chooser import _verdict

    for reason in (False, True):
        pattern = _verdict(("A", "B"), reason)
        match = (pattern.search if reason else pattern.match)(said)
        assert match is None or said[match.start("letter")] == match["letter"]


@pytest.mark.parametrize(
    "said",
    [
        "-" * 50_000,
        "\n" * 50_000,
        "answer " * 10_000,
        "the answer is\n" * 5_000,
        "- \n" * 9000,
        "A " + "*" * 50_000 + "x",
        "A is " + "far " * 10_000,
        "A is the " + "much " * 10_000 + "worse",
    ],
)
def test_words_without_end_are_read_in_time(said):
    from accord.chat_chooser import _verdict

    assert _verdict(("A", "B"), False).match(said) is None
    assert _verdict(("A", "B"), True).search(said) is None


# -- what cannot be used -----------------------------------------------------------------------


def test_what_cannot_be_used_is_a_choice_of_none_and_counted(server):
    server.told += [
        (200, {}, completion("I would say that", finish="length")),
        (200, {}, completion(None, refusal="No.")),
        (200, {}, "<html>"),
        (200, {}, completion("")),
        (200, {}, completion("Neither.")),
        (200, {}, completion("A", finish="length")),  # a limit of one token
        (200, {}, choose(0.9)),
    ]
    chooser = ChatChooser(chat(server, parallel=1))
    found = chooser.choose([Asked(Prompt.from_text(f"{i}"), "x", "y") for i in range(7)])
    assert [c.p_first for c in found] == [None] * 5 + [1.0, pytest.approx(0.9)]
    assert [c.said for c in found[:5]] == ["I would say that", "No.", "<html>", "", "Neither."]
    assert chooser.counts == dict.fromkeys(Read, 1)


def test_reasoning_that_was_cut_has_no_verdict(server):
    cut = completion("B is longer. At first sight\nA", finish="length")
    assert judge(server, cut, reason=True) == (Choice(None, "B is longer. At first sight\nA"), Read.CUT)


def test_a_server_that_is_down_for_good_is_an_error(server):
    server.told += [(503, {}, "down")] * 99
    with pytest.raises(ModelError, match=r"no answers in 2 tries.*look at the server"):
        ChatChooser(chat(server, tries=2)).choose([PAIR])


def test_equal_questions_are_paid_once_and_judged_each_time(server, tmp_path):
    chooser = ChatChooser(chat(server, cache=str(tmp_path / "a.jsonl")))
    assert len(chooser.choose([PAIR] * 5)) == 5
    assert len(server.asked) == 1
    assert sum(chooser.counts.values()) == 5
