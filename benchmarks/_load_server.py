"""`accord label` as its users start it: a process of its own, killed and started again on the same port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ACCORD = str(Path(sys.executable).with_name("accord"))


def accord(*arguments: str) -> list[str]:
    """The command line of one verb."""
    return [ACCORD, *arguments]


class Server:
    """The labelling app over one workspace."""

    def __init__(self, folder: Path, settings: list[str]) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        where = ["--host", "127.0.0.1", "--port", str(self.port)]
        self.command = accord("label", "--workspace", str(folder), "--json", *where, *settings)
        self.log = folder / "server.log"
        self.cpu_seconds = 0.0
        """Of all its processes that have ended."""
        self.starts: list[float] = []
        """Seconds until each start listened."""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> dict[str, Any]:
        """Start it and wait until it listens; what it prints then."""
        begun = time.perf_counter()
        with self.log.open("a") as log:
            self._process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.end(signal.SIGKILL)
            raise SystemExit(f"the server did not start: {self.log.read_text()[-3000:]}")
        self.starts.append(time.perf_counter() - begun)
        return json.loads(line)

    def end(self, how: signal.Signals) -> int:
        """Send the signal and wait for the end; returns the exit status (negative: killed)."""
        process = self._process
        assert process is not None
        process.send_signal(how)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_seconds += used.ru_utime + used.ru_stime
        self._process = None
        return process.returncode

    def close(self) -> None:
        """End it if it runs."""
        if self._process is not None:
            self.end(signal.SIGKILL)
