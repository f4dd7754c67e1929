"""The numbers that must never be wrong, checked on the model at hand in seconds.

Each check compares what accord computes with something independent of it (the model's own forward on
one unpadded row, the same thing asked twice, a forced token) and says by how much they differ. The
model is left as it was, bit for bit: what has to change something works on a twin that shares the
weights' storage and has modules and adapters of its own.

Legend: B rows, T completion tokens, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from accord.errors import NumericsError
from accord.lm.dropout import dropout_rates
from accord.lm.engine import Engine, Sampled, SamplingConfig
from accord.lm.model import Kind, LanguageModel
from accord.lm.score import TokenScores, score_hidden, score_tokens
from accord.lm.tokens import TokenBatch, length_mask, pad, positions
from accord.types import Stop

LOGPROB_BOUND = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}
"""Largest difference in one token's log-prob, nats, that rounding explains."""
TEMPERATURES = (1.0, 0.7)
NEW_TOKENS = 12
PROMPT_LENGTHS = (1, 4, 9, 14)


@dataclass(frozen=True)
class Check:
    """One invariant: ``figure`` was measured, ``bound`` was allowed, ``advice`` says what to do."""

    name: str
    passed: bool
    figure: float
    bound: float
    advice: str


def check(name: str, figure: float, bound: float, advice: str) -> Check:
    """The record of a figure that must not exceed its bound; NaN fails."""
    return Check(name, bool(figure <= bound), float(figure), bound, advice)


def gap(ours: Tensor, theirs: Tensor | Sequence[float]) -> float:
    """Largest absolute difference; infinite where the shapes differ."""
    other = torch.as_tensor(theirs, device=ours.device)
    return float((ours - other).abs().max()) if ours.shape == other.shape else float("inf")


def require(checks: Sequence[Check]) -> None:
    """Go on only if every check passed.

    Raises:
        NumericsError: names each failed check with its figure, its bound and what to do.
    """
    failed = [c for c in checks if not c.passed]
    if failed:
        lines = [f"- {c.name}: {c.figure:.3g}, allowed {c.bound:.3g}. {c.advice}" for c in failed]
        raise NumericsError(f"{len(failed)} of {len(checks)} invariants failed:\n" + "\n".join(lines))


def check_policy(model: LanguageModel, seed: int = 0) -> list[Check]:
    """Whether sampler, scorer, padding, end tokens, dropout, adapters and KL of ``model`` are right.

    Random prompts of ordinary tokens are answered by the model and scored in several ways. The
    global random state is not used and the model is not changed.
    """
    rng = np.random.default_rng(seed)
    prompts = _prompts(model, rng)
    with torch.random.fork_rng(devices=_cuda(model)):
        return [
            *_check_dropout(model, prompts),
            *_check_sampler(model, prompts, seed),
            *_check_padding(model, prompts, seed),
            *_check_ends(model, prompts),
            *_check_adapters(model, prompts, seed),
        ]


# -- the checks --------------------------------------------------------------------------------


def _check_sampler(model: LanguageModel, prompts: list[list[int]], seed: int) -> Iterator[Check]:
    for temperature in TEMPERATURES:
        batch, sampled = _sample(model, prompts, seed, temperature)
        with torch.no_grad():
            scored_BT = score_tokens(model, batch, temperature).logprobs
        yield check(
            f"sampler = scorer at temperature {temperature:g}",
            max(gap(scored_BT[i, : len(s.ids)], s.logprobs) for i, s in enumerate(sampled)),
            _bound(model),
            "The log-probs rollouts are stored with are not those training computes, so importance ratios "
            "are wrong. Look for a missing temperature, missing positions under left padding, or a kernel "
            "that differs with the key-value cache; try float32",
        )
        yield check(
            f"scorer = the model's own forward at temperature {temperature:g}",
            _gap_to_plain(model, batch, temperature, scored_BT),
            _bound(model),
            "accord's scorer and the model disagree on unpadded rows; look for a missing temperature, "
            "masks made from pad ids, or an output head with a further step",
        )


