"""The faster way is taken only where it gives what transformers' forward gives."""

import gc
import logging
import resource
import weakref

import pytest
import torch

from accord.lm import decode
from accord.lm import hasten as hastening
from accord.lm.decode import Lean
from accord.lm.engine import Engine, SamplingConfig, State
from accord.lm.hasten import begin, disagreement, hasten, keep_memory
from accord.lm.score import score_tokens
from accord.lm.tiny import DECODERS, ENCODER_DECODERS
from accord.lm.tokens import TokenBatch
from accord.types import Prompt

PROMPTS = [[10, 11, 12], [20]]


@pytest.mark.parametrize("kind", [*DECODERS, *ENCODER_DECODERS])
def test_every_kind_goes_one_of_the_two_ways(load, kind):
    lm = load(kind)
    against = hasten(lm)
    if kind in decode.FAMILIES:
        assert against is None
        assert isinstance(lm.decoding(lm), Lean)
    else:
        assert kind in against
        assert lm.decoding is None
    config = SamplingConfig(max_new_tokens=8)
    fast = Engine(lm, config).generate(PROMPTS, 2)
    lm.decoding = None
    assert [[row.ids for row in group] for group in fast] == [
        [row.ids for row in group] for group in Engine(lm, config).generate(PROMPTS, 2)
    ]


def test_the_random_state_and_the_model_are_left_alone(load):
    lm = load("llama")
    state, weights = torch.random.get_rng_state(), lm.weights_hash()
    hasten(lm)
    assert torch.equal(state, torch.random.get_rng_state())
    assert weights == lm.weights_hash()
    assert all(p.requires_grad for p in lm.net.parameters())


def _wrong_base(monkeypatch):
    angles = Lean._angles

    def other(self):
        cos, sin = angles(self)
        return cos.roll(1, 0), sin.roll(1, 0)

    monkeypatch.setattr(Lean, "_angles", other)


def _no_q_norm(monkeypatch):
    layer = decode._layer
    monkeypatch.setattr(
        decode, "_layer", lambda *given: layer(*given).__class__(**{**vars(layer(*given)), "q_norm": None})
    )


def _whole_sight(monkeypatch):
    mask = Lean._mask
    monkeypatch.setattr(Lean, "_mask", lambda self, at, window: mask(self, at, None))


def _no_cap(monkeypatch):
    layer = decode._layer
    monkeypatch.setattr(
        decode, "_layer", lambda *given: layer(*given).__class__(**{**vars(layer(*given)), "cap": None})
    )


def _still_rows(monkeypatch):
    def select(self, index_B):
        self.lengths = [self.lengths[at] for at in index_B.tolist()]
        self.hidden_BD = self.hidden_BD[index_B]

    monkeypatch.setattr(Lean, "select", select)


def _weights_swapped(monkeypatch):
    joint = decode.joint
    monkeypatch.setattr(decode, "joint", lambda weights: joint(weights).flip(0))


def _no_such_part(monkeypatch):
    monkeypatch.setattr(decode, "norm", lambda module: module.no_such_part)


@pytest.mark.parametrize(
    ("kind", "plant"),
    [
        ("llama", _wrong_base),
        ("qwen3", _no_q_norm),
        ("gemma2", _whole_sight),
        ("gemma2", _no_cap),
        ("llama", _still_rows),
        ("llama", _weights_swapped),
        ("phi3", _no_such_part),
    ],
)
def test_a_planted_fault_is_refused_with_a_message(load, monkeypatch, caplog, kind, plant):
    lm = load(kind, attn_logit_softcapping=2.0) if kind == "gemma2" else load(kind)
    config = SamplingConfig(max_new_tokens=8)
    plain = Engine(lm, config).generate(PROMPTS, 2)
    assert disagreement(lm, Lean) is None
    plant(monkeypatch)
    with caplog.at_level(logging.WARNING):
        against = hasten(lm)
    assert "the lean step would differ" in against
    assert "sampled the slower way" in caplog.text
    assert lm.decoding is None
    assert [[row.ids for row in group] for group in plain] == [
        [row.ids for row in group] for group in Engine(lm, config).generate(PROMPTS, 2)
    ]


def test_plain_rows_agree_with_themselves(load):
    for kind in ("llama", "gpt2", "t5"):
        assert disagreement(load(kind), State) is None


def test_what_is_begun_heeds_the_model_as_it_stands(load):
    lm = load("llama")
    assert isinstance(begin(lm), Lean)
    hook = lm.net.model.norm.register_forward_hook(lambda *_: None)
    assert type(begin(lm)) is State
    hook.remove()
    assert isinstance(begin(lm), Lean)


def halved(load, kind="llama", **options):
    lm = load(kind, **options)
    assert hasten(lm, halved=True) is None
    return lm


