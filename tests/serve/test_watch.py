"""The live page by requests: its events, what stands before it, and its end."""

import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest

from accord.errors import ConfigError
from accord.serve import watch
from accord.serve.watch import PAGES, Server, WatchConfig
from accord.store.lineage import Status
from watched_run import SETTINGS, GrowingRun, figures

Event = tuple[str, str, dict]


def events(address: str, **headers: str) -> Iterator[Event]:
    """The server's events as they come: kind, id, data."""
    with httpx.stream("GET", f"{address}/events", headers=headers, timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                found[name] = value
            elif "event" in found:
                yield found["event"], found.get("id", ""), json.loads(found["data"])
                found = {}


def until(stream: Iterator[Event], kind: str, when=lambda data: True) -> tuple[str, dict]:
    """The first event of a kind of which something holds: its id and data."""
    return next((id, data) for name, id, data in stream if name == kind and when(data))


def test_a_viewer_hears_what_was_and_what_comes(run: GrowingRun, served: Server) -> None:
    run.steps(1, 3)
    stream = events(served.address)
    told: list[dict] = []
    while len(told) < 3:
        _, data = until(stream, "steps")
        assert data["from"] == len(told)
        told += data["steps"]
    assert [each["row"] for each in told] == [figures(n) for n in (1, 2, 3)]
    run.step(4, ("warn", "completions grew"))
    _, data = until(stream, "steps")
    assert data["from"] == 3
    assert data["steps"][0]["verdict"]["action"] == "warn"
    assert httpx.get(f"{served.address}/samples/4").json()[0]["text"].startswith("Best paid")
    assert httpx.get(f"{served.address}/samples/99").json() == []


def test_who_comes_back_gets_only_what_they_missed(run: GrowingRun, served: Server) -> None:
    run.steps(1, 3)
    mark, _ = until(events(served.address), "steps", lambda data: data["from"] + len(data["steps"]) == 3)
    run.steps(4, 5)
    found = []
    for way in ({"headers": {"last-event-id": mark}}, {"params": {"after": mark}}):
        with httpx.stream("GET", f"{served.address}/events", timeout=20, **way) as answer:
            lines = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith('data: {"from'))
            got: list[int] = []
            for data in lines:
                assert data["from"] == 3 + len(got)
                got += [each["row"]["step"] for each in data["steps"]]
                if len(got) == 2:
                    break
            found.append(got)
    assert found == [[4, 5], [4, 5]]


def test_a_resume_takes_back_the_steps_after_its_checkpoint(run: GrowingRun, served: Server) -> None:
    run.steps(1, 5)
    stream = events(served.address)
    until(stream, "steps", lambda data: data["from"] + len(data["steps"]) == 5)
    run.rewrite(2)
    _, data = until(stream, "steps")
    assert data["from"] == 0
    assert [each["row"]["step"] for each in data["steps"]] == [1, 2]


def test_many_steps_come_in_several_events(run: GrowingRun, served: Server, monkeypatch) -> None:
    monkeypatch.setattr(watch, "AT_ONCE", 3)
    run.steps(1, 8)
    stream, told = events(served.address), []
    while len(told) < 8:
        _, data = until(stream, "steps")
        assert data["from"] == len(told)
        assert len(data["steps"]) <= 3
        told += [each["row"]["step"] for each in data["steps"]]
    assert told == list(range(1, 9))


