"""The zoo: receivers of callbacks that behave in all the ways that receivers do, and note every request that arrives.

Each behaviour has a port of its own, and most share one more, where the first part of the path chooses. In a test it
runs in the loop of the test. As a program, which outlives the servers that a test kills, it prints one JSON line with
the address of each receiver once they listen, and appends each arrival to a journal as it comes:

    python -m tests.server.callbacks.zoo --journal FILE [--failures N]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import ssl
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
import uvloop

from tests.server.callbacks.behaviours import BEHAVIOURS, ONLY_PORTS, Call, reset
from tests.server.callbacks.certificate import self_signed

ARRIVALS_MAX = 10_000
"""Arrivals kept in memory, a few KB each; the journal keeps all."""
IDS_MAX = 100_000
"""Pairs of behaviour and ``webhook-id`` that are counted; the oldest is forgotten."""
SHARED = ("all", "all_tls")
"""Ports where the path chooses the behaviour."""
REQUEST_SIZE_MAX = 1 << 20
"""Bytes of a request's body; more is an error of the sender's test."""


class Arrival(msgspec.Struct, frozen=True):
    """One request, noted once its body is there and before it is answered."""

    behaviour: str
    webhook_id: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    time_s: float
    """By ``time.monotonic``, which all processes of a machine share."""

    def header(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known.lower() == name.lower()), None)


def read_journal(path: Path) -> list[Arrival]:
    """Return what a journal holds; the last line may still be on its way."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    decoder = msgspec.json.Decoder(Arrival)
    return [decoder.decode(line) for line in whole.splitlines()]


class Zoo:
    """Receivers on 127.0.0.1, from ``start`` to ``stop``. ``urls``: the address of each by its behaviour, and of the
    ports that they share as ``all`` and ``all_tls``. ``failures``: of those that get better, how many requests of each
    ``webhook-id`` fail first. ``certificate``: what those with TLS show, as PEM.
    """

    def __init__(self, journal: BinaryIO | None = None, failures: int = 2) -> None:
        self.failures = failures
        self.urls: dict[str, str] = {}
        self.arrivals: deque[Arrival] = deque(maxlen=ARRIVALS_MAX)
        self.counts: Counter[str] = Counter()
        self.connections: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.certificate, self._tls = self_signed()
        self._journal = journal
        self._seen: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._errors: list[BaseException] = []
        self._news = asyncio.Event()
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()

    async def start(self) -> None:
        for name in (*BEHAVIOURS, *ONLY_PORTS, *SHARED):
            port = await self._listen(name, self._tls if name in ("tls", "all_tls") else None)
            scheme = "https" if name in ("tls", "all_tls", "plain_on_tls") else "http"
            self.urls[name] = f"{scheme}://127.0.0.1:{port}" + ("" if name in SHARED else f"/{name}")

    async def stop(self) -> None:
        """Break off what is left. Raises what went wrong in a receiver, which would be a mistake of the zoo's."""
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._errors:
            raise BaseExceptionGroup("receivers of the zoo failed", self._errors)

    @property
    def tasks(self) -> frozenset[asyncio.Task[None]]:
        return frozenset(self._tasks)

    def arrived(self, behaviour: str) -> list[Arrival]:
        return [arrival for arrival in self.arrivals if arrival.behaviour == behaviour]

    async def wait_count(self, name: str, count: int, timeout_s: float = 5.0) -> None:
        """Wait until so many requests have come to a behaviour; raises TimeoutError when they do not."""
        async with asyncio.timeout(timeout_s):
            while self.counts[name] < count:
                self._news.clear()
                await self._news.wait()

    async def wait_quiet(self, timeout_s: float = 5.0) -> None:
        """Wait until no connection is open; raises TimeoutError when a sender keeps one."""
        await asyncio.wait_for(self._is_quiet.wait(), timeout_s)

    def mark(self, name: str) -> None:
        """Count one more of something that others may wait for."""
        self.counts[name] += 1
        self._news.set()

    async def _listen(self, name: str, tls: ssl.SSLContext | None) -> int:
        behaviour = None if name in SHARED else name

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._is_quiet.clear()
            self._writers.add(writer)
            self.connections[name] += 1
            task = asyncio.get_running_loop().create_task(self._connection(behaviour, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls, backlog=1024)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._is_quiet.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._errors.append(error)

    async def _connection(
        self, behaviour: str | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            # Senders come and go as they like.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if behaviour == "reset_at_once":
                    reset(writer)
                else:
                    await self._requests(behaviour, reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self._writers.discard(writer)

    async def _requests(
        self, behaviour: str | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        first = await reader.readexactly(1)
        if first == b"\x16" and behaviour == "plain_on_tls":  # a ClientHello, to which HTTP servers answer so:
            writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            return
        ordinal, stays = 0, True
        while stays:
            arrival = await self._read(behaviour, first, reader)
            first, ordinal = b"", ordinal + 1
            act = BEHAVIOURS.get(arrival.behaviour) or ONLY_PORTS[arrival.behaviour]
            stays = await act(Call(self, arrival, ordinal, self._note(arrival), reader, writer))
            stays = stays and (arrival.header("Connection") or "") != "close"

    async def _read(self, behaviour: str | None, first: bytes, reader: asyncio.StreamReader) -> Arrival:
        head = first + await reader.readuntil(b"\r\n\r\n")
        request, *lines = head[:-4].decode("latin-1").split("\r\n")
        path = request.split(" ")[1]
        webhook_id, length, headers = "", 0, []
        for line in lines:
            name, _, value = line.partition(": ")
            headers.append((name, value))
            if (known := name.lower()) == "content-length":
                length = int(value)
            elif known == "webhook-id":
                webhook_id = value
        if length > REQUEST_SIZE_MAX:
            raise ValueError(f"a request of {length} bytes; the zoo takes {REQUEST_SIZE_MAX}")
        body = await reader.readexactly(length)
        name = behaviour or path.split("/", 2)[1]
        return Arrival(name, webhook_id, path, tuple(headers), body, time.monotonic())

    def _note(self, arrival: Arrival) -> int:
        """Note an arrival and return how many of its ``webhook-id`` have come to its behaviour."""
        self.arrivals.append(arrival)
        self.mark(arrival.behaviour)
        if self._journal is not None:
            self._journal.write(msgspec.json.encode(arrival) + b"\n")
        key = (arrival.behaviour, arrival.webhook_id)
        count = self._seen[key] = self._seen.get(key, 0) + 1
        if len(self._seen) > IDS_MAX:
            self._seen.popitem(last=False)
        return count


@asynccontextmanager
async def opened(journal: BinaryIO | None = None, failures: int = 2) -> AsyncIterator[Zoo]:
    zoo = Zoo(journal, failures)
    try:
        await zoo.start()
        yield zoo
    finally:
        await zoo.stop()


async def serve(journal: Path, failures: int) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # Unbuffered: what has arrived is in the file, whoever is killed next.
    with journal.open("ab", buffering=0) as file:
        async with opened(file, failures) as zoo:
            print(msgspec.json.encode(zoo.urls).decode(), flush=True)
            await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Run receivers of callbacks that misbehave.")
    parser.add_argument("--journal", type=Path, required=True, help="file to which arrivals are appended")
    parser.add_argument("--failures", type=int, default=2, help="requests of each webhook-id that fail at first")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.journal, arguments.failures))


if __name__ == "__main__":
    main()
