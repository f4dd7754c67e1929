"""Put a suite to a model: its answers, what each scorer makes of them, and how long it took.

Shapes: N prompts, S samples a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from accord.errors import DataError
from accord.evaluate import metrics
from accord.evaluate.compare import cluster_of, scores_of
from accord.evaluate.judges import AgainstReference, Known, agreement
from accord.evaluate.likelihood import (
    Choice,
    Reference,
    choice,
    reference_loss,
    unread,
)
from accord.evaluate.suite import CORPUS_MEASURES, TEXT_MEASURES, FigureTable, Suite, Take
from accord.evaluate.suiterows import matches
from accord.judging import TOO_LONG, BoundedLikelihoods, Chooser, Judged, TextLogprob, both_orders
from accord.judging import Choice as Said
from accord.stats.calibration import reliability_error
from accord.types import Completion, Prompt, Sampler, Score, Scorer, Stop

Judge = Scorer | Choice | Reference | Known
SILENT = Choice | Reference | Known
"""What asks a model for no answer of its own."""
Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Contestant:
    """A model under a name."""

    name: str
    sampler: Sampler
    likelihoods: BoundedLikelihoods | None = None
    """Who says how likely texts are under it; without, suites of choices cannot be run."""
    chooser: Chooser | None = None
    """It as judge of two answers; without, suites of known pairs cannot be run."""
    fits: Callable[[Prompt], bool] = lambda _: True
    """Whether a prompt fits its context beside an answer; what does not is counted and not answered."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model made of one suite."""

    groups: Sequence[Sequence[Completion]]
    """Empty groups where the suite asks for no answer."""
    scores: Mapping[str, Sequence[Sequence[Score]]]
    seconds: float
    """Of sampling."""
    unread: int = 0
    """Prompts longer than the model's context."""


@dataclass(frozen=True, slots=True)
class Values:
    """A figure's raw material on one model."""

    value: float | None
    """The figure; ``None`` where nothing can be said (no text long enough)."""
    units: Array | None
    """By prompt (or cluster), their mean being the figure or its log; ``None``: of no unit alone."""
    clusters: Sequence[str]
    raw_NS: Array | None = None
    """By prompt and sample, for win rates."""


def wants_answers(suite: Suite, judges: Mapping[str, Judge]) -> bool:
    """Whether any figure reads what the model says."""
    asked = {figure.of.partition(".")[0] for figure in suite.figures}
    return any(
        name in TEXT_MEASURES + CORPUS_MEASURES or not isinstance(judges[name], SILENT) for name in asked
    )


def check(
    suite: Suite, prompts: Sequence[Prompt], judges: Mapping[str, Judge], textual: Collection[str] = ()
) -> None:
    """Refuse what can be known to fail before any model is asked.

    ``textual`` names the judges that only read text: each is tried on an empty answer to every prompt.

    Raises:
        DataError: a figure's ``where`` or the suite's ``by`` fits no prompt, a prompt lacks what a judge
            needs (a reference, options), a judge has no such part, or its question does not fit its context.
    """
    for figure in suite.figures:
        _kept(figure, prompts)
    by = suite.table.by
    if by and not any(by in prompt.meta for prompt in prompts):
        columns = dict.fromkeys(key for prompt in prompts for key in prompt.meta)
        raise DataError(
            f"{suite.where or suite.name}: by: no column {by!r}; the columns are {', '.join(columns)}"
        )
    for name, judge in judges.items():
        sample = _tried(judge, prompts, name in textual)
        for figure in suite.figures:
            scorer, _, part = figure.of.partition(".")
            part = "confidence" if figure.take is Take.CALIBRATION else part
            if sample is not None and scorer == name and part:
                _check_part(scorer, part, sample)


