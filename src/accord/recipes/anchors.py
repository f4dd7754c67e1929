"""What a workspace knows of completions by themselves: FAIL by the consensus, and thumbs. Loads no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator

from accord.feedback.consensus import Consensus
from accord.feedback.thumbs import anchors as thumbs_to_anchors
from accord.judgements import Anchor
from accord.recipes.record import Record
from accord.store.lineage import Status
from accord.workspace import Workspace

FAILS = "fails.json"
"""File of an agree run: prompt id -> completion id -> probability that it is a FAIL."""
FAIL_SOURCE = "fail"
"""``Anchor.source`` of what the consensus says of FAIL."""


def write_fails(record: Record, consensus: Consensus) -> None:
    """Write the consensus on FAIL into the agree run's folder."""
    fails = {
        prompt: {completion: score.p_fail for completion, score in group.items()}
        for prompt, group in consensus.scores.items()
    }
    record.write(FAILS, fails, "fails")


def anchors_of(workspace: Workspace) -> tuple[list[str], list[Anchor]]:
    """FAIL of the latest consensus and the latest thumbs, each as anchors, with the runs they are of.

    There are none of FAIL where nobody marked one: then nobody may have been asked to.
    """
    anchors = list(_fails(workspace))
    runs = [workspace.store.runs("agree", Status.DONE)[-1].id] if anchors else []
    thumbs = list(workspace.store.thumbs(current=False))
    if thumbs:
        ids = list(dict.fromkeys(thumb.prompt_id for thumb in thumbs))
        prompts = {prompt.id: prompt for prompt in workspace.store.prompts(ids=ids)}
        anchors += thumbs_to_anchors(thumbs, prompts, workspace.store.completions(ids)).anchors
    return runs, anchors


def _fails(workspace: Workspace) -> Iterator[Anchor]:
    runs = workspace.store.runs("agree", Status.DONE)[-1:]
    if not runs or not (runs[0].path / FAILS).exists():
        return
    fails = json.loads((runs[0].path / FAILS).read_text())
    completions = workspace.store.completions(list(fails))
    for prompt in workspace.store.prompts(ids=list(fails)):
        known = {completion.id: completion for completion in completions[prompt.id]}
        for completion, p_fail in fails[prompt.id].items():
            yield Anchor(prompt, known[completion], 1 - p_fail, source=FAIL_SOURCE)
