"""From people's rankings to comparisons: the consensus, and what is known of each labeler.

The scores and the labelers' reliabilities come from the Davidson model (``stats.davidson``), FAIL from
Dawid and Skene's with a sensitivity and a specificity a labeler (``stats.fails``). A comparison's
``p_chosen`` is the probability that a typical labeler of the pool, calling no tie, prefers the chosen
completion; reward models take it as a soft label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from pydantic import Field

from accord.config import Config
from accord.errors import DataError
from accord.feedback.turned import Turned, turned_by, turned_pairs
from accord.judgements import Comparison, Ranking
from accord.stats.agreement import Agreement, agreement, once
from accord.stats.evidence import Choice
from accord.stats.fails import two_coin
from accord.stats.fitting import Fit, assume, fit
from accord.stats.labelers import LabelerRow, Standing, labeler_rows, standing
from accord.stats.maximum import Prior
from accord.stats.rankings import levels, ranking_table
from accord.types import Completion, Prompt

SOURCE = "consensus"


class AgreeConfig(Config):
    """How rankings become comparisons."""

    criterion: str | tuple[str, ...] | None = None
    """Use only rankings of this criterion, or of these, as one; '' are rankings without a criterion. Needed
    where rankings of several are present."""
    margin: float = Field(0.0, ge=0, lt=0.5)
    """Leave out pairs whose p_chosen is below 0.5 + margin (counted in ``dropped``)."""
    tier_margin: float = Field(0.1, ge=0, lt=0.5)
    """In a prompt's consensus ranking, completions share a tier while p stays below 0.5 + this."""
    fail_threshold: float = Field(0.5, gt=0, lt=1)
    """A completion counts as FAIL from this probability on; pairs of two FAILs are not compared."""
    reliability_mean: float | None = Field(None, gt=0)
    """Prior mean of a labeler's reliability, positive: most beat chance; not set, the votes choose it."""
    reliability_sd: float | None = Field(None, gt=0)
    """Prior standard deviation of the same; not set, labelers count alike unless it is clear they differ."""
    tie_mean: float = Field(0.5, gt=0)
    """Prior tie propensity nu; 0.5 means that one pair of equals in five is called a tie."""
    tie_sd: float = Field(0.5, gt=0)
    """Prior standard deviation of log nu."""
    position_sd: float = Field(0.5, gt=0)
    """Prior standard deviation of position bias: log odds of the first shown against the last, of equals."""
    assumed_reliability: float = Field(8.0, gt=0)
    """Reliability of labelers where no two judged the same pair and it cannot be learned."""
    min_overlap: int = Field(30, ge=1)
    """Pairs shared with others below which a labeler's figures carry a warning."""
    bootstrap: int = Field(1000, ge=100)
    """Bootstrap draws for intervals."""
    seed: int = 0
    """Seed of the bootstrap."""


DEFAULTS = AgreeConfig()


@dataclass(frozen=True, slots=True)
class CompletionScore:
    """The pool's judgement of one completion."""

    value: float
    """Score; within a prompt the prior is N(0, 1), so values of different prompts do not compare."""
    stderr: float
    p_fail: float
    """Probability that it is a FAIL (Dawid-Skene)."""
    n_labelers: int
    """Labelers who placed it."""


@dataclass(frozen=True, slots=True)
class Consensus:
    """What the labelers say together, how far they agree, and what was left out."""

    comparisons: list[Comparison]
    scores: dict[str, dict[str, CompletionScore]]
    """Prompt id -> completion id -> score."""
    rankings: dict[str, Ranking]
    """Prompt id -> the consensus ranking: tiers, then FAILs."""
    labelers: list[LabelerRow]
    agreement: Agreement
    dropped: dict[str, int]
    """Pairs not emitted, by cause: ``margin``, ``both_fail``, ``unjudged`` (one or both never placed)."""
    inferred: int
    """Comparisons emitted though nobody judged the two side by side; the model links them."""
    superseded: int
    """Rankings left out because a later one corrects them."""
    warnings: list[str]
    typical: float | None
    """Reliability of the pool's typical labeler, on the scale of the labelers' rows; ``None`` where it was
    assumed."""
    prior: Choice | None
    """The prior on labelers and what spoke for it; ``None`` where reliability was assumed."""
    intervals: dict[tuple[str, str, str], tuple[float, float]]
    """(prompt, chosen, rejected) of each comparison -> 95 % interval of its ``p_chosen``."""
    turned: list[Turned]
    """Pairs whose consensus order is not that of the plain majority of votes, and whose votes it went
    against."""


