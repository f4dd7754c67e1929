"""The start-up checks pass on sound models and catch each planted fault."""

import copy

import pytest
import torch

from accord.errors import NumericsError
from accord.lm import engine, invariants, model, score
from accord.lm.invariants import Check, check_policy, require
from accord.lm.tiny import DECODERS, ENCODER_DECODERS, END, EOS, PAD
from accord.lm.tokens import TokenBatch


def failed(checks: list[Check]) -> set[str]:
    return {check.name for check in checks if not check.passed}


@pytest.mark.parametrize("model_type", DECODERS + ENCODER_DECODERS)
def test_sound_models_pass_and_are_left_untouched(load, model_type):
    lm = load(model_type)
    before, state = copy.deepcopy(lm.net.state_dict()), torch.get_rng_state()
    checks = check_policy(lm, seed=3)
    require(checks)
    after = lm.net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.requires_grad and p.grad is None for p in lm.net.parameters())
    assert lm.peft is None
    assert torch.equal(state, torch.get_rng_state())
    # What rounding leaves in float32 is a fiftieth of the bound at most.
    assert max(c.figure for c in checks if "moved" not in c.name) < 2e-5


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "t5", "bart"])
def test_bfloat16_passes_within_its_own_bound(load, model_type):
    checks = check_policy(load(model_type, dtype="bfloat16"))
    require(checks)
    assert {c.bound for c in checks if "sampler" in c.name} == {0.5}


def test_trained_adapters_pass_and_are_left_untouched(load):
    lm = load("gpt2")
    lm.add_lora(rank=2)
    with torch.no_grad():
        for p in lm.trainable():
            p.add_(0.1)
    before = lm.adapter_hash()
    require(check_policy(lm))
    assert lm.adapter_hash() == before


def test_require_names_every_failure_with_its_figure_and_advice():
    checks = [
        Check("positions", False, 1.9, 0.001, "Count them from the mask"),
        Check("fine", True, 0.0, 0.001, "nothing"),
        Check("dropout", False, float("nan"), 0.0, "Turn it off"),
    ]
    with pytest.raises(NumericsError) as caught:
        require(checks)
    text = str(caught.value)
    for part in ("2 of 3", "positions: 1.9, allowed 0.001. Count them", "dropout: nan", "Turn it off"):
        assert part in text
    assert "fine" not in text


# -- planted faults ----------------------------------------------------------------------------


def test_left_padding_without_positions_in_the_sampler(load, monkeypatch):
    lm = load("gpt2")

    def from_the_left(mask_BS):
        return torch.arange(mask_BS.shape[1]).expand_as(mask_BS)

    monkeypatch.setattr(engine, "positions", from_the_left)
    checks = check_policy(lm)
    assert failed(checks) == {"sampler = scorer at temperature 1", "sampler = scorer at temperature 0.7"}
    assert max(c.figure for c in checks if not c.passed) > 0.5


def test_an_architecture_that_does_not_heed_positions(load, monkeypatch):
    lm = load("gpt2")
    heeds = lm.trunk
    monkeypatch.setattr(lm, "trunk", lambda position_ids=None, **given: heeds(**given))
    assert "left padded = right padded" in failed(check_policy(lm))


def test_left_padding_without_a_mask_in_the_sampler(load, monkeypatch):
    lm = load("qwen3")

    def blind(lengths, width):
        return torch.ones(len(lengths), width, dtype=torch.bool)

    monkeypatch.setattr(engine, "length_mask", blind)
    assert "sampler = scorer at temperature 1" in failed(check_policy(lm))


@pytest.mark.parametrize("model_type", ["gpt2", "bart", "t5"])
def test_dropout_left_on(load, monkeypatch, model_type):
    monkeypatch.setattr(model, "silence_dropout", lambda net: None)
    lm = load(model_type)
    lm.net.train()
    torch.manual_seed(0)  # BART may drop all layers of a forward, and then nothing has a gradient
    names = failed(check_policy(lm))
    assert {"no dropout", "scoring twice gives the same bits"} <= names
    assert "fresh adapters: importance ratio is 1" in names


def test_dropout_merely_waiting_for_train_mode(load):
    lm = load("llama")
    lm.net.model.layers[1].self_attn.attention_dropout = 0.1
    checks = check_policy(lm)
    assert failed(checks) == {"no dropout"}
    assert "attention_dropout" in next(c.advice for c in checks if not c.passed)