@pytest.mark.parametrize("kind", decode.FAMILIES)
def test_a_copy_in_bfloat16_decodes_and_the_model_stays(load, has_bfloat16, kind):
    lm = load(kind)
    weights = lm.weights_hash()
    assert hasten(lm, halved=True) is None
    state = lm.rough(lm)
    assert isinstance(state, Lean)
    assert {weight.dtype for weight in state.model.net.parameters()} == {torch.bfloat16}
    buffers = zip(lm.net.buffers(), state.model.net.buffers(), strict=True)
    assert all(torch.equal(one, other) and one.dtype is other.dtype for one, other in buffers)
    assert state.model.tokenizer is lm.tokenizer
    assert (lm.net.dtype, lm.weights_hash()) == (torch.float32, weights)
    assert all(weight.requires_grad for weight in lm.net.parameters())


def gaps(lm, seed, rough=True):
    """How far each sampled token's log-prob is from the one that the scorer gives, nats."""
    config = SamplingConfig(max_new_tokens=12, seed=seed)
    rows = [group[0] for group in Engine(lm, config, rough=rough).generate(PROMPTS)]
    tokens = TokenBatch.of(PROMPTS, [row.ids for row in rows], lm.pad_id)
    with torch.no_grad():
        scored_BT = score_tokens(lm, tokens).logprobs
    return [abs(a - b) for row, said in zip(rows, scored_BT.tolist(), strict=True)
            for a, b in zip(row.logprobs, said, strict=False)]  # fmt: skip


@pytest.mark.parametrize("way", [begin, hastening.begin_halved])
def test_the_check_reads_rows_apart_and_all_at_once(load, monkeypatch, way):
    lm, read = load("llama"), {"apart": 0, "at once": 0}
    parts = Lean._parts

    def seen(self):
        found = parts(self)
        read["apart" if len(found) > 1 else "at once"] += 1
        return found

    monkeypatch.setattr(Lean, "_parts", seen)
    assert disagreement(lm, way, bound=0.5) is None
    assert min(read.values()) > 0


def test_an_origin_says_that_a_copy_decoded(load, has_bfloat16):
    lm, prompt = halved(load), Prompt.from_text("Hello")
    for rough in (True, False):
        (found,) = Engine(lm, SamplingConfig(max_new_tokens=2), rough=rough).sample([prompt])[0]
        assert ("rough" in found.origin.sampling) is rough


def test_its_log_probs_are_the_models_to_rounding_also_after_training(load, has_bfloat16):
    lm = halved(load)
    assert 1e-5 < max(gaps(lm, 0)) < 0.1
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in lm.net.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.05)  # a copy of what was would be nats off
    assert 1e-5 < max(gaps(lm, 0)) < 0.3
    assert max(gaps(lm, 0, rough=False)) < 1e-4  # who does not ask for the copy gets the weights


def test_adapters_are_copied_with_the_weights(load, has_bfloat16):
    lm = halved(load)
    lm.make_trainable(4, 0)
    for name, weight in lm.net.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    assert hasten(lm, halved=True) is None
    assert max(gaps(lm, 1)) < 0.2


@pytest.mark.parametrize("rank", [0, 4])
def test_the_copy_goes_with_the_rows_that_were_decoded(load, has_bfloat16, rank):
    lm = load("llama")
    lm.make_trainable(rank, 0)
    assert hasten(lm, halved=True) is None
    gc.collect()
    gc.disable()
    try:
        state = lm.rough(lm)
        weights = [weakref.ref(weight) for weight in state.model.net.parameters()]
        assert all(weight() is not None for weight in weights)
        del state
        assert all(weight() is None for weight in weights)
    finally:
        gc.enable()


def test_where_the_lean_step_is_not_for_the_model_now_nothing_is_copied(load, has_bfloat16):
    lm = halved(load)
    seen = []
    hook = lm.net.model.norm.register_forward_hook(lambda *_: seen.append(1))
    state = lm.rough(lm)
    assert type(state) is State
    assert state.model is lm
    Engine(lm, SamplingConfig(max_new_tokens=2), rough=True).generate(PROMPTS)
    assert seen
    hook.remove()
    with torch.autocast("cpu", torch.bfloat16):
        assert lm.rough(lm).model is lm


def test_without_bfloat16_in_the_processor_the_weights_decode(load, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {})
    lm = halved(load)
    assert (lm.decoding, lm.rough) == (begin, None)


def test_a_model_in_bfloat16_needs_no_copy(load, has_bfloat16):
    assert halved(load, dtype="bfloat16").rough is None


def test_a_copy_that_differs_is_refused_with_a_message(load, has_bfloat16, monkeypatch, caplog):
    true = hastening.begin_halved
    monkeypatch.setattr(hastening, "begin_halved", lambda model: spoiled(true(model)))
    with caplog.at_level(logging.WARNING):
        lm = halved(load)
    assert (lm.decoding, lm.rough) == (begin, None)
    assert "sampled in float32: in bfloat16 row" in caplog.text


def spoiled(state):
    for weight in state.model.net.parameters():
        weight.mul_(3.0)
    return state


def test_memory_that_was_given_back_is_not_asked_for_anew():
    if not keep_memory():
        pytest.skip("not glibc")

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(4):
            torch.ones(5 << 20)  # 20 MiB are 5,120 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < 5120
