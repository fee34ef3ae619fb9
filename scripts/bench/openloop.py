"""An open-loop load generator: requests at a fixed rate, whether or not those before are answered. Prints JSON.

A request's latency counts from when it was meant to be sent, also where no connection was free by then, so that a
server that stalls is charged for all who would have come meanwhile: no coordinated omission. How late the generator
itself was, and how busy, is measured and told beside it.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections import defaultdict, deque
from itertools import chain, cycle
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import msgspec
import uvloop

from scripts.bench.answers import Answers
from scripts.bench.load import CONNECTIONS

TICK_S = 0.0002
"""Between two looks at what is to be sent by now; latencies are told to about as much. A thread sleeps so long, as
event loops count in milliseconds: asked for half of one, uvloop does not sleep at all, and takes a core from the
server."""
PATIENCE_S = 5.0
"""How long after the last request answers are waited for."""
OPEN = 4 * CONNECTIONS
"""Connections: as many requests may be under way before others wait for one."""
READS, WRITES = "reads", "writes"
SHARES = (0.5, 0.9, 0.99, 0.999)


class Latencies(msgspec.Struct, frozen=True):
    """How long answers took, in milliseconds."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float

    def __str__(self) -> str:
        return " / ".join(f"{value:.2f}" for value in (self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms))


class Told(msgspec.Struct, frozen=True):
    """What came of it. ``late_s``: how long after the last request was due the last answer came.

    ``kinds``: the latencies of reads and of writes, as far as there were any: where they wait for different things,
    those of ``all`` are a median of the ones and a tail of the others. ``lag_ms``: the 99th percentile of how late a
    request was sent although a connection was free, which is the generator's fault and part of the latencies.
    ``busy``: the share of one core that the generator used.
    """

    answers: int
    faults: int
    late_s: float
    all: Latencies
    kinds: dict[str, Latencies]
    lag_ms: float
    busy: float

    def __str__(self) -> str:
        apart = [f"{kind} {self.kinds[kind]}" for kind in sorted(self.kinds)] if len(self.kinds) > 1 else []
        return f"{', '.join([str(self.all), *apart])} (lag {self.lag_ms:.2f}, busy {self.busy:.0%})"


class Encoded(NamedTuple):
    """A request as it is sent, and which kind of latency it adds to."""

    kind: str
    raw: bytes


class Client(Answers):
    """One connection: takes a request when it is free, and tells when that is answered."""

    def __init__(self, crowd: Crowd) -> None:
        super().__init__()
        self._crowd = crowd
        self._meant_s = 0.0
        self._kind = ""

    def begun(self) -> None:
        """Be free."""
        self._crowd.free.append(self)

    def send(self, request: Encoded, meant_s: float) -> None:
        """Send a request that was meant for a moment."""
        self._meant_s, self._kind = meant_s, request.kind
        self.transport.write(request.raw)

    def answered(self, *, is_good: bool) -> None:
        """Be free again."""
        self._crowd.answered(self, self._kind, self._meant_s, is_good)

    def failed(self, reason: str) -> None:
        """Count a fault; the connection takes no more requests."""
        self._crowd.faults += 1