def agree(
    prompts: Mapping[str, Prompt],
    completions: Mapping[str, Sequence[Completion]],
    rankings: Sequence[Ranking],
    config: AgreeConfig = DEFAULTS,
) -> Consensus:
    """Fit the pool's rankings and return comparisons, scores, labelers and agreement.

    A labeler's repeat of a ranking (``Ranking.arm``) is held against the first and counts for nothing else,
    for it would count one judgement twice. Where no two labelers judged the same pair this is
    :func:`single`, with a warning. Raises
    :class:`DataError` for rankings that are empty, mix criteria or name unknown ids, and
    :class:`NumericsError` when the fit does not converge.
    """
    used, superseded = _current(rankings, config)
    _check_ids(prompts, completions, used)
    table = ranking_table(once(used))
    if not table.votes.judges().max(initial=0) > 1:
        return single(prompts, completions, rankings, config)
    prior = Prior(
        config.reliability_mean, config.reliability_sd, config.tie_mean, config.tie_sd, config.position_sd
    )
    return _assemble(prompts, completions, used, fit(table, prior), config, superseded)


def single(
    prompts: Mapping[str, Prompt],
    completions: Mapping[str, Sequence[Completion]],
    rankings: Sequence[Ranking],
    config: AgreeConfig = DEFAULTS,
) -> Consensus:
    """The same for rankings taken at their word: every labeler has ``assumed_reliability``.

    For a single labeler, or several who share no pair: nothing tells how reliable they are.
    """
    used, superseded = _current(rankings, config)
    _check_ids(prompts, completions, used)
    fitted = assume(ranking_table(once(used)), config.assumed_reliability, config.tie_mean)
    return _assemble(prompts, completions, used, fitted, config, superseded, learned=False)


def _current(rankings: Sequence[Ranking], config: AgreeConfig) -> tuple[list[Ranking], int]:
    """The rankings of the criterion that no later one corrects, and how many were corrected."""
    gone = {r.supersedes for r in rankings if r.supersedes}
    used = [r for r in rankings if not r.id or r.id not in gone]
    superseded = len(rankings) - len(used)
    wanted = (config.criterion,) if isinstance(config.criterion, str) else config.criterion
    if wanted is not None:
        used = [r for r in used if r.criterion in wanted]
    counts = Counter(r.criterion for r in rankings)
    there = _of_criteria(counts)
    if not once(used):
        raise DataError(
            f"no rankings to agree on of criterion {wanted}; there are {there or 'none at all'}; "
            "choose another criterion, or import or label some first"
        )
    if wanted is None and len(counts) > 1:
        raise DataError(
            f"{there} cannot share one consensus; choose one with --criterion {max(counts)!r}, or give those "
            f"that mean the same: --criterion {' '.join(map(repr, sorted(counts, reverse=True)))}"
            + ("; accord import --criterion NAME names that of rankings yet to come" if "" in counts else "")
        )
    return used, superseded


def _of_criteria(counts: Mapping[str, int]) -> str:
    """Rankings by criterion, in words."""
    return " and ".join(
        f"{n} rankings of criterion {name!r}" if name else f"{n} rankings without a criterion ('')"
        for name, n in sorted(counts.items(), reverse=True)
    )


def _check_ids(
    prompts: Mapping[str, Prompt],
    completions: Mapping[str, Sequence[Completion]],
    rankings: Sequence[Ranking],
) -> None:
    for ranking in rankings:
        if ranking.prompt_id not in prompts:
            raise DataError(
                f"labeler {ranking.labeler!r} ranked prompt {ranking.prompt_id!r}, which is not among the "
                f"{len(prompts)} prompts given; pass its prompt too"
            )
        known = {c.id for c in completions.get(ranking.prompt_id, ())}
        unknown = sorted(levels(ranking).keys() - known)
        if unknown:
            raise DataError(
                f"labeler {ranking.labeler!r} ranked completion {unknown[0]!r} of prompt "
                f"{ranking.prompt_id!r}, which has {sorted(known)}; pass that completion too"
            )
    for key, prompt in prompts.items():
        if key != prompt.id:
            raise DataError(f"prompt {prompt.id!r} is filed under {key!r}; use its id as the key")
    for prompt_id, group in completions.items():
        repeated = [c for c, n in Counter(c.id for c in group).items() if n > 1 or not c]
        if repeated:
            raise DataError(
                f"prompt {prompt_id!r} has completions with the id {repeated[0]!r} more than once or empty; "
                "give each its own"
            )


