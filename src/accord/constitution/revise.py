"""Phase one: a response, what a principle has against it, and the response mended; round after round.

Bai et al. 2022, arXiv:2212.08073, section 3.1. The conversation goes on as one of turns: the model's
response, the principle's request for a critique, the critique, the request for a revision, the revision.
Each round draws another principle and begins from the last text. What comes back empty, cut by the length
limit, or as a refusal to do it, is counted and mends nothing: the text before it stands. A revision may well
refuse what the prompt asks for; one that says nothing else ("I can't help with that.") is taken for a refusal
to revise, for the words do not tell the two apart and neither is worth learning.

Left out: revisions without critiques (the paper's section 3.5 finds them about as good for large models) are
had by a constitution whose critique requests ask for one sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from accord.config import Config
from accord.constitution.principles import Constitution, Principle, draw
from accord.errors import ConfigError, DataError
from accord.refusals import bare, declined
from accord.types import Completion, Message, Prompt, Sampler, Stop


class ReviseConfig(Config):
    """How responses are mended."""

    rounds: int = Field(2, ge=1)
    """Critiques and revisions of each response, each by another principle while there are any left."""
    shown: int = Field(0, ge=0)
    """Worked examples of the constitution put before each request, for a model that needs the form shown."""
    seed: int = 0
    """Of the principles drawn."""


@dataclass(frozen=True, slots=True)
class Step:
    """One round."""

    principle: str
    """By its name."""
    critique: str
    revision: str
    """The text after this round."""
    unusable: str = ""
    """What could not be used: "critique" or "revision"; the text before the round then stands."""
    refused: bool = False
    """Whether it could not be used because it was a refusal."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A prompt, the first response, and what became of it."""

    prompt: Prompt
    response: str
    steps: tuple[Step, ...]
    cut: bool = False
    """Whether the response was empty, or cut off by the length limit."""

    @property
    def whole(self) -> bool:
        """Whether the last text is one that can be learned: not the cut response itself."""
        return not self.cut or self.revision != self.response

    @property
    def revision(self) -> str:
        """The text after the last round."""
        return self.steps[-1].revision if self.steps else self.response

    def before(self, step: int) -> str:
        """The text that round ``step`` (from 0) was given."""
        return self.steps[step - 1].revision if step else self.response


def revise(
    writer: Sampler,
    critic: Sampler,
    constitution: Constitution,
    prompts: Sequence[Prompt],
    config: ReviseConfig,
    progress: Callable[[Mapping[str, float]], None] = lambda _: None,
) -> list[Chain]:
    """Responses by ``writer``, criticised and mended by ``critic``: the same model, or a more capable one.

    Every draw is a function of the seed and the prompt, so the same model gives the same chains whatever
    other prompts are asked beside.

    Raises:
        DataError: no prompt, or no principle that criticises.
        ConfigError: more examples are to be shown than the constitution has.
    """
    if not prompts:
        raise DataError(
            "no prompts to respond to; import some, or make them with `accord constitute redteam`"
        )
    shown = examples(constitution, config.shown)
    drawn = [draw(constitution.critics, f"{config.seed}/{p.id}", config.rounds) for p in prompts]
    first = [group[0] for group in writer.sample(prompts)]
    chains = [Chain(p, c.text.strip(), (), not _usable(c)) for p, c in zip(prompts, first, strict=True)]
    for number in range(config.rounds):
        principles = [each[number] for each in drawn]
        asked = [
            critique_prompt(c.prompt, c.revision, p, shown) for c, p in zip(chains, principles, strict=True)
        ]
        critiques = [_Said.critique(group[0]) for group in critic.sample(asked)]
        progress({"step": 2 * number + 1, "steps": 2 * config.rounds})
        again = [i for i, said in enumerate(critiques) if said.text]
        mended = (
            critic.sample([revision_prompt(asked[i], critiques[i].text, principles[i]) for i in again])
            if again
            else []
        )
        revisions = {i: _Said.revision(group[0], chains[i]) for i, group in zip(again, mended, strict=True)}
        chains = [
            replace(c, steps=(*c.steps, _step(c, principles[i], critiques[i], revisions.get(i, _Said("")))))
            for i, c in enumerate(chains)
        ]
        progress({"step": 2 * number + 2, "steps": 2 * config.rounds})
    return chains


def critique_prompt(
    prompt: Prompt, response: str, principle: Principle, shown: Sequence[Message] = ()
) -> Prompt:
    """The conversation with the response, and the request for a critique of it."""
    turns = (Message("assistant", response), Message("user", principle.critique))
    said = prompt.messages
    system = next((i for i, turn in enumerate(said) if turn.role != "system"), len(said))
    return Prompt((*said[:system], *shown, *said[system:], *turns))


