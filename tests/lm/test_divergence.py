"""The KL of whole completions against the plain definition, row by row; of a policy to what lies below it."""

import pytest
import torch

from accord.errors import ConfigError
from accord.lm.divergence import completion_kl
from accord.rl.exact import exact_kl

PROMPTS = [[10, 11, 12], [20], [30, 31]]
COMPLETIONS = [[40, 41], [42, 43, 44, 45, 0], [46]]


@torch.no_grad()
def textbook(policy, reference, temperature):
    """Sums over all tokens of the exact KL and of log p - log q, from the models' own forwards."""
    exact = sampled = 0.0
    for prompt, ids in zip(PROMPTS, COMPLETIONS, strict=True):
        both = [
            lm.net(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].double()
            / temperature
            for lm in (policy, reference)
        ]
        exact += float(exact_kl(*both).sum())
        logp, logq = (each.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum() for each in both)
        sampled += float(logp - logq)
    return exact, sampled


def test_by_the_textbook_and_across_batches(load):
    policy, reference = load("llama"), load("llama", seed=1)
    exact, sampled = textbook(policy, reference, 0.7)
    expected = (exact / 3, sampled / 3, exact / 8)
    for rows in (64, 1):
        found = completion_kl(policy, reference, PROMPTS, COMPLETIONS, 0.7, rows)
        assert found == pytest.approx(expected, abs=1e-5)
    assert completion_kl(policy, policy.frozen_copy(), PROMPTS, COMPLETIONS) == (0.0, 0.0, 0.0)


def test_a_policy_as_its_own_reference_is_the_weights_below_its_adapters(load):
    policy, start = load("llama"), load("llama")
    policy.add_lora(4)
    with torch.no_grad():
        for parameter in policy.trainable():
            parameter += 0.1
    expected = completion_kl(policy, start, PROMPTS, COMPLETIONS)
    assert expected[0] > 0.01
    assert completion_kl(policy, policy, PROMPTS, COMPLETIONS) == pytest.approx(expected, abs=1e-5)


def test_two_vocabularies_are_refused(load):
    with pytest.raises(ConfigError, match="263 tokens, the reference of 300"):
        completion_kl(load("llama"), load("llama", vocab_size=300), PROMPTS, COMPLETIONS)