def _tried(judge: Judge, prompts: Sequence[Prompt], textual: bool) -> Score | None:
    """What the judge makes of what is there before any answer; ``None`` where it is not tried."""
    if isinstance(judge, Choice):
        rows = [judge.of(prompt) for prompt in prompts]
        return choice([TextLogprob(-1.0, 1)] * len(rows[0][0]), rows[0][1])
    if isinstance(judge, Reference):
        for prompt in prompts:
            judge.of(prompt)
        return reference_loss(TextLogprob(-1.0, 1))
    if isinstance(judge, Known):
        for prompt in prompts:
            judge.of(prompt)
        return agreement(Judged(0.5, Said(0.5), Said(0.5)))
    if isinstance(judge, AgainstReference):
        longest = max(prompts, key=lambda p: len(p.text) + 2 * len(judge.reference(p)))
        return judge.score(longest, [Completion(judge.reference(longest))])[0]
    if not textual:
        return None
    scores = [judge.score(prompt, [Completion("")]) for prompt in prompts]
    return scores[0][0]


def ask(
    suite: Suite,
    prompts: Sequence[Prompt],
    model: Contestant,
    judges: Mapping[str, Judge],
    clock: Callable[[], float] = perf_counter,
) -> Answers:
    """The model's answers to a suite, judged.

    A prompt longer than the model's context is answered by nothing, cut off before it began; a choice there
    is wrong.

    Raises:
        DataError: it asks for likelihoods and the model gives none, a scorer returns what it may not, or no
            prompt fits the model's context.
    """
    groups: list[list[Completion]] = [[] for _ in prompts]
    seconds = 0.0
    long: set[int] = set()
    if wants_answers(suite, judges):
        long = {i for i, prompt in enumerate(prompts) if not model.fits(prompt)}
        _some_fit(suite, model, len(long), len(prompts))
        began = clock()
        groups = _sampled(model.sampler, prompts, suite.table.samples, long)
        seconds = clock() - began
        short = [p.id for p, group in zip(prompts, groups, strict=True) if len(group) != suite.table.samples]
        if short:
            raise DataError(
                f"{model.name} gave other than {suite.table.samples} answers to prompt {short[0]!r} of "
                "the suite "
                f"{suite.name}"
            )
    scores = {name: _judged(name, judge, prompts, groups, model) for name, judge in judges.items()}
    long |= {i for rows in scores.values() for i, row in enumerate(rows) for s in row if s.why == TOO_LONG}
    _some_fit(suite, model, len(long), len(prompts))
    return Answers(groups, scores, seconds, len(long))


def _some_fit(suite: Suite, model: Contestant, long: int, prompts: int) -> None:
    if prompts and long == prompts:
        raise DataError(
            f"none of the {prompts} prompts of {suite.name} fits the context of {model.name} beside an "
            "answer; take a model with a longer context, or a smaller max_new_tokens"
        )


def _sampled(sampler: Sampler, prompts: Sequence[Prompt], n: int, long: set[int]) -> list[list[Completion]]:
    kept = [i for i in range(len(prompts)) if i not in long]
    found = dict(zip(kept, sampler.sample([prompts[i] for i in kept], n), strict=True))
    nothing = [Completion("", stop=Stop.LENGTH)] * n
    return [list(found.get(i, nothing)) for i in range(len(prompts))]


def _judged(
    name: str,
    judge: Judge,
    prompts: Sequence[Prompt],
    groups: Sequence[Sequence[Completion]],
    model: Contestant,
) -> list[list[Score]]:
    if isinstance(judge, Known):
        if model.chooser is None:
            raise DataError(
                f"the scorer {name!r} asks which of two answers is better, and {model.name} is no judge"
            )
        return [[agreement(one)] for one in both_orders(model.chooser, [judge.of(p) for p in prompts])]
    if not isinstance(judge, Choice | Reference):
        return scores_of(name, judge, prompts, groups)
    if model.likelihoods is None:
        raise DataError(
            f"the scorer {name!r} asks how likely texts are, and {model.name} "
            "does not say; take a local model"
        )
    if isinstance(judge, Choice):
        return _chosen(judge, prompts, model.likelihoods)
    texts = [[judge.of(prompt)] for prompt in prompts]
    found = model.likelihoods.logprobs(list(zip(prompts, texts, strict=True)))
    return [[reference_loss(row[0])] for row in found]


