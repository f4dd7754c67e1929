"""The report every reward model gets: what a scorer does on judged pairs that it was not trained on.

Arithmetic on the values of ``reward.judged``. A figure that cannot be had says why. Intervals resample
prompts (or what ``clusters`` names), never pairs. Loads no torch.

Shapes: P pairs, N completions.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from accord.errors import DataError
from accord.judgements import Comparison, Ranking
from accord.reward.bestof import BestOf, best_of
from accord.reward.ceiling import Ceiling, Pair, human_ceiling
from accord.reward.judged import Judged, judge, key
from accord.reward.style import fit_style
from accord.stats.agreement import Figure
from accord.stats.calibration import Bin, brier, calibration, ece, log_loss, reliability_bins
from accord.stats.intervals import bootstrap_sums, clustered_mean
from accord.types import Completion, Prompt, Scorer, score_groups

Array = NDArray[np.float64]
MISTAKES = 8


@dataclass(frozen=True, slots=True)
class Baselines:
    """What can be had without reading: the longer text, and style (``reward.style``)."""

    longer: Figure
    """Accuracy of "the longer one wins", in characters; equal lengths count half."""
    style: Figure
    """Accuracy of the style regression, fitted on what the scorer was trained on, or half against half."""
    over_longer: Figure
    """The scorer's accuracy less the one of "the longer one wins", on the same pairs."""
    over_style: Figure
    style_weights: Mapping[str, float] = field(default_factory=dict)
    """Log-odds for each unit of log(1 + count)."""


@dataclass(frozen=True, slots=True)
class Length:
    """How far the reward goes with length in characters."""

    pearson: Figure
    """Over all completions, each counting once."""
    spearman: Figure
    """Of ranks; resampling keeps the ranks of the whole sample."""
    pearson_within: Figure
    """Of deviations from the prompt's mean: what a policy can gain by length on one prompt."""
    spearman_within: Figure
    """Of ranks among a prompt's completions."""
    shorter_won: Figure
    """Accuracy on pairs in which people preferred the shorter one: a taste for length fails here."""
    longer_won: Figure


@dataclass(frozen=True, slots=True)
class Trust:
    """Whether the scorer's probabilities can be believed (``stats.calibration``), raw and tempered."""

    temperature: float | None = None
    log_loss: float | None = None
    ece: float | None = None
    brier: float | None = None
    tempered_log_loss: float | None = None
    """Each half of the prompts with the temperature of the other half, as are the next two."""
    tempered_ece: float | None = None
    tempered_brier: float | None = None
    ece_floor: float | None = None
    """The error that noise alone shows with so many pairs, were every probability right."""
    bins: tuple[Bin, ...] = ()
    """With the temperature fitted on all pairs."""
    why: str = ""
    """Why there are none of the tempered figures."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A pair on which the scorer was sure and people said the opposite."""

    prompt: str
    chosen: str
    """What people prefer."""
    rejected: str
    """What the scorer prefers."""
    p_chosen: float
    sure: float
    """The tempered probability it gave to its own choice."""
    source: str


@dataclass(frozen=True, slots=True)
class Study:
    """The report."""

    pairs: int
    decided: int
    """Pairs that are no tie; accuracy is of these."""
    prompts: int
    accuracy: Figure
    by_split: Mapping[str, Figure]
    by_source: Mapping[str, Figure]
    ceiling: Ceiling
    baselines: Baselines
    length: Length
    trust: Trust
    best_of: BestOf
    mistakes: tuple[Mistake, ...]


def study(
    held: Judged,
    *,
    learned: Sequence[Comparison] = (),
    rankings: Sequence[Ranking] = (),
    splits: Mapping[str, str] | None = None,
    style_P: ArrayLike | None = None,
    samples: Sequence[tuple[ArrayLike, ArrayLike]] | None = None,
    seed: int = 0,
) -> Study:
    """The report of held-out pairs.

    ``learned`` is what the scorer was trained on (the style baseline learns from it); ``rankings`` are the
    single judgements behind the pairs, of which none must be left out for being undecided; ``splits`` names
    the split of a prompt id. Where the pairs are of several folds, pass ``style_P``, the style baseline's
    difference of each pair, in place of ``learned``; with neither, each half of the pairs is told by the
    style of the other half. ``samples`` are the scorer's and gold's values of each prompt's samples, where a
    gold scorer exists.

    Raises:
        DataError: every comparison is a tie.
    """
    rng = np.random.default_rng(seed)
    decided = held.take(held.p_P > 0.5)
    if not decided.comparisons:
        raise DataError(
            f"all {len(held.comparisons)} comparisons are ties, so there is nothing to measure accuracy on; "
            "collect decided comparisons"
        )
    named = [(splits or {}).get(c.prompt.id, "") for c in decided.comparisons]
    units = {c.prompt.id: unit for c, unit in zip(held.comparisons, held.clusters, strict=True)}
    trust = _trust(held, rng)
    style = None if style_P is None else np.asarray(style_P, np.float64)[held.p_P > 0.5]
    return Study(
        pairs=len(held.comparisons),
        decided=len(decided.comparisons),
        prompts=len({c.prompt.id for c in held.comparisons}),
        accuracy=_mean(decided.right_P, decided.clusters, rng),
        by_split=_by(decided, named, rng),
        by_source=_by(decided, [c.source for c in decided.comparisons], rng),
        ceiling=human_ceiling(rankings, _rewards(held), rng, units),
        baselines=_baselines(decided, learned, style, rng),
        length=_length(decided, rng),
        trust=trust,
        best_of=best_of(samples or (), rng, "no gold scorer is given" if samples is None else ""),
        mistakes=_mistakes(decided, trust.temperature or 1.0),
    )  # fmt: skip


