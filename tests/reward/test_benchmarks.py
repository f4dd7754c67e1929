"""The reward benchmarks at sizes that prove that they run, and the pieces whose figures are known."""

import pytest

from accord import Comparison, Completion, Prompt, Score
from benchmarkrun import BENCHMARKS, last_line


@pytest.mark.slow
def test_the_labels_benchmark_ends_with_each_ways_figures(tmp_path):
    found = last_line("reward_labels.py", "--quick", f"--cache={tmp_path}", "--small-steps")
    assert list(found["ways"]) == [
        "flat hard",
        "grouped hard",
        "grouped soft",
        "grouped soft + FAIL",
        "grouped soft + FAIL, three epochs",
        "flat hard, small steps",
        "grouped soft + FAIL, small steps",
    ]
    for figures in found["ways"].values():
        assert figures["accuracy"]["low"] <= figures["accuracy"]["value"] <= figures["accuracy"]["high"]
    expected = (
        found["ways"]["grouped soft + FAIL"]["accuracy"]["value"]
        - found["ways"]["flat hard"]["accuracy"]["value"]
    )
    assert found["differences"]["all, equal epochs and steps"]["accuracy"]["value"] == pytest.approx(expected)


def test_a_pairs_difference_does_not_hang_on_what_else_is_asked(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from _desk_pairs import differences

    class Long:
        """The logit is the length."""

        def score(self, prompt, completions):
            return [Score(0.0, {"logit": float(len(c.text))}) for c in completions]

    prompt, other = Prompt.from_text("one"), Prompt.from_text("two")
    a, b, c = (Completion("x" * n, id=f"c{n}") for n in (1, 3, 7))
    d = Completion("xx", id="d")
    asked = [Comparison(prompt, c, a), Comparison(other, d, b), Comparison(prompt, a, b)]
    assert differences(Long(), asked).tolist() == [6.0, -1.0, -2.0]


@pytest.mark.slow
def test_the_accuracy_beside_trl_runs_without_trl(tmp_path):
    found = last_line("reward_accuracy.py", "--quick", f"--cache={tmp_path}", "--no-peer", "--threads=1")
    assert 0 < found["accuracy"] < 1
    assert 0 < found["accuracy_equal_passes"] < 1
