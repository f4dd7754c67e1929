"""The sampler: reproducible, true to its probabilities, and stopped by every end token."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from accord.errors import ConfigError, DataError, NumericsError
from accord.lm.engine import Engine, SamplingConfig, State, truncate
from accord.lm.hasten import hasten
from accord.lm.score import score_tokens
from accord.lm.tiny import END, EOS
from accord.lm.tokens import TokenBatch
from accord.types import Prompt, Sampler, Stop

PROMPTS = [[10, 11, 12, 13, 14, 15, 16], [20], [30, 31, 32]]
KINDS = ["llama", "gpt2", "gemma2", "t5", "bart"]


def fixed_logits(lm, logits_V):
    """Make every next-token distribution the same known one."""
    lm.logits = lambda hidden: logits_V.expand(*hidden.shape[:-1], -1)
    return lm


def flat(groups):
    return [row for group in groups for row in group]


@pytest.mark.parametrize("kind", KINDS)
def test_a_completion_does_not_depend_on_its_batch(load, kind):
    lm = load(kind)
    config = SamplingConfig(max_new_tokens=10, seed=3)
    together = Engine(lm, config).generate(PROMPTS, n=3)
    alone = [Engine(lm, config).generate([prompt], n=3)[0] for prompt in PROMPTS]
    narrow = Engine(lm, config.model_copy(update={"rows": 2})).generate(PROMPTS, n=3)
    turned = Engine(lm, config).generate(PROMPTS[::-1], n=2)[::-1]
    for i in range(3):
        ids = [row.ids for row in together[i]]
        assert ids == [row.ids for row in alone[i]] == [row.ids for row in narrow[i]]
        assert ids[:2] == [row.ids for row in turned[i]]
    other = Engine(lm, SamplingConfig(max_new_tokens=10, seed=4)).generate(PROMPTS, n=3)
    assert [r.ids for r in flat(other)] != [r.ids for r in flat(together)]


def test_samples_differ_and_so_does_a_prompt_given_twice(load):
    rows = Engine(load("llama"), SamplingConfig(max_new_tokens=8)).generate([[10, 11], [10, 11]], n=4)
    assert len({row.ids for row in flat(rows)}) == 8
    both = Engine(load("llama"), SamplingConfig(max_new_tokens=8)).generate([[10, 11]], n=8)
    assert [row.ids for row in both[0]] == [row.ids for row in flat(rows)]


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_samples_of_a_prompt_share_its_prefill(load, kind, monkeypatch):
    lm = load(kind)
    shapes = []
    target = lm.net.get_encoder() if kind == "t5" else lm.net.get_decoder()
    hook = target.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    Engine(lm, SamplingConfig(max_new_tokens=3)).generate(PROMPTS[:2], n=5)
    hook.remove()
    assert shapes[0] == (2, 7)
    assert (10, 7) not in shapes


def test_finished_rows_leave_the_batch(load, monkeypatch):
    lm = load("llama")
    logits = torch.full((263,), -30.0)
    logits[[EOS, 50, 51]] = 0.0
    fixed_logits(lm, logits)
    alive = []
    step = State.step
    monkeypatch.setattr(State, "step", lambda self, tokens: alive.append(len(tokens)) or step(self, tokens))
    rows = flat(Engine(lm, SamplingConfig(max_new_tokens=12)).generate(PROMPTS, n=8))
    lengths = [len(row.ids) for row in rows]
    assert alive == [sum(n > t for n in lengths) for t in range(1, max(lengths))]
    assert alive[-1] < alive[0] < 24


def test_every_end_token_stops_and_truncation_is_not_termination(load):
    lm = load("llama")
    logits = torch.full((263,), -30.0)
    logits[[EOS, END, 50, 51]] = 0.0
    fixed_logits(lm, logits)
    rows = flat(Engine(lm, SamplingConfig(max_new_tokens=3)).generate(PROMPTS, n=30))
    ends = Counter()
    for row in rows:
        assert not set(row.ids[:-1]) & {EOS, END}
        assert (row.stop is Stop.EOS) == (row.ids[-1] in (EOS, END))
        assert row.stop is Stop.EOS or len(row.ids) == 3
        ends[row.ids[-1] if row.stop is Stop.EOS else "cut"] += 1
    assert min(ends[EOS], ends[END], ends["cut"]) > 5


def test_length_limits_are_drawn_row_by_row(load):
    lm = load("llama")
    logits = torch.zeros(263)
    logits[[EOS, END]] = -1e4
    fixed_logits(lm, logits)
    config = SamplingConfig(max_new_tokens=5, min_new_limit=2)
    lengths = Counter(len(row.ids) for row in flat(Engine(lm, config).generate(PROMPTS, n=80)))
    assert sorted(lengths) == [2, 3, 4, 5]
    assert chisquare(list(lengths.values())).pvalue > 0.001
    whole = Engine(lm, SamplingConfig(max_new_tokens=5)).generate(PROMPTS, n=4)
    assert {len(row.ids) for row in flat(whole)} == {5}


@pytest.mark.parametrize(
    ("options", "support"),
    [
        ({}, [50, 51, 52, 53]),
        ({"temperature": 0.5}, [50, 51, 52, 53]),
        ({"top_k": 2}, [50, 51]),
        ({"top_p": 0.75}, [50, 51, 52]),
    ],
)
def test_frequencies_are_the_probabilities(load, options, support):
    """p = 0.4, 0.3, 0.2, 0.1 at temperature 1; the truncated ones renormalised."""
    lm = load("llama")
    p = torch.tensor([0.4, 0.3, 0.2, 0.1])
    logits = torch.full((263,), float("-1e9"))
    logits[50:54] = p.log() + 3.0
    fixed_logits(lm, logits)
    config = SamplingConfig(max_new_tokens=1, rows=4000, **options)
    rows = flat(Engine(lm, config).generate([[10]], n=4000))
    seen = Counter(row.ids[0] for row in rows)
    assert sorted(seen) == support
    expected = (p ** (1 / options.get("temperature", 1.0)))[: len(support)]
    expected = expected / expected.sum()
    counts = [seen[token] for token in support]
    assert chisquare(counts, (4000 * expected.double() / expected.double().sum()).numpy()).pvalue > 0.001
    # The log-prob kept is over the full vocabulary, whatever was cut off.
    full = p ** (1 / options.get("temperature", 1.0))
    full = (full / full.sum()).log()
    for row in rows[:50]:
        assert row.logprobs[0] == pytest.approx(float(full[row.ids[0] - 50]), abs=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_token_of_no_chance_is_never_drawn(load, kind):
    """A logit of minus infinity is no damage; one of plus infinity is."""
    lm = load(kind)
    logits = torch.full((lm.net.config.vocab_size,), -torch.inf)
    logits[50:53] = 1.0
    fixed_logits(lm, logits)
    rows = flat(Engine(lm, SamplingConfig(max_new_tokens=5)).generate([[10]], n=200))
    assert {token for row in rows for token in row.ids} == {50, 51, 52}
    logits[200] = torch.inf
    with pytest.raises(NumericsError, match="not finite"):
        Engine(lm, SamplingConfig(max_new_tokens=5)).generate([[10]])


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_frequencies_on_a_model_are_its_probabilities(load, kind):
    lm = load(kind)
    rows = Engine(lm, SamplingConfig(max_new_tokens=1, rows=6000)).generate([[10, 11]], n=6000)[0]
    batch = TokenBatch.of([[10, 11]] * 263, [[token] for token in range(263)], 0)
    with torch.no_grad():
        p = score_tokens(lm, batch).logprobs[:, 0].double().exp()
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-5)
    counts = torch.bincount(torch.tensor([row.ids[0] for row in rows]), minlength=263).double()
    order = p.argsort(descending=True)
    big = order[p[order] * 6000 >= 5]
    observed = [*counts[big].tolist(), float(6000 - counts[big].sum())]
    expected = [*(6000 * p[big]).tolist(), float(6000 * (1 - p[big].sum()))]
    if expected[-1] < 1e-6:
        observed, expected = observed[:-1], expected[:-1]
    scale = sum(observed) / sum(expected)
    assert chisquare(observed, [e * scale for e in expected]).pvalue > 0.001


def test_temperature_zero_takes_the_likeliest(load):
    lm = load("gpt2")
    rows = Engine(lm, SamplingConfig(max_new_tokens=6, temperature=0)).generate(PROMPTS, n=2)
    for prompt, (one, two) in zip(PROMPTS, rows, strict=True):
        assert one == two
        ids = list(prompt)
        for token in one.ids:
            logits = lm.net(input_ids=torch.tensor([ids])).logits[0, -1]
            assert token == int(logits.argmax())
            ids.append(token)


@pytest.mark.parametrize("kind", ["gemma2", "bart"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_log_probs_are_the_scorers_far_past_the_sliding_window(load, kind, dtype):
    lm = load(kind, dtype=dtype)  # gemma2's window is 8 tokens
    prompts = [list(range(10, 40)), [20], list(range(50, 62))]
    rows = flat(Engine(lm, SamplingConfig(max_new_tokens=30, temperature=0.8)).generate(prompts, n=2))
    batch = TokenBatch.of([p for p in prompts for _ in range(2)], [row.ids for row in rows], lm.pad_id)
    with torch.no_grad():
        scored = score_tokens(lm, batch, 0.8).logprobs
    gap = max(
        float((scored[i, : len(row.ids)] - torch.tensor(row.logprobs)).abs().max())
        for i, row in enumerate(rows)
    )
    assert gap < (2e-5 if dtype == "float32" else 0.2)


@given(
    st.lists(st.floats(0.01, 1.0), min_size=2, max_size=12),
    st.integers(1, 12),
    st.floats(0.05, 1.0),
)
def test_truncation_keeps_the_smallest_sufficient_set(weights, k, top_p):
    p = torch.tensor([weights], dtype=torch.float64)
    p = p / p.sum()
    by_k = truncate(p, k, None)[0]
    assert int((by_k > 0).sum()) >= min(k, len(weights))  # ties with the k-th stay
    assert float(by_k[by_k > 0].min()) >= float(p[0].sort(descending=True).values[: k + 1].min())
    by_p = truncate(p, None, top_p)[0]
    kept = by_p[by_p > 0]
    assert float(kept.sum()) >= top_p - 1e-9
    assert float(kept.sum() - kept.min()) < top_p + 1e-9
    assert torch.equal(by_p[by_p > 0], p[0][by_p > 0])


def test_sample_keeps_what_is_needed_to_score_again(load):
    lm = load("llama", chat=True)
    engine = Engine(lm, SamplingConfig(max_new_tokens=6, temperature=0.9, top_k=40, seed=11))
    assert isinstance(engine, Sampler)
    prompt = Prompt.from_text("Where is my parcel?")
    ((one, two),) = engine.sample([prompt], n=2)
    assert one.text == engine.decode(one.ids)
    assert one.origin.rendered == "<user>Where is my parcel?<end><assistant>"
    assert list(one.origin.prompt_ids) == engine.encode(prompt)
    assert (one.origin.model_hash, one.origin.adapter_hash) == (lm.weights_hash(), None)
    assert one.origin.sampling == {
        "max_new_tokens": 6, "min_new_limit": None, "temperature": 0.9, "top_k": 40, "top_p": None,
    }  # fmt: skip
    assert (one.origin.seed, len(one.logprobs)) == (11, len(one.ids))
    assert one.ids != two.ids


def test_a_prompt_that_leaves_no_room_is_refused(load):
    prompt = Prompt.from_text("x" * 505)
    Engine(load("gpt2"), SamplingConfig(max_new_tokens=7)).encode(prompt)
    with pytest.raises(DataError, match=r"505 tokens, 504 fit"):
        Engine(load("gpt2"), SamplingConfig(max_new_tokens=8)).encode(prompt)
    with pytest.raises(DataError, match="513 tokens"):
        Engine(load("bart"), SamplingConfig(max_new_tokens=8)).encode(Prompt.from_text("x" * 511))
    assert len(Engine(load("t5")).encode(Prompt.from_text("x" * 2000))) == 2001


def test_more_new_tokens_than_a_decoder_has_positions_is_refused(load):
    with pytest.raises(ConfigError, match="max_new_tokens 600"):
        Engine(load("bart"), SamplingConfig(max_new_tokens=600))
    Engine(load("t5"), SamplingConfig(max_new_tokens=600))


def test_damaged_weights_are_an_error_not_a_token(load):
    lm = load("llama")
    with torch.no_grad():
        lm.net.model.norm.weight[3] = float("nan")
    with pytest.raises(NumericsError, match="not finite"):
        Engine(lm).generate(PROMPTS)


def test_limits_are_validated():
    with pytest.raises(ConfigError, match="min_new_limit 9"):
        SamplingConfig.build({"max_new_tokens": 5, "min_new_limit": 9})
    with pytest.raises(ConfigError, match="temperature"):
        SamplingConfig.build({"temperature": -1})


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_the_states_kept_are_those_that_the_tokens_come_from(load, kind):
    """Rows leave at unlike times, and with the lean step others join."""
    lm = load(kind)
    hasten(lm)
    config = SamplingConfig(max_new_tokens=9, min_new_limit=1, rows=3, seed=2)
    groups = Engine(lm, config, keep_states=True).generate([[10, 11, 12], [20], [30, 31]], 3)
    for row in (row for group in groups for row in group):
        logp_TV = torch.log_softmax(lm.logits(row.states), -1)
        found = logp_TV[range(len(row.ids)), list(row.ids)].tolist()
        assert found == pytest.approx(row.logprobs, abs=1e-5)
    plain = Engine(lm, config).generate([[10, 11, 12], [20], [30, 31]], 3)
    assert plain == groups
    assert plain[0][0].states is None