def _check_padding(model: LanguageModel, prompts: list[list[int]], seed: int) -> Iterator[Check]:
    batch, _ = _sample(model, prompts, seed, 1.0)
    mask_BT = batch.mask_BT.to(model.device)
    advice = (
        "A row's log-probs depend on its neighbours or on padding: positions must be counted from each "
        "row's first real token and masks made from lengths; try attn_implementation='eager'"
    )
    with torch.no_grad():
        right_BT = score_tokens(model, batch).logprobs
        if model.kind is Kind.DECODER:
            left_BT = _left_padded(model, batch)
            yield check(
                "left padded = right padded", gap(left_BT[mask_BT], right_BT[mask_BT]), _bound(model), advice
            )
        alone = [score_tokens(model, batch.rows([i])).logprobs[0] for i in range(len(batch))]
        apart = max(gap(row, right_BT[i, : len(row)]) for i, row in enumerate(alone))
        yield check("alone = in a batch", apart, _bound(model), advice)
        mixed = list(range(1, len(batch), 2))[::-1]
        mixed_BT = score_tokens(model, batch.rows(mixed)).logprobs
        width = mixed_BT.shape[1]
        yield check("other batch composition", gap(mixed_BT, right_BT[mixed, :width]), _bound(model), advice)


def _check_ends(model: LanguageModel, prompts: list[list[int]]) -> Iterator[Check]:
    twin = _twin(model)
    ignored = []
    for token in sorted(_declared_ends(model)):
        _force(twin, token)
        (row,) = Engine(twin, SamplingConfig(max_new_tokens=3)).generate(prompts[:1])[0]
        if row.ids != (token,) or row.stop is not Stop.EOS:
            ignored.append(token)
    yield check(
        "every end token stops sampling",
        len(ignored),
        0,
        f"The tokens {ignored} end a completion by the generation config or the tokenizer, and sampling goes "
        "on past them; every completion would run into the length limit",
    )
    end, pad = min(model.eos_ids), model.pad_id
    a, b = prompts[-1][0], prompts[-1][1]
    rows = [[a, pad, b, end], [pad, pad, a], [end, a, pad, b, end, pad]]
    before = [[a, pad], [pad, a, b], [b]]
    batch = TokenBatch.of(before, rows, pad)
    with torch.no_grad():
        scored_BT = score_tokens(model, batch).logprobs
    yield check(
        "pad and end ids inside a text count as tokens",
        _gap_to_plain(model, batch, 1.0, scored_BT),
        _bound(model),
        "A mask is made by comparing with the pad id; pad may equal eos, and then the end of every "
        "completion is never trained. Masks must come from lengths",
    )


def _check_dropout(model: LanguageModel, prompts: list[list[int]]) -> Iterator[Check]:
    rates = dropout_rates(model.net)
    yield check(
        "no dropout",
        len(rates),
        0,
        f"Dropout is on in {[type(holder).__name__ + '.' + key for holder, key in rates[:3]]}; it makes "
        "importance ratios noise. Call accord.lm.dropout.silence_dropout on what you changed",
    )
    batch = TokenBatch.of(prompts, prompts[::-1], model.pad_id)
    with torch.no_grad():
        first, second = (score_tokens(model, batch).logprobs for _ in range(2))
    yield check(
        "scoring twice gives the same bits",
        gap(first, second),
        0,
        "Two scoring calls differ: dropout or layer drop is active, or a kernel is not deterministic",
    )


