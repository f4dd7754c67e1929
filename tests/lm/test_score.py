"""The one scorer against the plain definition over the whole vocabulary, in float64 where it matters."""

import pytest
import torch

from accord.errors import ConfigError
from accord.lm import score
from accord.lm.heads import ValueHead
from accord.lm.score import score_hidden, score_tokens
from accord.lm.tokens import TokenBatch

BATCH = TokenBatch.of([[10, 11, 12], [20], [30, 31]], [[40, 41], [42, 43, 44, 45, 0], [46]], 0)


def states(lm, reference=None):
    with torch.no_grad():
        return lm.hidden(BATCH), (reference or lm).hidden(BATCH)


def naive(lm, hidden, temperature, reference, ref_hidden):
    """Log-prob, entropy, reference log-prob and KL as written in a textbook."""
    logp = torch.log_softmax(lm.logits(hidden).double() / temperature, -1)
    ref = torch.log_softmax(reference.logits(ref_hidden).double() / temperature, -1)
    at = BATCH.ids_BT[..., None]
    values = (
        logp.gather(-1, at)[..., 0],
        -(logp.exp() * logp).sum(-1),
        ref.gather(-1, at)[..., 0],
        (logp.exp() * (logp - ref)).sum(-1),
    )
    return [v.masked_fill(~BATCH.mask_BT, 0.0) for v in values]


@pytest.fixture
def pair(load):
    return load("llama"), load("llama", seed=1)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.5])
@pytest.mark.parametrize("elements", [1, 3 * 263, 1 << 25])
def test_equals_the_textbook_in_chunks_of_any_size(pair, temperature, elements, monkeypatch):
    monkeypatch.setattr(score, "CHUNK_ELEMENTS", {"cpu": elements})
    monkeypatch.setattr(score, "LEAST_ROWS", 1)
    monkeypatch.setattr(score, "MANY_ROWS", 1)
    lm, reference = pair
    hidden, ref_hidden = states(lm, reference)
    got = score_hidden(
        lm, hidden, BATCH, temperature,
        reference=reference, ref_hidden_BTD=ref_hidden,
    )  # fmt: skip
    expected = naive(lm, hidden, temperature, reference, ref_hidden)
    for ours, theirs in zip((got.logprobs, got.entropy, got.ref_logprobs, got.kl), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=0)
    assert float(got.kl.detach().sum()) > 1
    assert float(got.kl.detach().min()) >= 0


@pytest.mark.parametrize("chunk", [2 * 263, 1 << 25])
@pytest.mark.parametrize("kept", [1, 1 << 25])
def test_gradients_equal_autograd_of_the_textbook_kept_or_computed_again(pair, chunk, kept, monkeypatch):
    monkeypatch.setattr(score, "CHUNK_ELEMENTS", {"cpu": chunk})
    monkeypatch.setattr(score, "LEAST_ROWS", 1)
    monkeypatch.setattr(score, "MANY_ROWS", 1)
    monkeypatch.setattr(score, "KEPT_ELEMENTS", kept)
    lm, reference = pair
    hidden, ref_hidden = states(lm, reference)
    head = lm.net.get_output_embeddings().weight

    def gradients(values):
        logprobs, entropy, kl = values
        weights = torch.linspace(0.5, 2.0, logprobs.numel()).view_as(logprobs).to(logprobs.dtype)
        total = (weights * (logprobs + 0.3 * entropy - 0.7 * kl)).sum()
        return torch.autograd.grad(total, [leaf, head])

    leaf = hidden.clone().requires_grad_()
    got = score_hidden(
        lm, leaf, BATCH, 0.7,
        reference=reference, ref_hidden_BTD=ref_hidden,
    )  # fmt: skip
    ours = gradients((got.logprobs, got.entropy, got.kl))
    plain = naive(lm, leaf, 0.7, reference, ref_hidden)
    theirs = gradients((plain[0], plain[1], plain[3]))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
    assert not got.ref_logprobs.requires_grad


def test_never_more_logits_at_a_time_than_a_chunk(pair, monkeypatch):
    lm, _ = pair
    hidden, _ = states(lm)
    seen = []
    true = score.log_softmax
    monkeypatch.setattr(score, "log_softmax", lambda z, *given: seen.append(len(z)) or true(z, *given))
    monkeypatch.setattr(score, "CHUNK_ELEMENTS", {"cpu": 3 * 263})
    monkeypatch.setattr(score, "LEAST_ROWS", 1)
    monkeypatch.setattr(score, "MANY_ROWS", 1)
    score_hidden(lm, hidden, BATCH)
    assert seen == [3, 3, 2]  # 8 real tokens, padding never reaches the head


def test_temperature_must_be_positive(pair):
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="temperature"):
            score_tokens(pair[0], BATCH, bad)


def test_bfloat16_is_summed_in_float32(load):
    lm = load("llama", dtype="bfloat16")
    with torch.no_grad():
        hidden = lm.hidden(BATCH)
        got = score_hidden(lm, hidden, BATCH)
    expected = naive(lm, hidden, 1.0, lm, hidden)
    assert got.logprobs.dtype is torch.float32
    torch.testing.assert_close(got.logprobs.double(), expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(got.entropy.double(), expected[1], atol=1e-5, rtol=0)


def test_a_fresh_value_head_says_zero_and_reads_any_dtype():
    head = ValueHead(4)
    assert head(torch.randn(2, 3, 4)).tolist() == [[0.0] * 3] * 2
    with torch.no_grad():
        head.linear.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
        head.linear.bias.fill_(0.5)
    value = head(torch.ones(1, 4, dtype=torch.bfloat16))
    assert value.dtype is torch.float32
    assert value.tolist() == [10.5]


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_log_probs_alone_are_the_same_bits_with_the_same_gradient(load, kind):
    model = load(kind)
    batch = TokenBatch.of([[9, 10, 11], [12]], [[20, 21], [22, 23, 24]], model.pad_id)
    found = []
    for entropy in (True, False):
        scores = score_tokens(model, batch, entropy=entropy)
        found.append(
            (scores, torch.autograd.grad(scores.logprobs.sum(), model.net.get_output_embeddings().weight))
        )
    assert torch.equal(found[0][0].logprobs, found[1][0].logprobs)
    assert torch.equal(found[0][1][0], found[1][1][0])
    assert found[0][0].entropy[1].min() > 0
    assert not found[1][0].entropy.any()
