"""What a report shows, as plain frozen records: written to a run's folder, redrawn from it later.

Every section is optional; a section that is ``None`` is absent from the page. Text in here may come
from models and people and is escaped when the page is written.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from pydantic import TypeAdapter

from accord.errors import DataError, NumericsError
from accord.evaluate.figures import between, enough_digits, number, signed
from accord.evaluate.record import Evaluation, Row
from accord.evaluate.verdict import Verdict
from accord.stats.intervals import Interval

SERIES: Mapping[str, str] = {
    "reward": "mean reward of the rollouts",
    "gold": "mean gold score of the rollouts",
    "kl_exact": "exact KL(policy || reference), nats a completion",
    "kl_sampled": "sampled estimate of the same",
    "length": "tokens a completion",
    "entropy": "policy entropy, nats a token",
    "clip_fraction": "share of tokens whose ratio was clipped",
    "beta": "coefficient of the KL penalty",
}
"""The training curves a report knows, with their units."""


def _refuse_nan(name: str, values: Sequence[float]) -> None:
    for value in values:
        if not isfinite(value):
            raise NumericsError(
                f"{name} holds {value}; a report shows measured figures: pass None for a missing one"
            )


@dataclass(frozen=True, slots=True)
class Headline:
    """One of the three or four figures at the top."""

    label: str
    """What it is: ``Gold score``."""
    value: str
    """The figure as shown: ``0.83``."""
    was: str = ""
    """The same before alignment, as shown; empty where there is none."""
    note: str = ""
    """One short line below: the interval, the unit."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the lineage."""

    name: str
    """The verb: ``sample``."""
    summary: str
    """One sentence: what was done."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What came out, by name: ``{"completions": 1200}``."""
    model: str = ""
    """The model used or made."""
    hash: str = ""
    """Digest of what the step made."""
    seed: int | None = None
    seconds: float | None = None
    """Wall-clock duration."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The settings worth reading, as shown."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval, in the figure's own unit; both ends ``None`` where it has none."""

    value: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        _refuse_nan("estimate", [x for x in (self.value, self.low, self.high) if x is not None])

    @classmethod
    def of(cls, interval: Interval) -> Estimate:
        """From the statistics' own record; undefined ends become ``None``."""
        known = isfinite(interval.low) and isfinite(interval.high)
        return cls(interval.value, interval.low, interval.high) if known else cls(interval.value)


@dataclass(frozen=True, slots=True)
class Labeler:
    """One labeler as the consensus sees them."""

    name: str
    rankings: int
    reliability: Estimate | None = None
    """As the consensus model estimated it, in its own unit."""
    gold: Estimate | None = None
    """Share of strict pairs ordered as the gold score orders them; only a world that knows has it."""
    biases: Mapping[str, float] = field(default_factory=dict)
    """By name, such as ``position`` and ``length``; 0 is no bias."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class LabelerSection:
    """Who ranked, and how far they agree."""

    labelers: tuple[Labeler, ...]
    simulated: bool
    """Whether any of them is a simulation; the page then says so."""
    method: str = ""
    """The consensus model, in words."""
    agreement: Estimate | None = None
    agreement_name: str = "Krippendorff's alpha"
    """Which coefficient ``agreement`` is."""
    consensus_gold: Estimate | None = None
    """Agreement of the consensus with gold on strict pairs."""
    average_gold: Estimate | None = None
    """The mean of the labelers' own agreement with gold on the same pairs."""
    ties: float | None = None
    """Share of ranked pairs judged equal."""
    fails: float | None = None
    """Share of judged completions marked FAIL."""


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Hold-out comparisons in which the model was about equally sure."""

    predicted: float
    """Mean probability the model gives to its own choice, sigmoid(|r_j - r_k|), in [0.5, 1]."""
    observed: float
    """Share of them in which people made the same choice."""
    count: int


@dataclass(frozen=True, slots=True)
class Mistake:
    """A hold-out comparison on which the reward model was sure and people said the opposite."""

    prompt: str
    chosen: str
    """What people prefer."""
    rejected: str
    """What the reward model prefers."""
    sure: float
    """The probability it gave to its own choice."""


@dataclass(frozen=True, slots=True)
class BestOf:
    """The reward model's favourite of ``n`` samples."""

    n: int
    kl: float
    """Nats by which choosing may leave the sampler, at most."""
    reward: Estimate
    gold: Estimate


