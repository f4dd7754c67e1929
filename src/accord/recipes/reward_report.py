"""What `accord reward` and `accord study` make of a study: the run's figures, and the report's section."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from accord.evaluate.reportdata import BestOf, CalibrationBin, Estimate, Mistake, RewardSection
from accord.judgements import Comparison
from accord.lm.grouped import normalised
from accord.reward.study import Study, study_scorer
from accord.stats.agreement import Figure
from accord.types import Scorer
from accord.workspace import Workspace

WORDS = {
    "human": "How well people foretell one another",
    "style_baseline": "What style alone reaches",
    "shorter_won": "Accuracy where the shorter one won",
    "spearman_within": "Correlation with length",
}
"""What a missing figure is called on the page."""
STUDY = "study.json"
"""The report's name in a run's folder."""


def headlines(found: Study) -> dict[str, float | int | None]:
    """The figures worth a line each."""

    def value(figure: Figure) -> float | None:
        return None if figure.interval is None else figure.interval.value

    return {
        "studied_pairs": found.pairs,
        "studied_prompts": found.prompts,
        "accuracy": value(found.accuracy),
        "human": value(found.ceiling.human),
        "same_judgements": value(found.ceiling.model),
        "style_only": value(found.baselines.style),
        "longer": value(found.baselines.longer),
        "shorter_won": value(found.length.shorter_won),
        "ece": found.trust.tempered_ece,
        "temperature": found.trust.temperature,
    }


def held_out_study(
    workspace: Workspace,
    scorer: Scorer,
    comparisons: Sequence[Comparison],
    held_out: Collection[str],
    *,
    gold: Scorer | None = None,
    seed: int = 0,
) -> Study | None:
    """The report of a new reward model on the prompts it held out (ids).

    ``None`` where they have no decided pair.
    """
    kept = set(held_out)
    held = [c for c in comparisons if c.prompt.id in kept]
    if not any(c.p_chosen > 0.5 for c in held):
        return None
    return study_scorer(
        scorer,
        held,
        learned=[c for c in comparisons if c.prompt.id not in kept],
        rankings=list(workspace.store.rankings()),
        splits=workspace.store.splits(),
        clusters=near_duplicates(held),
        gold=gold,
        seed=seed,
    )


def near_duplicates(comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Prompt id -> what it shares with prompts that differ in case, spaces and punctuation alone."""
    return {c.prompt.id: normalised(c.prompt.text) for c in comparisons}


def with_study(section: RewardSection, found: Mapping[str, Any]) -> RewardSection:
    """A report's section with what a study (as written) found, and why it did not find the rest."""
    ceiling, baselines, length, trust, best = (
        found[part] for part in ("ceiling", "baselines", "length", "trust", "best_of")
    )
    named = {"human": ceiling["human"], "style_baseline": baselines["style"], **length}
    parts = {
        name: estimate
        for group in (found["by_split"], found["by_source"])
        for name, figure in group.items()
        if len(group) > 1 and (estimate := _estimate(figure))
    }
    tempered = trust["tempered_ece"] is not None
    return replace(
        section,
        human=_estimate(ceiling["human"]),
        human_model=_estimate(ceiling["model"]),
        style_baseline=_estimate(baselines["style"]),
        length_baseline=_estimate(baselines["longer"]) or section.length_baseline,
        shorter_won=_estimate(length["shorter_won"]),
        longer_won=_estimate(length["longer_won"]),
        length_correlation=_estimate(length["spearman_within"]),
        by_source=parts,
        calibration=tuple(CalibrationBin(**b) for b in trust["bins"]) if tempered else section.calibration,
        calibration_error=trust["tempered_ece"] if tempered else section.calibration_error,
        calibration_floor=trust["ece_floor"],
        best_of=tuple(
            BestOf(n, kl, _bounds(reward["interval"]), _bounds(gold["interval"]))
            for n, kl, reward, gold in zip(best["n"], best["kl"], best["reward"], best["gold"], strict=True)
        ),
        mistakes=tuple(
            Mistake(m["prompt"], m["chosen"], m["rejected"], m["sure"]) for m in found["mistakes"]
        ),
        unknown={words: named[name]["why"] for name, words in WORDS.items() if named[name]["why"]},
    )


def rows(found: Study) -> list[tuple[str, str]]:
    """The report's figures as people read them on a terminal: what it is, and value with interval."""
    length, trust = found.length, found.trust
    figures = {
        "accuracy": found.accuracy,
        **{f"  on {name}": figure for name, figure in found.by_split.items()},
        **{f"  on {name}": figure for name, figure in found.by_source.items() if len(found.by_source) > 1},
        "a held-out person, against the others": found.ceiling.human,
        "  the scorer, on the same judgements": found.ceiling.model,
        "style alone": found.baselines.style,
        "always the longer": found.baselines.longer,
        "where the shorter won": length.shorter_won,
        "where the longer won": length.longer_won,
        "correlation with length, within a prompt": length.spearman_within,
    }
    shown = [(name, _shown(figure)) for name, figure in figures.items()]
    if trust.tempered_ece is not None:
        floor = f"{trust.tempered_ece:.3f} (noise alone: {trust.ece_floor:.3f})"
        shown += [("calibration error, tempered", floor), ("temperature", f"{trust.temperature:.2f}")]
    return shown


def _shown(figure: Figure) -> str:
    found = figure.interval
    return figure.why if found is None else f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _estimate(figure: Mapping[str, Any]) -> Estimate | None:
    return None if figure["interval"] is None else _bounds(figure["interval"])


def _bounds(interval: Mapping[str, Any]) -> Estimate:
    return Estimate(interval["value"], interval["low"], interval["high"])
