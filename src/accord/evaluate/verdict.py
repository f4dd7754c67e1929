"""What an evaluation means, in plain words, by rules that are written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from accord.config import Config
from accord.evaluate.figures import between, number, signed
from accord.evaluate.record import Evaluation, Kind, Row


class Outcome(StrEnum):
    """What happened to the criterion."""

    IMPROVED = "improved"
    UNCHANGED = "no measurable change"
    WORSE = "worse"


class Rule(StrEnum):
    """A reason to distrust the outcome."""

    HACKING = "reward hacking"
    NOT_CARRIED = "reward did not carry over"
    REWARD_FELL = "reward fell"
    OWN_JUDGE = "its own judge"
    FLUENCY = "fluency"
    PART_FELL = "part fell"
    LONGER = "longer"
    SHORTER = "shorter"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    REPETITION = "repetition"
    DIVERSITY = "diversity"
    FEW_PROMPTS = "few prompts"


@dataclass(frozen=True, slots=True)
class Concern:
    """One warning: the rule that raised it and the sentence for people."""

    rule: Rule
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome, a sentence that says it, and what speaks against taking it at face value."""

    outcome: Outcome
    sentence: str
    concerns: tuple[Concern, ...] = ()


class VerdictConfig(Config):
    """Thresholds of :func:`verdict`."""

    proxy: str = ""
    """The scorer that training optimised; better not the criterion (a reward model beside gold)."""
    fluency: str = ""
    """The row that measures fluency, such as ``gold.fluent``; empty where none does."""
    fluency_drop: float = Field(default=0.02, ge=0)
    """Warn where fluency falls by more than this."""
    length_growth: float = Field(default=0.5, gt=0)
    """Warn where the mean number of words grows by more than this share."""
    length_shrink: float = Field(default=0.5, gt=0, lt=1)
    """Warn where it falls by more than this share."""
    truncated_rise: float = Field(default=0.05, ge=0)
    """Warn where the share of completions cut off at the length limit rises by more than this."""
    empty_rise: float = Field(default=0.01, ge=0)
    """Warn where the share of empty completions rises by more than this."""
    repetition_rise: float = Field(default=0.05, ge=0)
    """Warn where the share of repeated 3-grams rises by more than this."""
    diversity_drop: float = Field(default=0.3, gt=0, lt=1)
    """Warn where diversity or distinct-2 falls by more than this share of what it was."""
    min_prompts: int = Field(default=10, ge=2)
    """With fewer prompts no change counts as measured."""
    labels: Mapping[str, str] = {}
    """Words for the evaluation's row names."""


OWN_JUDGE = (
    "Judged by the very reward that training optimised, which can rise while the answers get worse. Have "
    "people, or a scorer that training never saw, judge both sides before you trust it."
)


def verdict(evaluation: Evaluation, config: VerdictConfig | None = None) -> Verdict:
    """Judge an evaluation by its criterion, then list every concern.

    Outcome, from the interval of the criterion's difference: wholly above 0 is *improved*, wholly
    below 0 is *worse*, otherwise *no measurable change*; always the last with fewer than
    ``min_prompts`` prompts.

    Concerns: the proxy measurably rose while the criterion measurably fell (likely reward hacking) or
    did not measurably change; the proxy itself fell; the proxy is the criterion and rose; fluency, length,
    truncation, emptiness, repetition or diversity crossed its threshold; a part of the criterion measurably
    fell; too few prompts. Raises :class:`DataError` where ``proxy`` or ``fluency`` names no row.
    """
    config = config or VerdictConfig()
    main = evaluation.row(evaluation.criterion)
    outcome = _outcome(main, evaluation, config)
    concerns = [
        *_few(evaluation, config),
        *_proxy(evaluation, outcome, config),
        *_fluency(evaluation, config),
        *_parts(evaluation, config),
        *_length(evaluation, config),
        *_shares(evaluation, config),
        *_diversity(evaluation, config),
    ]
    return Verdict(outcome, _sentence(main, outcome, evaluation, config), tuple(concerns))


def _outcome(row: Row, evaluation: Evaluation, config: VerdictConfig) -> Outcome:
    if evaluation.prompts < config.min_prompts:
        return Outcome.UNCHANGED
    if row.low is not None and row.low > 0:
        return Outcome.IMPROVED
    if row.high is not None and row.high < 0:
        return Outcome.WORSE
    return Outcome.UNCHANGED


def _sentence(row: Row, outcome: Outcome, evaluation: Evaluation, config: VerdictConfig) -> str:
    moved = {Outcome.IMPROVED: "rose", Outcome.WORSE: "fell", Outcome.UNCHANGED: "did not measurably change"}
    interval = "" if row.low is None or row.high is None else between(row.low, row.high)
    return (
        f"On {evaluation.prompts} prompts, {_label(row.name, config)} {moved[outcome]}: "
        f"{number(row.before_mean)} before, {number(row.after_mean)} after, a difference of "
        f"{signed(row.difference)} ({evaluation.confidence:.0%} interval {interval})."
    )


