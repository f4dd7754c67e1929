"""Prompts on one side of the split with their near-duplicates, and each in every epoch once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import DataError
from accord.lm.classifier import Encoded
from accord.lm.grouped import PromptGroup, batches, normalised, split_by_prompt
from accord.types import Prompt

INPUT = Encoded((1, 2))


@pytest.mark.parametrize(
    ("text", "other", "same"),
    [
        ("Where is my parcel?", "where is  my parcel", True),
        ("Where is my parcel?", "WHERE IS MY PARCEL?!\n", True),
        ("caf\u00e9 \ufb01ne", "Cafe\u0301 fine", True),
        ("order 17", "order 18", False),
        ("2 + 2", "2 2", False),
        ("?", "!", False),
        ("?", "", False),
        ("parcel", "parcels", False),
    ],
)
def test_near_duplicates_by_hand(text, other, same):
    assert (normalised(text) == normalised(other)) is same


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "? ", "!!"])), min_size=2, max_size=20),
    st.floats(0.01, 0.99),
    st.integers(0, 5),
)
def test_near_duplicates_are_never_parted(texts, share, seed):
    groups = [PromptGroup(Prompt.from_text(a.upper() + b, id=str(i))) for i, (a, b) in enumerate(texts)]
    if len({a for a, _ in texts}) < 2:
        with pytest.raises(DataError, match="at least 2 that differ"):
            split_by_prompt(groups, share, seed)
        return
    sides = split_by_prompt(groups, share, seed)
    assert sorted(g.prompt.id for side in sides for g in side) == sorted(g.prompt.id for g in groups)
    assert all(sides)
    assert not {g.cluster for g in sides[0]} & {g.cluster for g in sides[1]}


# -- batches -----------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=30),
    st.integers(1, 8), st.integers(2, 10), st.integers(1, 3),
)  # fmt: skip
def test_every_prompt_is_in_each_epoch_once(sizes, prompts, rows, epochs):
    groups = [PromptGroup(Prompt.from_text(str(i)), inputs=[INPUT] * n) for i, n in enumerate(sizes)]
    steps = list(batches(groups, prompts=prompts, rows=rows, epochs=epochs, seed=0))
    per_epoch = -(-len(sizes) // prompts)
    assert len(steps) == epochs * per_epoch
    for epoch in range(epochs):
        part = steps[epoch * per_epoch : (epoch + 1) * per_epoch]
        seen = [g.prompt.text for step in part for micro, _ in step for g in micro]
        assert sorted(seen) == sorted(g.prompt.text for g in groups)
    for step in steps:
        assert {count for _, count in step} == {sum(len(micro) for micro, _ in step)}
        for micro, _ in step:
            assert len(micro) == 1 or sum(len(g.inputs) for g in micro) <= rows
