"""Runs, artefacts, and how each came to be: the half of the store that traces figures to their rows."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from accord.errors import DataError, StoreError
from accord.store.database import Database
from accord.store.rows import fetch, insert_new, insert_sealed
from accord.store.tables import Row, artefacts, plain, run_states, runs
from accord.types import digest

PACKAGES = ("accord", "torch", "transformers", "peft", "numpy", "scipy", "sqlalchemy")
KIND = re.compile(r"[a-z][a-z0-9_]*")
HASH = re.compile(r"[0-9a-f]{16,64}")


class Status(StrEnum):
    """Where a run stands. A run that was killed still says ``running``; it can be resumed."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Run:
    """One execution of a step. ``path`` is its folder; times are UTC, ISO 8601."""

    id: str
    kind: str
    status: Status
    path: Path
    config: Mapping[str, Any]
    inputs: tuple[str, ...]
    """Ids of runs and artefacts; hashes of what lies outside the store."""
    versions: Mapping[str, str]
    started: str
    finished: str | None
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Artefact:
    """A file or folder that a run made, with the SHA-256 of its content at that time."""

    id: str
    run_id: str
    kind: str
    path: Path
    content_hash: str
    created: str


@dataclass(frozen=True)
class Node:
    """A place in a lineage tree: a run, an artefact, or (neither) a hash from outside the store."""

    id: str
    run: Run | None
    artefact: Artefact | None
    inputs: tuple[Node, ...]


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of a folder's sorted relative names and contents; 64 hex digits.

    Raises :class:`StoreError` where there is nothing at ``path``.
    """
    if path.is_file():
        return _file_hash(path)
    if not path.is_dir():
        raise StoreError(f"{path} is missing; write it before it is recorded")
    total = hashlib.sha256()
    files = sorted((p.relative_to(path).as_posix(), p) for p in path.rglob("*") if p.is_file())
    for name, file in files:
        total.update(f"{_file_hash(file)} {name}\n".encode())
    return total.hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a result depends on, read without importing them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class Lineage:
    """Records what was run, on what, with what, and what came out.

    ``root`` is the workspace's folder: runs live under ``root/runs``, and paths of artefacts inside
    it are stored relative to it, so a workspace can be moved.
    """

    def __init__(self, database: Database, root: Path) -> None:
        self.database = database
        self.root = root.resolve()

    def start_run(self, kind: str, config: Mapping[str, Any], inputs: Sequence[str] = ()) -> Run:
        """Open a run and make its folder. ``inputs``: ids of runs or artefacts, or hashes.

        Raises :class:`DataError` for an input that is neither, or a config that JSON cannot hold.
        """
        with self.database.write() as connection:
            run_id = self.open_run(connection, kind, config, inputs)
        return self.run(run_id)

    def open_run(
        self, connection: Connection, kind: str, config: Mapping[str, Any], inputs: Sequence[str] = ()
    ) -> str:
        """The same inside a transaction; returns the run's id."""
        if not KIND.fullmatch(kind):
            raise DataError(f"run kind {kind!r}: use small letters, digits and _")
        _check_inputs(connection, inputs)
        count = select(func.count()).select_from(runs).where(runs.c.kind == kind)
        number = connection.execute(count).scalar_one() + 1
        row = {
            "id": f"{kind}-{number}",
            "kind": kind,
            "path": f"runs/{kind}-{number}",
            "config": plain(config, f"config of {kind}"),
            "inputs": list(inputs),
            "versions": versions(),
        }
        insert_sealed(connection, runs, [row])
        add_state(connection, row["id"], Status.RUNNING, {})
        (self.root / row["path"]).mkdir(parents=True, exist_ok=True)
        return row["id"]

    def finish_run(self, run_id: str, status: str, metrics: Mapping[str, Any]) -> Run:
        """Close a run as ``done``, ``failed`` or ``interrupted``. A run that is done stays done."""
        known = [state for state in Status if state is not Status.RUNNING]
        if status not in known:
            raise DataError(f"status {status!r} of run {run_id!r}; use one of {', '.join(known)}")
        return self._change_state(run_id, Status(status), metrics)

    def resume_run(self, run_id: str) -> Run:
        """Open a run again that failed, was interrupted or was killed."""
        return self._change_state(run_id, Status.RUNNING, {})

    def _change_state(self, run_id: str, status: Status, metrics: Mapping[str, Any]) -> Run:
        with self.database.write() as connection:
            run = self._runs(connection, [run_id])[0]
            if run.status is Status.DONE:
                raise StoreError(f"run {run_id!r} is done since {run.finished}; start a new one")
            add_state(connection, run_id, status, metrics)
        return self.run(run_id)

    def run(self, run_id: str) -> Run:
        """The run of that id. Raises :class:`StoreError` where there is none."""
        with self.database.read() as connection:
            return self._runs(connection, [run_id])[0]

    def runs(self, kind: str | None = None, status: str | None = None) -> list[Run]:
        """Runs, oldest first, of one kind and status if given."""
        query = select(runs.c.id).order_by(runs.c.seq)
        if kind is not None:
            query = query.where(runs.c.kind == kind)
        with self.database.read() as connection:
            found = self._runs(connection, list(connection.execute(query).scalars()))
        return [run for run in found if status is None or run.status == status]

    def _runs(self, connection: Connection, ids: Sequence[str]) -> list[Run]:
        rows = {row["id"]: row for row in fetch(connection, runs, "id", ids)}
        states = {row["run_id"]: row for row in fetch(connection, run_states, "run_id", ids)}
        missing = [id for id in ids if id not in rows]
        if missing:
            raise StoreError(f"no run {missing[0]!r} in {self.database.name}; list them with runs()")
        return [self._run(rows[id], states[id]) for id in ids]

    def _run(self, row: Row, state: Row) -> Run:
        status = Status(state["status"])
        return Run(
            row["id"],
            row["kind"],
            status,
            self.root / row["path"],
            row["config"],
            tuple(row["inputs"]),
            row["versions"],
            row["at"],
            None if status is Status.RUNNING else state["at"],
            state["metrics"],
        )

    def add_artefact(self, run_id: str, kind: str, path: str | Path) -> Artefact:
        """Record a file or folder that a run made, with its hash. The same content twice is one artefact."""
        full = (self.root / path).resolve()
        stored = full.relative_to(self.root).as_posix() if full.is_relative_to(self.root) else str(full)
        content = {"run_id": run_id, "kind": kind, "path": stored, "content_hash": content_hash(full)}
        row = {"id": digest(content), **content}
        with self.database.write() as connection:
            self._runs(connection, [run_id])
            insert_new(connection, artefacts, [row], lambda new, old: True)
        return self.artefact(row["id"])

    def artefact(self, artefact_id: str) -> Artefact:
        """The artefact of that id. Raises :class:`StoreError` where there is none."""
        found = self._artefacts("id", artefact_id)
        if not found:
            raise StoreError(f"no artefact {artefact_id!r} in {self.database.name}; see artefacts(run_id)")
        return found[0]

    def artefacts(self, run_id: str) -> list[Artefact]:
        """What a run made, in order."""
        return self._artefacts("run_id", run_id)

    def _artefacts(self, key: str, value: str) -> list[Artefact]:
        with self.database.read() as connection:
            return [self.to_artefact(row) for row in fetch(connection, artefacts, key, [value])]

    def to_artefact(self, row: Mapping[str, Any]) -> Artefact:
        """An artefact from its row, its path made absolute."""
        return Artefact(
            row["id"], row["run_id"], row["kind"], self.root / row["path"], row["content_hash"], row["at"]
        )

    def lineage(self, id: str) -> Node:
        """Everything a run or artefact was made from, as a tree; shared inputs are one and the same node."""
        known: dict[str, Node] = {}
        node = self._node(id, known)
        if node.run is None and node.artefact is None:
            raise StoreError(f"no run or artefact {id!r} in {self.database.name}; list them with runs()")
        return node

    def _node(self, id: str, known: dict[str, Node]) -> Node:
        if id not in known:
            found = self._artefacts("id", id)
            if found:
                known[id] = Node(id, None, found[0], (self._node(found[0].run_id, known),))
            else:
                known[id] = self._run_node(id, known)
        return known[id]

    def _run_node(self, id: str, known: dict[str, Node]) -> Node:
        with self.database.read() as connection:
            if not list(fetch(connection, runs, "id", [id])):
                return Node(id, None, None, ())
        run = self.run(id)
        return Node(id, run, None, tuple(self._node(each, known) for each in run.inputs))


def add_state(connection: Connection, run_id: str, status: Status, metrics: Mapping[str, Any]) -> None:
    """Write where a run stands from now on."""
    row = {"run_id": run_id, "status": str(status), "metrics": plain(metrics, f"metrics of {run_id}")}
    insert_sealed(connection, run_states, [row])


def _check_inputs(connection: Connection, inputs: Sequence[str]) -> None:
    known = {row["id"] for table in (runs, artefacts) for row in fetch(connection, table, "id", inputs)}
    for each in inputs:
        if each not in known and not HASH.fullmatch(each) and ":" not in each:
            raise DataError(
                f"input {each!r} is no run, no artefact and no hash; give the id of one, its hash, "
                "or name:value for something outside the store"
            )
