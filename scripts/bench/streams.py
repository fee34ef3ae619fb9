"""Streams: 1,000 clients follow one run (in a full run), chunks × clients a second, from a POST to the last arrival.

Ours: ``jobledger serve``; messages are sent by ``POST /v1/runs/{id}/messages``, in bursts of 20 or one by one, so that
rules, hash tree, commit and views are part of it; clients follow by ``POST /v1/runs/{id}/stream``.
Baseline: a bare aiohttp handler (``bare``) that takes the same messages by POST and writes each as the same bytes to
each client with ``StreamResponse.write``, in a process set up alike. It keeps nothing.
The clients are one process that checks that each gets every chunk once and in order. More rows: one client more in
fifty that does not read, beside the same clients without those; delays of messages sent at a steady rate.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from ledger import ids
from scripts.bench.contest import Lap, Row, row
from scripts.bench.follow import Told
from scripts.bench.served import Served, bare, ours
from scripts.bench.workplace import Workplace

TARGET_BURSTS = 2.0
TARGET_SINGLE = 0.6
"""One message at a time costs either side one call of the system for each client; ours commits it and shows it too."""
TARGET_STALLED = 0.8
CONTENT = "tok " * 50
BURST = 20
"""Messages in one POST: what a model says in a second or two."""
STEADY_S = 0.05
"""Between two messages at a steady rate, about half of what the slower side can take."""


class Round(NamedTuple):
    """One measurement, and how old chunks were when they arrived."""

    lap: Lap
    p50_ms: float
    p99_ms: float


class Streams:
    """A server, its clients in a process of their own, and the connection that sends messages."""

    def __init__(self, server: Served, follow: str, send: str, clients: int, stalled: int) -> None:
        self._server = server
        self._send = send
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port)
        self._clients = clients
        self._sent = 0
        self.run_id = follow.split("/")[3]
        headers = [f"{name}: {value}" for name, value in server.headers.items()]
        command = [sys.executable, "-m", "scripts.bench.follow", str(server.port), "POST", follow, *headers]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        before = server.memory()
        self.faults = self._ask("open", clients, stalled).faults
        self.memory = (server.memory() - before) / (clients + stalled)
        """Resident bytes of the server that an idle client costs."""

    def burst(self, chunks: int, size: int) -> Round:
        """Send chunks, so many at a time, each time as soon as the server answers."""
        return self._measure(chunks, size, 0.0)

    def steady(self, chunks: int) -> Round:
        """Send chunks one by one at a steady rate."""
        return self._measure(chunks, 1, STEADY_S)

    def _measure(self, chunks: int, size: int, wait_s: float) -> Round:
        cpu_s, began = self._server.cpu_s(), time.perf_counter()
        for number in range(0, chunks, size):
            if wait_s:
                time.sleep(max(0.0, began + number * wait_s - time.perf_counter()))
            self._post([self._message(self._sent + each) for each in range(size)])
            self._sent += size
        told = self._ask("take", self._sent)
        arrived = chunks * self._clients
        lap = Lap(arrived / (told.at - began), (self._server.cpu_s() - cpu_s) / arrived, told.faults)
        return Round(lap, told.p50_ms, told.p99_ms)

    def _message(self, number: int) -> dict[str, Any]:
        message = {"message_type": "assistant_message", "id": ids.make("message"), "content": CONTENT}
        message |= {"n": number, "at": time.monotonic_ns()}
        if self._send == "/push":  # what ours adds
            message |= {"run_id": self.run_id, "seq_id": number + 3, "date": "2026-01-01T00:00:00.000000Z"}
        return message

    def _post(self, messages: list[dict[str, Any]]) -> None:
        headers = {**self._server.headers, "Content-Type": "application/json"}
        self._connection.request("POST", self._send, msgspec.json.encode(messages), headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 201:
            raise RuntimeError(f"the server answered {answer.status}: {body[:500]!r}")

    def _ask(self, what: str, *numbers: int) -> Told:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join([what, *map(str, numbers)]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the clients gave up; see above")
        return msgspec.json.decode(line, type=Told)

    def __enter__(self) -> Streams:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.kill()
        self._process.communicate()


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    log = place.writable()
    clients, stalled = place.scale.clients, max(1, place.scale.clients // 50)
    with (
        ours(place, log) as server,
        bare(place, log, "stream", "/v1/runs/{id}/stream", b"") as baseline,
        _ours(server, clients, 0) as mine,
        _bare(baseline, clients) as theirs,
    ):
        yield from _against_bare(place, mine, theirs)
    with ours(place, log) as server, _ours(server, clients, 0) as plain, _ours(server, clients, stalled) as held:
        yield _with_stalled(place, held, plain, stalled)


def _against_bare(place: Workplace, mine: Streams, theirs: Streams) -> Iterator[Row]:
    scale = place.scale
    note = (
        f"chunks × clients/s; {scale.clients} clients, messages of {len(CONTENT)} characters; against a bare aiohttp "
        "handler that writes the same bytes to each client and keeps nothing"
    )
    for name, chunks, size, target in (
        ("bursts", scale.chunks, BURST, TARGET_BURSTS),
        ("one by one", scale.chunks // 2, 1, TARGET_SINGLE),
    ):
        rounds = _turns(mine, theirs, chunks, size, scale.stream_rounds)
        yield _row(name, rounds, target, note + (f", {size} in one POST" if size > 1 else ""))
    rounds = [(mine.steady(scale.chunks // 4), theirs.steady(scale.chunks // 4))]
    memory = f"memory of an idle client {mine.memory / 1024:.0f} KiB, bare {theirs.memory / 1024:.0f} KiB"
    yield _row("steady", rounds, None, f"{note}, one each {STEADY_S * 1000:.0f} ms, so that delays tell; {memory}")


def _with_stalled(place: Workplace, held: Streams, plain: Streams, stalled: int) -> Row:
    scale = place.scale
    rounds = _turns(held, plain, scale.chunks, BURST, scale.stream_rounds)
    note = f"{scale.clients} clients that read and {stalled} that do not, against as many that read and no other"
    return _row(f"bursts, {stalled} more do not read", rounds, TARGET_STALLED, note)


def _turns(mine: Streams, theirs: Streams, chunks: int, size: int, count: int) -> list[tuple[Round, Round]]:
    """Measure both sides in turns, each round beginning with the other side."""
    rounds = []
    for number in range(count):
        first, second = (theirs, mine) if number % 2 else (mine, theirs)
        pair = first.burst(chunks, size), second.burst(chunks, size)
        rounds.append(pair[::-1] if number % 2 else pair)
    return rounds


def _row(name: str, rounds: list[tuple[Round, Round]], target: float | None, note: str) -> Row:
    def delays(side: int) -> str:
        p50, p99 = (median(each[side][place] for each in rounds) for place in (1, 2))
        return f"{p50:.1f} / {p99:.1f} ms"

    pairs = [(mine.lap, theirs.lap) for mine, theirs in rounds]
    note = f"{note}; delay p50 / p99: {delays(0)}, baseline {delays(1)}"
    return row("streams", name, pairs, unit="chunks/s", target=target, note=note)


def _ours(server: Served, clients: int, stalled: int) -> Streams:
    run_id = ids.make("run")
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    body = msgspec.json.encode({"id": run_id, "agent_id": "agent-1", "status": "running"})
    connection.request("POST", "/v1/runs/", body, {**server.headers, "Content-Type": "application/json"})
    assert connection.getresponse().status == 201
    connection.close()
    return Streams(server, f"/v1/runs/{run_id}/stream", f"/v1/runs/{run_id}/messages", clients, stalled)


def _bare(server: Served, clients: int) -> Streams:
    return Streams(server, f"/v1/runs/{ids.make('run')}/stream", "/push", clients, 0)
