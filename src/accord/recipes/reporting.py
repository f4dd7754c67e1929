"""From a workspace's rows to the report: every figure on the page is read from a recorded run."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.evaluate.record import Evaluation
from accord.evaluate.report import write_report
from accord.evaluate.reportdata import (
    CalibrationBin,
    ConstitutionSection,
    Estimate,
    Event,
    Labeler,
    LabelerSection,
    ReportData,
    RewardSection,
    Step,
    TrainingSection,
    headline,
)
from accord.evaluate.verdict import VerdictConfig, verdict
from accord.recipes.offline import way_of
from accord.recipes.record import VERDICTS
from accord.recipes.reward_report import STUDY, with_study
from accord.store.lineage import Run, Status
from accord.workspace import Workspace

CURVES = {
    "reward": "reward",
    "gold": "gold",
    "kl": "kl_exact",
    "kl_sampled": "kl_sampled",
    "length": "length",
    "entropy": "entropy",
    "clipped_share": "clip_fraction",
    "beta": "beta",
}
"""Names in a run's history, and what the report calls them."""
SUMMARIES = {
    "import": "Judgements were read from a file.",
    "sample": "The model answered the prompts.",
    "label": "Labelers ranked the completions of each prompt.",
    "agree": "The rankings became comparisons with the pool's probability for each.",
    "constitute_revise": "The model's responses were criticised and mended, a principle a round.",
    "constitute_supervise": "The model learned the last revision of each response.",
    "constitute_prefer": "A judge chose between two answers by a principle, in both orders.",
    "reward": "A reward model learned the comparisons, one prompt with all its completions at a time.",
    "align": "The policy was fine-tuned by {algorithm} against the reward, on a leash to where it started.",
    "prefer": "The policy learned the judgements themselves, by {algorithm}; no reward model was used.",
    "distil": "The policy learned the best of its own samples by the reward.",
    "evaluate": "Before and after answered the same held-out prompts with the same seeds.",
}
SETTINGS = {
    "sample": ("n", "temperature", "max_new_tokens"),
    "agree": (),
    "constitute_revise": ("rounds", "temperature", "critic_temperature"),
    "constitute_supervise": ("epochs", "learning_rate", "lora_rank"),
    "constitute_prefer": ("pairs", "temperature"),
    "reward": ("train", "epochs", "learning_rate", "batch_prompts"),
    "align": ("algorithm", "prompts_per_step", "epochs", "learning_rate", "beta", "lora_rank", "clip"),
    "evaluate": ("samples", "temperature", "max_new_tokens"),
}
"""The settings worth reading, by step."""


def workspace_report(
    workspace: Workspace,
    evaluation: Evaluation,
    run: Run,
    *,
    title: str = "Before and after alignment",
    labels: Mapping[str, str] | None = None,
    fluency: str = "",
    gold: Mapping[str, Any] | None = None,
    constitution: ConstitutionSection | None = None,
    simulated: Sequence[str] = (),
    caveats: Sequence[str] = (),
    path: Path | None = None,
) -> Path:
    """Write report.html (and its data) for ``evaluation``, made by ``run``; returns the page's path.

    ``gold`` holds what only a world that knows the truth can say: ``labelers`` (name -> interval),
    ``average``, ``consensus`` and ``reward`` (intervals of agreement with gold).
    """
    made_from = _made_from(workspace, run)
    latest = {kind: made_from.get(kind) for kind in ("agree", "reward", "align")}
    align = latest["align"]
    # an alignment's inputs are its model, its prompts, and what its reward is made of
    optimised = align is not None and bool(set(align.inputs[2:]) & set(run.inputs))
    proxy = "reward" if optimised or evaluation.criterion != "reward" else ""
    data = ReportData(
        title=title,
        verdict=verdict(evaluation, VerdictConfig(proxy=proxy, fluency=fluency, labels=labels or {})),
        headline=headline(evaluation, fluency, labels),
        subtitle=f"workspace {workspace.path.name}, run {run.id}",
        date=run.started[:16].replace("T", " ") + " UTC",
        steps=tuple(_step(r) for r in _story(workspace, run, made_from)),
        versions={**run.versions, "machine": f"{platform.system()} {platform.machine()}"},
        labelers=_labelers(latest["agree"], gold or {}, bool(simulated)),
        reward=_reward(latest["reward"], gold or {}),
        training=_training(latest["align"]),
        constitution=constitution,
        evaluation=evaluation,
        simulated=tuple(simulated),
        caveats=tuple(caveats),
        labels=labels or {},
    )
    page = path or run.path / "report.html"
    page.with_suffix(".json").write_text(data.to_json(), encoding="utf-8")
    write_report(page, data)
    return page


def _made_from(workspace: Workspace, run: Run) -> dict[str, Run]:
    """The runs that ``run`` was made from, the newest of each kind, by its lineage."""
    found: dict[str, Run] = {}
    todo, seen = [workspace.store.lineage(run.id)], set()
    while todo:
        node = todo.pop()
        if node.id in seen:
            continue
        seen.add(node.id)
        todo += node.inputs
        older = found.get(node.run.kind) if node.run else None
        if node.run and (older is None or older.started < node.run.started):
            found[node.run.kind] = node.run
    return found


def _story(workspace: Workspace, last: Run, made_from: Mapping[str, Run]) -> list[Run]:
    """What ``last`` was made from, and the newest earlier run of each step that only adds rows."""
    story = dict(made_from)
    for run in workspace.store.runs(status=Status.DONE):
        if (
            run.kind in ("import", "sample", "label", "constitute_revise", "constitute_supervise")
            and run.started <= last.started
        ):
            story[run.kind] = run
    return sorted(story.values(), key=lambda run: run.started)


