"""Before and after on the same prompts: means, differences with intervals, win rates, examples.

Each figure is averaged over a prompt's samples first and over prompts second, and every interval
resamples prompts (never completions): the samples of a prompt are not independent of each other. Prompts
that are one question, by their text or by ``meta["cluster"]``, are resampled together.

Shapes: N prompts, S samples a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from accord.config import Config
from accord.errors import DataError, NumericsError
from accord.evaluate import metrics
from accord.evaluate.record import KL, Better, Evaluation, Example, Figure, Kind, Row
from accord.stats.paired import Gain, holm, paired_gain, win_gain
from accord.stats.power import detectable_mean
from accord.types import Completion, Prompt, Sampler, Score, Scorer, score_groups


class EvaluateConfig(Config):
    """Settings of one before/after evaluation."""

    samples: int = Field(default=1, ge=1)
    """Completions for each prompt on each side. Two or more also measure diversity."""
    criterion: str = ""
    """The scorer that decides the verdict and picks the examples; empty takes the first scorer."""
    seed: int = 0
    """Seeds the bootstrap and the choice of random examples. A sampler carries its own seed."""
    rounds: int = Field(default=2000, ge=100)
    """Bootstrap resamples behind each interval."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Coverage of the intervals."""
    examples: int = Field(default=3, ge=0)
    """Examples of each kind: largest gains, largest losses, random."""


_BETTER: dict[str, Better] = {
    "words": "neither", "tokens": "neither", "repetition": "lower", "empty": "lower",
    "truncated": "lower", "diversity": "higher", "distinct_1": "higher", "distinct_2": "higher",
    "distinct_3": "higher",
}  # fmt: skip

Side = Sequence[Sequence[Completion]]
Scored = list[list[Score]]


def evaluate_samplers(
    before: Sampler,
    after: Sampler,
    prompts: Sequence[Prompt],
    scorers: Mapping[str, Scorer],
    config: EvaluateConfig,
    kl: KL | None = None,
) -> Evaluation:
    """Sample ``config.samples`` completions a prompt from both sides, then :func:`evaluate`.

    Give both samplers the same seed and the same sampling settings: what differs is then the model.
    """
    sides = [
        {
            prompt.id: group
            for prompt, group in zip(prompts, sampler.sample(prompts, config.samples), strict=True)
        }
        for sampler in (before, after)
    ]
    return evaluate(sides[0], sides[1], prompts, scorers, config, kl)


def evaluate(
    before: Mapping[str, Sequence[Completion]],
    after: Mapping[str, Sequence[Completion]],
    prompts: Sequence[Prompt],
    scorers: Mapping[str, Scorer],
    config: EvaluateConfig,
    kl: KL | None = None,
) -> Evaluation:
    """Compare two sides on the same prompts: a row for each scorer, each of its parts and each text figure.

    ``before`` and ``after`` map a prompt's id to its ``config.samples`` completions.

    Raises :class:`DataError` where a prompt lacks completions on a side, a scorer returns the wrong
    number of scores or different parts from one completion to the next, and :class:`NumericsError`
    where a score is not finite.
    """
    _check_scorers(scorers, config)
    groups_before, groups_after = (
        aligned(side, prompts, config.samples, where)
        for side, where in ((before, "before"), (after, "after"))
    )
    criterion = config.criterion or next(iter(scorers))
    scores_before = {n: scores_of(n, s, prompts, groups_before) for n, s in scorers.items()}
    scores_after = {n: scores_of(n, s, prompts, groups_after) for n, s in scorers.items()}
    clusters = [cluster_of(prompt) for prompt in prompts]
    rows: list[Row] = []
    for name in scorers:
        rows += _scorer_rows(name, scores_before[name], scores_after[name], clusters, config)
    rows += _text_rows(groups_before, groups_after, clusters, config)
    rows = _corrected(rows, criterion)
    examples, rule = _examples(
        prompts, (groups_before, groups_after), (scores_before, scores_after), criterion, config
    )
    return Evaluation(
        len(prompts), config.samples, criterion, config.confidence, config.rounds, config.seed,
        tuple(rows), examples, rule, kl,
    )  # fmt: skip


def cluster_of(prompt: Prompt) -> str:
    """What a prompt is resampled with: ``meta["cluster"]``, else its own text."""
    named = prompt.meta.get("cluster")
    return prompt.text if named is None else str(named)


def _corrected(rows: Sequence[Row], criterion: str) -> list[Row]:
    """The rows with Holm's p among those that nobody named beforehand."""
    told = {row.name: row.p for row in rows if row.p is not None and row.name != criterion}
    adjusted = dict(zip(told, holm(list(told.values())), strict=True))
    return [replace(row, p_holm=float(adjusted[row.name])) if row.name in adjusted else row for row in rows]