class Crowd:
    """All the connections, the requests that are due, and how long each took."""

    def __init__(self, requests: list[Encoded], rate: float, seconds: float) -> None:
        self.free: deque[Client] = deque()
        self.faults = 0
        self._requests = cycle(requests)
        self._rate = rate
        self._count = max(1, round(rate * seconds))
        self._sent = 0
        self._answers = 0
        self._latencies: defaultdict[str, list[float]] = defaultdict(list)
        self._lags: list[float] = []
        self._loop = asyncio.get_running_loop()
        self._now_s = time.perf_counter
        """Not the event loop's clock: uvloop's shows milliseconds, as they were when it last woke."""
        self._over = asyncio.Event()
        self._began_s = 0.0

    async def run(self) -> Told:
        """Send all requests, each at its time; return what came of them."""
        self._began_s, used_s = self._now_s(), time.process_time()
        enough = Event()
        ticking = Thread(target=self._tick, args=(enough,), name="ticks")
        ticking.start()
        due_s = self._count / self._rate
        try:
            async with asyncio.timeout(due_s + PATIENCE_S):
                await self._over.wait()
        except TimeoutError:
            self.faults += self._count - self._answers  # never answered
        finally:
            enough.set()
            ticking.join()
        took_s = self._now_s() - self._began_s
        late_s = max(took_s - due_s, 0.0)
        busy = (time.process_time() - used_s) / took_s
        kinds = {kind: _latencies(found) for kind, found in self._latencies.items()}
        found = _latencies(list(chain.from_iterable(self._latencies.values())) or [PATIENCE_S])
        lag_ms = _at(sorted(self._lags) or [0.0], 0.99)
        return Told(self._answers, self.faults, late_s, found, kinds, lag_ms, busy)

    def _tick(self, enough: Event) -> None:
        while self._sent < self._count and not enough.is_set():
            self._loop.call_soon_threadsafe(self._send)
            time.sleep(TICK_S)

    def _send(self, *, is_own_fault: bool = True) -> None:
        """Send what is due, as far as there are free connections. ``is_own_fault``: it is late though one was free."""
        now_s = self._now_s() - self._began_s
        due = min(int(now_s * self._rate) + 1, self._count)
        while self._sent < due and self.free:
            meant_s = self._sent / self._rate
            self._sent += 1
            if is_own_fault:
                self._lags.append(now_s - meant_s)
            self.free.popleft().send(next(self._requests), self._began_s + meant_s)

    def answered(self, client: Client, kind: str, meant_s: float, is_good: bool) -> None:
        """Note an answer; the connection is free for what is due."""
        self._latencies[kind].append(self._now_s() - meant_s)
        self._answers += 1
        self.faults += not is_good
        one_was_free = bool(self.free)
        self.free.append(client)
        self._send(is_own_fault=one_was_free)
        if self._answers == self._count:
            self._over.set()


def _latencies(seconds: list[float]) -> Latencies:
    ordered = sorted(seconds)
    return Latencies(*(_at(ordered, share) for share in SHARES), ordered[-1] * 1000)


def _at(ordered: list[float], share: float) -> float:
    """Return the value at a share of seconds in order, in milliseconds."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000


async def load(port: int, rate: float, seconds: float, requests: list[Encoded]) -> Told:
    """Send the requests in turn, so many a second."""
    loop = asyncio.get_running_loop()
    crowd = Crowd(requests, rate, seconds)
    for _ in range(OPEN):
        await loop.create_connection(lambda: Client(crowd), "127.0.0.1", port)
    gc.disable()  # a pause of this process must not be told as one of the server
    return await crowd.run()


class Request(msgspec.Struct, frozen=True):
    """One request of the load; a body makes it a POST."""

    path: str
    body: str = ""

    def encode(self, port: int, headers: list[str]) -> Encoded:
        """Return it as it is sent."""
        body = self.body.encode()
        more = [f"Content-Length: {len(body)}", "Content-Type: application/json"] if body else []
        lines = "".join(f"{line}\r\n" for line in (f"Host: 127.0.0.1:{port}", *headers, *more))
        head = f"{'POST' if body else 'GET'} {self.path} HTTP/1.1\r\n{lines}\r\n"
        return Encoded(WRITES if body else READS, head.encode() + body)


def main() -> None:
    """Run with: port, requests a second, seconds, a file of requests, and headers."""
    port, rate, seconds, file, *headers = sys.argv[1:]
    requests = msgspec.json.decode(Path(file).read_bytes(), type=list[Request])
    encoded = [request.encode(int(port), headers) for request in requests]
    told = uvloop.run(load(int(port), float(rate), float(seconds), encoded))
    sys.stdout.write(msgspec.json.encode(told).decode())


if __name__ == "__main__":
    main()
