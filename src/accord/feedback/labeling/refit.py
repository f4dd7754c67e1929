"""Settings that changed reach the tasks that were made before: which are remade, asked anew, or left.

A task that nobody has answered or holds is remade: it shows what the settings say, and all completions
that came since. One that somebody has begun keeps what it shows, for answers to different completions
could not be set side by side; only how many labelers it asks follows the settings. A begun task that the
protocol cannot ask about (``fit.can_ask``) waits until the protocol is changed back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, exists, select, update

from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.fit import can_ask
from accord.feedback.labeling.leases import Row
from accord.feedback.labeling.queue import choices, task_of
from accord.feedback.labeling.settle import Trust, is_settled, read_trust
from accord.store import rows as r
from accord.store import state as t
from accord.store import tables
from accord.store.store import Store

FITTED = ("completions", "wanted", "reserved")
"""What a remade task takes from the settings."""


@dataclass(frozen=True, slots=True)
class Refit:
    """What :func:`refit` did, in tasks."""

    remade: int = 0
    """Nobody had begun them: they show, ask for and reserve what the settings say."""
    removed: int = 0
    """Nobody had begun them, and the protocol needs more completions; they come back when there are."""
    asked: int = 0
    """Begun, and asked of more or fewer labelers than before."""
    kept: int = 0
    """Begun, and showing other completions than a new task would."""
    waiting: int = 0
    """Begun under another protocol, and no question of this one: they wait until it is changed back."""

    def notes(self) -> list[str]:
        """What the owner should know of it, as sentences; none where all tasks are as the settings say."""
        words = {
            "remade": "tasks that nobody had begun were made anew, as the settings are now",
            "removed": "tasks that nobody had begun were removed: the protocol needs more completions",
            "asked": "begun tasks ask for another number of labelers now",
            "kept": "begun tasks keep the completions they show; another criterion would make new tasks",
            "waiting": "begun tasks fit another protocol and wait until [label] protocol is changed back",
        }
        return [f"{getattr(self, name)} {text}" for name, text in words.items() if getattr(self, name)]


def refit(store: Store, config: LabelConfig, since: int | None = None) -> Refit:
    """Bring the criterion's tasks to what ``config`` says, as far as that spoils no answer.

    With ``since`` only tasks nobody has begun are looked at, of prompts that have completions beyond that
    ``seq``: what came while the settings stayed.

    Adaptive overlap decides anew about prompts that were settled only where no prompt was asked as often as
    ``overlap`` allows, which is so after it was raised.
    """
    remade = removed = kept = 0
    for chunk in r.chunks(_ids(store, _untouched(config), since)):
        with store.database.write() as connection:
            changed, gone = _remake(connection, chunk, config)
        remade, removed = remade + changed, removed + gone
    if since is not None:
        return Refit(remade, removed)
    asked = waiting = 0
    rose = config.adaptive and config.ranks and not _any_asked_in_full(store, config)
    trust = read_trust(store) if rose else None
    for chunk in r.chunks(_ids(store, _begun(config), None)):
        with store.database.write() as connection:
            asked += _ask(connection, chunk, config, trust)
            others, stuck = _differing(connection, chunk, config)
        kept, waiting = kept + others, waiting + stuck
    return Refit(remade, removed, asked, kept, waiting)


def _open(config: LabelConfig) -> Select[Any]:
    """The criterion's tasks but those that a reviewer or a gold item closed."""
    q, a = t.queue.c, t.assignments.c
    gold = exists().where(t.gold.c.prompt_id == q.prompt_id)
    final = exists().where(
        a.prompt_id == q.prompt_id, a.purpose == "adjudicate", a.criterion == config.criterion
    )
    return select(t.queue).where(q.criterion == config.criterion, ~gold, ~final)


def _untouched(config: LabelConfig) -> Select[Any]:
    q = t.queue.c
    return _open(config).where(q.taken == 0, q.done == 0, q.wanted > 0, ~_aside())


