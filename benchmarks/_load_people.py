"""Simulated labelers: some programs with tokens, some browsers with a session; all send until they hear.

Each has a taste of its own around a truth that the texts fix, so rankings have ties and FAIL, and people
disagree. What a labeler sends is written down first, under its key, as the browser's outbox does.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any
from urllib.parse import urlencode

from _load_http import Answer, Connection, NoAnswer

RETRY = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between tries, as in the page's outbox."""
NOTES = ("", "", "", "", "", "", "", "", "both wrong\nin the same way", "naïve, but kind 𝄞 «ok»")
DRAFTS, TWICE_AT_ONCE, TWICE_LATER, TAKE_BACK, SKIP = 0.3, 0.04, 0.04, 0.02, 0.01


@dataclass(frozen=True)
class Task:
    """What a labeler was given."""

    assignment: str
    completions: list[tuple[str, str]]
    """(id, text) in the order shown."""
    guidelines: str


@dataclass
class Sent:
    """One submission as its labeler knows it."""

    labeler: str
    task: Task
    body: dict[str, Any]
    first: float
    """When it was sent first, on the clock of ``time.perf_counter``."""
    tries: int = 0
    done: float | None = None
    """When it was acknowledged first."""
    ids: list[str] = field(default_factory=list)
    refused: str = ""


@dataclass
class Run:
    """What all labelers share."""

    port: int
    total: int
    """Submissions to make."""
    pause: float
    """Seconds that a labeler thinks about a task, on average; half to one and a half of it."""
    people: int
    sent: dict[str, Sent] = field(default_factory=dict)
    begun: int = 0
    stored: int = 0
    holding: int = 0
    """Labelers with a task in hand."""
    skipped: int = 0
    receipts_differ: int = 0
    claims: list[float] = field(default_factory=list)
    """Seconds of each claim that was answered at the first try."""
    later: Counter[int] = field(default_factory=Counter)
    """Requests that had to be sent again, by the answer's status; 0 where none came."""
    entered: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self) -> bool:
        """Whether one more is to be made; it is this caller's then."""
        if self.begun >= self.total:
            return False
        self.begun += 1
        return True


class Labeler:
    """One person. Subclasses say how they come in and where they send to."""

    base = ""

    def __init__(self, run: Run, name: str, seed: int) -> None:
        self.run, self.name = run, name
        self.random = random.Random(f"{seed} {name}")
        self.line, self.other_line = Connection(run.port), Connection(run.port)
        self.headers = {"Content-Type": "application/json"}

    async def enter(self) -> None:
        raise NotImplementedError

    async def claim(self) -> tuple[Task | None, int]:
        """The task, if there is one, and how often it was asked for."""
        raise NotImplementedError

    async def work(self) -> None:
        """Label until all is done, or nobody has a task."""
        await self.enter()
        self.run.entered += 1
        if self.run.entered == self.run.people:
            self.run.ready.set()
        await self.run.ready.wait()  # all begin together
        await asyncio.sleep(self.run.pause * self.random.random())
        while self.run.take():
            task = await self._wait_for_task()
            if task is None:
                self.run.begun -= 1
                break
            self.run.holding += 1
            await self._do(task)
            self.run.holding -= 1
        self.line.close()
        self.other_line.close()

    async def _wait_for_task(self) -> Task | None:
        """The next task; ``None`` when there is none and nobody holds one whose answer could open another."""
        while True:
            begun = time.perf_counter()
            task, tries = await self.claim()
            if tries == 1:
                self.run.claims.append(time.perf_counter() - begun)
            if task is not None or not self.run.holding:
                return task
            await asyncio.sleep(1.0)

    async def _do(self, task: Task) -> None:
        await asyncio.sleep(self.run.pause * (0.5 + self.random.random()))
        if self.random.random() < DRAFTS:
            draft = {"revision": 1, "draft": {"tiers": [[task.completions[0][0]]], "note": "…"}}
            await self.tell(f"{self.base}/{task.assignment}/draft", draft)
        if self.random.random() < SKIP:
            await self._skip(task.assignment)
        else:
            await self._submit(task)

    async def _skip(self, assignment: str) -> None:
        body = {"key": self._key(), "reason": "I lack the knowledge", "note": ""}
        answer = await self.tell(f"{self.base}/{assignment}/skip", body)
        self.run.begun -= 1
        self.run.skipped += answer.status == 200

    async def _submit(self, task: Task) -> None:
        body = {
            "key": self._key(),
            **judge(task.completions, self.random),
            "note": self.random.choice(NOTES),
            "seconds": round(1 + 60 * self.random.random(), 3),
            "guidelines": task.guidelines,
        }
        path = f"{self.base}/{task.assignment}/submit"
        sent = Sent(self.name, task, body, time.perf_counter())
        self.run.sent[body["key"]] = sent  # written down before it is sent
        again = self.random.random()
        if again < TWICE_AT_ONCE:
            both = (self.tell(path, body, line) for line in (self.line, self.other_line))
            answers = list(await asyncio.gather(*both))
        else:
            answers = [await self.tell(path, body)]
        sent.done, sent.tries = time.perf_counter(), max(answer.tries for answer in answers)
        if TWICE_AT_ONCE <= again < TWICE_AT_ONCE + TWICE_LATER:
            answers.append(await self.tell(path, body))
        for answer in answers:
            if answer.status != 200:
                sent.refused = f"{answer.status} {answer.body[:300]!r}"
                return
            ids = answer.json["ids"]
            self.run.receipts_differ += bool(sent.ids) and ids != sent.ids
            sent.ids = ids
        self.run.stored += 1
        if self.random.random() < TAKE_BACK:
            await self.tell(f"{self.base}/back", {})

    async def tell(self, path: str, body: dict[str, Any], line: Connection | None = None) -> Answer:
        """POST until it is answered."""
        return await self.ask("POST", path, json.dumps(body).encode(), line)

    async def ask(self, method: str, path: str, body: bytes = b"", line: Connection | None = None) -> Answer:
        """Send until an answer comes that is not "later"."""
        for tries in count(1):
            try:
                answer = await (line or self.line).ask(method, path, self.headers, body)
                if answer.status not in (429, 503) and answer.status < 500:
                    return replace(answer, tries=tries)
                self.run.later[answer.status] += 1
            except NoAnswer:
                self.run.later[0] += 1
            await asyncio.sleep(RETRY[min(tries, len(RETRY)) - 1] * (0.8 + 0.4 * self.random.random()))
        raise AssertionError("it never gives up")

    def _key(self) -> str:
        return f"{self.random.getrandbits(128):032x}"