def _label(name: str, config: VerdictConfig) -> str:
    return config.labels.get(name, name.rpartition(".")[2])


def _few(evaluation: Evaluation, config: VerdictConfig) -> list[Concern]:
    if evaluation.prompts >= config.min_prompts:
        return []
    return [
        Concern(
            Rule.FEW_PROMPTS,
            f"Only {evaluation.prompts} prompts were evaluated; with fewer than {config.min_prompts} no "
            "change can be told from chance.",
        )
    ]


def _proxy(evaluation: Evaluation, outcome: Outcome, config: VerdictConfig) -> list[Concern]:
    if not config.proxy:
        return []
    if config.proxy == evaluation.criterion:
        return [Concern(Rule.OWN_JUDGE, OWN_JUDGE)] if outcome is Outcome.IMPROVED else []
    proxy = _outcome(evaluation.row(config.proxy), evaluation, config)
    name, main = _label(config.proxy, config), _label(evaluation.criterion, config)
    if proxy is Outcome.WORSE:
        return [Concern(Rule.REWARD_FELL, f"The reward that training optimised ({name}) itself fell.")]
    if proxy is Outcome.UNCHANGED or outcome is Outcome.IMPROVED:
        return []
    if outcome is Outcome.WORSE:
        return [
            Concern(
                Rule.HACKING,
                f"Likely reward hacking: {name}, which training optimised, rose while {main} fell. "
                "The policy has learned what the reward model likes, not what people want.",
            )
        ]
    return [Concern(Rule.NOT_CARRIED, f"The optimised reward ({name}) rose, but {main} did not follow.")]


def _fluency(evaluation: Evaluation, config: VerdictConfig) -> list[Concern]:
    if not config.fluency:
        return []
    row = evaluation.row(config.fluency)
    if row.difference >= -config.fluency_drop:
        return []
    return [Concern(Rule.FLUENCY, f"Fluency fell from {row.before_mean:.3f} to {row.after_mean:.3f}.")]


def _parts(evaluation: Evaluation, config: VerdictConfig) -> list[Concern]:
    prefix = evaluation.criterion + "."
    fell = [
        row
        for row in evaluation.rows
        if row.kind is Kind.PART and row.name.startswith(prefix) and row.name != config.fluency
        and _outcome(row, evaluation, config) is Outcome.WORSE
    ]  # fmt: skip
    return [
        Concern(
            Rule.PART_FELL,
            f"One part of {_label(evaluation.criterion, config)} fell: {_label(row.name, config)}, from "
            f"{row.before_mean:.3f} to {row.after_mean:.3f}.",
        )
        for row in fell
    ]


def _length(evaluation: Evaluation, config: VerdictConfig) -> list[Concern]:
    row = evaluation.row("words")
    if row.after_mean > (1 + config.length_growth) * row.before_mean:
        rule, word = Rule.LONGER, "longer"
    elif row.after_mean < (1 - config.length_shrink) * row.before_mean:
        rule, word = Rule.SHORTER, "shorter"
    else:
        return []
    return [
        Concern(
            rule,
            f"Answers became much {word}: {row.before_mean:.0f} words before, {row.after_mean:.0f} after. "
            f"Ask whether they are better or only {word}.",
        )
    ]


def _shares(evaluation: Evaluation, config: VerdictConfig) -> list[Concern]:
    limits = {
        Rule.TRUNCATED: ("truncated", config.truncated_rise, "More answers are cut off at the length limit"),
        Rule.EMPTY: ("empty", config.empty_rise, "More answers are empty"),
        Rule.REPETITION: ("repetition", config.repetition_rise, "Answers repeat themselves more"),
    }
    concerns = []
    for rule, (name, limit, words) in limits.items():
        row = evaluation.row(name)
        if row.difference > limit:
            concerns.append(
                Concern(rule, f"{words}: {row.before_mean:.1%} before, {row.after_mean:.1%} after.")
            )
    return concerns


def _diversity(evaluation: Evaluation, config: VerdictConfig) -> list[Concern]:
    labels = {"diversity": "The samples of a prompt grew more alike", "distinct_2": "The wording narrowed"}
    rows = [evaluation.row(name) for name in labels if evaluation.has(name)]
    return [
        Concern(
            Rule.DIVERSITY,
            f"{labels[row.name]}: {row.name.replace('_', '-')} fell from {row.before_mean:.3f} to "
            f"{row.after_mean:.3f}.",
        )
        for row in rows
        if row.after_mean < (1 - config.diversity_drop) * row.before_mean
    ]
