"""A small HTTP/1.1 client: one kept connection, no redirects; cheap enough for hundreds on one loop."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

PATIENCE = 120.0
"""Seconds to wait for an answer; longer than the server waits for its database."""


class NoAnswer(Exception):
    """The connection broke, or the server did not answer in time: what became of the request is unknown."""


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    headers: dict[str, str]
    """By name in small letters; the last one of a name."""
    body: bytes
    tries: int = 1
    """How often it was asked for."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """A connection that is opened when needed and kept open."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        """One request and its answer. Raises :class:`NoAnswer`."""
        try:
            async with asyncio.timeout(PATIENCE):
                if self._streams is None or self._streams[0].at_eof():  # the server ends idle connections
                    self.close()
                    self._streams = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
                reader, writer = self._streams
                lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                lines += [f"Content-Length: {len(body)}", "", ""]
                writer.write("\r\n".join(lines).encode() + body)
                await writer.drain()
                return await self._answer(reader)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self.close()
            raise NoAnswer(f"{method} {path}: {type(error).__name__} {error}") from error

    async def _answer(self, reader: asyncio.StreamReader) -> Answer:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(head[0].split()[1]), headers, body)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
