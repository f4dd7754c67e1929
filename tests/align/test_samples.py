"""What is kept of a step's rollouts, and that a run that is resumed keeps each once."""

import json
from pathlib import Path

import pytest

from accord.align.run import align
from accord.align.samples import BEST, DRAWN, FILE, WORST, cut_samples, record_samples, samples
from accord.errors import DataError, NumericsError
from accord.types import Prompt, Rollout, Score, Stop
from toys import PROMPTS, ShareOfGood, run_config


def rollout(text: str, stop: Stop = Stop.EOS) -> Rollout:
    prompt = Prompt.from_text("Where is it?")
    return Rollout(prompt, (1, 2), (3, 4, 5), (-0.1, -0.2, -0.3), (1, 1, 1), stop, text)


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / FILE).read_text(encoding="utf-8").splitlines()]


def test_the_best_and_the_worst_paid_and_two_others_are_kept() -> None:
    texts = ["a", "b", "c", "d", "e", "f"]
    values = [0.5, 2.0, -1.0, 2.0, -1.0, 0.0]
    kept = samples(3, [rollout(t) for t in texts], [Score(v) for v in values])
    assert [(row["pick"], row["text"], row["score"]) for row in kept] == [
        (BEST, "b", 2.0),
        (WORST, "c", -1.0),
        (DRAWN, "a", 0.5),
        (DRAWN, "d", 2.0),
    ]
    assert {row["step"] for row in kept} == {3}


def test_few_rollouts_or_equal_ones_are_shown_once_each() -> None:
    assert [row["pick"] for row in samples(1, [rollout("a")], [Score(1.0)])] == [BEST]
    alike = samples(1, [rollout(t) for t in "abcd"], [Score(1.0)] * 4)
    assert [(row["pick"], row["text"]) for row in alike] == [(BEST, "a"), (DRAWN, "b"), (DRAWN, "c")]
    assert samples(1, [], []) == []
    with pytest.raises(DataError, match="1 scores for 2 rollouts"):
        samples(1, [rollout("a"), rollout("b")], [Score(1.0)])


def test_a_row_holds_what_was_said_and_what_it_was_paid_for(tmp_path: Path) -> None:
    score = Score(0.25, {"helpful": 1.0, "honest": -0.75}, "it promises too much")
    record_samples(tmp_path, 7, [rollout("Zwölf\u2028\x00<b>", Stop.LENGTH)], [score])
    assert rows(tmp_path) == [
        {
            "step": 7,
            "pick": BEST,
            "prompt": "Where is it?",
            "text": "Zwölf\u2028\x00<b>",
            "tokens": 3,
            "stop": "length",
            "score": 0.25,
            "parts": {"helpful": 1.0, "honest": -0.75},
            "why": "it promises too much",
        }
    ]


def test_cutting_keeps_the_first_steps_and_drops_a_torn_line(tmp_path: Path) -> None:
    cut_samples(tmp_path, 4)
    assert rows(tmp_path) == []
    for step in (1, 2, 3):
        record_samples(tmp_path, step, [rollout("a"), rollout("b")], [Score(1.0), Score(0.0)])
    with (tmp_path / FILE).open("a") as file:
        file.write('{"step": 2, "te')
    cut_samples(tmp_path, 9)
    assert [row["step"] for row in rows(tmp_path)] == [1, 1, 2, 2, 3, 3]
    cut_samples(tmp_path, 2)
    assert [row["step"] for row in rows(tmp_path)] == [1, 1, 2, 2]
    cut_samples(tmp_path, 0)
    assert rows(tmp_path) == []


def test_a_run_that_was_stopped_writes_the_samples_of_an_unbroken_one(toy, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    align(toy(), ShareOfGood(), PROMPTS, run_config(), whole)
    with pytest.raises(NumericsError):  # in the fifth step; the checkpoint is of the third
        align(toy(), ShareOfGood(nan_at=4), PROMPTS, run_config(), parts, save_every=3)
    assert {row["step"] for row in rows(parts)} == {1, 2, 3, 4}
    align(toy(), ShareOfGood(), PROMPTS, run_config(), parts, resume=True)
    assert (parts / FILE).read_bytes() == (whole / FILE).read_bytes()
    assert {row["step"] for row in rows(whole)} == set(range(1, 7))
    assert all(0 <= row["score"] <= 1 and row["tokens"] for row in rows(whole))