def _step(run: Run) -> Step:
    metrics, config = run.metrics, run.config
    counts = {k: v for k, v in metrics.items() if isinstance(v, int) and not isinstance(v, bool)}
    settings = {key: str(config[key]) for key in SETTINGS.get(run.kind, ()) if config.get(key) is not None}
    model = str(metrics.get("model") or config.get("model") or config.get("base") or "")
    return Step(
        name=run.kind,
        summary=_summary(run),
        counts=counts,
        model=Path(model).name,
        hash=str(metrics.get("artefact", ""))[:16],
        seed=config.get("seed"),
        seconds=metrics.get("seconds"),
        settings=settings,
    )


def _summary(run: Run) -> str:
    algorithm = _algorithm(run)
    way = way_of(algorithm.lower()).section if run.kind == "align" else run.kind
    return SUMMARIES.get(way, "").format(algorithm=algorithm)


def _algorithm(run: Run) -> str:
    """The name as papers write it; PPO for runs of before there was a choice."""
    return str(run.config.get("algorithm", "ppo")).upper()


def _labelers(run: Run | None, gold: Mapping[str, Any], simulated: bool) -> LabelerSection | None:
    if run is None:
        return None
    consensus = json.loads((run.path / "consensus.json").read_text())
    rows = consensus["labelers"]
    known, notes = gold.get("labelers", {}), consensus.get("standing", {})
    pairs = sum(row["pairs"] for row in rows) or 1
    ranked = sum(row["rankings"] for row in rows) or 1
    return LabelerSection(
        labelers=tuple(
            _labeler(row, known.get(row["labeler"]), notes.get(row["labeler"], "")) for row in rows
        ),
        simulated=simulated,
        method="Davidson's model of pairs with ties, a reliability and tie habit for each labeler",
        agreement=_estimate(consensus["agreement"]["alpha_ordinal"]["interval"]),
        agreement_name="Krippendorff's alpha (ordinal)",
        consensus_gold=gold.get("consensus"),
        average_gold=gold.get("average"),
        ties=sum(row["tie_share"] * row["pairs"] for row in rows) / pairs,
        fails=sum(row["fail_share"] * row["rankings"] for row in rows) / ranked,
    )


def _labeler(row: Mapping[str, Any], gold: Estimate | None, note: str) -> Labeler:
    biases = {}
    if row["first_share"] is not None and row["first_chance"] is not None:
        biases["position"] = row["first_share"] - row["first_chance"]
    if row["length_correlation"] is not None:
        biases["length"] = row["length_correlation"]
    return Labeler(row["labeler"], row["rankings"], _estimate(row["reliability"]), gold, biases, note)


def _estimate(figure: Mapping[str, Any] | None) -> Estimate | None:
    """An interval as it was written; None where the figure is undefined (it then holds a reason)."""
    if figure is None or figure.get("value") is None:
        return None
    return Estimate(figure["value"], figure.get("low"), figure.get("high"))


def _reward(run: Run | None, gold: Mapping[str, Any]) -> RewardSection | None:
    if run is None:
        return None
    report = json.loads((run.path / "report.json").read_text())
    if report["accuracy"] is None:  # trained on anchors alone: no pair to be right on
        return None
    bins = report["reliability"]
    pairs = sum(b["count"] for b in bins) or 1
    section = RewardSection(
        name=Path(run.metrics["model"]).name,
        pairs=report["pairs_holdout"],
        accuracy=Estimate(report["accuracy"], report["accuracy_low"], report["accuracy_high"]),
        length_baseline=Estimate(report["length_only_accuracy"]),
        gold=gold.get("reward"),
        train_pairs=report["pairs_train"],
        calibration=tuple(CalibrationBin(b["predicted"], b["observed"], b["count"]) for b in bins),
        calibration_error=sum(abs(b["predicted"] - b["observed"]) * b["count"] for b in bins) / pairs,
        chosen_scores=tuple(report["chosen_scores"]),
        rejected_scores=tuple(report["rejected_scores"]),
    )
    studied = run.path / STUDY
    return with_study(section, json.loads(studied.read_text())) if studied.exists() else section


def _training(run: Run | None) -> TrainingSection | None:
    if run is None:
        return None
    history = json.loads((run.path / "history.json").read_text())
    steps = tuple(int(row["step"]) for row in history)
    series = {
        name: tuple(row.get(key) for row in history)
        for key, name in CURVES.items()
        if any(key in row for row in history)
    }
    events = _events(run)
    reason = run.metrics.get("reason")
    if reason and not any(reason in event.text for event in events):
        events = (*events, Event(steps[-1], reason))
    return TrainingSection(_algorithm(run), steps, series, events) if series else None


def _events(run: Run) -> tuple[Event, ...]:
    """The guard's verdicts; one that stands for several steps on end is told once, as it was first put."""
    path = run.path / VERDICTS
    told = json.loads(path.read_text()) if path.exists() else []
    spells: list[list[Mapping[str, Any]]] = []
    for row in told:
        last = spells[-1][-1] if spells else None
        if last and (last["action"], last["step"]) == (row["action"], row["step"] - 1):
            spells[-1].append(row)
        else:
            spells.append([row])
    return tuple(Event(spell[0]["step"], _words(spell)) for spell in spells)


def _words(spell: Sequence[Mapping[str, Any]]) -> str:
    first, more = spell[0], len(spell) - 1
    lasting = f" (and {more} more step{'s' if more > 1 else ''})" if more else ""
    paid = f" The best paid answer: “{first['example'][:160]}”"
    return f"{first['action']}{lasting}: {first['reason']}.{paid}"
