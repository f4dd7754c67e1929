import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.lm.tokens import TokenBatch, length_mask, pad, positions

ROWS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=5)


def test_pad_by_hand():
    assert pad([[1, 2, 3], [4]], 9).tolist() == [[1, 2, 3], [4, 9, 9]]
    assert pad([[1, 2, 3], [4]], 9, "left").tolist() == [[1, 2, 3], [9, 9, 4]]
    assert pad([[], [4]], 9, "left").tolist() == [[9], [4]]
    assert pad([], 9).shape == (0, 0)


def test_length_mask_and_positions_by_hand():
    mask = length_mask([3, 1, 0], 3)
    assert mask.tolist() == [[True, True, True], [True, False, False], [False, False, False]]
    assert positions(mask.flip(1)).tolist() == [[0, 1, 2], [0, 0, 0], [0, 0, 0]]
    assert positions(torch.tensor([[0, 0, 1, 1]])).tolist() == [[0, 0, 0, 1]]


@given(ROWS, st.integers(0, 9))
def test_what_was_padded_comes_back_whatever_the_pad_id(rows, pad_id):
    """The pad id also occurs as a token; only lengths tell them apart."""
    batch = TokenBatch.of(rows, rows[::-1], pad_id)
    for i in range(len(rows)):
        assert batch.prompt_ids_BS[i][batch.prompt_mask_BS[i]].tolist() == rows[i]
        assert batch.ids_BT[i][batch.mask_BT[i]].tolist() == rows[::-1][i]


@given(ROWS, st.data())
def test_rows_trims_to_the_longest_left(rows, data):
    batch = TokenBatch.of(rows, rows[::-1], 0)
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=6))
    part = batch.rows(index)
    assert len(part) == len(index)
    assert part.ids_BT.shape[1] == max(len(rows[::-1][i]) for i in index)
    assert part.prompt_ids_BS.shape[1] == max(len(rows[i]) for i in index)
    for at, i in enumerate(index):
        assert part.ids_BT[at][part.mask_BT[at]].tolist() == rows[::-1][i]


def test_a_batch_needs_a_completion_for_each_prompt():
    with pytest.raises(ValueError, match="2 prompts for 1"):
        TokenBatch.of([[1], [2]], [[3]], 0)
