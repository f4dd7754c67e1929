"""Episodes of several turns: a policy and an environment speak by turns, in tokens.

The policy's tokens carry mask 1, their log-probs, and on the last of a turn what the environment paid for
it; the environment's words carry mask 0 and are read, never learned. What was sampled is never tokenised
again: the context of the next turn is the tokens of the last ones.

A decoder reads prompt and turns as one sequence. An encoder-decoder reads the prompt in its encoder; its
decoder holds all turns, the environment's words among its own.

Left out: keeping key-value caches from one turn to the next; each turn reads its context anew.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from accord.align.online import whole_support
from accord.environment import Environment, Turn
from accord.errors import ConfigError, NumericsError
from accord.lm.engine import Engine, Sampled
from accord.lm.model import Kind
from accord.lm.turns import words_between, words_ids
from accord.types import Prompt, Rollout, Stop, digest

TURNS = 32
"""Most turns of the policy in an episode, unless said otherwise."""


@dataclass
class _Row:
    """An episode under way."""

    prompt: Prompt
    prompt_ids: list[int]
    answer: Callable[[str], Turn]
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    paid: list[float] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """The texts of both, in order."""
    stop: Stop | None = None


def play(
    engine: Engine,
    prompts: Sequence[Prompt],
    samples: int = 1,
    version: int = 0,
    *,
    environment: Environment,
    turns: int = TURNS,
    training: bool = True,
) -> list[Rollout]:
    """``samples`` episodes a prompt; where an environment is over after one turn, they are those of ``act``.

    An episode ends with ``Stop.EOS`` where the environment says so, and with ``Stop.LENGTH`` where it is cut:
    a turn of the policy runs into ``max_new_tokens`` (the environment is not shown it), the context has
    no room for another whole turn, or ``turns`` are used up. The words of a turn that ends the episode are
    in the rollout's text and not in its tokens: nobody reads them.

    All rows whose turn it is are sampled together. An episode's chance, the policy's and the environment's,
    comes from the engine's seed, the prompt and the sample's number, not from the batch it is played in.

    Raises:
        ConfigError: ``turns`` is not positive; or, unless ``training`` is false, the engine does not
            sample from the whole distribution.
        NumericsError: the environment paid something that is not a finite number.
    """
    if training:
        whole_support(engine)
    if turns < 1:
        raise ConfigError(f"turns is {turns}; an episode has one turn or more")
    rows = _begin(engine, environment, prompts, samples)
    first = engine.generate([engine.encode(prompt) for prompt in prompts], samples)
    alive = list(rows)
    said: Iterable[Sampled] = [sampled for group in first for sampled in group]
    for turn in range(turns):
        for row, sampled in zip(alive, said, strict=True):
            _take_turn(engine, row, sampled, last=turn + 1 == turns)
        alive = [row for row in alive if row.stop is None]
        if not alive:
            break
        said = _sample(engine, alive)
    return [_rollout(row, version) for row in rows]


def _begin(engine: Engine, environment: Environment, prompts: Sequence[Prompt], samples: int) -> list[_Row]:
    numbers: Counter[str] = Counter()
    rows = []
    for prompt in prompts:
        ids = engine.encode(prompt)
        for _ in range(samples):
            seed = int(digest(engine.config.seed, prompt.id, numbers[prompt.id]), 16)
            numbers[prompt.id] += 1
            rows.append(_Row(prompt, ids, environment.begin(prompt, seed)))
    return rows


def _sample(engine: Engine, rows: Sequence[_Row]) -> list[Sampled]:
    """The next turn of each row. An encoder-decoder's rows go in batches of one length."""
    sizes = [len(row.ids) if engine.model.kind is Kind.ENCODER_DECODER else 0 for row in rows]
    found: dict[int, Sampled] = {}
    for size in sorted(set(sizes)):
        at = [i for i, own in enumerate(sizes) if own == size]
        groups = engine.generate([rows[i].prompt_ids for i in at], 1, [rows[i].ids for i in at])
        found.update(zip(at, (group[0] for group in groups), strict=True))
    return [found[i] for i in range(len(rows))]


def _take_turn(engine: Engine, row: _Row, sampled: Sampled, last: bool) -> None:
    """Put a turn of the policy and the environment's answer behind what was said."""
    text = engine.decode(sampled.ids)
    row.ids += sampled.ids
    row.logprobs += sampled.logprobs
    row.mask += [1] * len(sampled.ids)
    row.paid += [0.0] * len(sampled.ids)
    row.kept += sampled.kept
    row.said.append(text)
    if sampled.stop is Stop.LENGTH:
        row.stop = Stop.LENGTH
        return
    turn = row.answer(text)
    if not math.isfinite(turn.paid):
        raise NumericsError(
            f"the environment paid {turn.paid} for the turn {text[:120]!r} of an episode from prompt "
            f"{row.prompt.id!r}; pay must be a finite number. Mend the environment"
        )
    row.paid[-1] += turn.paid
    row.said += [turn.text] if turn.text else []
    if turn.over:
        row.stop = Stop.EOS
        return
    model = engine.model
    words = words_between(model.tokenizer, row.prompt, turn.text, model.template, model.eos_ids)
    ids = words_ids(model.tokenizer, words)
    used = len(row.ids) + len(ids) + (0 if model.kind is Kind.ENCODER_DECODER else len(row.prompt_ids))
    if last or (model.context is not None and used + engine.config.max_new_tokens > model.context):
        row.stop = Stop.LENGTH
        return
    row.ids += ids
    row.logprobs += [0.0] * len(ids)
    row.mask += [0] * len(ids)
    row.paid += [0.0] * len(ids)
    if row.kept:  # nothing was chosen here; the set has to be of the same size
        row.kept += [b"\xff" * len(row.kept[0])] * len(ids)


def _rollout(row: _Row, version: int) -> Rollout:
    assert row.stop is not None
    paid = tuple(row.paid) if any(row.paid) else ()
    return Rollout(
        row.prompt, tuple(row.prompt_ids), tuple(row.ids), tuple(row.logprobs), tuple(row.mask), row.stop,
        "\n".join(row.said), version, paid, tuple(row.kept),
    )  # fmt: skip
