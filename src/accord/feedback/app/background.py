"""What goes on beside the requests: webhooks are delivered, and new prompts become tasks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy import func, select

from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.queue import fill
from accord.feedback.labeling.refit import refit
from accord.store import tables
from accord.store.store import Store

log = logging.getLogger(__name__)


class Every(AbstractContextManager["Every"]):
    """A thread that does ``action`` every ``pause`` seconds while the context lasts."""

    def __init__(self, pause: float, action: Callable[[], object], name: str) -> None:
        self.pause, self.action = pause, action
        self._stop = threading.Event()
        # daemon: an action that hangs (a receiver that does not answer) does not keep the process alive
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Every:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        while not self._stop.wait(self.pause):
            try:
                self.action()
            except Exception:  # a thread that died would never try again; what it works on is in the database
                log.exception("%s: failed, and tries again", self._thread.name)


class Filler:
    """Makes tasks of prompts whose completions came since the last call, from whatever process.

    The first call also brings the tasks that are there to the settings (``labeling.refit``), each later one
    those that nobody has begun and whose prompts got more completions.
    """

    def __init__(self, store: Store, config: LabelConfig) -> None:
        self.store, self.config = store, config
        self._seen: int | None = None

    def __call__(self) -> int:
        """Returns how many tasks were made."""
        newest = select(func.max(tables.completions.c.seq))
        with self.store.database.read() as connection:
            last = connection.execute(newest).scalar() or 0
        if last == self._seen:  # one look at an index, most of the time
            return 0
        made = fill(self.store, self.config)
        refit(self.store, self.config, since=self._seen)
        self._seen = last
        return made
