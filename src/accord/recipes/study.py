"""The report every reward model gets, and the same of any scorer on any judgements: `accord study`.

A verb of its own: it trains nothing and changes no model, and what is studied may be a ready-made classifier
or a folder from elsewhere, on the workspace's judgements or on a file's. `accord reward` makes the same
report of the prompts it held out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from accord.config import Config
from accord.errors import DataError
from accord.feedback.consensus import AgreeConfig
from accord.feedback.consensus import agree as agree_rankings
from accord.feedback.formats.read import read_feedback
from accord.judgements import Comparison, Ranking
from accord.lm.grouped import normalised
from accord.recipes.record import comparisons_of, recorded
from accord.recipes.reward_report import STUDY, headlines, near_duplicates
from accord.recipes.steps import scorer_of
from accord.reward.study import Study, study_scorer
from accord.store.lineage import Run, Status
from accord.types import Scorer, digest
from accord.workspace import Workspace


class StudyConfig(Config):
    """`accord study`: what a scorer does on judged pairs it was not trained on."""

    reward: str = "reward"
    """"reward": the latest reward model; a folder, or hf:NAME with a label: a ready-made classifier."""
    label: str | None = None
    """The label of a ready-made classifier that is studied..."""
    label_value: Literal["log-odds", "logit"] = "log-odds"
    """...by its log-odds, or by its raw logit."""
    on: str = ""
    """A file of judgements to study it on, as for `accord import`, which is read and not stored."""
    split: str | None = None
    """Only the prompts of this split of the workspace."""
    seed: int = Field(0, ge=0)
    """Of the intervals' resampling."""


@dataclass(frozen=True)
class Evidence:
    """What a scorer is studied on."""

    comparisons: list[Comparison]
    rankings: list[Ranking]
    """The single judgements behind them."""
    sources: list[str]
    """Ids of runs, digest of a file."""
    trained: list[Comparison]
    """What the scorer was trained on, as far as it is known; none of its prompts is in ``comparisons``."""
    left_out: int
    """Comparisons left out because their prompts were trained on."""


def study(workspace: Workspace, config: StudyConfig, *, gold: Scorer | None = None) -> tuple[Run, Study]:
    """The report of a scorer on the workspace's judgements, or on a file's, recorded as a run.

    Of the latest reward model, prompts it was trained on are left out. ``gold`` is a world's true scorer.

    Raises:
        StoreError: there is no reward model yet.
        DataError: no comparison is left, or all are ties.
    """
    scorer, inputs = scorer_of(workspace, config.reward, config.label, config.label_value)
    own = config.label is None and config.reward in ("", "reward")
    evidence = _of_file(config.on) if config.on else _of_workspace(workspace, config.split)
    if own:
        evidence = _without_trained(workspace, evidence)
    if not evidence.comparisons:
        raise DataError(
            f"no comparison to study the scorer on: {evidence.left_out} are of prompts it was trained on. "
            "Train with a larger --holdout, or name judgements of other prompts with --on FILE"
        )
    with recorded(workspace, "study", config.model_dump(mode="json"), [*inputs, *evidence.sources]) as record:
        found = study_scorer(
            scorer,
            evidence.comparisons,
            learned=evidence.trained,
            rankings=evidence.rankings,
            splits=workspace.store.splits(),
            clusters=near_duplicates(evidence.comparisons),
            gold=gold,
            seed=config.seed,
        )
        record.write(STUDY, found, "study")
        record.metrics |= {**headlines(found), "left_out_as_trained": evidence.left_out}
    return workspace.store.run(record.run.id), found


def _of_workspace(workspace: Workspace, split: str | None) -> Evidence:
    sources, comparisons = comparisons_of(workspace)
    if split is not None:
        known = {prompt.id for prompt in workspace.store.prompts(split)}
        comparisons = [c for c in comparisons if c.prompt.id in known]
        if not comparisons:
            raise DataError(f"no comparison is of a prompt in split {split!r}; name another, or none")
    return Evidence(comparisons, list(workspace.store.rankings()), sources, [], 0)


def _of_file(name: str) -> Evidence:
    feedback = read_feedback(name, "auto")
    comparisons = list(feedback.comparisons)
    if feedback.rankings:
        agreed = agree_rankings(feedback.prompts, feedback.completions, feedback.rankings, AgreeConfig())
        comparisons += agreed.comparisons
    if not comparisons:
        raise DataError(f"{name} holds no comparisons or rankings; `accord import` says what it reads")
    content = digest([[c.prompt.id, c.chosen.text, c.rejected.text, c.p_chosen] for c in comparisons])
    return Evidence(comparisons, list(feedback.rankings), [f"file:{name}", content], [], 0)


def _without_trained(workspace: Workspace, evidence: Evidence) -> Evidence:
    """The evidence but for prompts that the latest reward model was trained on, near-duplicates too."""
    run = workspace.store.runs("reward", Status.DONE)[-1]
    held_out = set(json.loads((run.path / "report.json").read_text())["held_out"])
    runs = {each.id for kind in ("agree", "import") for each in workspace.store.runs(kind, Status.DONE)}
    learned = [c for item in run.inputs if item in runs for c in workspace.store.comparisons(item)]
    trained = [c for c in learned if c.prompt.id not in held_out]
    known = {normalised(c.prompt.text) for c in trained}
    kept = [c for c in evidence.comparisons if normalised(c.prompt.text) not in known]
    left_out = len(evidence.comparisons) - len(kept)
    return Evidence(kept, evidence.rankings, evidence.sources, trained, left_out)
