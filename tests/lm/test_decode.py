"""The lean decode step gives what transformers' forward gives, whoever joins, leaves or trains between."""

import copy

import pytest
import torch
from peft.tuners.lora import Linear as LoraLinear

from accord.errors import NumericsError
from accord.lm import decode
from accord.lm.decode import Lean, reason_against
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.hasten import hasten
from accord.lm.linear import Linear
from accord.lm.model import LanguageModel
from accord.lm.score import score_tokens
from accord.lm.tokens import TokenBatch
from accord.types import Stop

PROMPTS = [[10, 11, 12, 13, 14, 15, 16], [20], [30, 31, 32], list(range(40, 60))]
LEAN = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3"]


def sampled(lm, prompts=PROMPTS, n=2, **options):
    return Engine(lm, SamplingConfig(**{"max_new_tokens": 24, "seed": 6} | options)).generate(prompts, n)


def flat(groups):
    return [row for group in groups for row in group]


def same(groups, others, bound=1e-4):
    """Whether both are the same tokens with the same log-probs, to rounding."""
    for one, other in zip(flat(groups), flat(others), strict=True):
        if one.ids != other.ids or one.stop is not other.stop:
            return False
        if max(abs(a - b) for a, b in zip(one.logprobs, other.logprobs, strict=True)) > bound:
            return False
    return True


