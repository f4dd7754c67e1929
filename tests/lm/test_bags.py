"""Attention as weighted sums of a table's rows is attention."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from accord.lm import bags, decode
from accord.lm.bags import Bags
from accord.lm.decode import Lean
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.hasten import disagreement

pytestmark = pytest.mark.skipif(not bags.AVAILABLE, reason="torch does not sum so on this processor")


def by_hand(q_NGW, keys_NWC, values_NCW, mask_N1C, cap):
    scores = 0.5 * torch.einsum("ngw,nwc->ngc", q_NGW.double(), keys_NWC.double())
    scores = scores if cap is None else cap * torch.tanh(scores / cap)
    return torch.einsum("ngc,ncw->ngw", (scores + mask_N1C).softmax(-1), values_NCW.double())


@pytest.mark.parametrize(("count", "heads", "width", "columns", "used"), [(6, 1, 8, 9, 9), (5, 2, 16, 21, 4)])
@pytest.mark.parametrize("cap", [None, 2.0])
def test_what_is_read_is_what_attention_gives(count, heads, width, columns, used, cap):
    torch.manual_seed(count)
    q_NGW, keys_NWC = torch.randn(count, heads, width), torch.randn(count, width, columns)
    values_NCW = torch.randn(count, columns, width)
    mask_N1C = torch.zeros(count, 1, used).masked_fill(torch.rand(count, 1, used) < 0.3, -torch.inf)
    mask_N1C[:, :, 0] = 0
    # Columns not in use hold what must not be read.
    keys_NWC[:, :, used:], values_NCW[:, used:] = 1e9, torch.nan
    given = (q_NGW, keys_NWC, values_NCW, mask_N1C, 0.5, cap)
    found = Bags(count, heads, width, columns, used).read(*given)
    right = by_hand(q_NGW, keys_NWC[:, :, :used], values_NCW[:, :used], mask_N1C, cap)
    torch.testing.assert_close(found.double(), right, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(torch.bfloat16 not in bags.AVAILABLE, reason="torch does not sum bfloat16 here")
@pytest.mark.parametrize("cap", [None, 2.0])
def test_in_bfloat16_too_and_as_closely_as_products(cap):
    torch.manual_seed(0)
    halves = [torch.randn(size).bfloat16() for size in ((6, 2, 16), (6, 16, 21), (6, 21, 16))]
    q_NGW, keys_NWC, values_NCW = halves
    mask_N1C = torch.zeros(6, 1, 9, dtype=torch.bfloat16)
    mask_N1C[:3, :, 4:] = -torch.inf
    found = Bags(6, 2, 16, 21, 9).read(*halves, mask_N1C, 0.5, cap)
    assert found.dtype is torch.bfloat16
    right = by_hand(q_NGW, keys_NWC[:, :, :9], values_NCW[:, :9], mask_N1C, cap)
    layer = SimpleNamespace(scale=0.5, cap=cap)
    multiplied = decode._read(layer, q_NGW, keys_NWC[:, :, :9], values_NCW[:, :9], mask_N1C)
    assert (found - right).abs().max() < 1.5 * (multiplied - right).abs().max() < 0.1


@pytest.mark.parametrize("kind", ["llama", "gemma2", "qwen3"])
def test_both_ways_to_read_sample_the_same(load, monkeypatch, kind):
    lm = load(kind)
    lm.decoding = Lean
    prompts = [list(range(10, 10 + size)) for size in (7, 5, 9, 6)]
    read, true = [], Bags.read
    monkeypatch.setattr(Bags, "read", lambda self, *given: read.append(1) or true(self, *given))
    config = SamplingConfig(max_new_tokens=20, seed=3)
    summed = Engine(lm, config).generate(prompts, 2)
    assert read
    monkeypatch.setattr(bags, "AVAILABLE", frozenset())
    read.clear()
    multiplied = Engine(lm, config).generate(prompts, 2)
    assert not read
    pairs = zip(itertools.chain(*summed), itertools.chain(*multiplied), strict=True)
    for one, other in pairs:
        assert one.ids == other.ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_many_heads_to_a_head_of_keys_are_multiplied(load, monkeypatch):
    lm = load("llama")
    monkeypatch.setattr(bags, "MOST_HEADS", 0)
    monkeypatch.setattr(decode, "Bags", None)  # not even made
    lm.decoding = Lean
    assert Engine(lm, SamplingConfig(max_new_tokens=3)).generate([[5, 6]])[0][0].ids


@pytest.mark.parametrize("name", ["key_rows", "value_rows"])
def test_a_wrong_row_is_found_out_before_it_is_used(load, monkeypatch, name):
    lm = load("llama")
    assert disagreement(lm, Lean) is None
    made = Bags.__init__

    def wrong(self, *given):
        made(self, *given)
        setattr(self, name, (getattr(self, name) + 1).clamp(max=int(getattr(self, name).max())))

    monkeypatch.setattr(Bags, "__init__", wrong)
    assert "differ" in disagreement(lm, Lean)


def test_a_wrong_product_is_found_out_too(load, monkeypatch):
    """Rows of unlike length are not read by sums."""
    lm = load("llama")
    true = decode._read
    monkeypatch.setattr(decode, "_read", lambda layer, q, k, v, m: true(layer, q, k, v.flip(1), m))
    assert "differ" in disagreement(lm, Lean)
