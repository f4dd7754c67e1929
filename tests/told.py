"""A real HTTP server that misbehaves as it is told, and else answers as it should."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Told(BaseHTTPRequestHandler):
    """Answers each request with the next (status, headers, body) it was told to say; then as it should."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        with server.turn:
            server.asked.append((dict(self.headers), json.loads(body)))
            status, headers, said = server.told.popleft() if server.told else (200, {}, None)
        if status == "hang":
            time.sleep(server.hang)
            return
        if status == "drop":
            self.connection.close()
            return
        said = server.should(json.loads(body)) if said is None else said
        self.send_response(status)
        for name, value in {"Content-Length": str(len(said.encode())), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def telling(should: Callable[[Any], str], path: str = "/") -> Iterator[Any]:
    """A listening server with ``url``, ``asked`` (headers and bodies), ``told`` (what to say next)."""
    listening: Any = ThreadingHTTPServer(("127.0.0.1", 0), Told)
    listening.told, listening.asked, listening.turn = deque(), [], threading.Lock()
    listening.should, listening.hang = should, 30.0  # a thread of its own, ended with the process
    listening.url = f"http://127.0.0.1:{listening.server_port}{path}"
    threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    yield listening
    listening.shutdown()
    listening.server_close()
