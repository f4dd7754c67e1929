"""The benchmarks of limits and growth run at a small size; what they count is worked out by hand."""

import sys

import pytest
import torch

from benchmarkrun import BENCHMARKS, last_line

sys.path.insert(0, str(BENCHMARKS))

import growth
import roofline
from _speed import Work, decode_seconds, forward_operations, policy_of, weights


def test_the_work_of_the_small_model_by_hand():
    policy = policy_of("S")
    # 4 layers of 4 matrices of 256 x 256 and 3 of 256 x 640, and the head, which is the embeddings.
    assert weights(policy) == (4 * (4 * 256**2 + 3 * 256 * 640), 4096 * 256)
    inside, head = weights(policy)
    # One rollout of 2 + 1 tokens sees 1 + 2 + 3 of them: queries with keys and weights with values, 2 each.
    one = 2 * inside * 3 + 2 * head * 1 + 4 * 6 * 4 * 256
    assert forward_operations(policy, Work(1, 2, 1)) == one
    assert forward_operations(policy, Work(5, 2, 1)) == 5 * one
    # Memory so slow that it alone counts: the weights, and 2.5 tokens' keys and values, 4 bytes each.
    assert decode_seconds(policy, Work(1, 2, 1), 1e30, 4.0) == inside + head + 2 * 256 * 4 * 2.5


def test_a_point_off_a_straight_line_is_found():
    x = [1.0, 2.0, 4.0, 8.0, 16.0]
    assert growth.off_the_line(x, [3 + 2 * v for v in x]) == pytest.approx(1)
    assert growth.off_the_line(x, [v**2 for v in x]) > 1.5


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::mm", "products"),
        ("mkldnn::_linear_pointwise", "products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::_embedding_bag_forward_only", "attention"),
        ("aten::_log_softmax", "softmax"),
        ("aten::exp_", "softmax"),
        ("aten::expand", "elementwise and copies"),
        ("aten::sqrt", "optimiser"),
        ("aten::rsqrt_", "elementwise and copies"),
        ("aten::addcdiv_", "optimiser"),
        ("aten::mul", "elementwise and copies"),
        ("_ProductBackward", "python and bookkeeping"),
    ],
)
def test_operations_are_told_apart(name, kind):
    assert roofline.kind_of(name) == kind


@pytest.mark.slow
def test_the_roofline_and_the_growth_run():
    found = last_line("roofline.py", "--quick", "--threads=1")
    assert found["train_share"] > 0
    assert found["decode_share"] > 0
    assert sum(found["losses"]["train"].values()) == pytest.approx(1)
    assert found["largest_loss"]["train"] in found["losses"]["train"]
    grown = last_line("growth.py", "--quick", "--threads=1")
    assert [p["value"] for p in grown["curves"]["rollouts"]] == [4, 8]
    assert all(p["seconds"] > 0 for curve in grown["curves"].values() for p in curve)
    found = last_line("step_profile.py", "--quick", "--threads=1")
    assert {"sample", "credit", "learn", "update"} == found["plain"].keys() == found["fast"].keys()


def test_without_a_gpu_nothing_is_claimed():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert last_line("gpu.py") == {"benchmark": "gpu", "quick": False, "measured": False, "device": None}


@pytest.mark.slow
def test_the_gpus_benchmark_runs_to_its_end_on_a_cpu_too():
    found = last_line("gpu.py", "--quick")
    assert found["measured"]
    assert found["sampling_ratio_median"] > 0
    assert found["ppo_rollouts_per_second"] > 0
