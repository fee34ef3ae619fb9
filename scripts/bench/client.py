"""A small load generator for where ``wrk`` is not installed: keep-alive connections, one request at a time on each.

Written on asyncio's protocols, so that it takes less time for a request than the servers do. Prints JSON.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import msgspec
import uvloop

from scripts.bench.answers import Answers


class Connection(Answers):
    """One connection: sends a request, counts the answer and whether it was neither 200 nor 201, sends the next."""

    def __init__(self, requests: Iterator[bytes], broken: asyncio.Future[None]) -> None:
        super().__init__()
        self._requests = requests
        self._broken = broken
        self.answers = 0
        self.faults = 0

    def begun(self) -> None:
        """Send the first request."""
        self.transport.write(next(self._requests))

    def answered(self, *, is_good: bool) -> None:
        """Send the next request."""
        self.answers += 1
        self.faults += not is_good
        self.transport.write(next(self._requests))

    def failed(self, reason: str) -> None:
        """End the measurement."""
        if not self._broken.done():
            self._broken.set_exception(RuntimeError(reason))


async def load(port: int, seconds: float, connections: int, requests: list[bytes]) -> dict[str, float]:
    """Ask for ``seconds`` on so many connections; return how many answers came, and the time that took."""
    loop = asyncio.get_running_loop()
    broken: asyncio.Future[None] = loop.create_future()
    turns = cycle(requests)
    started = time.perf_counter()
    opened = [
        (await loop.create_connection(lambda: Connection(turns, broken), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.wait([broken], timeout=seconds)
    answers = sum(connection.answers for connection in opened)
    elapsed = time.perf_counter() - started
    if broken.done():
        broken.result()
    return {"answers": answers, "seconds": elapsed, "faults": sum(connection.faults for connection in opened)}


def main() -> None:
    """Run with: port, seconds, connections, a file of paths, a file with the body of POSTs or "", and headers."""
    port, seconds, connections, file, posted, *headers = sys.argv[1:]
    body = Path(posted).read_bytes() if posted else b""
    if posted:
        headers += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
    lines = "".join(f"{header}\r\n" for header in (f"Host: 127.0.0.1:{port}", *headers))
    method = "POST" if posted else "GET"
    paths = Path(file).read_text("ascii").split()
    requests = [f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body for path in paths]
    result = uvloop.run(load(int(port), float(seconds), int(connections), requests))
    sys.stdout.write(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
