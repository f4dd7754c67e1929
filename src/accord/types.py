"""The nouns every stage shares: plain frozen records and three protocols. Loads no torch.

A stage never imports another stage; they meet in these records and in rows of the store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

Role = str  # "system" | "user" | "assistant"


class Stop(StrEnum):
    """Why a completion ended. An enum and not a bool: truncation is not termination."""

    EOS = "eos"
    """The model sampled one of its end tokens."""
    LENGTH = "length"
    """The length limit cut it off."""
    GIVEN = "given"
    """The text was not sampled here (imported, written by a person)."""


def digest(*parts: Any) -> str:
    """The first 16 hex digits of the SHA-256 of ``parts`` as canonical JSON: the id of a content."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is put to the model: messages that end with a turn the assistant is to answer.

    ``meta`` holds what only a world or a verifier needs (the facts of an order, a reference
    answer); nothing in it reaches the model. ``id`` is the content's digest unless given.
    """

    messages: tuple[Message, ...]
    meta: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)
    id: str = ""

    def __post_init__(self) -> None:
        if not self.messages:
            raise ValueError("a prompt needs at least one message")
        if not self.id:
            object.__setattr__(self, "id", digest([(m.role, m.content) for m in self.messages]))

    @classmethod
    def from_text(cls, text: str, *, meta: Mapping[str, Any] | None = None, id: str = "") -> Prompt:
        """A prompt of one user message."""
        return cls((Message("user", text),), meta or {}, id)

    @property
    def text(self) -> str:
        """The messages as people read them: the bare content of a single one, else a transcript."""
        if len(self.messages) == 1:
            return self.messages[0].content
        return "\n\n".join(f"{m.role}: {m.content}" for m in self.messages)


@dataclass(frozen=True, slots=True)
class Origin:
    """How a completion came to be; enough to score it again or to weigh it by importance."""

    model: str
    """Name or path of the model."""
    model_hash: str
    """Digest of the weights (``lm.model.LanguageModel.weights_hash``)."""
    adapter_hash: str | None
    """Digest of the adapter's weights, ``None`` where there is none."""
    rendered: str
    """The prompt as the model saw it, special tokens included."""
    prompt_ids: tuple[int, ...]
    """The same in token ids."""
    sampling: Mapping[str, Any]
    """temperature, top_k, top_p, max_new_tokens."""
    seed: int


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer to a prompt. ``ids`` and ``logprobs`` (nats, one a token) are empty where unknown."""

    text: str
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    stop: Stop = Stop.GIVEN
    origin: Origin | None = None
    id: str = ""

    def __post_init__(self) -> None:
        if self.logprobs and len(self.logprobs) != len(self.ids):
            raise ValueError(f"{len(self.logprobs)} log-probs for {len(self.ids)} token ids")


@dataclass(frozen=True, slots=True)
class Rollout:
    """One episode, in tokens. ``mask`` is 1 where the policy chose the token, 0 where the
    environment did; ``logprobs`` (nats) are those of the policy that sampled it (0 where the environment
    spoke); ``paid`` is what an environment paid at each token, empty where nothing; ``kept`` the tokens that
    each was chosen among, as bits, empty where the whole vocabulary; ``states`` (T, D) those of the policy
    that each was predicted from, where the sampler kept them."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    mask: tuple[int, ...]
    stop: Stop
    text: str
    policy_version: int = 0
    paid: tuple[float, ...] = ()
    kept: tuple[bytes, ...] = ()
    states: Any = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        sizes = {
            len(x) for x in (self.ids, self.logprobs, self.mask, self.paid or self.ids, self.kept or self.ids)
        }
        if len(sizes) > 1:
            raise ValueError(
                f"rollout of {len(self.ids)} ids with {len(self.logprobs)} log-probs, "
                f"{len(self.mask)} mask entries, {len(self.paid)} payments and {len(self.kept)} kept sets"
            )
        if not any(self.mask):
            raise ValueError("a rollout in which the policy chose no token")

    @property
    def completion(self) -> Completion:
        """The rollout as a completion, for a scorer."""
        return Completion(self.text, self.ids, self.logprobs, self.stop)


@dataclass(frozen=True, slots=True)
class Score:
    """A judgement in numbers: ``value``, the ``parts`` it is made of, and ``why`` in words."""

    value: float
    parts: Mapping[str, float] = field(default_factory=dict)
    why: str = ""


Group = tuple[Prompt, Sequence[Completion]]
"""A prompt with some of its completions."""


@runtime_checkable
class Sampler(Protocol):
    """Anything that answers."""

    def sample(self, prompts: Sequence[Prompt], n: int = 1) -> list[list[Completion]]:
        """``n`` completions for each prompt, in the prompts' order."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Anything that judges a prompt's completions. Higher is better."""

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """One score a completion, in order."""
        ...


@runtime_checkable
class Adapts(Protocol):
    """What a scorer has besides ``score`` if it changes with training (the price of a constraint, say)."""

    def adapt(self, scores: Sequence[Score]) -> dict[str, float]:
        """Learn from the scores it gave in one step of training; returns figures to log."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to keep, as plain JSON data."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        ...


def score_groups(scorer: Scorer, groups: Sequence[Group]) -> list[list[Score]]:
    """Scores for many groups; one batched call where the scorer has ``score_groups``."""
    batched = getattr(scorer, "score_groups", None)
    if batched is not None:
        return batched(groups)
    return [scorer.score(prompt, completions) for prompt, completions in groups]
