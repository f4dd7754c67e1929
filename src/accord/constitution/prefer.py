"""Phase two: which of two answers a principle prefers, as comparisons a reward model learns from.

Bai et al. 2022, arXiv:2212.08073, section 4.1. For each pair a principle is drawn; the judge says which
answer is the better by it, in both orders, so that a liking for what stands first cancels
(``accord.judging``). Its probability is the label, as the paper's normalised log-probs of the options are. A
pair of which neither order was usable is counted and makes no comparison.

Left out: the paper's clamp of probabilities to 40-60 % after reasoning; ``LikelihoodConfig.temperature`` and
``ChatConfig`` say how sure a judge may be, and it can be fitted on pairs people judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random

from pydantic import Field

from accord.config import Config
from accord.constitution.principles import Constitution, draw
from accord.errors import DataError
from accord.judgements import Comparison
from accord.judging import Asked, Chooser, Judged, both_orders, flip_share, unusable_share
from accord.types import Completion, Group, Prompt

SOURCE = "constitution"
"""The source of the comparisons made here; ``source_weights`` says how much it counts beside people."""
QUESTION = (
    "Here is a message and two answers to it.\n\nMessage:\n{prompt}\n\nAnswer A:\n{first}\n\nAnswer "
    "B:\n{second}\n\n{criterion} Reply with A or B only."
)
"""How a judge is asked; the criterion is a principle's request for a choice."""
CHUNK = 256
"""Pairs asked at a time."""


class PreferConfig(Config):
    """Which pairs are judged."""

    pairs: int = Field(2, ge=1)
    """Pairs of each prompt's completions, at most; no completion in two of them while others are free."""
    most_flipped: float = Field(0.7, ge=0, le=1)
    """A judge whose two orders name different answers in a larger share of the first pairs is not asked on (a
    coin's do in half of them, those of one that goes by position in all)..."""
    most_unusable: float = Field(0.5, ge=0, le=1)
    """...nor one that gives nothing usable in a larger share of the questions."""
    seed: int = 0
    """Of pairs and principles."""


@dataclass(frozen=True, slots=True)
class Preference:
    """One pair and what was said of it."""

    prompt: Prompt
    first: Completion
    second: Completion
    principle: str
    judged: Judged


def prefer(
    chooser: Chooser,
    constitution: Constitution,
    groups: Sequence[Group],
    config: PreferConfig,
    progress: Callable[[Mapping[str, float]], None] = lambda _: None,
) -> list[Preference]:
    """Judge pairs of each prompt's completions, each under a principle drawn for it.

    Raises:
        DataError: no principle chooses; no prompt has two different completions; or the judge is of no use,
            which is seen after the first chunk.
    """
    if not constitution.choosers:
        raise DataError(f"{constitution.name!r} has no principle that chooses; give one a choose request")
    drawn = [
        (prompt, *pair, draw(constitution.choosers, f"{config.seed}/{prompt.id}/{number}")[0])
        for prompt, completions in groups
        for number, pair in enumerate(_pairs(prompt, completions, config))
    ]
    if not drawn:
        raise DataError(
            "no prompt has two different completions to choose between; sample two or more of each"
        )
    found: list[Preference] = []
    for at in range(0, len(drawn), CHUNK):
        part = drawn[at : at + CHUNK]
        judged = both_orders(chooser, [Asked(p, a.text, b.text, rule.choose) for p, a, b, rule in part])
        found += [
            Preference(p, a, b, rule.name, said) for (p, a, b, rule), said in zip(part, judged, strict=True)
        ]
        if not at:
            _believable([one.judged for one in found], config)
        progress({"step": len(found), "steps": len(drawn)})
    return found


def _believable(judged: Sequence[Judged], config: PreferConfig) -> None:
    _, flipped, unusable = _figures(judged)
    if flipped > config.most_flipped or unusable > config.most_unusable:
        raise DataError(
            f"the judge is of no use: of its first {len(judged)} pairs the two orders name different "
            f"answers in {flipped:.0%} (at most {config.most_flipped:.0%}), and {unusable:.0%} of its "
            f"answers are unusable (at most {config.most_unusable:.0%}); take a more capable model, let it "
            "reason, or raise most_flipped and most_unusable"
        )


def _pairs(
    prompt: Prompt, completions: Sequence[Completion], config: PreferConfig
) -> list[tuple[Completion, Completion]]:
    """Pairs of different texts in an order drawn anew, those of unused completions first."""
    distinct = list({completion.text: completion for completion in completions}.values())
    every = list(combinations(distinct, 2))
    Random(f"{config.seed}/{prompt.id}/pairs").shuffle(every)
    taken: list[tuple[Completion, Completion]] = []
    used: dict[str, int] = {}
    while every and len(taken) < config.pairs:
        best = min(every, key=lambda pair: used.get(pair[0].text, 0) + used.get(pair[1].text, 0))
        every.remove(best)
        taken.append(best)
        for completion in best:
            used[completion.text] = used.get(completion.text, 0) + 1
    return taken


def comparisons(preferences: Sequence[Preference]) -> list[Comparison]:
    """Preferences as comparisons, the likelier better one first, with the principle for a labeler."""
    made = []
    for one in preferences:
        if one.judged.p is None:
            continue
        first = one.judged.p >= 0.5
        chosen, rejected = (one.first, one.second) if first else (one.second, one.first)
        p = one.judged.p if first else 1 - one.judged.p
        made.append(Comparison(one.prompt, chosen, rejected, p, SOURCE, (one.principle,)))
    return made


@dataclass(frozen=True, slots=True)
class PrincipleChoices:
    """How a judge chose under one principle."""

    principle: str
    pairs: int
    sure: float
    """Mean distance of its probabilities from one half, 0 (a coin) to 1."""
    flipped: float
    """Share of pairs usable in both orders in which the orders name different answers."""
    unusable: float
    """Share of single questions without a usable answer."""


def by_principle(preferences: Sequence[Preference]) -> list[PrincipleChoices]:
    """By principle, in the order they were first drawn; what no pair was usable for is 0."""
    rows: dict[str, list[Judged]] = {}
    for one in preferences:
        rows.setdefault(one.principle, []).append(one.judged)
    return [PrincipleChoices(name, len(judged), *_figures(judged)) for name, judged in rows.items()]


def _figures(judged: Sequence[Judged]) -> tuple[float, float, float]:
    sure = [2 * abs(one.p - 0.5) for one in judged if one.p is not None]
    return sum(sure) / max(1, len(sure)), flip_share(judged), unusable_share(judged)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two principles on the same pairs."""

    one: str
    other: str
    pairs: int
    """On which both were usable."""
    opposed: float
    """Share of them on which the two prefer different answers, each by more than one half."""


def disagreements(judged: Mapping[str, Sequence[Judged]]) -> list[Disagreement]:
    """Every two principles on the same pairs, judged in the same order: where they pull apart, a reward model
    learns neither."""
    found = []
    for one, other in combinations(judged, 2):
        both = [
            (a.p, b.p)
            for a, b in zip(judged[one], judged[other], strict=True)
            if a.p is not None and b.p is not None
        ]
        opposed = sum((p - 0.5) * (q - 0.5) < 0 for p, q in both)
        found.append(Disagreement(one, other, len(both), opposed / max(1, len(both))))
    return found
