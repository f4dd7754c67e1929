"""What needs the consensus, computed in the background: agreement, labelers, disputes.

A fit of a large pool takes up to a minute, so a page shows the latest one with its time. A new one starts
when somebody looks, labels have come since, and the last one is at least :data:`REST` times as long ago as
it took: the app spends no more than a tenth of its time on it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sqlalchemy import func, select

from accord.errors import AccordError
from accord.feedback.consensus import AgreeConfig, Consensus, agree
from accord.feedback.labeling.monitor_disputes import (
    UNCLEAR,
    Dispute,
    contradictions,
    disputes,
    reliability_weights,
)
from accord.feedback.labeling.monitor_labelers import LabelerLine, labeler_table
from accord.stats.agreement import ADJUDICATED, Agreement, Figure
from accord.stats.consistency import consistency, repeats
from accord.stats.intervals import Interval
from accord.stats.labelers import Standing
from accord.store import rows, tables
from accord.store import state as t
from accord.store.store import Store

log = logging.getLogger(__name__)

REST = 9.0
LEAST_PAUSE = 5.0
"""Seconds between the end of one study and the start of the next, at least."""
DRAWS = 500
Mark = tuple[int, int]
"""The latest judgement and the number of gold items: whether a study is out of date."""


@dataclass(frozen=True)
class Study:
    """All that the consensus on the rankings tells, at one moment."""

    at: float
    """When the rankings were read (seconds since 1970)."""
    seconds: float
    """How long it took."""
    mark: Mark
    rankings: int = 0
    trouble: str = ""
    """Why there is no consensus; empty where there is one."""
    consensus: Consensus | None = None
    """Without its comparisons."""
    repeats: Figure | None = None
    """Share of pairs on which labelers who were asked again said the same."""
    labelers: list[LabelerLine] = field(default_factory=list)
    disputes: list[Dispute] = field(default_factory=list)
    contradicted: Interval | None = None
    """Share of contradicted votes among good labelers (``monitor_disputes.contradictions``)."""

    @property
    def agreement(self) -> Agreement | None:
        """Of the consensus: adjudications left out, for they were made with the others' answers in view."""
        return self.consensus.agreement if self.consensus else None

    @property
    def unclear(self) -> bool:
        """Whether good labelers contradict one another so often that the guidelines may be unclear."""
        return self.contradicted is not None and self.contradicted.low > UNCLEAR

    def line(self, labeler: str) -> LabelerLine | None:
        """A labeler's line, if there is one."""
        return next((line for line in self.labelers if line.labeler == labeler), None)


def study(store: Store, config: AgreeConfig, now: float) -> Study:
    """Read the rankings and fit them. A pool without a consensus gives the reason in ``trouble``."""
    began = time.perf_counter()
    mark = current_mark(store)
    rankings = [each for each in store.rankings() if each.criterion == config.criterion]

    def done(**found: Any) -> Study:
        return Study(now, time.perf_counter() - began, mark, len(rankings), **found)

    ids = list(dict.fromkeys(each.prompt_id for each in rankings))
    prompts = {prompt.id: prompt for prompt in store.prompts(ids=ids)}
    completions = store.completions(ids)
    try:
        consensus = agree(prompts, completions, rankings, config)
    except AccordError as error:
        return done(trouble=str(error))
    independent = [each for each in rankings if each.arm != ADJUDICATED]
    rng = np.random.default_rng(config.seed)
    with store.database.read() as connection:
        gold = {row["prompt_id"]: row for row in rows.stream(connection, select(t.gold))}
    lines = labeler_table(consensus, rankings, prompts, completions, gold, config)
    good = [line.labeler for line in lines if line.standing == Standing.FINE]
    found = disputes(rankings, consensus, reliability_weights(consensus, config.min_overlap))
    return done(
        consensus=replace(consensus, comparisons=[]),  # 300,000 of a large project; no page shows them
        repeats=consistency(repeats(independent), rng, DRAWS).exact,
        labelers=lines,
        disputes=[each for each in found if each.prompt_id not in gold],
        contradicted=contradictions(independent, good, rng, DRAWS),
    )


def current_mark(store: Store) -> Mark:
    """Of the store as it is."""
    with store.database.read() as connection:
        latest = connection.execute(select(func.max(tables.feedback.c.seq))).scalar()
        gold = connection.execute(select(func.count()).select_from(t.gold)).scalar_one()
    return latest or 0, gold


class Studies:
    """The latest :class:`Study` of one project, renewed in a thread of its own when somebody looks."""

    def __init__(self, store: Store, config: AgreeConfig, clock: Callable[[], float]) -> None:
        self.store, self.config, self.clock = store, config, clock
        self._lock = threading.Lock()
        self._latest: Study | None = None
        self._running: threading.Event | None = None
        self._ended = 0.0

    def latest(self, wait: float = 0.0) -> Study | None:
        """The latest study, ``None`` before the first; waits up to ``wait`` seconds for one under way."""
        running = self._start_if_due()
        if running is not None:
            running.wait(wait)
        return self._latest

    @property
    def busy(self) -> bool:
        """Whether one is under way."""
        return self._running is not None

    def _start_if_due(self) -> threading.Event | None:
        mark = current_mark(self.store)
        with self._lock:
            last = self._latest
            if self._running is None and (last is None or (last.mark != mark and self._rested(last))):
                self._running = threading.Event()
                # a daemon: a fit under way does not keep the server from stopping
                threading.Thread(target=self._run, name="accord-study", daemon=True).start()
            return self._running

    def _rested(self, last: Study) -> bool:
        return time.monotonic() - self._ended >= max(LEAST_PAUSE, REST * last.seconds)

    def _run(self) -> None:
        began, now = time.perf_counter(), self.clock()
        mark: Mark = (-1, -1)
        try:
            mark = current_mark(self.store)
            found = study(self.store, self.config, now)
        except Exception as error:  # shown on the page: a thread that died would say nothing
            log.exception("the consensus could not be computed")
            trouble = f"the consensus could not be computed ({type(error).__name__}: {error}); see the log"
            found = Study(now, time.perf_counter() - began, mark, trouble=trouble)
        with self._lock:
            running, self._running = self._running, None
            self._latest, self._ended = found, time.monotonic()
        if running is not None:
            running.set()