class Program(Labeler):
    """A program with a token, by the REST API."""

    base = "/api/v1/tasks"

    def __init__(self, run: Run, name: str, seed: int, token: str) -> None:
        super().__init__(run, name, seed)
        self.headers["Authorization"] = f"Bearer {token}"

    async def enter(self) -> None:
        version = (await self.ask("GET", "/api/v1/guidelines")).json["version"]
        accepted = await self.tell("/api/v1/guidelines/acknowledge", {"version": version})
        assert accepted.status == 200, accepted

    async def claim(self) -> tuple[Task | None, int]:
        answer = await self.ask("POST", f"{self.base}/claim")
        if answer.status == 204:
            return None, answer.tries
        assert answer.status == 200, answer
        given = answer.json
        shown = [(each["id"], each["text"]) for each in given["completions"]]
        return Task(given["id"], shown, given["guidelines"]), answer.tries


class Browser(Labeler):
    """What a labeler's browser does: joins by a link, keeps a cookie, reads pages, repeats the CSRF token."""

    base = "/label"

    def __init__(self, run: Run, name: str, seed: int, link: str) -> None:
        super().__init__(run, name, seed)
        self.link = link
        self.headers["Sec-Fetch-Site"] = "same-origin"

    async def enter(self) -> None:
        secret = "a sound password " + self.name
        answer = await self._form(self.link, name=self.name, password=secret)
        if answer.status != 303:  # sent again after a kill: the name is taken, by this very person
            answer = await self._form("/login", name=self.name, password=secret)
        assert answer.status == 303, answer
        self.headers["Cookie"] = answer.headers["set-cookie"].split(";")[0]
        page = (await self.ask("GET", "/guidelines")).body.decode()
        self.headers["X-CSRF-Token"] = found(r'<meta name="csrf" content="([^"]+)">', page)
        version = found(r'name="version" value="([^"]+)"', page)
        answer = await self._form("/guidelines/acknowledge", version=version)
        assert (answer.status, answer.headers["location"]) == (303, "/label"), answer

    async def claim(self) -> tuple[Task | None, int]:
        answer = await self.ask("GET", "/label")
        assert answer.status == 200, answer
        facts = json.loads(found(r'id="facts">(.*?)</script>', answer.body.decode()))
        if "assignment" not in facts:
            return None, answer.tries
        shown = [(id, facts["texts"][id]) for id in facts["shown"]]
        return Task(facts["assignment"], shown, facts["guidelines"]), answer.tries

    async def _form(self, path: str, **fields: str) -> Answer:
        kept = self.headers
        self.headers = kept | {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}
        try:
            return await self.ask("POST", path, urlencode(fields).encode())
        finally:
            self.headers = kept


def judge(completions: list[tuple[str, str]], chance: random.Random) -> dict[str, list[Any]]:
    """Tiers and FAILs of one labeler: near equals are a tie, the very poor fail."""
    scores = {id: quality(text) + 0.4 * chance.gauss(0, 1) for id, text in completions}
    fails = [id for id, score in scores.items() if score < -1.2]
    tiers: list[list[str]] = []
    last = float("inf")
    for id in sorted(scores.keys() - set(fails), key=lambda id: -scores[id]):
        if last - scores[id] < 0.15:
            tiers[-1].append(id)
        else:
            tiers.append([id])
        last = scores[id]
    return {"tiers": tiers, "fails": fails}


def quality(text: str) -> float:
    """The truth about a text, from -1.7 to 1.7 with variance 1."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
    return (2 * number - 1) * 3**0.5


def found(pattern: str, page: str) -> str:
    """The group of the pattern in a page."""
    match = re.search(pattern, page, re.DOTALL)
    assert match, f"no {pattern} in {page[:500]}"
    return match.group(1)
