"""What every step does around its work: open a run, keep its inputs, figures and files, close it.

A step that fails or is interrupted says so in its run and loses nothing that was stored before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from accord.constitution.prefer import SOURCE as CONSTITUTION
from accord.errors import DataError
from accord.judgements import Comparison
from accord.store.lineage import Artefact, Run, Status
from accord.types import Prompt
from accord.workspace import Workspace

VERDICTS = "verdicts.json"
"""What the guard said of a run of alignment, step by step."""
PREFER = "constitute_prefer"
"""The kind of run that compares completions by a constitution."""
SURE = 0.75
"""People agree on a pair where so large a share of them prefers one answer."""
Progress = Callable[[Mapping[str, float]], None]
Listener = Callable[[Run, Callable[[], Run]], AbstractContextManager[Progress]]
"""Follows a run from its record on: given the run and a way to look at it again, it opens, hears each step,
and closes once the run's end is recorded."""


@dataclass
class Record:
    """A run under way: fill ``metrics``; write files below ``run.path``."""

    run: Run
    workspace: Workspace
    metrics: dict[str, Any] = field(default_factory=dict)
    status: Status = Status.DONE
    heard: Sequence[Progress] = ()

    def told(self, progress: Progress) -> Progress:
        """``progress`` with all who listen to the run."""

        def tell(metrics: Mapping[str, float]) -> None:
            for each in (progress, *self.heard):
                each(metrics)

        return tell

    def write(self, name: str, value: Any, kind: str) -> Artefact:
        """Write a JSON file into the run's folder and record it."""
        path = self.run.path / name
        path.write_text(json.dumps(plain(value), indent=1) + "\n", encoding="utf-8")
        return self.workspace.store.add_artefact(self.run.id, kind, path)


def plain(value: Any) -> Any:
    """A record as JSON-ready data; what is undefined (NaN, a bound no resample supports) is null."""
    return TypeAdapter(Any).dump_python(value, mode="json")


@contextmanager
def recorded(
    workspace: Workspace,
    kind: str,
    config: Mapping[str, Any],
    inputs: Sequence[str] = (),
    run: Run | None = None,
    listeners: Sequence[Listener] = (),
) -> Iterator[Record]:
    """Open a run (or go on with ``run``), close it with its metrics, time and outcome whatever happens.

    ``listeners`` hear what is told to ``record.told``, and are closed after the run.
    """
    store = workspace.store
    record = Record(run or store.start_run(kind, config, inputs), workspace)
    id, started = record.run.id, time.monotonic()
    with ExitStack() as listening:
        try:
            record.heard = [
                listening.enter_context(listen(record.run, lambda: store.run(id))) for listen in listeners
            ]
            yield record
        except BaseException as error:
            status = Status.INTERRUPTED if isinstance(error, KeyboardInterrupt) else Status.FAILED
            store.finish_run(id, status, {"error": f"{type(error).__name__}: {error}"})
            raise
        record.metrics["seconds"] = round(time.monotonic() - started, 3)
        store.finish_run(id, record.status, plain(record.metrics))


def prompts_of(workspace: Workspace, split: str | None) -> list[Prompt]:
    """The prompts of a split (all without one); DataError where there are none."""
    prompts = workspace.store.prompts(split)
    if not prompts:
        where = f"of split {split!r} " if split else ""
        raise DataError(f"the workspace has no prompts {where}yet; add some with: accord import FILE")
    return prompts


def comparisons_of(workspace: Workspace, needed: bool = True) -> tuple[list[str], list[Comparison]]:
    """The comparisons of the latest consensus, of all imports, and of the latest choices by a constitution,
    with the runs they are of.

    Raises:
        DataError: there are none and they are ``needed``.
    """
    store = workspace.store
    latest = [run for kind in ("agree", PREFER) for run in store.runs(kind, Status.DONE)[-1:]]
    runs = [*latest, *store.runs("import", Status.DONE)]
    if not runs and needed:
        raise DataError("there are no comparisons yet; make some from rankings with: accord agree")
    return [run.id for run in runs], [c for run in runs for c in store.comparisons(run.id)]


def agreed(workspace: Workspace, split: str | None) -> tuple[list[str], list[Comparison]]:
    """The comparisons of different texts on which people agree (:data:`SURE`), and the runs they are of: what
    judges are measured against. Those by a constitution are left out.

    Raises:
        DataError: there is none, of the split where one is named.
    """
    sources, compared = comparisons_of(workspace)
    splits = workspace.store.splits() if split else {}
    known = [
        one
        for one in compared
        if one.source != CONSTITUTION
        and one.p_chosen >= SURE
        and one.chosen.text != one.rejected.text
        and split in (None, splits.get(one.prompt.id))
    ]
    if not known:
        where = f" of split {split!r}" if split else ""
        raise DataError(
            f"there is no pair{where} on which people agree to {SURE:.0%}: a judge is measured against "
            "people's comparisons; make some with `accord label` and `accord agree`, or import them"
        )
    return sources, known
