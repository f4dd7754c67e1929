"""A prompt read once gives the states and gradients that each of its completions has by itself."""

import logging

import pytest
import torch
from transformers import DynamicCache

from accord.lm import prefix
from accord.lm.hasten import hasten
from accord.lm.prefix import may_share, shared_hidden, sharing_differs
from accord.lm.score import score_tokens
from accord.lm.tokens import TokenBatch

KINDS = ["llama", "qwen2", "qwen3", "gpt2", "gemma", "phi3"]
PROMPTS = [list(range(10, 22)), [30, 31, 32], [40, 41, 42, 43, 44, 45, 46, 47]]
COMPLETIONS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [14, 15], [16, 17, 18], [19]]
AT = [0, 2, 0, 1, 2, 0]


def batch(at=AT):
    return TokenBatch.of([PROMPTS[i] for i in at], COMPLETIONS[: len(at)], 0)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_states_and_gradients_are_those_of_each_row_by_itself(load, kind, after):
    lm, rows = load(kind), batch()
    real = torch.arange(5 + after) < rows.lens_B[:, None] + after
    found = []
    for states in (shared_hidden(lm, rows, after), lm.hidden(rows, after=after)):
        lm.net.zero_grad()
        lm.logits(states[real]).log_softmax(-1)[:, :3].sum().backward()
        slopes = torch.cat([p.grad.flatten() for p in lm.net.parameters() if p.grad is not None])
        found.append((states.detach()[real], slopes))
    (ours, slope), (theirs, other) = found
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert float((slope - other).norm() / other.norm()) < 1e-4


def test_a_batch_that_shares_little_is_read_plainly(load):
    lm = load("llama")
    assert shared_hidden(lm, batch([0, 1, 2]), False) is None
    assert shared_hidden(lm, TokenBatch.of([[7]] * 3, [[5] * 20] * 3, 0), False) is None  # two tokens to save
    one_token = TokenBatch.of([PROMPTS[0]] * 3, [[1], [2], [3]], 0)
    assert shared_hidden(lm, one_token, False) is None  # predicted from the prompt alone


def test_models_that_it_is_not_for(load):
    assert not may_share(load("t5"))
    assert not may_share(load("gemma2"))  # windows


def test_hasten_puts_it_to_use_and_adapters_are_heeded(load):
    lm = load("llama")
    hasten(lm)
    assert lm.reading is shared_hidden
    lm.add_lora(4)
    with torch.no_grad():
        for name, p in lm.net.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.2, generator=torch.Generator().manual_seed(0))
    scores = []
    for reading in (shared_hidden, None):
        lm.reading = reading
        on = score_tokens(lm, batch()).logprobs
        with lm.adapters_off():
            scores.append((on, score_tokens(lm, batch()).logprobs))
    torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=1e-4)
    assert float((scores[0][0] - scores[0][1]).abs().max()) > 0.01


def _wrong_rows(monkeypatch):
    select = DynamicCache.batch_select_indices
    monkeypatch.setattr(DynamicCache, "batch_select_indices", lambda self, at: select(self, at.flip(0)))


def _no_gradient_through_prompts(monkeypatch):
    select = DynamicCache.batch_select_indices

    def cut(self, at):
        select(self, at)
        for layer in self.layers:
            layer.keys, layer.values = layer.keys.detach(), layer.values.detach()

    monkeypatch.setattr(DynamicCache, "batch_select_indices", cut)


def _a_mask_of_ones(monkeypatch):
    monkeypatch.setattr(TokenBatch, "prompt_mask_BS", property(lambda self: self.prompt_ids_BS >= 0))


def _does_not_run(monkeypatch):
    monkeypatch.setattr(prefix, "DynamicCache", None)


@pytest.mark.parametrize("plant", [_wrong_rows, _no_gradient_through_prompts, _a_mask_of_ones, _does_not_run])
def test_a_planted_fault_is_refused_with_a_message(load, monkeypatch, caplog, plant):
    lm = load("llama")
    assert sharing_differs(lm) is None
    plant(monkeypatch)
    with caplog.at_level(logging.WARNING):
        hasten(lm)
    assert lm.reading is None
    assert "reads a prompt for each of its completions" in caplog.text


def test_the_check_leaves_the_model_as_it_was(load):
    lm = load("llama")
    lm.net.requires_grad_(False)
    assert sharing_differs(lm) is None
    assert not any(p.requires_grad for p in lm.net.parameters())
    assert all(p.grad is None for p in lm.net.parameters())
    assert lm.reading is None