def _check_adapters(model: LanguageModel, prompts: list[list[int]], seed: int) -> Iterator[Check]:
    batch = TokenBatch.of(prompts, prompts[::-1], model.pad_id)
    twin = _twin(model)
    if twin.peft is None:
        twin.add_lora(rank=4, seed=seed)
        twin.net.train(model.net.training)
    tensors = {name: p for name, p in twin.net.named_parameters() if "lora_" in name}
    outputs = [p for name, p in tensors.items() if "lora_B" in name or "lora_embedding_B" in name]
    with torch.no_grad():
        for tensor in outputs:
            tensor.zero_()
        fresh = _against_reference(twin, batch)
    assert fresh.ref_logprobs is not None
    assert fresh.kl is not None
    ratio_BT = (fresh.logprobs - fresh.ref_logprobs).exp()
    advice = (
        "A policy with fresh adapters must be its own reference. Look for dropout, for adapters that do not "
        "start at zero, or for a reference made from other weights"
    )
    yield check(
        "fresh adapters: importance ratio is 1", gap(ratio_BT, torch.ones_like(ratio_BT)), 1e-6, advice
    )
    yield check("fresh adapters: exact KL is 0", float(fresh.kl.abs().max()), 1e-6, advice)
    yield check(
        "a step with learning rate 0 changes nothing",
        _change_by_idle_step(twin, list(tensors.values()), batch),
        0,
        "An update with learning rate 0 moved weights or log-probs; look for weight decay outside the "
        "optimiser's rate, buffers updated in the forward pass, or weights tied by accident",
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in outputs:
            tensor.copy_(0.05 * torch.randn(tensor.shape, generator=generator))
        kl_BT = _against_reference(twin, batch).kl
    assert kl_BT is not None
    yield check(
        "exact KL is not negative",
        float(-kl_BT.min()),
        1e-5,
        "A KL over the whole vocabulary cannot be negative; policy and reference are normalised differently",
    )
    largest = float(kl_BT.max())
    yield Check(
        "moved adapters move the KL",
        largest > 1e-6,
        largest,
        1e-6,
        "Policy and reference are the same numbers although the adapters moved: turning adapters off does "
        "not reach the reference, so the KL penalty would hold nothing",
    )


# -- measuring ---------------------------------------------------------------------------------


def _bound(model: LanguageModel) -> float:
    return LOGPROB_BOUND[model.net.dtype]


def _gap_to_plain(model: LanguageModel, batch: TokenBatch, temperature: float, scored_BT: Tensor) -> float:
    """Largest distance of scores from what the model's own forward gives on each row alone, unpadded."""
    gaps = []
    for i in range(len(batch)):
        prompt = batch.prompt_ids_BS[i, : int(batch.prompt_lens_B[i])]
        answer = batch.ids_BT[i, : int(batch.lens_B[i])]
        gaps.append(gap(scored_BT[i, : len(answer)], _plain_logprobs(model, prompt, answer, temperature)))
    return max(gaps)


@torch.no_grad()
def _plain_logprobs(model: LanguageModel, prompt_S: Tensor, ids_T: Tensor, temperature: float) -> Tensor:
    """(T,) log-probs by transformers alone: one row, no padding, the whole vocabulary at once."""
    prompt_1S, ids_1T = prompt_S[None].to(model.device), ids_T[None].to(model.device)
    if model.kind is Kind.ENCODER_DECODER:
        start_11 = torch.full((1, 1), model.start_id, device=model.device)
        inputs_1T = torch.cat([start_11, ids_1T[:, :-1]], dim=1)
        ones_1S = torch.ones_like(prompt_1S)
        logits_TV = model.net(
            input_ids=prompt_1S, attention_mask=ones_1S, decoder_input_ids=inputs_1T
        ).logits[0]
    else:
        inputs_1L = torch.cat([prompt_1S, ids_1T], dim=1)
        ones_1L = torch.ones_like(inputs_1L)
        logits_TV = model.net(input_ids=inputs_1L, attention_mask=ones_1L).logits[0, len(prompt_S) - 1 : -1]
    return torch.log_softmax(logits_TV.float() / temperature, -1).gather(1, ids_1T[0][:, None])[:, 0]


def _left_padded(model: LanguageModel, batch: TokenBatch) -> Tensor:
    """(B, T) log-probs of a decoder that reads its rows padded on the left."""
    batch = batch.to(model.device)
    rows = [
        [*prompt[:asked].tolist(), *answer[:said].tolist()]
        for prompt, asked, answer, said in zip(
            batch.prompt_ids_BS, batch.prompt_lens_B, batch.ids_BT, batch.lens_B, strict=True
        )
    ]
    ids_BL = pad(rows, model.pad_id, "left").to(model.device)
    mask_BL = length_mask([len(row) for row in rows], ids_BL.shape[1]).flip(1).to(model.device)
    states_BLD = model.trunk(
        input_ids=ids_BL, attention_mask=mask_BL.long(), position_ids=positions(mask_BL), use_cache=False
    ).last_hidden_state
    first_B = ids_BL.shape[1] - batch.lens_B - 1
    at_BT = first_B[:, None] + torch.arange(batch.ids_BT.shape[1], device=model.device)
    at_BT = at_BT.clamp(max=ids_BL.shape[1] - 1)
    hidden_BTD = states_BLD.gather(1, at_BT[:, :, None].expand(-1, -1, states_BLD.shape[-1]))
    return score_hidden(model, hidden_BTD, batch).logprobs


def _against_reference(model: LanguageModel, batch: TokenBatch) -> TokenScores:
    with torch.no_grad():
        hidden_BTD = model.hidden(batch)
        with model.adapters_off():
            reference_BTD = model.hidden(batch)
        return score_hidden(model, hidden_BTD, batch, ref_hidden_BTD=reference_BTD)


def _change_by_idle_step(twin: LanguageModel, tensors: list[nn.Parameter], batch: TokenBatch) -> float:
    """Largest change of an adapter or a log-prob by one AdamW step at learning rate 0."""
    before = [tensor.detach().clone() for tensor in tensors]
    optimiser = torch.optim.AdamW(tensors, lr=0.0)
    with torch.enable_grad():
        scores = score_tokens(twin, batch)
        (-scores.logprobs.sum()).backward()
    optimiser.step()
    with torch.no_grad():
        after_BT = score_tokens(twin, batch).logprobs
    moved = [gap(old, tensor.detach()) for old, tensor in zip(before, tensors, strict=True)]
    return max(*moved, gap(scores.logprobs.detach(), after_BT))


# -- material ----------------------------------------------------------------------------------


def _prompts(model: LanguageModel, rng: np.random.Generator) -> list[list[int]]:
    """Prompts of different lengths, of tokens that are neither special nor added."""
    tokenizer = model.tokenizer
    odd = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values(), *model.eos_ids, model.pad_id}
    ordinary = [i for i in range(min(len(tokenizer), model.net.config.vocab_size)) if i not in odd]
    room = NEW_TOKENS + max(PROMPT_LENGTHS) if model.context is None else model.context
    longest = max(2, room - NEW_TOKENS)
    return [rng.choice(ordinary, min(length, longest)).tolist() for length in PROMPT_LENGTHS]