def study_scorer(
    scorer: Scorer,
    comparisons: Sequence[Comparison],
    *,
    learned: Sequence[Comparison] = (),
    rankings: Sequence[Ranking] = (),
    splits: Mapping[str, str] | None = None,
    clusters: Mapping[str, Hashable] | None = None,
    gold: Scorer | None = None,
    seed: int = 0,
) -> Study:
    """:func:`study` of what ``scorer`` says; with ``gold``, of the best of the pairs' completions too."""
    held = judge(scorer, comparisons, clusters)
    samples = None if gold is None else _samples(held, gold)
    return study(held, learned=learned, rankings=rankings, splits=splits, samples=samples, seed=seed)


def _samples(held: Judged, gold: Scorer) -> list[tuple[list[float], list[float]]]:
    """By prompt, the scorer's and gold's values of its completions."""
    groups: dict[str, tuple[Prompt, dict[str, tuple[Completion, float]]]] = {}
    for c, chosen, rejected in zip(held.comparisons, held.chosen_P, held.rejected_P, strict=True):
        texts = groups.setdefault(c.prompt.id, (c.prompt, {}))[1]
        texts |= {key(c.chosen): (c.chosen, float(chosen)), key(c.rejected): (c.rejected, float(rejected))}
    asked = [(prompt, [c for c, _ in texts.values()]) for prompt, texts in groups.values()]
    return [
        ([value for _, value in texts.values()], [score.value for score in scores])
        for (_, texts), scores in zip(groups.values(), score_groups(gold, asked), strict=True)
    ]


def _rewards(held: Judged) -> dict[Pair, float]:
    """The reward difference of each pair, its completions in sorted order; of ties too.

    A ceiling on decided pairs alone would be one on pairs chosen because people agreed.
    """
    found: dict[Pair, float] = {}
    for c, d in zip(held.comparisons, held.chosen_P - held.rejected_P, strict=True):
        chosen, rejected = key(c.chosen), key(c.rejected)
        first, second, gap = (chosen, rejected, d) if chosen < rejected else (rejected, chosen, -d)
        found[c.prompt.id, first, second] = float(gap)
    return found


def _mean(
    values: ArrayLike, clusters: Sequence[Hashable], rng: np.random.Generator, chance: float = 0.5
) -> Figure:
    """A mean over pairs with its interval, or why it has none."""
    count, units = len(clusters), len(set(clusters))
    if not count:
        return Figure(None, why="there is no such pair")
    if units < 2:
        share = float(np.asarray(values, np.float64).mean())
        return Figure(None, why=f"{share:.2f} over {count} pair(s) of one prompt: no interval")
    return Figure(clustered_mean(values, clusters, rng), chance)


def _by(decided: Judged, names: Sequence[str], rng: np.random.Generator) -> dict[str, Figure]:
    """Accuracy by name, the unnamed left out."""
    return {
        name: _mean(decided.right_P[at], [decided.clusters[i] for i in at], rng)
        for name in sorted(set(names) - {""})
        if len(at := np.flatnonzero([each == name for each in names]))
    }


def _baselines(
    decided: Judged, learned: Sequence[Comparison], style_P: Array | None, rng: np.random.Generator
) -> Baselines:
    gap_P = np.array([len(c.chosen.text) - len(c.rejected.text) for c in decided.comparisons])
    longer_P = (np.sign(gap_P) + 1) / 2
    longer = _mean(longer_P, decided.clusters, rng)
    over_longer = _mean(decided.right_P - longer_P, decided.clusters, rng, 0.0)
    weights: Mapping[str, float] = {}
    try:
        if style_P is None and learned:
            style = fit_style(learned)
            style_P, weights = style.differences(decided.comparisons), style.weights
        elif style_P is None:
            style_P = _crossed_style(decided)
    except DataError as error:
        missing = Figure(None, why=str(error))
        return Baselines(longer, missing, over_longer, missing)
    style_right_P = (np.sign(style_P) + 1) / 2
    return Baselines(
        longer,
        _mean(style_right_P, decided.clusters, rng),
        over_longer,
        _mean(decided.right_P - style_right_P, decided.clusters, rng, 0.0),
        weights,
    )