def test_mask_made_from_pad_ids_where_pad_is_eos(load, monkeypatch):
    lm = load("llama")
    lm.tokenizer.pad_token = lm.tokenizer.eos_token
    lm.pad_id = EOS
    require(check_policy(lm))  # pad = eos alone is no fault

    monkeypatch.setattr(TokenBatch, "mask_BT", property(lambda batch: batch.ids_BT != EOS))
    assert "pad and end ids inside a text count as tokens" in failed(check_policy(lm))


def test_encoder_mask_made_from_pad_ids(load, monkeypatch):
    lm = load("t5")
    monkeypatch.setattr(TokenBatch, "prompt_mask_BS", property(lambda batch: batch.prompt_ids_BS != PAD))
    assert failed(check_policy(lm)) == {"pad and end ids inside a text count as tokens"}


def test_temperature_forgotten_in_the_scorer(load, monkeypatch):
    lm = load("qwen2")
    monkeypatch.setattr(score, "log_softmax", lambda logits, *_: torch.log_softmax(logits, -1))
    names = failed(check_policy(lm))
    assert names == {
        "sampler = scorer at temperature 0.7",
        "scorer = the model's own forward at temperature 0.7",
    }


def test_temperature_forgotten_in_sampler_and_scorer_alike(load, monkeypatch):
    """Both agree, so only the model's own forward can tell."""
    lm, true = load("qwen2"), score.log_softmax

    def forgets(logits, *_, **how):
        return true(logits, 1.0, **how)

    monkeypatch.setattr(score, "log_softmax", forgets)
    monkeypatch.setattr(engine, "log_softmax", forgets)
    assert failed(check_policy(lm)) == {"scorer = the model's own forward at temperature 0.7"}


def test_head_without_its_scale(load, monkeypatch):
    """An output head that loses a step (Gemma 2's cap) is refused at load and caught after it."""
    lm = load("gemma2")
    monkeypatch.setattr(
        model.LanguageModel, "logits", lambda self, h: self.net.get_output_embeddings()(h).float()
    )
    names = failed(check_policy(lm))
    assert "scorer = the model's own forward at temperature 1" in names


def test_an_end_token_ignored(load):
    lm = load("llama")
    lm.eos_ids = frozenset({EOS})
    checks = check_policy(lm)
    assert failed(checks) == {"every end token stops sampling"}
    (check,) = (c for c in checks if not c.passed)
    assert check.figure == 1
    assert str([END]) in check.advice


def test_adapters_that_do_not_start_from_the_reference(load, monkeypatch):
    """A reference computed with the adapters on makes the KL penalty hold nothing."""
    lm = load("llama")
    monkeypatch.setattr(model.LanguageModel, "adapters_off", lambda self: torch.random.fork_rng(devices=[]))
    assert failed(check_policy(lm)) == {"moved adapters move the KL"}


def test_fresh_adapters_that_change_the_policy(load, monkeypatch):
    lm = load("llama")
    true_hidden = model.LanguageModel.hidden

    def shifted(self, batch):
        states = true_hidden(self, batch)
        off = any(getattr(module, "disable_adapters", None) is True for module in self.net.modules())
        return states if self.peft is None or off else states * 1.01

    monkeypatch.setattr(model.LanguageModel, "hidden", shifted)
    names = failed(check_policy(lm))
    assert names == {"fresh adapters: importance ratio is 1", "fresh adapters: exact KL is 0"}


def test_a_step_that_ignores_its_learning_rate(load, monkeypatch):
    lm = load("llama")

    class Eager(torch.optim.AdamW):
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p.data.mul_(0.99)

    monkeypatch.setattr(invariants.torch.optim, "AdamW", Eager)
    assert failed(check_policy(lm)) == {"a step with learning rate 0 changes nothing"}


def test_unnormalised_reference_makes_kl_negative(load, monkeypatch):
    lm = load("llama")
    true = score.log_softmax

    calls = []

    def every_second_is_raised(logits, temperature, *kept):
        calls.append(1)
        raised = 0.5 if len(calls) % 2 == 0 else 0.0
        return true(logits, temperature, *kept) + raised

    checks = invariants._check_adapters
    monkeypatch.setattr(score, "log_softmax", every_second_is_raised)
    names = failed(list(checks(lm, [[10, 11], [12, 13, 14]], 0)))
    assert "exact KL is not negative" in names


def test_damaged_numbers_fail_rather_than_pass():
    assert not invariants.check("x", float("nan"), 1.0, "").passed
