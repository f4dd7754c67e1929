"""Any number of models on the same suites: figures, every pair with its test, ranks, and where each wins.

A pair is claimed to differ where p is at most 1 - confidence after Holm's correction and the interval
leaves out no difference. The suites' main figures are one family of tests, all others together a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal

import numpy as np

from accord.errors import DataError
from accord.evaluate.asking import Answers, Values, values_of
from accord.evaluate.compare import EvaluateConfig, cluster_of, win_shares
from accord.evaluate.contamination import Overlap
from accord.evaluate.record import Example, Figure
from accord.evaluate.standings import COSTS, Cell, FigureRow, Leaderboard, Model, Pair, Part, Section, Slice
from accord.evaluate.suite import FigureTable, Suite, Take
from accord.evaluate.suiterows import matches
from accord.evaluate.winrate import length_controlled
from accord.stats.paired import Gain, holm, paired_gain, win_gain
from accord.stats.power import detectable_mean
from accord.stats.words import words
from accord.types import Prompt

Why = Literal["gain", "loss", "random"]


def section_of(
    suite: Suite,
    prompts: Sequence[Prompt],
    answers: Sequence[Answers],
    config: EvaluateConfig,
    seen: Overlap | None = None,
) -> Section:
    """One suite's figures on every model, its pairs not yet corrected (:func:`leaderboard` does that).

    ``answers`` are the models' in order; ``seen`` says what of the suite stands in their training text.
    """
    rows, pairs = [], []
    main_values: list[Values] = []
    for figure in suite.figures:
        values = [values_of(figure, prompts, each) for each in answers]
        rows.append(_row(figure, values, config))
        for a, b in combinations(range(len(answers)), 2):
            pair = _pair(figure, (a, b), (values[a], values[b]), config)
            if pair is not None:
                pairs.append(pair)
        if figure is suite.main:
            main_values = values
    kept = [i for i, prompt in enumerate(prompts) if matches(prompt.meta, suite.main.where)]
    sign = -1 if suite.main.better == "lower" else 1
    pairs = [
        _with_length(p, sign, main_values, kept, answers, config) if p.figure == suite.main.name else p
        for p in pairs
    ]
    rows += _cost(answers)
    return Section(
        suite=suite.name,
        about=suite.table.about,
        hash=suite.hash,
        prompts=len(prompts),
        clusters=len({cluster_of(prompt) for prompt in prompts}),
        samples=suite.table.samples,
        limit=suite.table.max_new_tokens,
        main=suite.main.name,
        rows=tuple(rows),
        pairs=tuple(pairs),
        ranks=(),
        slices=_slices(suite, prompts, kept, main_values),
        parts=tuple(
            part
            for b in range(1, len(answers))
            if (part := _texts(suite, prompts, kept, (0, b), answers, main_values, config))
        ),
        overlap=seen,
        unread=tuple(each.unread for each in answers),
    )


def leaderboard(models: Sequence[Model], sections: Sequence[Section], config: EvaluateConfig) -> Leaderboard:
    """The sections with Holm's correction over all of them, and the ranks that then can be told apart."""
    names = [model.name for model in models]
    if len(set(names)) != len(names):
        raise DataError(f"two models are called {max(names, key=names.count)!r}; name them apart")
    adjusted: dict[tuple[str, str, int, int], float] = {}
    tests = []
    for is_main in (True, False):
        family = [(s.suite, p) for s in sections for p in s.pairs if (p.figure == s.main) is is_main]
        found = holm([pair.p for _, pair in family])
        adjusted |= {(suite, p.figure, p.first, p.second): float(q)
                     for (suite, p), q in zip(family, found, strict=True)}  # fmt: skip
        tests.append(len(family))
    done = []
    for section in sections:
        pairs = tuple(
            replace(p, p_holm=q, claimed=q <= 1 - config.confidence and not p.low <= 0 <= p.high)
            for p in section.pairs
            for q in [adjusted[section.suite, p.figure, p.first, p.second]]
        )
        corrected = replace(section, pairs=pairs)
        done.append(replace(corrected, ranks=_ranks(corrected, len(models))))
    return Leaderboard(
        models=tuple(models),
        sections=tuple(done),
        tests=(tests[0], tests[1]),
        confidence=config.confidence,
        rounds=config.rounds,
        seed=config.seed,
    )


