"""A good receiver of callbacks, in a process of its own: it answers 200 at once and notes what came when.

Written on asyncio's protocols, so that it takes less time for a request than who sends it. It prints its URL; for each
line on stdin, a number, it waits until so many different jobs have come, and prints them as JSON: ``{id: ns}``, when
each came first by ``time.monotonic_ns``, which all processes of a machine share. Then it begins anew.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import Any

import msgspec
import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_JOB = re.compile(rb'"job_id":"([^"]+)"')
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Arrivals:
    """What has come, and how much of it somebody waits for."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}
        self._wanted = 0
        self._news = asyncio.Event()

    def note(self, id: str) -> None:
        """Note that a callback of a job has come now."""
        self.found.setdefault(id, time.monotonic_ns())
        if len(self.found) >= self._wanted:
            self._news.set()

    async def take(self, count: int) -> dict[str, int]:
        """Wait for so many jobs; return all that came and forget them."""
        self._wanted = count
        while len(self.found) < count:
            self._news.clear()
            await self._news.wait()
        found, self.found = self.found, {}
        return found


class Connection(asyncio.Protocol):
    """One connection, with one request at a time on it."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._transport: Any
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is there."""
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        length = _LENGTH.search(self._data, 0, end) if end >= 0 else None
        if length is None or len(self._data) < end + 4 + int(length[1]):
            return
        job = _JOB.search(self._data, end)
        if job is None:
            raise ValueError(f"a body without a job_id: {self._data[end:]!r}")
        self._arrivals.note(job[1].decode())
        self._data = b""
        self._transport.write(ANSWER)


async def serve() -> None:
    """Serve until stdin ends."""
    loop = asyncio.get_running_loop()
    arrivals = Arrivals()
    server = await loop.create_server(lambda: Connection(arrivals), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook", flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        found = await arrivals.take(int(line))
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(serve())
