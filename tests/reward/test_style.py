"""Style alone: what is counted, and that a taste for style is found and nothing else."""

import numpy as np
import pytest

from accord.errors import DataError
from accord.judgements import Comparison
from accord.reward.style import FEATURES, features, fit_style
from accord.types import Completion, Prompt

RNG = np.random.default_rng
P = Prompt.from_text("p")

TEXT = """# Plan

- **one** and **two**!
2) really? Sure!
* x
```py
y = 3
```
a**b is not bold"""


def test_features_by_hand():
    counts = dict(zip(FEATURES, np.expm1(features(TEXT)), strict=True))
    expected = {
        "characters": len(TEXT), "list items": 3, "bold": 2, "headers": 1, "code fences": 2, "paragraphs": 1,
        "exclamation marks": 2, "question marks": 1, "digits": 2, "capitals": 2,
    }  # fmt: skip
    assert counts == pytest.approx(expected)
    assert features("").tolist() == [0.0] * len(FEATURES)


def pairs(n, prefer, seed=0):
    """Texts of words with marks at random; ``prefer(text)`` says which one wins."""
    rng = RNG(seed)

    def text():
        return (
            "word " * int(rng.integers(1, 30)) + "!" * int(rng.integers(0, 4)) + "?" * int(rng.integers(0, 4))
        )

    found = []
    while len(found) < n:
        a, b = text(), text()
        if prefer(a) != prefer(b):
            a, b = (a, b) if prefer(a) > prefer(b) else (b, a)
            found.append(Comparison(Prompt.from_text(f"p{len(found)}"), Completion(a), Completion(b)))
    return found


def accuracy(style, test):
    gaps = [style.score(P, (c.chosen, c.rejected)) for c in test]
    return np.mean([chosen.value > rejected.value for chosen, rejected in gaps])


def test_a_taste_for_exclamation_marks_is_found():
    style = fit_style(pairs(300, lambda t: t.count("!")))
    assert max(style.weights, key=style.weights.get) == "exclamation marks"
    assert accuracy(style, pairs(200, lambda t: t.count("!"), seed=1)) > 0.97


def test_a_taste_for_short_texts_is_found():
    style = fit_style(pairs(300, lambda t: -len(t)))
    assert style.weights["characters"] < 0
    assert accuracy(style, pairs(200, lambda t: -len(t), seed=1)) > 0.9


def test_choices_at_random_give_chance_on_new_pairs():
    rng = RNG(3)
    coin = pairs(300, lambda t: rng.random())
    assert 0.35 < accuracy(fit_style(coin[:150]), coin[150:]) < 0.65


def test_soft_labels_weigh_less_than_hard_ones():
    hard = pairs(200, len)
    soft = [Comparison(c.prompt, c.chosen, c.rejected, 0.6) for c in hard]
    assert 0 < fit_style(soft).weights["characters"] < 0.5 * fit_style(hard).weights["characters"]


def test_nothing_to_learn_from_is_said():
    same = Comparison(P, Completion("ab", id="1"), Completion("cd", id="2"))
    for learned in ([], [same]):
        with pytest.raises(DataError, match="none of texts that differ in style"):
            fit_style(learned)