def _sample(
    model: LanguageModel, prompts: list[list[int]], seed: int, temperature: float
) -> tuple[TokenBatch, list[Sampled]]:
    config = SamplingConfig(
        max_new_tokens=NEW_TOKENS, min_new_limit=NEW_TOKENS // 2, temperature=temperature, seed=seed
    )
    groups = Engine(model, config).generate(prompts, n=2)
    sampled = [row for group in groups for row in group]
    repeated = [prompt for prompt in prompts for _ in range(2)]
    return TokenBatch.of(repeated, [row.ids for row in sampled], model.pad_id), sampled


def _declared_ends(model: LanguageModel) -> set[int]:
    """End tokens as the folder declares them, read anew and not from the model under test."""
    declared: set[int] = set()
    for value in (model.net.generation_config.eos_token_id, model.tokenizer.eos_token_id):
        declared.update(value if isinstance(value, list | tuple) else [] if value is None else [value])
    return declared


def _force(twin: LanguageModel, token: int) -> None:
    """Make ``twin`` certain of ``token``."""

    def certain(hidden_ND: Tensor) -> Tensor:
        logits_NV = torch.full((len(hidden_ND), twin.net.config.vocab_size), -1e4, device=hidden_ND.device)
        logits_NV[:, token] = 0.0
        return logits_NV

    twin.logits = certain  # type: ignore[method-assign]


def _twin(model: LanguageModel) -> LanguageModel:
    """A copy with modules and adapters of its own that shares the storage of all other weights."""
    memo: dict[int, object] = {id(model.tokenizer): model.tokenizer}
    for name, parameter in model.net.named_parameters():
        own = "lora_" in name
        value = parameter.detach().clone() if own else parameter.detach()
        memo[id(parameter)] = nn.Parameter(value, requires_grad=own)
    return copy.deepcopy(model, memo)


def _cuda(model: LanguageModel) -> list[torch.device]:
    return [model.device] if model.device.type == "cuda" else []