def _check_scorers(scorers: Mapping[str, Scorer], config: EvaluateConfig) -> None:
    if not scorers:
        raise DataError("no scorer was given; an evaluation needs at least one")
    if config.criterion and config.criterion not in scorers:
        raise DataError(f"criterion {config.criterion!r} is not among the scorers: {', '.join(scorers)}")
    for name in scorers:
        if name in _BETTER or "." in name:
            raise DataError(
                f"a scorer is called {name!r}; its name must have no dot and not be one of "
                f"{', '.join(_BETTER)}"
            )


def aligned(
    side: Mapping[str, Sequence[Completion]], prompts: Sequence[Prompt], samples: int, where: str
) -> list[list[Completion]]:
    """Each prompt's completions in the prompts' order; :class:`DataError` where there are not ``samples``."""
    if not prompts:
        raise DataError("there are no prompts to evaluate on")
    ids = [prompt.id for prompt in prompts]
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise DataError(f"prompt {twice!r} stands twice in the evaluation; give each prompt once")
    for prompt_id in ids:
        found = len(side.get(prompt_id, ()))
        if found != samples:
            raise DataError(
                f"prompt {prompt_id!r} has {found} completions {where}; the config's `samples` says {samples}"
            )
    return [list(side[prompt_id]) for prompt_id in ids]


def scores_of(name: str, scorer: Scorer, prompts: Sequence[Prompt], groups: Side) -> Scored:
    """A scorer's judgement of every completion, checked: their number, their parts, and that all are
    finite."""
    scored = score_groups(scorer, list(zip(prompts, groups, strict=True)))
    if len(scored) != len(groups):
        raise DataError(f"scorer {name!r} returned {len(scored)} groups of scores for {len(groups)} prompts")
    parts: set[str] | None = None
    for prompt, group, scores in zip(prompts, groups, scored, strict=True):
        if len(scores) != len(group):
            raise DataError(
                f"scorer {name!r} returned {len(scores)} scores for the {len(group)} completions of "
                f"prompt {prompt.id!r}"
            )
        for completion, score in zip(group, scores, strict=True):
            parts = set(score.parts) if parts is None else parts
            if set(score.parts) != parts:
                raise DataError(
                    f"scorer {name!r} gave the parts {sorted(score.parts)} on prompt {prompt.id!r} and "
                    f"{sorted(parts)} before; a scorer must name the same parts each time"
                )
            if not np.isfinite([score.value, *score.parts.values()]).all():
                raise NumericsError(
                    f"scorer {name!r} gave {score.value} with parts {dict(score.parts)} on prompt "
                    f"{prompt.id!r}, completion {completion.text[:80]!r}"
                )
    return scored


def _scorer_rows(
    name: str, before: Scored, after: Scored, clusters: Sequence[str], config: EvaluateConfig
) -> list[Row]:
    figures = [[[figures_of(name, score) for score in group] for group in side] for side in (before, after)]
    kinds = {figure: Kind.SCORER if figure == name else Kind.PART for figure in figures[0][0][0]}
    return [
        _row(figure, kind, "higher", _arrays(figures, figure), clusters, config)
        for figure, kind in kinds.items()
    ]


def figures_of(name: str, score: Score) -> dict[str, float]:
    """A score flattened: the scorer's name, then ``scorer.part`` for each part."""
    parts = {f"{name}.{part}": float(value) for part, value in score.parts.items()}
    return {name: float(score.value), **parts}


def _text_rows(before: Side, after: Side, clusters: Sequence[str], config: EvaluateConfig) -> list[Row]:
    figures = [[[metrics.per_completion(c) for c in group] for group in side] for side in (before, after)]
    shared = set.intersection(*(set(f) for side in figures for group in side for f in group))
    names = [name for name in ("words", "tokens", "repetition", "empty", "truncated") if name in shared]
    rows = [_row(name, Kind.TEXT, _BETTER[name], _arrays(figures, name), clusters, config) for name in names]
    if config.samples > 1:
        groups = [[[metrics.per_prompt(group)] for group in side] for side in (before, after)]
        rows.append(_row("diversity", Kind.TEXT, "higher", _arrays(groups, "diversity"), clusters, config))
    whole_before, whole_after = metrics.corpus(before), metrics.corpus(after)
    for name in whole_before:
        if name in whole_after:
            b, a = whole_before[name], whole_after[name]
            rows.append(Row(name, Kind.CORPUS, _BETTER[name], b, None, a, None, a - b, None, None))
    return rows