def test_the_state_is_told_when_it_changes_and_the_end_is_told(
    run: GrowingRun, served: Server, monkeypatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_STATE", 0.1)
    stream = events(served.address)
    _, state = until(stream, "state")
    assert (state["status"], state["step"], state["steps"]) == ("running", 0, 40)
    run.steps(1, 2)
    until(stream, "state", lambda data: data["step"] == 2)
    run.status, run.metrics = Status.DONE, {"end": "all steps done", "reason": "", "kept": 2}
    _, state = until(stream, "state", lambda data: data["status"] == "done")
    assert state["end"] == "all steps done"
    run.step(3)  # written while nobody looked: the last look finds it
    threading.Thread(target=served.stop).start()
    left = list(stream)
    assert left[-1][0] == "bye"
    assert any(kind == "steps" and data["steps"][-1]["row"]["step"] == 3 for kind, _, data in left)


def test_quiet_connections_are_kept_alive(run: GrowingRun, served: Server, monkeypatch) -> None:
    monkeypatch.setattr(watch, "BEAT", 0.1)
    stream = events(served.address)
    states = [until(stream, "state") for _ in range(4)]
    assert len(states) == 4


def test_many_viewers_see_the_same(run: GrowingRun, served: Server) -> None:
    streams = [events(served.address) for _ in range(12)]
    for stream in streams:
        until(stream, "state")
    run.steps(1, 3)
    for stream in streams:
        until(stream, "steps", lambda data: data["from"] + len(data["steps"]) == 3)
    for stream in streams:
        stream.close()


def test_a_viewer_who_reads_nothing_holds_up_nobody(run: GrowingRun, served: Server) -> None:
    """Twelve megabytes wait for one who sleeps, more than the sockets hold; another gets them all."""
    for step in range(1, 301):
        run.step(step, note="x" * 40_000)
    port = int(served.address.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as asleep:
        asleep.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert asleep.recv(1), "it is being told"
        stream, seen = events(served.address), 0
        while seen < 300:
            _, data = until(stream, "steps")
            seen = data["from"] + len(data["steps"])
        run.step(301)
        _, data = until(stream, "steps")
        assert data["from"] == 300


def test_no_page_elsewhere_can_read_along(run: GrowingRun, served: Server) -> None:
    """A name that an attacker points at this computer is refused: the prompts are private."""
    assert httpx.get(f"{served.address}/", headers={"host": "localhost:1"}).status_code == 200
    for path in ("/", "/events", "/samples/1", "/static/watch/watch.js"):
        assert httpx.get(f"{served.address}{path}", headers={"host": "evil.example"}).status_code == 400, path
    assert httpx.post(f"{served.address}/").status_code == 405


def test_the_page_carries_the_houses_policy_and_no_inline_script(run: GrowingRun, served: Server) -> None:
    page = httpx.get(served.address)
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"
    assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", page.text)
    for name in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
        assert httpx.get(f"{served.address}{name}").status_code == 200, name
    for name in ("/docs", "/openapi.json", "/static/watch/../../feed.py", "/samples/x"):
        assert httpx.get(f"{served.address}{name}").status_code in (404, 422), name


def test_what_stands_in_settings_is_text(run: GrowingRun, served: Server, monkeypatch) -> None:
    monkeypatch.setitem(SETTINGS, "model", "<script>alert(1)</script>")
    page = httpx.get(served.address).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_a_guard_that_is_off_is_not_said_to_have_found_nothing(run, served: Server, monkeypatch) -> None:
    assert "found nothing to distrust" in httpx.get(served.address).text
    monkeypatch.setitem(SETTINGS, "guard", "off")
    assert "The guard is off" in httpx.get(served.address).text


def test_a_taken_port_is_said_before_anything_begins() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127.0.0.1 port {port} is taken.*--watch-port"):
            Server(WatchConfig(port=port))
    with pytest.raises(ConfigError, match=r"cannot listen on 203\.0\.113\.9"):
        Server(WatchConfig(host="203.0.113.9", port=0))


def test_vendored_files_are_those_of_the_table() -> None:
    folder = PAGES / "static" / "vendor"
    table = dict(re.findall(r"^\| `(\S+)` .*`([0-9a-f]{64})` \|$", (folder / "README.md").read_text(), re.M))
    held = [file for file in folder.iterdir() if file.suffix in (".js", ".css")]
    assert table == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in held}
    assert (folder / "uplot.LICENSE").stat().st_size > 500