def adapted(lm, seed=0):
    """Adapters that change what is said."""
    lm.add_lora(4, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in lm.net.named_parameters():
            if "lora_B" in name:
                p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    return lm


def both(lm, **options):
    """What is sampled by transformers' forward, and by the lean step."""
    lm.decoding = None
    plain = sampled(lm, **options)
    lm.decoding = Lean
    return plain, sampled(lm, **options)


@pytest.mark.parametrize("kind", LEAN)
@pytest.mark.parametrize("adapters", [False, True])
def test_every_family_samples_what_the_plain_forward_samples(load, kind, adapters):
    lm = load(kind)
    lm = adapted(lm) if adapters else lm
    assert hasten(lm) is None
    plain, lean = both(lm)
    assert same(plain, lean)
    assert len({row.ids for row in flat(lean)}) == 8


@pytest.mark.parametrize("kind", ["llama", "gemma2", "phi3"])
def test_rows_that_join_change_nothing(load, kind):
    """Two to five places for eight rows whose lengths differ: rows leave and join at many times."""
    lm = load(kind)
    plain, lean = both(lm, min_new_limit=1)
    assert len({len(row.ids) for row in flat(plain)}) > 3
    assert same(plain, lean)
    for rows in (1, 2, 3, 5):
        assert same(plain, sampled(lm, rows=rows, min_new_limit=1))


def test_waiting_rows_take_the_places_that_fall_empty(load):
    lm = load("llama")
    lm.decoding, alive = Lean, []

    class Counted(Lean):
        def step(self, tokens_B):
            alive.append(len(tokens_B))
            super().step(tokens_B)

    lm.decoding = Counted
    limits = {"max_new_tokens": 30, "min_new_limit": 1, "rows": 4}
    rows = flat(sampled(lm, n=16, **limits))
    steps = sum(len(row.ids) - 1 for row in rows)
    assert sum(alive) == steps
    assert max(alive) <= 4
    # while rows wait, nearly all places are taken; one batch after the other would take many more steps
    assert len(alive) < 1.5 * steps / 4
    batches = [rows[at : at + 4] for at in range(0, len(rows), 4)]
    assert len(alive) < 0.75 * sum(max(len(row.ids) for row in batch) for batch in batches)


@pytest.mark.parametrize("kind", ["qwen2", "gemma2"])
def test_rows_of_unlike_length_are_read_in_parts(load, monkeypatch, kind):
    lm = load(kind)
    prompts = [list(range(10, 10 + size)) for size in (90, 3, 5, 2, 60, 4, 1, 7, 2, 30, 3, 4)]
    lm.decoding = None
    plain = sampled(lm, prompts, n=1)
    lm.decoding, counts = Lean, set()
    parts = Lean._parts
    monkeypatch.setattr(Lean, "_parts", lambda self: counts.add(len(parts(self))) or parts(self))
    monkeypatch.setattr(decode, "PLACES", 4)
    assert same(plain, sampled(lm, prompts, n=1))
    assert 3 in counts
    counts.clear()
    assert same(plain[1:4], sampled(lm, prompts[1:4], n=1))
    assert counts == {1}


def test_prompts_of_a_group_are_read_once_and_many_tokens_in_parts(load, monkeypatch):
    lm = load("llama")
    lm.decoding, shapes = Lean, []
    trunk = LanguageModel.trunk
    monkeypatch.setattr(
        LanguageModel,
        "trunk",
        lambda self, **i: shapes.append(tuple(i["input_ids"].shape)) or trunk(self, **i),
    )
    whole = sampled(lm, n=5)
    assert shapes == [(4, 20)]
    monkeypatch.setattr(decode, "PREFILL_TOKENS", {"cpu": 15})
    shapes.clear()
    assert same(whole, sampled(lm, n=5))
    assert shapes == [(3, 7), (1, 20)] or sum(rows for rows, _ in shapes) == 4
    assert all(rows * width <= 15 or rows == 1 for rows, width in shapes)


def test_far_past_the_window_and_the_first_columns(load):
    """gemma2 sees 8 tokens in every other layer; a place begins with fewer columns than are used here."""
    lm = load("gemma2")
    plain, lean = both(lm, max_new_tokens=150, min_new_limit=140)
    assert max(len(row.ids) for row in flat(lean)) > 100
    assert same(plain, lean)
    mistral = load("mistral", sliding_window=8)
    assert same(*both(mistral, max_new_tokens=40))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma", "phi3"])
def test_log_probs_in_bfloat16_are_the_scorers(load, kind):
    lm = load(kind, dtype="bfloat16")
    assert hasten(lm) is None
    rows = flat(sampled(lm))
    batch = TokenBatch.of([p for p in PROMPTS for _ in range(2)], [row.ids for row in rows], lm.pad_id)
    with torch.no_grad():
        scored = score_tokens(lm, batch).logprobs
    gaps = [
        (scored[i, : len(r.ids)] - torch.tensor(r.logprobs)).abs().max().item() for i, r in enumerate(rows)
    ]
    assert max(gaps) < 0.3


def test_training_between_two_samplings_leaves_nothing_stale(load):
    lm = load("qwen3")
    lm.decoding = Lean
    before = sampled(lm)
    with torch.no_grad():
        for p in lm.net.parameters():
            p.mul_(1.05)
    plain, lean = both(lm)
    assert same(plain, lean)
    assert not same(before, lean)


def test_adapters_added_turned_off_and_merged_later(load):
    lm = load("llama")
    assert hasten(lm) is None
    base = sampled(lm)
    adapted(lm)
    plain, lean = both(lm)
    assert same(plain, lean)
    assert not same(base, lean)
    with lm.adapters_off():
        assert same(base, sampled(lm))
    lm.merge()
    assert same(lean, sampled(lm))
    assert type(lm.net.get_decoder().layers[0].mlp.down_proj) is Linear


def test_an_unusual_adapter_is_left_to_its_own_forward(load):
    lm = load("llama")
    adapted(lm)
    module = next(m for m in lm.net.modules() if isinstance(m, LoraLinear))
    module.lora_variant["default"] = object()
    asked = decode.product(module)
    module.lora_variant.clear()
    x = torch.randn(module.in_features, 3)
    with torch.no_grad():
        assert torch.allclose(asked(x), module(x.t()).t(), atol=1e-6)


def test_a_deep_copy_decodes_on_its_own_weights(load):
    lm = load("llama")
    hasten(lm)
    twin = lm.frozen_copy()
    assert twin.decoding is lm.decoding
    said = sampled(twin)
    with torch.no_grad():
        for p in lm.net.parameters():
            p.mul_(0.5)
    assert same(said, sampled(twin))
    assert not same(said, sampled(lm))
    assert copy.deepcopy(lm).decoding is lm.decoding


def test_a_folder_knows_nothing_of_it(load, tmp_path):
    lm = load("llama")
    hasten(lm)
    said = sampled(lm)
    lm.save(tmp_path / "saved")
    again = LanguageModel.load(tmp_path / "saved")
    assert again.decoding is None
    assert same(said, sampled(again))


def test_what_the_step_is_not_for_is_said(load):
    assert reason_against(load("llama")) is None
    assert "gpt2 is none of" in reason_against(load("gpt2"))
    assert "t5 is none of" in reason_against(load("t5"))
    hooked = load("llama")
    hooked.net.model.layers[1].register_forward_hook(lambda *_: None)
    assert "hooks" in reason_against(hooked)
    stretched = load("llama")
    stretched.net.config.rope_parameters["rope_type"] = "dynamic"
    assert "rotary angles" in reason_against(stretched)


def test_a_hook_that_is_set_later_is_heeded(load):
    lm = load("llama")
    hasten(lm)
    said = sampled(lm)
    hook = lm.net.model.layers[0].register_forward_hook(lambda _, __, out: out * 0.5)
    assert not same(said, sampled(lm))
    hook.remove()
    assert same(said, sampled(lm))


def test_damaged_weights_are_an_error(load):
    lm = load("llama")
    hasten(lm)
    with torch.no_grad():
        lm.net.model.layers[0].mlp.up_proj.weight[3] = float("nan")
    with pytest.raises(NumericsError, match="not finite"):
        sampled(lm)


def test_a_stream_gives_the_rows_as_they_come(load):
    lm = load("llama")
    hasten(lm)
    config = SamplingConfig(max_new_tokens=12, min_new_limit=2, seed=6, rows=3)
    rows = flat(Engine(lm, config).generate(PROMPTS, 2))
    said: dict[int, list[int]] = {number: [] for number in range(len(rows))}
    ended: dict[int, Stop] = {}
    order = []
    for row, token, stop in Engine(lm, config).stream(PROMPTS, 2):
        assert row not in ended
        said[row].append(token)
        order.append(row)
        if stop is not None:
            ended[row] = stop
    assert [tuple(ids) for ids in said.values()] == [row.ids for row in rows]
    assert [ended[number] for number in range(len(rows))] == [row.stop for row in rows]
    assert order[:6] == [0, 1, 2, 0, 1, 2]  # interleaved, not one row after the other
    first = Engine(lm, config).stream(PROMPTS, 2)
    next(first)
    first.close()  # whoever goes away early leaves nothing behind
    assert torch.is_grad_enabled()


def test_states_lie_row_by_row_however_many_rows_there_are(load):
    """oneDNN multiplies rows that lie apart a hundred times slower."""
    lm = load("llama")
    state = Lean(lm)
    with torch.no_grad():
        state.join(PROMPTS, [()] * 4, torch.tensor([0, 1, 1, 2, 3]))
        state.step(torch.tensor([7, 8, 9, 10, 11]))
        assert state.hidden_BD.shape == (5, 32)
        assert state.hidden_BD.is_contiguous()
        state.select(torch.tensor([0, 4, 2]))
        state.step(torch.tensor([7, 8, 9]))
    assert state.hidden_BD.shape == (3, 32)
    assert state.hidden_BD.is_contiguous()


def test_inside_autocast_the_plain_forward_samples(load):
    lm = load("llama")
    hasten(lm)
    with torch.autocast("cpu", torch.bfloat16):
        assert "autocast" in reason_against(lm)
        cast = sampled(lm, n=1)
        lm.decoding = None
        assert same(cast, sampled(lm, n=1))
    assert reason_against(lm) is None
