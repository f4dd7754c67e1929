"""Judgements in and out of a workspace, and the consensus on them. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from accord.errors import DataError
from accord.feedback.consensus import AgreeConfig, Consensus
from accord.feedback.consensus import agree as agree_rankings
from accord.feedback.formats.gather import Feedback, Format
from accord.feedback.formats.read import read_feedback
from accord.feedback.formats.write import Written, write_stored
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.turned import turned_by
from accord.judgements import Ranking
from accord.recipes.anchors import write_fails
from accord.recipes.record import recorded
from accord.stats.agreement import once
from accord.stats.labelers import standing
from accord.store.events import imported_as
from accord.store.lineage import Run, Status
from accord.types import Completion, digest
from accord.workspace import Workspace


def import_feedback(
    workspace: Workspace,
    source: str,
    format: str = "auto",
    *,
    split: str | None = None,
    criterion: str = "",
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
) -> Feedback:
    """Read judgements or prompts from a file, folder or ``hf:`` data set into the store.

    ``criterion`` is that of rankings whose row names none. A store's event log is taken in as it is, with its
    splits and guidelines, ids, times and seals.

    Raises:
        DataError: nothing there, malformed rows (file and line named), or nothing in it.
    """
    feedback = read_feedback(
        source, format, columns=columns, limit=limit, on_error="skip" if skip_bad else "raise"
    )
    store = workspace.store
    if feedback.events:
        if split or criterion:
            raise DataError(
                f"{source} is an event log: it has splits and criteria of its own, each sealed; "
                "give no split and no criterion"
            )
        store.add_events(feedback.events)
        return feedback
    store.add_prompts(list(feedback.prompts.values()), split)
    stored = store.completions(feedback.completions)
    groups = [
        (prompt, _unknown(stored[prompt.id], feedback.completions.get(prompt.id, [])))
        for prompt in feedback.prompts.values()
    ]
    store.add_groups([group for group in groups if group[1]])
    store.add_rankings([_judged_by(criterion, ranking) for ranking in feedback.rankings])
    store.add_thumbs(feedback.thumbs)
    store.add_remarks(feedback.remarks)
    content = imported_as((c.prompt.id, c.chosen.id, c.rejected.id, c.p_chosen) for c in feedback.comparisons)
    known = {each for run in store.runs("import", Status.DONE) for each in run.inputs}
    if feedback.comparisons and content not in known:  # a file read twice is there once
        config = {"source": str(source), "format": feedback.format}
        with recorded(workspace, "import", config, [f"file:{source}", content]) as record:
            store.add_comparisons(feedback.comparisons, record.run.id)
            record.metrics["comparisons"] = len(feedback.comparisons)
    return feedback


def export_feedback(
    workspace: Workspace,
    path: str,
    format: str,
    *,
    ties: Literal["drop", "keep"] = "drop",
    overwrite: bool = False,
) -> Written:
    """Write the store's judgements to a file; pair formats get the latest consensus where there is one.

    ``tasks`` writes what is there to be ranked: a sheet for labelers, read back as ``rankings``, which then
    have the criterion of the labelling app's settings and the version of guidelines.md as it stands.
    """
    asked = ("", "")
    if format == Format.TASKS:
        label = LabelConfig.build(workspace.section("label"), "accord.toml [label]")
        asked = (label.criterion, workspace.guidelines()[0])
    return write_stored(workspace.store, path, format, ties=ties, overwrite=overwrite, asked=asked)


def _judged_by(criterion: str, ranking: Ranking) -> Ranking:
    return ranking if ranking.criterion else replace(ranking, criterion=criterion)


def _unknown(stored: Sequence[Completion], read: Sequence[Completion]) -> list[Completion]:
    """What was read and is not stored; a file that ranks stored completions names them by id.

    Raises:
        DataError: an id is stored with another text.
    """
    texts = {completion.id: completion.text for completion in stored}
    for completion in read:
        if texts.get(completion.id, completion.text) != completion.text:
            raise DataError(
                f"completion {completion.id!r} is stored with the text {texts[completion.id][:60]!r} and was "
                f"read with {completion.text[:60]!r}; a text must not be changed: give it another id"
            )
    return [completion for completion in read if completion.id not in texts]


def agree(workspace: Workspace, config: AgreeConfig) -> tuple[Run, Consensus]:
    """The labelers' consensus: comparisons with probabilities, and what is known of each labeler.

    Raises:
        DataError: there are no rankings.
    """
    store = workspace.store
    rankings = list(store.rankings())
    if not rankings:
        raise DataError("the workspace has no rankings yet; import some with: accord import FILE")
    ids = list(dict.fromkeys(ranking.prompt_id for ranking in rankings))
    inputs = [digest([ranking.id for ranking in rankings])]
    with recorded(workspace, "agree", config.model_dump(), inputs) as record:
        prompts = {prompt.id: prompt for prompt in store.prompts(ids=ids)}
        consensus = agree_rankings(prompts, store.completions(ids), rankings, config)
        store.add_comparisons(consensus.comparisons, record.run.id)
        alpha, counted = consensus.agreement.alpha_ordinal.interval, len(once(rankings))
        record.metrics |= {
            "rankings": counted,
            "repeats": len(rankings) - counted,
            "labelers": len(consensus.labelers),
            "comparisons": len(consensus.comparisons),
            "dropped": consensus.dropped,
            "alpha": None if alpha is None else alpha.value,
            "prior": _prior(consensus),
        }
        words = {
            row.labeler: standing(row, consensus.typical, config.min_overlap).words
            for row in consensus.labelers
        }
        shown = {"labelers": consensus.labelers, "standing": words, "agreement": consensus.agreement,
                 "dropped": consensus.dropped, "warnings": consensus.warnings,
                 "prior": consensus.prior,
                 "turned": {"pairs": consensus.turned, "against": turned_by(consensus.turned)}}  # fmt: skip
        record.write("consensus.json", shown, "consensus")
        if any(ranking.fails for ranking in rankings):
            write_fails(record, consensus)
    return store.run(record.run.id), consensus


def _prior(consensus: Consensus) -> dict[str, Any] | None:
    """The reliability prior of the fit; ``None`` where reliability was assumed."""
    if consensus.prior is None:
        return None
    mean, sd = consensus.prior.prior.reliability()
    return {"mean": mean, "sd": sd, "gain": consensus.prior.gain, "alike": consensus.prior.alike}