def _row(figure: FigureTable, values: Sequence[Values], config: EvaluateConfig) -> FigureRow:
    cells = tuple(_cell(figure, each, config) for each in values)
    return FigureRow(
        figure.name, figure.about, figure.better, cells, figure.percent, figure.beside, figure.take.value
    )


def _cell(figure: FigureTable, values: Values, config: EvaluateConfig) -> Cell:
    if values.units is None or (np.ptp(values.units) == 0 and 0 < values.units[0] < 1):
        return Cell(
            values.value
        )  # what is the same on every prompt and counts nothing: the chance of a guess
    if figure.percent and values.units.min() >= 0 and values.units.max() <= 1:
        # a share: none of 30 is no proof of never
        gain = win_gain(values.units, np.random.default_rng(config.seed), values.clusters, config.confidence)
    else:
        gain = _gain(np.zeros_like(values.units), values.units, values.clusters, config)
    if not np.isfinite([gain.low, gain.high]).all():
        return Cell(values.value)
    ends = (gain.low, gain.high)
    low, high = (float(np.exp(end)) for end in ends) if figure.take is Take.EXP else ends
    return Cell(values.value, low, high)


def _gain(first: np.ndarray, second: np.ndarray, clusters: Sequence[str], config: EvaluateConfig) -> Gain:
    generator = np.random.default_rng(config.seed)
    return paired_gain(first, second, generator, clusters, config.rounds, config.confidence)


def _pair(
    figure: FigureTable, at: tuple[int, int], values: tuple[Values, Values], config: EvaluateConfig
) -> Pair | None:
    first, second = values
    if first.units is None or second.units is None or figure.better == "neither":
        return None
    gain = _gain(first.units, second.units, first.clusters, config)
    if not np.isfinite([gain.low, gain.high]).all():  # one question alone: nothing can be told
        return None
    return Pair(
        figure=figure.name,
        first=at[0],
        second=at[1],
        difference=gain.value,
        low=gain.low,
        high=gain.high,
        p=gain.p,
        detectable=detectable_mean(gain.n, gain.sd, level=config.confidence) if gain.sd > 0 else None,
    )


def _with_length(
    pair: Pair,
    sign: int,
    values: Sequence[Values],
    kept: Sequence[int],
    answers: Sequence[Answers],
    config: EvaluateConfig,
) -> Pair:
    """The pair with second's win rate over first on the main figure, plain and at equal length."""
    first, second = values[pair.first], values[pair.second]
    if first.raw_NS is None or second.raw_NS is None:
        return pair
    shares_N = win_shares(sign * first.raw_NS, sign * second.raw_NS)
    won = win_gain(shares_N, np.random.default_rng(config.seed), first.clusters, config.confidence)
    pair = replace(
        pair,
        win_rate=won.value,
        win_low=won.low,
        win_high=won.high,
        prompts_won=int((shares_N > 0.5).sum()),
        prompts_lost=int((shares_N < 0.5).sum()),
    )
    silent = not all(answers[at].groups[i] for at in (pair.first, pair.second) for i in kept)
    if silent or not np.ptp(shares_N):
        return pair
    lengths = [[_words(answers[at], i) for i in kept] for at in (pair.second, pair.first)]
    found = length_controlled(shares_N, lengths[0], lengths[1], first.clusters, config.confidence)
    return replace(pair, equal_length=found.rate.value, equal_low=found.rate.low, equal_high=found.rate.high)


def _words(answers: Answers, at: int) -> float:
    return float(np.mean([len(words(c.text)) for c in answers.groups[at]]))


