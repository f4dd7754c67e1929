"""The benchmark of sampling runs at a small size, and its sides do the same work."""

import sys
from collections import Counter

import pytest
import torch
from scipy.stats import chisquare
from transformers import LlamaForCausalLM

from benchmarkrun import BENCHMARKS, last_line

sys.path.insert(0, str(BENCHMARKS))

from _sampling_side import accord, generate, work
from _sizes import draw, llama, outside, tokenizer
from accord.lm.engine import Engine, SamplingConfig
from accord.lm.hasten import hasten
from accord.lm.model import LanguageModel
from accord.lm.render import Template


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = LlamaForCausalLM(llama("S", vocab_size=48, num_hidden_layers=2, initializer_range=0.1)).eval()
    made.generation_config.eos_token_id = outside("S")
    return made


def policy(net):
    lm = LanguageModel(net, tokenizer("S"), "random", Template.PLAIN)
    assert hasten(lm) is None
    return lm


def test_sides_say_as_many_tokens_as_asked(net):
    for name, (prompts, limits) in work("S", 4, 2, 6).items():
        assert name == "equal" or len(set(limits)) > 1
        prompts = [[token % 48 for token in prompt] for prompt in prompts]
        assert generate(net, "S", 4)(prompts, limits) == sum(limits)
        assert accord(net, "S", 4, False)(prompts, limits) == sum(limits)


def test_greedy_tokens_are_generates(net):
    prompts = [[token % 48 for token in prompt] for prompt in draw("S", 6, 9)]
    lm = policy(net)
    ours = Engine(lm, SamplingConfig(max_new_tokens=24, temperature=0, rows=4)).generate(prompts)
    ids = torch.tensor(prompts)
    theirs = net.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False,
                          pad_token_id=0)  # fmt: skip
    assert [list(group[0].ids) for group in ours] == theirs[:, 9:].tolist()


def test_the_distribution_is_generates(net):
    """Two tokens of a vocabulary of 48: both samplers against the exact probabilities of the pair's sum."""
    lm, draws = policy(net), 4000
    prompt = [5, 6, 7]
    rows = Engine(lm, SamplingConfig(max_new_tokens=2, rows=500, seed=3)).generate([prompt], draws)[0]
    ours = Counter(sum(row.ids) // 8 for row in rows)
    torch.manual_seed(3)
    ids = torch.tensor([prompt] * draws)
    said = net.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=2, do_sample=True, top_k=0,
                        top_p=1.0, pad_token_id=0)[:, 3:]  # fmt: skip
    theirs = Counter((said.sum(1) // 8).tolist())
    with torch.no_grad():
        texts = torch.tensor([[*prompt, first] for first in range(48)])
        logits = net(texts).logits.double()
    pairs = logits[0, 2].softmax(-1)[:, None] * logits[:, 3].softmax(-1)
    sums = (torch.arange(48)[:, None] + torch.arange(48)) // 8
    expected = torch.zeros(12, dtype=torch.float64).index_add_(0, sums.flatten(), pairs.flatten())
    for counts in (ours, theirs):
        observed = [counts[at] for at in range(12)]
        assert chisquare(observed, (draws * expected / expected.sum()).numpy()).pvalue > 0.001


@pytest.mark.slow
def test_it_runs_and_its_ratios_are_those_of_the_sides():
    found = last_line("sampling.py", "--quick", "--threads=1")
    sides = found["sides"]
    for start, peer in (("", "generate"), ("batch_", "batch")):
        ratio = sides["accord"]["equal_per_s"] / sides[peer]["equal_per_s"]
        assert found[f"{start}ratio_median"] == pytest.approx(ratio)
        memory = sides["accord"]["peak_rss_mb"] / sides[peer]["peak_rss_mb"]
        assert found[f"{start}memory_ratio"] == pytest.approx(memory)
    assert found["accord_tokens_per_s"] == sides["accord"]["equal_per_s"] > 0