def _arrays(
    sides: Sequence[Sequence[Sequence[Mapping[str, float]]]], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """One figure on both sides, each as prompts by samples (NS)."""
    before_NS, after_NS = (np.array([[f[name] for f in group] for group in side], float) for side in sides)
    return before_NS, after_NS


def _row(
    name: str,
    kind: Kind,
    better: Better,
    sides: tuple[np.ndarray, np.ndarray],
    clusters: Sequence[str],
    config: EvaluateConfig,
) -> Row:
    before_NS, after_NS = sides
    gain = gain_of(before_NS, after_NS, clusters, config)
    win = None
    if kind in (Kind.SCORER, Kind.PART):
        win = wins_of(before_NS, after_NS, clusters, config)
    known = np.isfinite([gain.low, gain.high]).all()
    return Row(
        name=name,
        kind=kind,
        better=better,
        before_mean=float(before_NS.mean()),
        before_sd=float(before_NS.std()),
        after_mean=float(after_NS.mean()),
        after_sd=float(after_NS.std()),
        difference=gain.value,
        low=gain.low if known else None,
        high=gain.high if known else None,
        win_rate=win.value if win else None,
        win_low=win.low if win else None,
        win_high=win.high if win else None,
        p=gain.p,
        detectable=detectable_mean(gain.n, gain.sd, level=config.confidence) if gain.sd > 0 else None,
    )


def gain_of(
    before_NS: np.ndarray, after_NS: np.ndarray, clusters: Sequence[str], config: EvaluateConfig
) -> Gain:
    """The difference of two sides' means over prompts, each side prompts by samples (NS)."""
    # Every row draws the same resamples: rows are then comparable, and their order changes nothing.
    generator = np.random.default_rng(config.seed)
    sides = before_NS.mean(axis=1), after_NS.mean(axis=1)
    return paired_gain(*sides, generator, clusters, config.rounds, config.confidence)


def wins_of(
    before_NS: np.ndarray, after_NS: np.ndarray, clusters: Sequence[str], config: EvaluateConfig
) -> Gain:
    """How often after wins, ties half."""
    generator = np.random.default_rng(config.seed)
    return win_gain(win_shares(before_NS, after_NS), generator, clusters, config.confidence)


def win_shares(before_NS: np.ndarray, after_NS: np.ndarray) -> np.ndarray:
    """Per prompt, the share of (before, after) sample pairs that after wins, a tie counting half. Shape N."""
    gap_NSS = after_NS[:, :, None] - before_NS[:, None, :]
    return ((gap_NSS > 0) + 0.5 * (gap_NSS == 0)).mean(axis=(1, 2))


def _examples(
    prompts: Sequence[Prompt],
    groups: tuple[Side, Side],
    scores: tuple[Mapping[str, Scored], Mapping[str, Scored]],
    criterion: str,
    config: EvaluateConfig,
) -> tuple[tuple[Example, ...], str]:
    """The first sample of either side, for the largest gains, the largest losses and a random few."""
    gain_N = np.array(
        [a[0].value - b[0].value for b, a in zip(scores[0][criterion], scores[1][criterion], strict=True)]
    )
    order = np.argsort(-gain_N, kind="stable")
    picks: list[tuple[int, Literal["gain", "loss", "random"]]] = []
    picks += [(int(i), "gain") for i in order[: config.examples] if gain_N[i] > 0]
    picks += [(int(i), "loss") for i in order[::-1][: config.examples] if gain_N[i] < 0]
    rest = sorted(set(range(len(prompts))) - {i for i, _ in picks})
    generator = np.random.default_rng(config.seed)
    picks += [(int(i), "random") for i in generator.permutation(rest)[: config.examples]]
    k = config.examples
    rule = (
        f"By the difference in {criterion} between the first sample of either side: the {k} largest gains "
        f"and the {k} largest losses (fewer where fewer prompts gained or lost), and {k} drawn at random "
        f"from the rest with seed {config.seed}. Nobody chose among them."
    )
    return tuple(_example(i, why, prompts, groups, scores, criterion) for i, why in picks), rule


def _example(
    i: int,
    why: Literal["gain", "loss", "random"],
    prompts: Sequence[Prompt],
    groups: tuple[Side, Side],
    scores: tuple[Mapping[str, Scored], Mapping[str, Scored]],
    criterion: str,
) -> Example:
    figures = tuple(
        Figure(figure, before, figures_of(name, scores[1][name][i][0])[figure])
        for name in scores[0]
        for figure, before in figures_of(name, scores[0][name][i][0]).items()
    )
    before, after = groups[0][i][0], groups[1][i][0]
    return Example(
        prompts[i].id, prompts[i].text, why, before.text, after.text, before.stop, after.stop, figures,
        scores[0][criterion][i][0].why, scores[1][criterion][i][0].why,
    )  # fmt: skip
