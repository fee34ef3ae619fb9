"""The clients of a stream, in a process of their own: they check that each gets every chunk once and in order.

The server writes chunks whose data has ``"n":<number>,"at":<time.monotonic_ns>`` in it. Commands come by the line on
stdin, each is answered by one line of JSON on stdout: ``open N STALLED``; ``take TOTAL`` waits until each reading
client has so many chunks, and tells the delays since the last one.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import time
from typing import Any

import msgspec
import uvloop

_CHUNK = re.compile(rb'"n":(\d+),"at":(\d+)')
RECEIVE = 4096
"""Bytes that the system takes for a client that does not read."""
TIMEOUT_S = 180.0


class Told(msgspec.Struct):
    """What the clients answer: chunks or connections that went wrong, the delays, and ``time.perf_counter`` then."""

    faults: int
    p50_ms: float
    p99_ms: float
    at: float


class Following(asyncio.Protocol):
    """One client. It keeps only what a read may have cut in two."""

    def __init__(self, request: bytes, is_stalled: bool, delays: list[int]) -> None:
        self._request = request
        self._is_stalled = is_stalled
        self._delays = delays
        self._rest = b""
        self._transport: Any
        self.opened = asyncio.get_running_loop().create_future()
        self.enough = asyncio.get_running_loop().create_future()
        self.wanted = 0
        self.count = 0
        self.faults = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        self._transport = transport
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count the chunks, and how long ago each was made."""
        now = time.monotonic_ns()
        data = self._rest + data
        if not self.opened.done():
            if b"\r\n\r\n" not in data:
                self._rest = data
                return
            self.opened.set_result(data.startswith(b"HTTP/1.1 200"))
            if self._is_stalled:
                self._transport.pause_reading()
                return
        end = data.rfind(b"}\n")
        if end < 0:
            self._rest = data
            return
        self._rest = data[end:]
        for number, at in _CHUNK.findall(data, 0, end):
            self.faults += int(number) != self.count
            self.count += 1
            self._delays.append(now - int(at))
        self._look()

    def want(self, total: int) -> asyncio.Future[None]:
        """Return what is done once so many chunks came."""
        self.wanted = total
        if self.enough.done():
            self.enough = asyncio.get_running_loop().create_future()
        self._look()
        return self.enough

    def _look(self) -> None:
        if self.count >= self.wanted > 0 and not self.enough.done():
            self.enough.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """A reading client that is cut off is a fault."""
        self.faults += not self._is_stalled


async def _open(port: int, request: bytes, is_stalled: bool, delays: list[int]) -> Following:
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    if is_stalled:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE)
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    client = (await loop.create_connection(lambda: Following(request, is_stalled, delays), sock=sock))[1]
    if not await client.opened:
        raise RuntimeError("the server refused a stream")
    return client


async def follow(port: int, request: bytes) -> None:
    """Do what is asked on stdin, until it ends."""
    loop = asyncio.get_running_loop()
    delays: list[int] = []
    reading: list[Following] = []
    stalled: list[Following] = []
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        what, *numbers = line.split()
        if what == "open":
            for number in range(int(numbers[0])):
                reading.append(await _open(port, request, False, delays))
                if number < int(numbers[1]):
                    stalled.append(await _open(port, request, True, []))
        else:
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.gather(*(client.want(int(numbers[0])) for client in reading))
        missing = sum(client.count != int(numbers[0]) for client in reading) if what == "take" else 0
        faults = missing + sum(client.faults for client in reading)
        delays.sort()
        told = Told(faults, _at(delays, 0.5), _at(delays, 0.99), time.perf_counter())
        delays.clear()
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
        sys.stdout.flush()


def _at(delays: list[int], share: float) -> float:
    return delays[int(len(delays) * share)] / 1e6 if delays else 0.0


def main() -> None:
    """Run with: port, method, path, and headers as ``Name: value``."""
    port, method, path, *headers = sys.argv[1:]
    lines = "".join(f"{header}\r\n" for header in (f"Host: 127.0.0.1:{port}", *headers))
    uvloop.run(follow(int(port), f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()))


if __name__ == "__main__":
    main()
