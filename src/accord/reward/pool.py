"""Slow rewards in a pool: threads for what waits (a remote scorer, a program under test), processes for what
computes.

Order is kept. The first error stops the rest and is raised as it was; a group that takes longer than
``seconds`` is an error too. Scores are never made up.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import queue
import threading
import time
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from accord.config import Config
from accord.errors import ConfigError, ModelError
from accord.types import Adapts, Completion, Group, Prompt, Score, Scorer

_STARTING = 60.0
"""Seconds that fresh processes may take on top of the first group's own: they import what scores."""


class PoolConfig(Config):
    """How a slow scorer is run."""

    kind: Literal["threads", "processes"] = "threads"
    """threads for a scorer that waits; processes for one that computes in Python."""
    workers: int = Field(4, ge=1)
    """Groups judged at a time."""
    seconds: float = Field(60.0, gt=0, allow_inf_nan=False)
    """Longest time for one group's scores."""


class PooledReward:
    """A scorer whose groups are judged side by side; a ``Scorer``. Close it, or use it in a ``with``.

    In processes the scorer is copied to each worker once, so it must pickle (a function must stand in a
    module), and a script needs ``if __name__ == "__main__":``. A process that hangs is killed; a thread
    cannot be, so it is left behind and keeps nobody waiting.
    """

    def __init__(self, scorer: Scorer, config: PoolConfig | None = None) -> None:
        if isinstance(scorer, Adapts):
            raise ConfigError(
                f"a {type(scorer).__name__} changes with training, and a pool would keep it from that; put "
                "the pool around its slow parts"
            )
        self.scorer = scorer
        self.config = config or PoolConfig()
        self._processes: multiprocessing.pool.Pool | None = None

    def score(self, prompt: Prompt, completions: Sequence[Completion]) -> list[Score]:
        """One score a completion, in order; the completions are one piece of work."""
        return self.score_groups([(prompt, completions)])[0]

    def score_groups(self, groups: Sequence[Group]) -> list[list[Score]]:
        """Scores for many groups, in their order.

        Raises:
            ModelError: a group took longer than ``seconds``; its prompt is named.
            Exception: the first error of the scorer, as it was.
        """
        if self.config.kind == "threads":
            return _by_threads(self.scorer, groups, self.config)
        return self._by_processes(groups)

    def _by_processes(self, groups: Sequence[Group]) -> list[list[Score]]:
        allowed = self.config.seconds
        if self._processes is None:
            allowed += _STARTING
            # spawn, not fork: a fork copies the locks of torch's threads and not the threads
            self._processes = multiprocessing.get_context("spawn").Pool(
                self.config.workers, _install, (self.scorer,)
            )
        results = self._processes.imap(_judge, groups)
        scored = []
        try:
            for group in groups:
                try:
                    scored.append(results.next(timeout=allowed))
                except multiprocessing.TimeoutError:
                    raise _too_long(group, self.config.seconds) from None
                allowed = self.config.seconds
        except BaseException:
            self.close()
            raise
        return scored

    def close(self) -> None:
        """Kill the processes, if there are any; the next call starts new ones."""
        pool, self._processes = self._processes, None
        if pool is not None:
            pool.terminate()
            pool.join()

    def __enter__(self) -> PooledReward:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _by_threads(scorer: Scorer, groups: Sequence[Group], config: PoolConfig) -> list[list[Score]]:
    """Each thread takes the next group until there is none, or until somebody failed."""
    waiting = iter(range(len(groups)))
    taking, stop = threading.Lock(), threading.Event()
    began: dict[int, float] = {}
    done: queue.SimpleQueue[tuple[int, list[Score] | BaseException]] = queue.SimpleQueue()

    def work() -> None:
        while not stop.is_set():
            with taking:
                at = next(waiting, None)
                if at is None:
                    return
                began[at] = time.monotonic()
            try:
                done.put((at, list(scorer.score(*groups[at]))))
            except BaseException as error:  # handed to the caller, whose it is
                done.put((at, error))
                return

    for _ in range(min(config.workers, len(groups))):
        threading.Thread(target=work, daemon=True).start()
    scored: dict[int, list[Score]] = {}
    try:
        while len(scored) < len(groups):
            with taking:
                running = {at: began[at] for at in began if at not in scored}
            oldest = min(running, key=running.__getitem__, default=None)
            since = time.monotonic() if oldest is None else running[oldest]
            try:
                at, said = done.get(timeout=max(0.0, since + config.seconds - time.monotonic()))
            except queue.Empty:
                if oldest is None:
                    continue
                raise _too_long(groups[oldest], config.seconds) from None
            if isinstance(said, BaseException):
                raise said
            scored[at] = said
    finally:
        stop.set()
    return [scored[at] for at in range(len(groups))]


def _too_long(group: Group, seconds: float) -> ModelError:
    prompt, completions = group
    first = completions[0].text[:80] if completions else ""
    return ModelError(
        f"no scores within {seconds:g} s for the {len(completions)} completions of prompt {prompt.id!r}, the "
        f"first {first!r}; mend the scorer, or give it more seconds"
    )


_installed: Scorer | None = None


def _install(scorer: Scorer) -> None:
    """In a fresh process: the scorer it is for."""
    global _installed
    _installed = scorer


def _judge(group: Group) -> list[Score]:
    """In a process of the pool."""
    assert _installed is not None
    return list(_installed.score(*group))
