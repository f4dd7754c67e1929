"""The labelling app's settings: what they imply, and what they refuse."""

from __future__ import annotations

import pytest

from accord.errors import ConfigError
from accord.feedback.labeling.config import LabelConfig


def test_first_wanted_never_passes_the_overlap() -> None:
    assert LabelConfig().first_wanted == 2
    assert LabelConfig(overlap=1).first_wanted == 1
    assert LabelConfig(adaptive=False, overlap=5).first_wanted == 5


def test_a_pair_shows_two() -> None:
    assert LabelConfig(protocol="pair", completions=9).shown == 2
    assert LabelConfig(completions=9).shown == 9


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"overlaps": 2}, "did you mean 'overlap'"),
        ({"completions": 10}, "completions = 10"),
        ({"certain": 0.5}, "certain = 0.5"),
        ({"protocol": "vote"}, "protocol = 'vote'"),
        ({"repeat_share": 0.9}, "repeat_share"),
        ({"protocol": "edit", "quiz": 1}, "quiz needs ranked answers"),
    ],
)
def test_what_cannot_be_is_refused(values: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        LabelConfig.build(values, "accord.toml [label]")