def _assemble(
    prompts: Mapping[str, Prompt],
    completions: Mapping[str, Sequence[Completion]],
    rankings: Sequence[Ranking],
    fitted: Fit,
    config: AgreeConfig,
    superseded: int,
    learned: bool = True,
) -> Consensus:
    rng = np.random.default_rng(config.seed)
    counted = once(rankings)
    placed = _placed(counted)
    scores = _scores(fitted, placed, _fail_probabilities(placed))
    p_first, intervals = _probabilities(fitted)
    comparisons: list[Comparison] = []
    dropped = {"margin": 0, "both_fail": 0, "unjudged": 0}
    for prompt_id in (p for p in prompts if p in placed):
        for pair in combinations(completions[prompt_id], 2):
            made = _compare(prompts[prompt_id], pair, scores[prompt_id], p_first, placed[prompt_id], config)
            if isinstance(made, str):
                dropped[made] += 1
            else:
                comparisons.append(made)
    lengths = {p: {c.id: len(c.text) for c in group} for p, group in completions.items()}
    rows = labeler_rows(fitted, rankings, lengths, learned, rng)
    criterion = max(ranking.criterion for ranking in counted)  # of several that are one, a named one
    typical = fitted.usual() if learned else None
    poor = {row.labeler for row in rows if standing(row, typical, config.min_overlap).poor}
    turned = turned_pairs(counted, p_first, poor)
    return Consensus(
        comparisons,
        scores,
        {p: _consensus_ranking(p, scores[p], p_first, criterion, config) for p in prompts if p in placed},
        rows,
        agreement(rankings, rng, config.bootstrap),
        dropped,
        sum(not c.labelers for c in comparisons),
        superseded,
        list(_warnings(prompts, placed, rows, config, fitted, turned_by(turned))),
        typical,
        fitted.choice,
        {key: intervals[key] for c in comparisons for key in [(c.prompt.id, c.chosen.id, c.rejected.id)]},
        turned,
    )


Placed = dict[str, dict[str, dict[str, list[bool]]]]
"""Prompt id -> completion id -> labeler -> for each time it was placed, whether as a FAIL."""


def _placed(rankings: Sequence[Ranking]) -> Placed:
    placed: Placed = {}
    for ranking in rankings:
        for completion in levels(ranking):
            by_labeler = placed.setdefault(ranking.prompt_id, {}).setdefault(completion, {})
            by_labeler.setdefault(ranking.labeler, []).append(completion in ranking.fails)
    return placed


def _fail_probabilities(placed: Placed) -> dict[tuple[str, str], float]:
    """P(FAIL) of each placed completion. Ids are sorted, so that the order of rankings changes nothing."""
    items = sorted((p, c) for p in placed for c in placed[p])
    labelers = sorted({k for p, c in items for k in placed[p][c]})
    number = {k: n for n, k in enumerate(labelers)}
    votes = [
        (n, number[k], fail)
        for n, (p, c) in enumerate(items)
        for k in sorted(placed[p][c])
        for fail in placed[p][c][k]
    ]
    item_V, labeler_V, fail_V = (np.array(column) for column in zip(*votes, strict=True))
    consensus = two_coin(item_V, labeler_V, fail_V.astype(bool), len(items), len(labelers))
    return dict(zip(items, consensus.p_I.tolist(), strict=True))


def _scores(
    fitted: Fit, placed: Placed, p_fail: Mapping[tuple[str, str], float]
) -> dict[str, dict[str, CompletionScore]]:
    """Scores of all placed completions; one that stands alone on its prompt keeps the prior's N(0, 1)."""
    known = dict(
        zip(
            fitted.table.items,
            zip(fitted.posterior.mean_I.tolist(), fitted.posterior.sd_items().tolist(), strict=True),
            strict=True,
        )
    )
    return {
        p: {
            c: CompletionScore(*known.get((p, c), (0.0, 1.0)), p_fail[p, c], len(placed[p][c]))
            for c in sorted(placed[p])
        }
        for p in placed
    }


Pair = tuple[str, str, str]
"""Prompt, first and second completion."""