def _begun(config: LabelConfig) -> Select[Any]:
    q = t.queue.c
    return _open(config).where((q.taken > 0) | (q.done > 0) | _aside())


def _aside() -> Any:
    """That somebody who is paused has answered the task: it counts none, and is begun all the same."""
    a = t.assignments.c
    return exists().where(a.queue_id == t.queue.c.id, a.state == "aside")


def _ids(store: Store, tasks: Select[Any], since: int | None) -> list[str]:
    query = tasks.with_only_columns(t.queue.c.id).order_by(t.queue.c.id)
    if since is not None:
        c = tables.completions.c
        query = query.where(t.queue.c.prompt_id.in_(select(c.prompt_id).where(c.seq > since)))
    with store.database.read() as connection:
        return list(connection.execute(query).scalars())


def _remake(connection: Connection, ids: Sequence[str], config: LabelConfig) -> tuple[int, int]:
    """How many of these were changed and removed; one that was begun meanwhile is left."""
    tasks = list(r.stream(connection, _untouched(config).where(t.queue.c.id.in_(ids))))
    now = dict(choices(connection, [task["prompt_id"] for task in tasks], config))
    remade = removed = 0
    for task in tasks:
        this = t.queue.c.id == task["id"]
        shown = now.get(task["prompt_id"])
        if shown is None:
            removed += _remove(connection, task)
            continue
        new = task_of(task["prompt_id"], shown, config)
        if all(new[name] == task[name] for name in FITTED):
            continue
        values = {name: new[name] for name in FITTED}
        if new["reserved"] and not task["reserved"]:
            values |= {"arm": new["arm"], "priority": new["priority"]}  # no choice of ours may move it
        connection.execute(update(t.queue).where(this).values(**values))
        remade += 1
    return remade, removed


def _remove(connection: Connection, task: Row) -> int:
    """Remove a task that cannot be asked; one that somebody skipped or let lie stays, and nobody gets it."""
    a = t.assignments.c
    met = select(a.id).where(a.queue_id == task["id"]).limit(1)
    if connection.execute(met).first() is not None:
        return 0
    return connection.execute(delete(t.queue).where(t.queue.c.id == task["id"])).rowcount


def _any_asked_in_full(store: Store, config: LabelConfig) -> bool:
    full = _open(config).where(t.queue.c.wanted >= config.overlap).limit(1)
    with store.database.read() as connection:
        return connection.execute(full).first() is not None


def _ask(connection: Connection, ids: Sequence[str], config: LabelConfig, trust: Trust | None) -> int:
    """Set how many labelers these ask; ``trust`` where those that were settled are to be decided anew."""
    changed = 0
    for task in list(r.stream(connection, _begun(config).where(t.queue.c.id.in_(ids)))):
        least = min(max(task["wanted"], config.first_wanted), config.overlap)
        wanted = max(least, task["taken"])
        over = task["done"] >= wanted and 0 < wanted < config.overlap
        if trust is not None and over and can_ask(config, len(task["completions"])):
            wanted += not is_settled(connection, task, trust, config.certain)
        if wanted != task["wanted"]:
            connection.execute(update(t.queue).where(t.queue.c.id == task["id"]).values(wanted=wanted))
            changed += 1
    return changed


def _differing(connection: Connection, ids: Sequence[str], config: LabelConfig) -> tuple[int, int]:
    """Of these tasks, how many show other completions than a new one, and how many cannot be asked."""
    tasks = list(r.stream(connection, _begun(config).where(t.queue.c.id.in_(ids))))
    now = dict(choices(connection, [task["prompt_id"] for task in tasks], config))
    kept = waiting = 0
    for task in tasks:
        if not can_ask(config, len(task["completions"])):
            waiting += task["done"] < task["wanted"]
        else:
            kept += set(now.get(task["prompt_id"], [])) != set(task["completions"])
    return kept, waiting