def _chosen(judge: Choice, prompts: Sequence[Prompt], likelihoods: BoundedLikelihoods) -> list[list[Score]]:
    asked = [judge.of(prompt) for prompt in prompts]
    options = [(prompt, texts) for prompt, (texts, _) in zip(prompts, asked, strict=True)]
    kept = [i for i, one in enumerate(options) if likelihoods.fits(*one)]
    found = dict(zip(kept, likelihoods.logprobs([options[i] for i in kept]), strict=True))
    return [[choice(found[i], right) if i in found else unread(right)] for i, (_, right) in enumerate(asked)]


# -- from judgements to figures ------------------------------------------------------------------


def values_of(figure: FigureTable, prompts: Sequence[Prompt], answers: Answers) -> Values:
    """One figure of one model. Raises :class:`DataError` where its ``where`` leaves no prompt."""
    kept = _kept(figure, prompts)
    clusters = [cluster_of(prompts[i]) for i in kept]
    groups = [answers.groups[i] for i in kept]
    if figure.of in CORPUS_MEASURES:
        return Values(metrics.corpus(groups).get(figure.of), None, clusters)
    if figure.of == "diversity":
        raw_NS = np.array([[metrics.per_prompt(group).get("diversity", 0.0)] for group in groups])
    elif figure.of in TEXT_MEASURES:
        raw_NS = np.array([[_measure(figure.of, c) for c in group] for group in groups], float)
    else:
        raw_NS = _scored(figure.of, kept, answers)
    if figure.take is Take.CALIBRATION:
        sure_NS = _scored(f"{figure.of.partition('.')[0]}.confidence", kept, answers)
        return Values(reliability_error(sure_NS.ravel(), raw_NS.ravel()), None, clusters)
    return _taken(figure, raw_NS, clusters)


def _kept(figure: FigureTable, prompts: Sequence[Prompt]) -> list[int]:
    kept = [i for i, prompt in enumerate(prompts) if matches(prompt.meta, figure.where)]
    if not kept:
        raise DataError(
            f"the figure {figure.name!r} has no prompt: none has {dict(figure.where)} in its meta"
        )
    return kept


def _measure(name: str, completion: Completion) -> float:
    figures = metrics.per_completion(completion)
    return figures.get(name, float("nan"))


def _scored(of: str, kept: Sequence[int], answers: Answers) -> Array:
    name, _, part = of.partition(".")
    scores = [answers.scores[name][i] for i in kept]
    if part:
        _check_part(name, part, scores[0][0])
    return np.array([[s.parts[part] if part else s.value for s in group] for group in scores], float)


def _check_part(name: str, part: str, score: Score) -> None:
    if part not in score.parts:
        raise DataError(
            f"the scorer {name!r} has no part {part!r}; it has {', '.join(score.parts) or 'none'}"
        )


def _taken(figure: FigureTable, raw_NS: Array, clusters: Sequence[str]) -> Values:
    if np.isnan(raw_NS).any():  # tokens of a sampler that does not count them
        return Values(None, None, clusters)
    if figure.take is Take.SD:
        return Values(float(raw_NS.std()), None, clusters)
    if figure.take is Take.SHARE:
        raw_NS = (raw_NS > figure.above).astype(float)
    mean_N = raw_NS.mean(axis=1)
    if figure.take in (Take.WORST, Take.SPREAD):
        names = list(dict.fromkeys(clusters))
        parts = [mean_N[[i for i, c in enumerate(clusters) if c == name]] for name in names]
        units = np.array([p.min() if figure.take is Take.WORST else np.ptp(p) for p in parts])
        return Values(float(units.mean()), units, names)
    value = float(mean_N.mean())
    return Values(float(np.exp(value)) if figure.take is Take.EXP else value, mean_N, clusters, raw_NS)