def _probabilities(fitted: Fit) -> tuple[dict[Pair, float], dict[Pair, tuple[float, float]]]:
    """P(first preferred) and its 95 % interval, for both orders of each pair."""
    items = fitted.table.items
    p: dict[Pair, float] = {}
    interval: dict[Pair, tuple[float, float]] = {}
    columns = (*fitted.table.votes.pair_items(), fitted.p_first(), *fitted.p_first_interval())
    for a, b, value, low, high in zip(*(column.tolist() for column in columns), strict=True):
        prompt_id, first, second = *items[a], items[b][1]
        p[prompt_id, first, second], p[prompt_id, second, first] = value, 1 - value
        interval[prompt_id, first, second] = low, high
        interval[prompt_id, second, first] = 1 - high, 1 - low
    return p, interval


def _compare(
    prompt: Prompt,
    pair: tuple[Completion, Completion],
    scores: Mapping[str, CompletionScore],
    p_first: Mapping[tuple[str, str, str], float],
    placed: Mapping[str, Mapping[str, list[bool]]],
    config: AgreeConfig,
) -> Comparison | str:
    """The pair's comparison, or why there is none."""
    a, b = sorted(pair, key=lambda c: c.id)
    if a.id not in scores or b.id not in scores:
        return "unjudged"
    if min(scores[a.id].p_fail, scores[b.id].p_fail) >= config.fail_threshold:
        return "both_fail"
    p = p_first[prompt.id, a.id, b.id]
    chosen, rejected, p_chosen = (a, b, p) if p >= 0.5 else (b, a, 1 - p)
    if p_chosen < 0.5 + config.margin:
        return "margin"
    judges = [
        k
        for k in sorted(placed[a.id].keys() & placed[b.id].keys())
        if not (all(placed[a.id][k]) and all(placed[b.id][k]))
    ]
    return Comparison(prompt, chosen, rejected, p_chosen, SOURCE, tuple(judges))


def _consensus_ranking(
    prompt_id: str,
    scores: Mapping[str, CompletionScore],
    p_first: Mapping[tuple[str, str, str], float],
    criterion: str,
    config: AgreeConfig,
) -> Ranking:
    """Completions by score; a new tier begins where p against the tier's best leaves the margin."""
    fails = tuple(c for c in scores if scores[c].p_fail >= config.fail_threshold)
    tiers: list[list[str]] = []
    for completion in sorted(scores.keys() - set(fails), key=lambda c: (-round(scores[c].value, 9), c)):
        if tiers and p_first[prompt_id, tiers[-1][0], completion] < 0.5 + config.tier_margin:
            tiers[-1].append(completion)
        else:
            tiers.append([completion])
    return Ranking(prompt_id, SOURCE, tuple(map(tuple, tiers)), fails, criterion=criterion, source=SOURCE)


def _warnings(
    prompts: Mapping[str, Prompt],
    placed: Placed,
    rows: Sequence[LabelerRow],
    config: AgreeConfig,
    fitted: Fit,
    turned: Mapping[str, int],
) -> Iterator[str]:
    typical = fitted.usual() if fitted.choice is not None else None
    alike = fitted.choice is not None and fitted.choice.alike
    if typical is None:
        yield (
            f"no reliability was learned: each labeler is assumed to have {config.assumed_reliability:g} and "
            "is taken at their word; give some prompts to several labelers"
        )
    if unranked := sum(p not in placed for p in prompts):
        yield f"{unranked} of {len(prompts)} prompts have no ranking and give no comparison"
    for row in rows:
        if row.reliability is None:
            continue
        match standing(row, typical, config.min_overlap):
            case Standing.FEW:
                yield (
                    f"labeler {row.labeler!r} shares {row.overlap} pairs with others (fewer than "
                    f"{config.min_overlap}): their reliability is mostly the prior's"
                )
            case Standing.INVERTED:
                yield (
                    f"labeler {row.labeler!r} ranks against the others (reliability "
                    f"{row.reliability.value:.2f}, interval below 0); "
                    f"{_weight(row, alike, 'inverted', turned)}: do they read the scale upside down?"
                )
            case Standing.COIN:
                yield (
                    f"labeler {row.labeler!r} is little better than a coin (reliability "
                    f"{row.reliability.value:.2f} where {typical:.2f} is typical); "
                    f"{_weight(row, alike, 'for little', turned)}: go through the guidelines with them"
                )


def _weight(row: LabelerRow, alike: bool, how: str, turned: Mapping[str, int]) -> str:
    """What the consensus made of a poor labeler's votes."""
    if alike:
        return "the pool as a whole says too little to weigh labelers apart, so their votes count in full"
    return f"their votes count {how}, which turned {turned.get(row.labeler, 0)} pairs"
