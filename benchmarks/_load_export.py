"""50,000 annotations out, by the command line and over HTTP, with the time that takes."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from _load_people import judge
from _load_server import accord
from accord.judgements import Ranking
from accord.store import tables
from accord.store.store import Store


def top_up(store: Store, criterion: str, wanted: int) -> int:
    """Add rankings of simulated labelers until ``wanted`` are stored; how many there are then."""
    chance = random.Random(0)
    groups = store.completions()
    with store.database.read() as connection:
        ranked = tables.feedback.c.kind == "ranking"
        have = connection.execute(select(func.count()).where(ranked)).scalar_one()
    for number in range(1, 1 + -(-(wanted - have) // len(groups))):
        batch = []
        for prompt_id, completions in list(groups.items())[: wanted - have]:
            shown = [each.id for each in completions]
            chance.shuffle(shown)
            said = judge([(each.id, each.text) for each in completions], chance)
            tiers = tuple(map(tuple, said["tiers"]))
            name = f"late-labeler-{number}"
            batch.append(
                Ranking(prompt_id, name, tiers, tuple(said["fails"]), tuple(shown), criterion, seconds=30.0)
            )
        have += len(store.add_rankings(batch))
    return have


def by_command(folder: Path) -> tuple[float, float, int]:
    """`accord export --format events`, start-up included: seconds, those of a processor, rankings written."""
    file = folder / "export.jsonl"
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = accord("export", str(file), "--workspace", str(folder), "--format", "events", "--json")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used, _rankings(file.read_text(encoding="utf-8").splitlines())


def over_http(port: int, token: str) -> tuple[float, int]:
    """From the app's API: seconds, and rankings received."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v1/export", headers={"Authorization": f"Bearer {token}"}
    )
    begun = time.perf_counter()
    with urllib.request.urlopen(request, timeout=600) as answer:
        log = answer.read()
    return time.perf_counter() - begun, _rankings(log.decode().splitlines())


def _rankings(lines: list[str]) -> int:
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return len({event["id"] for event in events if event.get("kind") == "ranking"})