@dataclass(frozen=True, slots=True)
class RewardSection:
    """The reward model on comparisons it was not trained on."""

    name: str
    pairs: int
    """Hold-out comparisons."""
    accuracy: Estimate
    """Share of them in which the chosen completion scored higher."""
    length_baseline: Estimate | None = None
    """Accuracy of always preferring the longer completion, on the same pairs."""
    gold: Estimate | None = None
    """Share of strict hold-out pairs ordered as gold orders them."""
    train_pairs: int | None = None
    calibration: tuple[CalibrationBin, ...] = ()
    calibration_error: float | None = None
    """Expected calibration error."""
    chosen_scores: tuple[float, ...] = ()
    """Scores of the hold-out's chosen completions."""
    rejected_scores: tuple[float, ...] = ()
    human: Estimate | None = None
    """How often a held-out person says what the others' majority says."""
    human_model: Estimate | None = None
    """How often the reward model does, on the same judgements."""
    style_baseline: Estimate | None = None
    """Accuracy of a regression on the texts' surface alone."""
    shorter_won: Estimate | None = None
    """Accuracy where people preferred the shorter completion..."""
    longer_won: Estimate | None = None
    """...and the longer."""
    length_correlation: Estimate | None = None
    """Of reward with length among a prompt's completions."""
    by_source: Mapping[str, Estimate] = field(default_factory=dict)
    """Accuracy by where the comparison came from, or by its split."""
    calibration_floor: float | None = None
    """The error that noise alone shows with so many comparisons."""
    best_of: tuple[BestOf, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Figures that could not be had, with the reason."""

    def __post_init__(self) -> None:
        _refuse_nan("chosen_scores", self.chosen_scores)
        _refuse_nan("rejected_scores", self.rejected_scores)


@dataclass(frozen=True, slots=True)
class Event:
    """Something the training loop said about one step: a warning, a roll-back, why it stopped."""

    step: int
    text: str


@dataclass(frozen=True, slots=True)
class TrainingSection:
    """Curves over optimisation steps."""

    algorithm: str
    steps: tuple[int, ...]
    series: Mapping[str, tuple[float | None, ...]]
    """By a key of :data:`SERIES`, one value a step; ``None`` where the step did not measure it."""
    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        for name, values in self.series.items():
            if name not in SERIES:
                near = difflib.get_close_matches(name, SERIES, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(SERIES)}"
                raise DataError(f"unknown training series {name!r}; {hint}")
            if len(values) != len(self.steps):
                raise DataError(f"series {name!r} has {len(values)} values for {len(self.steps)} steps")
            _refuse_nan(name, [v for v in values if v is not None])


@dataclass(frozen=True, slots=True)
class PrincipleShown:
    """One principle: what it asked for, what it mended and chose, and what answers still have against it."""

    name: str
    request: str
    """Its words: of the critique, or of the choice."""
    rounds: int | None = None
    """Critiques by it; ``None`` where it does not criticise..."""
    changed: int | None = None
    """...and how many changed the text."""
    pairs: int | None = None
    """Pairs judged by it; ``None`` where it does not choose."""
    flipped: float | None = None
    """Share of them in which the two orders name different answers."""
    right: Estimate | None = None
    """How often it agrees with the truth (or people) on such pairs, where that is known."""
    against: tuple[Estimate, ...] = ()
    """Share of answers that go against it at each stage, where a world knows it."""


@dataclass(frozen=True, slots=True)
class ChainShown:
    """A response and what became of it: rounds of principle, critique and text."""

    prompt: str
    response: str
    rounds: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class ConstitutionSection:
    """What a constitution did in place of people."""

    name: str
    """With its version and hash."""
    principles: tuple[PrincipleShown, ...]
    stages: tuple[str, ...] = ()
    """Models in the order they were made: the start, after the revisions, after the choices."""
    figures: Mapping[str, tuple[Estimate, ...]] = field(default_factory=dict)
    """By what it is, such as ``Harmless``: one estimate a stage."""
    chains: tuple[ChainShown, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything on the page, in its order."""

    title: str
    verdict: Verdict
    headline: tuple[Headline, ...] = ()
    """Three or four figures; :func:`headline` makes them from an evaluation."""
    subtitle: str = ""
    """One line under the title: which model, which run."""
    date: str = ""
    """When it was made, as shown; the page reads no clock."""
    steps: tuple[Step, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of software and machine, by name."""
    labelers: LabelerSection | None = None
    reward: RewardSection | None = None
    training: TrainingSection | None = None
    constitution: ConstitutionSection | None = None
    evaluation: Evaluation | None = None
    simulated: tuple[str, ...] = ()
    """What was simulated, a sentence each; shown under the verdict."""
    caveats: tuple[str, ...] = ()
    """What a careful reader should know, a sentence each."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Words for the evaluation's row names, such as ``{"gold": "Gold score (HHH)"}``."""

    def to_json(self) -> str:
        """The data as one JSON object."""
        return _ADAPTER.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str) -> ReportData:
        """Read what :meth:`to_json` wrote; :class:`DataError` where it is something else."""
        try:
            return _ADAPTER.validate_json(text)
        except ValueError as error:
            raise DataError(f"this is not a report's data: {error}; redo `accord evaluate`") from error


_ADAPTER = TypeAdapter(ReportData)


def headline(
    evaluation: Evaluation, fluency: str = "", labels: Mapping[str, str] | None = None
) -> tuple[Headline, ...]:
    """The figures at the top: the criterion, its win rate, the exact KL, and fluency or else length."""
    labels = labels or {}
    main = evaluation.row(evaluation.criterion)
    figures = [_moved(main, labels.get(main.name, main.name), evaluation.confidence)]
    if main.win_rate is not None and main.win_low is not None and main.win_high is not None:
        figures.append(
            Headline(
                "Win rate",
                f"{main.win_rate:.0%}",
                note=f"after over before, {main.win_low:.0%} to {main.win_high:.0%}",
            )
        )
    if evaluation.kl is not None:
        figures.append(
            Headline("Exact KL", number(evaluation.kl.exact, 2), note="nats a completion from the reference")
        )
    other = evaluation.row(fluency or "words")
    figures.append(_moved(other, labels.get(other.name, other.name), evaluation.confidence))
    return tuple(figures)


def _moved(row: Row, label: str, confidence: float) -> Headline:
    digits = 0 if row.name in ("words", "tokens") else 2
    ends = [end for end in (row.low, row.high) if end is not None]
    fine = enough_digits(digits, row.difference, *ends)
    note = signed(row.difference, fine)
    if ends:
        note += f" ({confidence:.0%} interval {between(ends[0], ends[1], fine)})"
    return Headline(label, number(row.after_mean, fine), number(row.before_mean, fine), note)
