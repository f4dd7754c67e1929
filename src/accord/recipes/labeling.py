"""The labelling app over a workspace: serving it, and the links by which people come in. Loads no torch."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import uvicorn
from sqlalchemy import func, select

from accord.errors import DataError
from accord.feedback.app.main import create_app
from accord.feedback.labeling import people
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.people import Person, Role
from accord.feedback.labeling.queue import fill
from accord.feedback.labeling.refit import Refit, refit
from accord.serve.listen import address_of as own_address
from accord.serve.listen import listen as open_socket
from accord.store import state
from accord.workspace import Workspace

OWNER = "owner"
"""Name of the owner that the first start makes."""
GRACE = 10
"""Seconds that requests under way have to finish when the app stops."""
LAST_ADDRESS = ".label-address"
"""File of the workspace that holds the address the app was last served at."""
TAKES = {"invite": {"role", "uses", "days"}, "link": set[str](), "token": {"role", "days"}}
"""What each way in may be given, besides the person's name."""
ADVICE = {"link": ": a person's link is good once, for an hour, and their role stays"}


@dataclass(frozen=True)
class Opening:
    """What the owner is told when the app listens."""

    address: str
    owner_link: str
    """Signs the owner in, once, within an hour."""
    tasks: int
    """Prompts that can be labelled."""
    refit: Refit
    """What became of tasks that were made under other settings, or before all completions were there."""


def serve(
    workspace: Workspace,
    config: LabelConfig,
    opened: Callable[[Opening], None],
    *,
    wait: bool = False,
) -> None:
    """Run the app until it is interrupted; ``opened`` is called once it listens.

    The address is remembered in the workspace, for links that are made elsewhere. Requests under way are
    finished before it ends; a second interrupt ends it at once.

    Raises:
        ConfigError: the port is taken, or the address is none of this computer's.
        DataError: nothing can be labelled yet, and it is not told to ``wait`` for that.
    """
    fill(workspace.store, config)
    fitted = refit(workspace.store, config)
    tasks = count_tasks(workspace, config)
    if not tasks and not wait:
        raise DataError(_nothing(workspace, config))
    with listen(config) as listening:
        address = config.url.rstrip("/") or address_of(config, listening.getsockname()[1])
        (workspace.path / LAST_ADDRESS).write_text(f"{address}\n", encoding="utf-8")
        link = people.sign_in_link(workspace.store, owner(workspace).name, time.time())
        settings = uvicorn.Config(
            create_app(workspace, config),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
        opened(Opening(address, f"{address}/join/{link}", tasks, fitted))
        with suppress(KeyboardInterrupt):  # uvicorn ends the requests under way, then passes the signal on
            uvicorn.Server(settings).run(sockets=[listening])


def count_tasks(workspace: Workspace, config: LabelConfig) -> int:
    """Prompts that can be labelled under the criterion."""
    query = select(func.count()).where(state.queue.c.criterion == config.criterion)
    with workspace.store.database.read() as connection:
        return connection.execute(query).scalar_one()


def owner(workspace: Workspace) -> Person:
    """The first active owner; made where there is none."""
    everybody = people.people(workspace.store)
    for each in everybody:
        if each.role == Role.OWNER and each.active:
            return each
    taken = {each.name.casefold() for each in everybody}
    name = next(n for n in (OWNER, *(f"{OWNER}-{i}" for i in range(2, 1000))) if n not in taken)
    return people.add_person(workspace.store, name, Role.OWNER, time.time())


def access(
    workspace: Workspace,
    config: LabelConfig,
    action: str,
    name: str = "",
    *,
    role: str | None = None,
    uses: int | None = None,
    days: float | None = None,
    url: str = "",
) -> dict[str, object]:
    """A way in: ``invite`` for new people, ``link`` for the person ``name``, ``token`` for programs.

    A token's person is made if there is none and a ``role`` is given. A link leads to ``url``, else to the
    config's, else to where the app was last served.

    Raises:
        DataError: a person who is unknown or has another role, or a setting that this way in does not take.
        ConfigError: ``url`` is no address.
    """
    store, now = workspace.store, time.time()
    given = {"role": role, "uses": uses, "days": days}
    odd = [name for name, value in given.items() if value is not None and name not in TAKES[action]]
    if odd:
        raise DataError(f"`accord label {action}` takes no --{odd[0]}; leave it out{ADVICE.get(action, '')}")
    base = f"{_address(workspace, config, url)}/join"
    if action == "invite":
        if name:
            raise DataError(
                f"an invitation is for whoever has its link, not for {name!r}; leave the name out"
            )
        become = Role(role or Role.LABELER)
        uses, days = 1 if uses is None else uses, 7.0 if days is None else days
        secret = people.invite(store, become, None, now, days=days, uses=uses)
        return {"link": f"{base}/{secret}", "role": become.value, "uses": uses, "days": days}
    if action == "link":
        return {"link": f"{base}/{people.sign_in_link(store, name, now)}", "name": name}
    people.check_days(days)  # before anybody is made
    if role is not None:
        _make_sure(workspace, name, Role(role), now)
    return {"token": people.issue_token(store, name, now, days), "name": name}


def _address(workspace: Workspace, config: LabelConfig, url: str) -> str:
    """The address that a link leads to."""
    given = LabelConfig.build({"url": url}, "--url").url or config.url
    last = workspace.path / LAST_ADDRESS
    if not given and last.is_file():
        given = last.read_text(encoding="utf-8").strip()
    return given.rstrip("/") or address_of(config)


def _make_sure(workspace: Workspace, name: str, role: Role, now: float) -> None:
    """That there is a person of this name and role."""
    known = {each.name: each for each in people.people(workspace.store)}
    who = known.get(people.clean_name(name)) or people.add_person(workspace.store, name, role, now)
    if who.role != role:
        raise DataError(
            f"the role of {name!r} is {who.role}, not {role}; leave the role out, or take another name"
        )


def listen(config: LabelConfig) -> socket.socket:
    """A socket on the config's address. Raises :class:`ConfigError` that says what is in the way."""
    return open_socket(config.host, config.port)


def address_of(config: LabelConfig, port: int | None = None) -> str:
    """The address that people reach the app by, as far as this computer can tell."""
    return own_address(config.host, config.port if port is None else port)


def _nothing(workspace: Workspace, config: LabelConfig) -> str:
    counts = workspace.store.counts()
    split = "" if config.split is None else f" of split {config.split!r}"
    held = f"{counts['prompts']} prompts and {counts['completions']} completions in all"
    if not counts["prompts"]:
        advice = "import some with `accord import PROMPTS.jsonl`, then `accord sample`"
    else:
        advice = "make completions with `accord sample`, or import some"
    return (
        f"nothing can be labelled: no prompt{split} has {config.least} different completions "
        f"({held}); {advice}. With --wait the app starts all the same, and tasks appear as completions come"
    )