def revision_prompt(asked: Prompt, critique: str, principle: Principle) -> Prompt:
    """What follows a critique: the request for a revision."""
    return Prompt((*asked.messages, Message("assistant", critique), Message("user", principle.revision)))


def examples(constitution: Constitution, count: int) -> tuple[Message, ...]:
    """The first ``count`` worked examples as turns; ConfigError where there are fewer."""
    found = [(principle, one) for principle in constitution.critics for one in principle.example]
    if count > len(found):
        raise ConfigError(f"shown is {count}, and {constitution.name!r} has {len(found)} worked examples")
    turns: list[Message] = []
    for principle, one in found[:count]:
        turns += [Message("user", one.prompt), Message("assistant", one.response),
                  Message("user", principle.critique), Message("assistant", one.critique),
                  Message("user", principle.revision), Message("assistant", one.revision)]  # fmt: skip
    return tuple(turns)


def _usable(completion: Completion) -> str:
    return "" if completion.stop is Stop.LENGTH else completion.text.strip()


@dataclass(frozen=True, slots=True)
class _Said:
    """What can be used of a critique or revision, and whether nothing can because it was refused."""

    text: str
    refused: bool = False

    @classmethod
    def critique(cls, completion: Completion) -> _Said:
        text = _usable(completion)
        refused = bool(text) and (_by_server(completion) or declined(text))
        return cls("" if refused else text, refused)

    @classmethod
    def revision(cls, completion: Completion, chain: Chain) -> _Said:
        text = _usable(completion)
        # a refusal that was there before, and that nothing was found against, is no one's refusal to revise
        refused = bool(text) and (_by_server(completion) or (bare(text) and text != chain.revision))
        return cls("" if refused else text, refused)


def _by_server(completion: Completion) -> bool:
    """Whether a server said that it refused: then its answer neither ended nor was cut."""
    return completion.origin is not None and completion.stop is Stop.GIVEN


def _step(chain: Chain, principle: Principle, critique: _Said, revision: _Said) -> Step:
    unusable = "" if revision.text else "revision" if critique.text else "critique"
    refused = critique.refused or revision.refused
    return Step(principle.name, critique.text, revision.text or chain.revision, unusable, refused)


# -- what they did -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PrincipleEffect:
    """What one principle did to the texts it was drawn for."""

    principle: str
    drawn: int
    """Rounds."""
    changed: int
    """Of these, how many changed the text..."""
    unusable: int
    """...and how many gave nothing usable..."""
    refused: int
    """...because the critic refused."""


def effects(chains: Sequence[Chain]) -> list[PrincipleEffect]:
    """By principle, in the order they were first drawn."""
    counts: dict[str, list[int]] = {}
    for chain in chains:
        for number, step in enumerate(chain.steps):
            row = counts.setdefault(step.principle, [0, 0, 0, 0])
            row[0] += 1
            row[1] += step.revision != chain.before(number)
            row[2] += bool(step.unusable)
            row[3] += step.refused
    return [PrincipleEffect(name, *row) for name, row in counts.items()]


def as_row(chain: Chain) -> dict[str, Any]:
    """A chain as one JSON object, with the published fields (`initial_response`, `steps`)."""
    messages = [{"role": m.role, "content": m.content} for m in chain.prompt.messages]
    steps = [
        {"principle": s.principle, "critique": s.critique, "revision": s.revision}
        | ({"unusable": s.unusable} if s.unusable else {})
        | ({"refused": True} if s.refused else {})
        for s in chain.steps
    ]
    row = {"id": chain.prompt.id, "messages": messages, "initial_response": chain.response, "steps": steps}
    return row | ({"cut": True} if chain.cut else {})


def from_row(row: Mapping[str, Any], where: str) -> Chain:
    """A chain from one.

    Raises:
        DataError: a field is missing or of another kind; ``where`` and the field are named.
    """
    try:
        steps = tuple(
            Step(str(s["principle"]), str(s["critique"]), str(s["revision"]), str(s.get("unusable", "")),
                 bool(s.get("refused", False)))
            for s in row["steps"]
        )  # fmt: skip
        turns = tuple(Message(str(m["role"]), str(m["content"])) for m in row["messages"])
        prompt = Prompt(turns, id=str(row.get("id", "")))
        return Chain(prompt, str(row["initial_response"]), steps, bool(row.get("cut", False)))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{where}: no chain ({type(error).__name__}: {error}); a row has messages, initial_response and "
            "steps of principle, critique and revision"
        ) from None