def _cost(answers: Sequence[Answers]) -> list[FigureRow]:
    """Tokens and seconds an answer, where there were any."""
    if not answers[0].groups or not answers[0].groups[0]:
        return []
    counts = [sum(map(len, each.groups)) for each in answers]
    tokens = [
        sum(len(c.ids) for group in each.groups for c in group) / n if n else None
        for each, n in zip(answers, counts, strict=True)
    ]
    seconds = [each.seconds / n for each, n in zip(answers, counts, strict=True)]
    rows = [FigureRow(COSTS[1], "of sampling, all prompts in batches", "lower",
                      tuple(Cell(s) for s in seconds))]  # fmt: skip
    if all(tokens):
        rows.insert(0, FigureRow(COSTS[0], "what it costs", "lower",
                                 tuple(Cell(t) for t in tokens)))  # fmt: skip
    return rows


def _ranks(section: Section, count: int) -> tuple[tuple[int, int], ...]:
    """Each model's best and worst possible rank: who is claimed better, and who is claimed worse."""
    sign = -1 if section.row(section.main).better == "lower" else 1
    above = [0] * count
    below = [0] * count
    for pair in section.pairs:
        if pair.figure == section.main and pair.claimed:
            up, down = (pair.second, pair.first) if sign * pair.difference > 0 else (pair.first, pair.second)
            above[down] += 1
            below[up] += 1
    return tuple((1 + above[m], count - below[m]) for m in range(count))


def _slices(
    suite: Suite, prompts: Sequence[Prompt], kept: Sequence[int], values: Sequence[Values]
) -> tuple[Slice, ...]:
    """The main figure by the suite's ``by``, largest groups first."""
    if not suite.table.by or any(v.raw_NS is None for v in values):
        return ()
    groups: dict[str, list[int]] = {}
    for at, i in enumerate(kept):
        groups.setdefault(str(prompts[i].meta.get(suite.table.by, "")), []).append(at)
    return tuple(
        Slice(name, len(rows), tuple(float(v.raw_NS[rows].mean()) for v in values if v.raw_NS is not None))
        for name, rows in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    )


def _texts(
    suite: Suite,
    prompts: Sequence[Prompt],
    kept: Sequence[int],
    at: tuple[int, int],
    answers: Sequence[Answers],
    values: Sequence[Values],
    config: EvaluateConfig,
) -> Part | None:
    """Answers of two models side by side: the largest gains, the largest losses, and some at random."""
    first_NS, second_NS = (values[i].raw_NS for i in at)
    if first_NS is None or second_NS is None or not answers[at[0]].groups[kept[0]]:
        return None
    judge = suite.main.of.partition(".")[0]
    sign = -1 if suite.main.better == "lower" else 1
    gain_N = sign * (second_NS[:, 0] - first_NS[:, 0])
    order = np.argsort(-gain_N, kind="stable")
    picks: list[tuple[int, Why]] = [(int(i), "gain") for i in order[: config.examples] if gain_N[i] > 0]
    picks += [(int(i), "loss") for i in order[::-1][: config.examples] if gain_N[i] < 0]
    rest = sorted(set(range(len(kept))) - {i for i, _ in picks})
    generator = np.random.default_rng(config.seed)
    picks += [(int(i), "random") for i in generator.permutation(rest)[: config.examples]]
    shown = []
    for row, why in picks:
        prompt, (first, second) = prompts[kept[row]], (answers[i].groups[kept[row]][0] for i in at)
        notes = [answers[i].scores[judge][kept[row]][0].why if judge in answers[i].scores else "" for i in at]
        figure = Figure(suite.main.name, float(first_NS[row, 0]), float(second_NS[row, 0]))
        shown.append(
            Example(prompt.id, prompt.text, why, first.text, second.text, first.stop, second.stop, (figure,),
                    *notes)
        )  # fmt: skip
    return Part(at[0], at[1], tuple(shown))
