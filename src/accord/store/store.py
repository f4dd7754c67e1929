"""The one place where facts live: prompts, completions, judgements, comparisons, and their lineage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Select, func, select

from accord.errors import StoreError
from accord.judgements import Comparison, Ranking, Remark, Thumb
from accord.store import facts
from accord.store import rows as r
from accord.store import tables as t
from accord.store.database import Database
from accord.store.events import add_events, read_events
from accord.store.lineage import Lineage, Status
from accord.store.verify import Problem, verify
from accord.types import Completion, Group, Prompt, digest

T = TypeVar("T")


class Store(Lineage):
    """The facts of one workspace, in SQLite or PostgreSQL by ``url``.

    Adding what is stored already changes nothing; nothing stored is ever changed. Every ``add_*`` is
    one transaction: all of it or none. Safe for many threads and processes at once. Opening brings an
    older database to the newest revision. ``create=False`` refuses an absent SQLite file.

    Raises :class:`ConfigError` for a URL that cannot be used, :class:`StoreError` for a database that
    cannot be reached or is not accord's, :class:`DataError` for facts that contradict stored ones.
    """

    def __init__(self, url: str, root: str | Path = ".", *, create: bool = True) -> None:
        database = Database(url)
        if not create and database.file is not None and not database.file.is_file():
            raise StoreError(
                f"database {database.file} is missing; restore it from a backup, "
                f"or make an empty one with: touch {database.file}"
            )
        database.migrate()
        super().__init__(database, Path(root))

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        self.database.engine.dispose()

    # -- prompts and completions ------------------------------------------------------------------

    def add_prompts(self, prompts: Sequence[Prompt], split: str | None = None) -> list[str]:
        """Store prompts, in ``split`` if given; returns their ids. A prompt never changes its split."""
        with self.database.write() as connection:
            facts.add_prompts(connection, prompts)
            if split is not None:
                named = [{"prompt_id": prompt.id, "split": split} for prompt in prompts]
                r.insert_new(connection, t.splits, named, r.equal_on("split"), key="prompt_id")
        return [prompt.id for prompt in prompts]

    def prompts(self, split: str | None = None, ids: Iterable[str] | None = None) -> list[Prompt]:
        """Prompts in the order they were added, of one split if given; or those of ``ids``, in that order."""
        with self.database.read() as connection:
            members = None
            if split is not None:
                query = select(t.splits.c.prompt_id).where(t.splits.c.split == split)
                members = set(connection.execute(query).scalars())
            if ids is None:
                query = select(t.prompts).order_by(t.prompts.c.seq)
                found = [r.to_prompt(row) for row in r.stream(connection, query)]
            else:
                found = list(facts.load_prompts(connection, ids).values())
        return [prompt for prompt in found if members is None or prompt.id in members]

    def splits(self) -> dict[str, str]:
        """The split of each prompt that is in one, by prompt id."""
        with self.database.read() as connection:
            rows = connection.execute(select(t.splits.c.prompt_id, t.splits.c.split))
            return {row.prompt_id: row.split for row in rows}

    def add_completions(self, prompt_id: str, completions: Sequence[Completion]) -> list[str]:
        """Store completions of a stored prompt; returns their ids.

        The id is a digest of prompt, text, token ids and origin: the same sample again is the one
        stored before, log-probs and all. Many prompts are stored faster by one :meth:`add_groups`.
        """
        with self.database.write() as connection:
            facts.load_prompts(connection, [prompt_id])
            return facts.add_completions(connection, [(prompt_id, completions)])[0]

    def add_groups(self, groups: Sequence[Group]) -> list[list[str]]:
        """Store prompts with their completions in one transaction; returns the completions' ids."""
        with self.database.write() as connection:
            facts.add_prompts(connection, [prompt for prompt, _ in groups])
            return facts.add_completions(connection, [(prompt.id, given) for prompt, given in groups])

    def completions(self, prompt_ids: Iterable[str] | None = None) -> dict[str, list[Completion]]:
        """Completions by prompt id, in the order they were added; every id asked for is a key."""
        with self.database.read() as connection:
            if prompt_ids is None:
                grouped: dict[str, list[Completion]] = {}
                query = select(t.completions).order_by(t.completions.c.seq)
                rows = r.stream(connection, query)
            else:
                wanted = list(dict.fromkeys(prompt_ids))
                grouped = {prompt_id: [] for prompt_id in wanted}
                rows = r.fetch(connection, t.completions, "prompt_id", wanted)
            for prompt_id, completion in facts.to_completions(connection, rows):
                grouped.setdefault(prompt_id, []).append(completion)
        return grouped

    # -- people's judgements ----------------------------------------------------------------------

    def add_rankings(self, rankings: Sequence[Ranking]) -> list[str]:
        """Store rankings; returns their ids.

        ``Ranking.id`` is the idempotency key if given (sent twice, stored once), else a digest of the
        content. A correction names the ranking it ``supersedes``: the same labeler's, of the same
        prompt, not corrected before.
        """
        rows = [r.ranking_row(ranking) for ranking in rankings]
        with self.database.write() as connection:
            facts.add_feedback(connection, rows)
        return [row["id"] for row in rows]

    def rankings(self, current: bool = True) -> Iterator[Ranking]:
        """Stream rankings in the order they came; superseded ones too unless ``current``."""
        return self._stream(facts.feedback(["ranking"], current), r.to_ranking)

    def add_thumbs(self, thumbs: Sequence[Thumb]) -> list[str]:
        """Store votes; returns their ids.

        A labeler's new vote on a completion supersedes the one before; the same vote again is that one.
        """
        with self.database.write() as connection:
            rows = facts.place_votes(connection, thumbs)
            facts.add_feedback(connection, rows)
        return [row["id"] for row in rows]

    def thumbs(self, current: bool = True) -> Iterator[Thumb]:
        """Stream votes in the order they came; only each labeler's latest on a completion if ``current``."""
        return self._stream(facts.feedback(["thumb"], current), r.to_thumb)

    def add_remarks(self, remarks: Sequence[Remark]) -> list[str]:
        """Store skips and flags; returns their ids, digests of the content unless given."""
        rows = [r.remark_row(remark) for remark in remarks]
        with self.database.write() as connection:
            facts.add_feedback(connection, rows)
        return [row["id"] for row in rows]

    def remarks(self) -> Iterator[Remark]:
        """Stream skips and flags in the order they came."""
        return self._stream(facts.feedback(["skip", "flag"], current=False), r.to_remark)

    def add_guidelines(self, text: str) -> str:
        """Store a version of the labelers' guidelines; returns its digest."""
        version = digest(text)
        with self.database.write() as connection:
            r.insert_new(connection, t.guidelines, [{"id": version, "text": text}], r.equal_on("text"))
        return version

    def guidelines(self, version: str) -> str:
        """The text of a version of the guidelines. Raises :class:`StoreError` for an unknown one."""
        with self.database.read() as connection:
            for row in r.fetch(connection, t.guidelines, "id", [version]):
                return row["text"]
        raise StoreError(f"no guidelines of version {version!r} in {self.database.name}")

    # -- comparisons ------------------------------------------------------------------------------

    def add_comparisons(self, comparisons: Sequence[Comparison], run_id: str) -> None:
        """Store all comparisons of a run, with the prompts and completions that are not stored yet."""
        with self.database.write() as connection:
            self._runs(connection, [run_id])
            c = t.comparisons.c
            if connection.execute(select(c.seq).where(c.run_id == run_id).limit(1)).first():
                raise StoreError(f"run {run_id!r} has its comparisons already; start a new run")
            facts.add_prompts(connection, [each.prompt for each in comparisons])
            pairs = [(each.prompt.id, (each.chosen, each.rejected)) for each in comparisons]
            ids = facts.add_completions(connection, pairs)
            rows = [
                {
                    "run_id": run_id,
                    "position": position,
                    "prompt_id": each.prompt.id,
                    "chosen_id": chosen,
                    "rejected_id": rejected,
                    "p_chosen": float(each.p_chosen),
                    "source": each.source,
                    "labelers": list(each.labelers),
                }
                for position, (each, (chosen, rejected)) in enumerate(zip(comparisons, ids, strict=True))
            ]
            r.insert_sealed(connection, t.comparisons, rows)

    def comparisons(self, run_id: str | None = None) -> list[Comparison]:
        """The comparisons of a run; of the latest finished ``agree`` run unless given."""
        if run_id is None:
            finished = self.runs("agree", Status.DONE)
            if not finished:
                raise StoreError("no finished agree run: make comparisons from the rankings first")
            run_id = finished[-1].id
        c = t.comparisons.c
        with self.database.read() as connection:
            self._runs(connection, [run_id])
            query = select(t.comparisons).where(c.run_id == run_id).order_by(c.position)
            rows = list(r.stream(connection, query))
            prompts = facts.load_prompts(connection, (row["prompt_id"] for row in rows))
            wanted = (id for row in rows for id in (row["chosen_id"], row["rejected_id"]))
            found = r.fetch(connection, t.completions, "id", wanted)
            completions = {each.id: each for _, each in facts.to_completions(connection, found)}
        return [
            Comparison(
                prompts[row["prompt_id"]],
                completions[row["chosen_id"]],
                completions[row["rejected_id"]],
                row["p_chosen"],
                row["source"],
                tuple(row["labelers"]),
            )
            for row in rows
        ]

    # -- the whole --------------------------------------------------------------------------------

    def events(self) -> Iterator[dict[str, Any]]:
        """Stream every fact as a JSON-ready event, in an order in which they can be added again."""
        return read_events(self.database)

    def add_events(self, events: Iterable[Mapping[str, Any]]) -> int:
        """Store exported events exactly, ids, times and seals included; returns how many were new."""
        return add_events(self, events)

    def counts(self) -> dict[str, int]:
        """Rows by table."""
        with self.database.read() as connection:
            return {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in t.TABLES
            }

    def verify(self) -> list[Problem]:
        """Prove every row, reference and artefact; an empty list means the store is sound."""
        return verify(self.database, self.root)

    def _stream(self, query: Select[Any], make: Callable[[t.Row], T]) -> Iterator[T]:
        with self.database.read() as connection:
            for row in r.stream(connection, query):
                yield make(row)
