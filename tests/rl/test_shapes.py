import pytest
import torch

from accord.rl.shapes import as_bool, check_same_shape, check_shapes


def test_each_letter_has_one_size_and_the_message_names_the_tensor_and_all_shapes():
    check_shapes(values_BT=torch.zeros(2, 3), mask_BT=torch.zeros(2, 3), bootstrap_B=torch.zeros(2))
    with pytest.raises(
        ValueError, match=r"bootstrap_B has 3 along B, others 2: values_BT \(2, 3\), bootstrap_B"
    ):
        check_shapes(values_BT=torch.zeros(2, 3), bootstrap_B=torch.zeros(3))
    with pytest.raises(ValueError, match=r"values_BT has shape \(6,\); it needs 2 dimensions"):
        check_shapes(values_BT=torch.zeros(6))


def test_a_column_is_not_broadcast_over_a_row():
    with pytest.raises(ValueError, match=r"a \(2, 1\), b \(2, 3\)"):
        check_same_shape(a=torch.zeros(2, 1), b=torch.zeros(2, 3))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_masks_of_any_type_are_read(dtype):
    assert as_bool(torch.tensor([1, 0, 1], dtype=dtype)).tolist() == [True, False, True]


@pytest.mark.parametrize("bad", [0.5, 2.0, -1.0, float("nan")])
def test_a_weight_is_not_a_mask(bad):
    with pytest.raises(ValueError, match="only 0 and 1"):
        as_bool(torch.tensor([1.0, bad]))
