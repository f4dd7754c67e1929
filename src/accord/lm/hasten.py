"""Whether a faster way to decode agrees with transformers' own forward, found out before it is taken.

Legend: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import ctypes
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from accord.lm.adjacent import lay_together
from accord.lm.decode import Lean, reason_against
from accord.lm.engine import Ids, State
from accord.lm.invariants import LOGPROB_BOUND
from accord.lm.model import Kind, LanguageModel
from accord.lm.precision import has_bfloat16

log = logging.getLogger(__name__)

CHECKED = 6
"""Tokens of each row that are compared."""
SURE = 1e-4
"""Log-probs are compared of tokens that have at least this probability."""
KEPT_BYTES = 1 << 28
"""Freed memory that the C library keeps for what comes next."""
TRIM_THRESHOLD, MMAP_THRESHOLD, MOST_MMAP = -1, -3, 1 << 25  # glibc's malloc.h, and the most it takes


def hasten(model: LanguageModel, seed: int = 0, *, halved: bool = False) -> str | None:
    """Let the engine decode ``model`` the fastest way that agrees with transformers' own forward (in place).

    That is the lean step where the architecture has one (``lm.decode``). It is compared with the plain
    forward on a few random rows (``LOGPROB_BOUND``, and the likeliest token), and left with a message where
    it differs. Returns in words why it is not the lean step; ``None``: it is. The random state is left alone.
    With ``halved`` an engine that is ``rough`` decodes from a copy of the weights in bfloat16, made for each
    call and gone after it: for samples that a trainer reads again. Without the lean step, without a processor
    that has bfloat16, or where the copy is further from the model than rounding explains, there is none.
    The process keeps about ``KEPT_BYTES`` that tensors on the CPU give back. Weights that are read together
    are moved to lie together (``lm.adjacent``): they stay the same parameters, but a view of their memory
    that was taken before no longer follows them.
    """
    keep_memory()
    model.decoding = model.rough = None
    against = reason_against(model)
    if against is None:
        lay_together(model.net)
        found = disagreement(model, begin, seed)
        if found is None:
            model.decoding = begin
            if halved and model.net.dtype is torch.float32 and has_bfloat16(model.device):
                _halve(model, seed)
            return None
        against = f"the lean step would differ from transformers' forward: {found}"
        log.warning("%s is sampled the slower way: %s. Please report the model", model.name, against)
    return against


def _halve(model: LanguageModel, seed: int) -> None:
    """Let ``model`` be decoded from copies in bfloat16 where that agrees with it to their rounding."""
    found = disagreement(model, begin_halved, seed, LOGPROB_BOUND[torch.bfloat16])
    if found is None:
        model.rough = begin_halved
    else:
        log.warning("%s is sampled in float32: in bfloat16 %s", model.name, found)


def keep_memory() -> bool:
    """Let glibc keep what tensors give back; whether it could be asked to.

    By itself it gives large blocks to the system at once, which must then clear pages for the next ones: a
    twelfth of a training step on a CPU.
    """
    try:
        tune = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return bool(tune(MMAP_THRESHOLD, MOST_MMAP) and tune(TRIM_THRESHOLD, KEPT_BYTES))


def begin(model: LanguageModel) -> State:
    """The rows of one call of the engine, by the lean step where it is for ``model`` as it stands now."""
    return Lean(model) if reason_against(model) is None else State(model)


@torch.no_grad()
def begin_halved(model: LanguageModel) -> State:
    """The same on a copy of ``model`` whose weights are bfloat16; what the model keeps in buffers is kept."""
    if reason_against(model) is not None:
        return State(model)
    memo: dict[int, Any] = {id(model.tokenizer): model.tokenizer}
    memo |= {
        id(weight): nn.Parameter(weight.to(torch.bfloat16), requires_grad=False)
        for weight in model.net.parameters()
    }
    halved = copy.deepcopy(model, memo)
    lay_together(halved.net)
    return begin(halved)


@torch.no_grad()
def disagreement(
    model: LanguageModel, way: Callable[[LanguageModel], State], seed: int = 0, bound: float | None = None
) -> str | None:
    """Where rows decoded by ``way`` differ from each row alone in the model's own forward; ``None``: nowhere.

    Log-probs may differ by ``bound`` nats, by what rounding explains in the model's precision unless given.
    Random prompts go on with random tokens; rows leave, and where rows may join, one does. The last of those
    that begin is short, so that the lean step reads the others apart from it, and later all at once.
    """
    rng = np.random.default_rng(seed)
    longest = (model.context or 64) - CHECKED
    sizes = [min(size, longest) + CHECKED for size in (40, 1, 5, 9, 14, 2, 12, 3, 1, 9)]
    texts = [rng.integers(0, model.net.config.vocab_size, size).tolist() for size in sizes]
    prompts, rests = [ids[:-CHECKED] for ids in texts], [ids[-CHECKED:] for ids in texts]
    plain = [_plain(model, prompt, rest) for prompt, rest in zip(prompts, rests, strict=True)]
    bound = LOGPROB_BOUND.get(model.net.dtype, 0.0) if bound is None else bound
    try:
        for row, at, logits_V in _driven(way(model), prompts, rests):
            ours_V, theirs_V = torch.log_softmax(logits_V, -1), plain[row][at]
            found = _difference(ours_V, theirs_V, bound)
            if found is not None:
                return f"row {row}, token {at}: {found}"
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
        return f"it does not run ({type(error).__name__}: {error})"
    return None


def _driven(state: State, prompts: Ids, rests: Ids) -> Iterator[tuple[int, int, Tensor]]:
    """Row, number of the token and (V,) logits, as rows are fed what they are to say."""
    late = len(prompts) - 1
    alive, said = list(range(late)), [0] * len(prompts)
    state.join(prompts[:late], [()] * late, torch.arange(late))
    for time in range(CHECKED):
        for row, logits_V in zip(alive, state.logits(), strict=True):
            yield row, said[row], logits_V
        state.step(torch.tensor([rests[row][said[row]] for row in alive]))
        said = [count + (row in alive) for row, count in enumerate(said)]
        if time == 1:
            alive = [2, 1, 8, 4]
            state.select(torch.tensor(alive))
        if time == 2 and state.joins:
            state.join(prompts[late:], [()], torch.zeros(1, dtype=torch.long))
            alive = [*alive, late]


def _plain(model: LanguageModel, prompt: Sequence[int], rest: Sequence[int]) -> Tensor:
    """(T, V) log-probs of each token of ``rest`` by transformers alone: one row, no padding, no cache."""
    if model.kind is Kind.ENCODER_DECODER:
        inputs = {"input_ids": [prompt], "decoder_input_ids": [[model.start_id, *rest[:-1]]]}
    else:
        inputs = {"input_ids": [[*prompt, *rest[:-1]]]}
    tensors = {name: torch.tensor(ids, device=model.device) for name, ids in inputs.items()}
    tensors["attention_mask"] = torch.ones_like(tensors["input_ids"])
    logits_TV = model.net(**tensors).logits[0, -len(rest) :]
    return torch.log_softmax(logits_TV.float(), -1)


def _difference(ours_V: Tensor, theirs_V: Tensor, bound: float) -> str | None:
    """How two rows of log-probs differ by more than rounding explains."""
    likely_V = theirs_V > np.log(SURE)
    gap = float((ours_V - theirs_V)[likely_V].abs().max())
    if not gap <= bound:
        return f"log-probs differ by {gap:.2g}, {bound:g} is allowed"
    first, second = theirs_V.topk(2).values.tolist()
    if first - second > 2 * bound and int(ours_V.argmax()) != int(theirs_V.argmax()):
        return f"the likeliest token is {int(ours_V.argmax())}, not {int(theirs_V.argmax())}"
    return None