def _crossed_style(decided: Judged) -> Array:
    """The style difference of each pair, learned from the clusters of the other half."""
    number = {unit: n for n, unit in enumerate(dict.fromkeys(decided.clusters))}
    even_P = np.array([number[unit] % 2 == 0 for unit in decided.clusters])
    out_P = np.zeros(len(even_P))
    for half_P in (even_P, ~even_P):
        style = fit_style(decided.take(~half_P).comparisons)
        out_P[half_P] = style.differences(decided.take(half_P).comparisons)
    return out_P


def _length(decided: Judged, rng: np.random.Generator) -> Length:
    rewards: dict[tuple[str, str], tuple[float, float, Hashable]] = {}
    for c, chosen, rejected, unit in zip(
        decided.comparisons, decided.chosen_P, decided.rejected_P, decided.clusters, strict=True
    ):
        for side, value in ((c.chosen, chosen), (c.rejected, rejected)):
            rewards[c.prompt.id, key(side)] = (value, len(side.text), unit)
    value_N, length_N = (np.array([row[i] for row in rewards.values()], np.float64) for i in (0, 1))
    units = [row[2] for row in rewards.values()]
    prompts = [prompt for prompt, _ in rewards]
    within = [
        (_centred(part(value_N), prompts), _centred(part(length_N), prompts))
        for part in (lambda x: x, lambda x: _ranked(x, prompts))
    ]
    gap_P = np.array([len(c.chosen.text) - len(c.rejected.text) for c in decided.comparisons])
    return Length(
        _correlation(value_N, length_N, units, rng),
        _correlation(stats.rankdata(value_N), stats.rankdata(length_N), units, rng),
        _correlation(*within[0], units, rng),
        _correlation(*within[1], units, rng),
        *(
            _mean(decided.right_P[at], [decided.clusters[i] for i in np.flatnonzero(at)], rng)
            for at in (gap_P < 0, gap_P > 0)
        ),
    )


def _groups(names: Sequence[str]) -> list[NDArray[np.intp]]:
    places: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        places.setdefault(name, []).append(i)
    return [np.array(part) for part in places.values()]


def _centred(x_N: Array, names: Sequence[str]) -> Array:
    out_N = x_N.copy()
    for part in _groups(names):
        out_N[part] -= x_N[part].mean()
    return out_N


def _ranked(x_N: Array, names: Sequence[str]) -> Array:
    out_N = np.zeros_like(x_N)
    for part in _groups(names):
        out_N[part] = stats.rankdata(x_N[part])
    return out_N


def _correlation(x_N: Array, y_N: Array, units: Sequence[Hashable], rng: np.random.Generator) -> Figure:
    """Pearson's correlation, units resampled."""
    number = {name: n for n, name in enumerate(dict.fromkeys(units))}
    at = np.array([number[name] for name in units])
    x_N, y_N = (z - z.mean() for z in (x_N, y_N))
    columns = (np.ones_like(x_N), x_N, y_N, x_N * x_N, y_N * y_N, x_N * y_N)
    sums = np.stack([np.bincount(at, column) for column in columns], axis=1)

    def pearson(s_B6: Array) -> Array:
        n, x, y, xx, yy, xy = s_B6.T
        spread = (xx - x * x / n) * (yy - y * y / n)
        return (xy - x * y / n) / np.sqrt(np.where(spread > 1e-18, spread, np.nan))

    (interval,) = bootstrap_sums(sums, [pearson], rng)
    if not np.isfinite(interval.value) or len(number) < 2:
        return Figure(None, why="rewards or lengths do not vary, or all are of one prompt")
    return Figure(interval, 0.0)


def _trust(held: Judged, rng: np.random.Generator) -> Trust:
    d_P, p_P = held.logit_P, held.p_P
    raw = Trust(log_loss=log_loss(d_P, p_P), ece=ece(d_P, p_P), brier=brier(d_P, p_P))
    if len(set(held.clusters)) < 2:
        return replace(raw, why="a temperature needs pairs of two prompts: one fits, the other is judged")
    found = calibration(d_P, p_P, held.clusters, rng)
    return replace(
        raw,
        temperature=found.temperature,
        tempered_log_loss=found.log_loss,
        tempered_ece=found.ece,
        tempered_brier=found.brier,
        ece_floor=found.ece_floor,
        bins=tuple(reliability_bins(d_P, p_P, found.temperature)),
    )


def _mistakes(decided: Judged, temperature: float) -> tuple[Mistake, ...]:
    wrong = [i for i in np.argsort(decided.logit_P, kind="stable") if decided.right_P[i] == 0][:MISTAKES]
    return tuple(
        Mistake(
            prompt=c.prompt.text,
            chosen=c.chosen.text,
            rejected=c.rejected.text,
            p_chosen=c.p_chosen,
            sure=float(special.expit(abs(decided.logit_P[i]) / temperature)),
            source=c.source,
        )
        for i, c in ((i, decided.comparisons[i]) for i in wrong)
    )
