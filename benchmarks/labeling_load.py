"""200 simulated labelers at once before `accord label`, over HTTP, while it is killed again and again.

    python benchmarks/labeling_load.py --database both

The app runs as its users start it, on a workspace of its own: in SQLite, or in a PostgreSQL of its own
with fsync on. It is ended by SIGKILL --kills times in the midst of requests and started again; labelers
send again under the same key until they are answered, as the page does. What they know they sent is then
held against the database. Labelers think about a task for --pause seconds, 10 unless told otherwise;
people need longer. 0 is a flood: 200 requests always wait, and latency is their number by the rate.
Last, rankings are added up to --annotations and exported. Progress goes to stderr; the last line of
stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import create_engine

from _load_check import check
from _load_export import by_command, over_http, top_up
from _load_people import Browser, Labeler, Program, Run
from _load_server import Server, accord
from accord.feedback.labeling import people
from accord.feedback.labeling.config import LabelConfig
from accord.feedback.labeling.people import Role
from accord.feedback.labeling.queue import set_gold
from accord.types import Completion, Prompt
from accord.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
QUICK = {
    "labelers": 20,
    "submissions": 300,
    "kills": 2,
    "annotations": 2000,
    "pause": 0.0,
    "database": "sqlite",
}
WORDS = (
    "ask answer water stone light river honest helpful maybe never because *often* children winter `code` "
    "simple number sleep doctor garden letter music paper market window question evening travel bread"
)
GOLD = 20


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="sqlite")
    parser.add_argument("--labelers", type=int, default=200)
    parser.add_argument("--submissions", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pause", type=float, default=10.0, help="mean seconds of thought a task")
    parser.add_argument("--annotations", type=int, default=50_000, help="exported at the end")
    parser.add_argument("--browsers", type=float, default=0.25, help="share of labelers that read pages")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the workspaces here")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    given = parser.parse_args()
    if given.quick:
        vars(given).update(QUICK)
    return given


def main() -> None:
    given = arguments()
    kinds = ("sqlite", "postgresql") if given.database == "both" else (given.database,)
    with tempfile.TemporaryDirectory(prefix="accord-load-") as temporary:
        folder = given.folder or Path(temporary)
        found = {}
        for kind in kinds:
            with database(kind) as url:
                found[kind] = measure(folder / kind, url, given)
    figures = found[given.database] if len(found) == 1 else worst(found)
    print(json.dumps({**figures, "database": given.database}))
    sys.exit(0 if clean(figures) else 1)


@contextmanager
def database(kind: str) -> Iterator[str]:
    """The URL of an empty database, for accord.toml."""
    if kind == "sqlite":
        yield "sqlite:///accord.db"
        return
    sys.path.append(str(ROOT / "tests"))
    from postgres import running_postgres

    with running_postgres(fsync=True) as server:
        engine = create_engine(server.format("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE labels")
        engine.dispose()
        yield server.format("labels")


def measure(folder: Path, url: str, given: argparse.Namespace) -> dict[str, Any]:
    """The whole course on one database."""
    config = LabelConfig()
    workspace = Workspace.create(folder, url)
    fill_workspace(workspace, given, config)
    run = Run(0, given.submissions, given.pause, given.labelers)
    server = Server(folder, [])
    say(f"{url}: {given.labelers} labelers, {given.submissions} submissions, {given.kills} kills")
    try:
        server.start()
        run.port = server.port
        labelers = make_labelers(workspace, run, given)
        figures = asyncio.run(course(run, labelers, server, given))
        say(f"stopping: {server.end(signal.SIGTERM)}")
        figures["server_cpu_seconds"] = round(server.cpu_seconds, 1)
        figures |= check(workspace.store, run.sent, config.overlap)
        done = subprocess.run(accord("doctor", "--workspace", str(folder)), stdout=subprocess.DEVNULL)
        figures["doctor_clean"] = done.returncode == 0
        figures |= timed_export(workspace, server, config, given)
    finally:
        server.close()
        workspace.store.close()
    report(figures)
    return figures


def fill_workspace(workspace: Workspace, given: argparse.Namespace, config: LabelConfig) -> None:
    """Prompts with four simulated answers each: enough for all submissions."""
    chance = random.Random(given.seed)

    def text(low: int, high: int) -> str:
        return " ".join(chance.choices(WORDS.split(), k=chance.randint(low, high)))

    prompts = max(GOLD, given.submissions // config.first_wanted) + GOLD
    groups = [
        (
            Prompt.from_text(f"{i}. {text(10, 60)}?"),
            [Completion(f"{text(30, 120)}. {i}.{k}") for k in range(4)],
        )
        for i in range(prompts)
    ]
    ids = workspace.store.add_groups(groups)
    for (prompt, _), (best, *_, last) in zip(groups[:GOLD], ids[:GOLD], strict=True):
        set_gold(workspace.store, prompt.id, [[best], [last]])


def make_labelers(workspace: Workspace, run: Run, given: argparse.Namespace) -> list[Labeler]:
    """Programs get a token, as by `accord label token`; browsers share an invitation link."""
    store, now = workspace.store, time.time()
    browsers = round(given.labelers * given.browsers)
    link = f"/join/{people.invite(store, Role.LABELER, None, now, uses=browsers)}"
    made: list[Labeler] = [Browser(run, f"browser-{i}", given.seed, link) for i in range(browsers)]
    for i in range(given.labelers - browsers):
        who = people.add_person(store, f"program-{i}", Role.LABELER, now)
        made.append(Program(run, who.name, given.seed, people.issue_token(store, who.name, now)))
    return made


async def course(
    run: Run, labelers: list[Labeler], server: Server, given: argparse.Namespace
) -> dict[str, Any]:  # fmt: skip
    """Everybody works until all is submitted and answered; returns the figures of speed."""
    lags: list[float] = []
    beside = [asyncio.create_task(watch(run, lags)), asyncio.create_task(murder(run, server, given))]
    async with asyncio.TaskGroup() as group:
        for labeler in labelers:
            group.create_task(labeler.work())
        await run.ready.wait()
        begun, used = time.perf_counter(), time.process_time()
    wall, used = time.perf_counter() - begun, time.process_time() - used
    await beside[1]
    beside[0].cancel()
    down = sum(server.starts[1:])
    answered = [each for each in run.sent.values() if each.done is not None]
    waits = [each.done - each.first for each in answered if each.done is not None]
    plain = [wait for each, wait in zip(answered, waits, strict=True) if each.tries == 1]
    return {
        "labelers": given.labelers,
        "submitted": run.stored,
        "skipped": run.skipped,
        "refused": sum(bool(each.refused) for each in run.sent.values()),
        "receipts_differ": run.receipts_differ,
        "kills": given.kills,
        **quantiles("", plain),
        **quantiles("with_restarts_", waits),
        **quantiles("claim_", run.claims),
        "per_second": round(run.stored / wall, 1),
        "per_second_while_up": round(run.stored / (wall - down), 1),
        "seconds": round(wall, 1),
        "restart_seconds": round(float(np.median(server.starts[1:])), 2) if given.kills else None,
        "sent_again": {str(status): n for status, n in sorted(run.later.items())},
        "client_cpu_share": round(used / wall, 3),
        "client_lag_p95_ms": round(1000 * float(np.quantile(lags, 0.95)), 1),
    }


def quantiles(name: str, waits: list[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    return {f"{name}p{q}_ms": round(1000 * float(np.quantile(waits, q / 100)), 1) for q in (50, 95, 99)}


async def watch(run: Run, lags: list[float]) -> None:
    """Say how far it is, and how late this process's own loop runs, which is the client's part of a wait."""
    for beat in range(10**9):
        begun = time.perf_counter()
        await asyncio.sleep(0.1)
        lags.append(time.perf_counter() - begun - 0.1)
        if beat % 100 == 99:
            say(f"  {run.entered} in, {run.stored} stored, sent again {dict(run.later)}")


async def murder(run: Run, server: Server, given: argparse.Namespace) -> None:
    """Kill the server at even stages of the work, at moments that chance chooses, and start it again."""
    chance = random.Random(given.seed)
    await run.ready.wait()
    for number in range(1, given.kills + 1):
        while run.stored < number * given.submissions // (given.kills + 1):
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3 * chance.random())
        await asyncio.to_thread(server.end, signal.SIGKILL)
        await asyncio.to_thread(server.start)


def timed_export(
    workspace: Workspace, server: Server, config: LabelConfig, given: argparse.Namespace
) -> dict[str, Any]:
    """Seconds of both ways out, each with every ranking in it."""
    have = top_up(workspace.store, config.criterion, given.annotations)
    people.add_person(workspace.store, "the-owner", Role.OWNER, time.time())
    token = people.issue_token(workspace.store, "the-owner", time.time())
    by_hand, used, written = by_command(workspace.path)
    server.start()
    served, sent = over_http(server.port, token)
    server.end(signal.SIGTERM)
    return {
        "annotations": have,
        "export_seconds": round(max(by_hand, served), 2),
        "export_command_seconds": round(by_hand, 2),
        "export_command_cpu_seconds": round(used, 2),
        "export_http_seconds": round(served, 2),
        "export_complete": written == sent == have,
    }


def clean(figures: dict[str, Any]) -> bool:
    """Whether nothing is lost, doubled or too much; speed is for the reader to judge."""
    wrong = ("lost", "doubled", "overlap_exceeded", "places_miscounted", "refused", "receipts_differ")
    sound = figures["doctor_clean"] and figures["export_complete"]
    return sound and not any(figures[name] for name in wrong)


def worst(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The worse of each figure, and all of them by database."""
    first, *others = found.values()
    better_high = {"submitted", "per_second", "per_second_while_up", "doctor_clean", "export_complete"}
    top: dict[str, Any] = {}
    for name, value in first.items():
        values = [value, *(other[name] for other in others)]
        if all(isinstance(each, int | float) for each in values):
            top[name] = min(values) if name in better_high else max(values)
    return {**top, "databases": found}


def report(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        say(f"  {name:<26} {value}")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
