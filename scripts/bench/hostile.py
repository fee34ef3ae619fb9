"""Good receivers of callbacks beside hostile ones: how late the slowest hundredth of theirs is.

Ours: jobs end at a steady rate, one by one over HTTP, half of them with callbacks to good receivers and half of them to
bad ones: 500, 429 with ``Retry-After``, 410, a redirect, a stall of 30 s, a slow drip, a reset, TLS that nobody trusts,
a body of 1 GiB, and a dead port. Baseline: a server to which the same happens, but the other half has no callbacks.
The receivers are the zoo of the tests, each on a port of its own, or, as far as that is possible, all on one.
"""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from types import TracebackType

import msgspec

from scripts.bench import debts, endings
from scripts.bench.contest import Lap, Row, row, take_turns
from scripts.bench.delays import Delays, between, recorded_ns
from scripts.bench.served import ours
from scripts.bench.workplace import Workplace
from tests.server.callbacks.zoo import read_journal

OPTIONS = ("--callback-allow", "127.0.0.0/8", "--callback-schedule", "1,2,4")
GOOD = ("good", "created", "no_content")
BAD = ("fail", "busy", "gone", "redirect", "stall", "drip", "reset", "tls", "huge", "dead")
ONLY_OWN = ("tls", "dead")
"""Those that no port can share with others."""
RATE = 75.0
"""Jobs with good receivers that end in a second: the server has time left with all the others beside them."""
TARGET = 0.8
"""One in the ratio would be two equal servers; p99 of some hundred delays varies by this much."""
PATIENCE_S = 60.0
POLL_S = 0.25


class Zoo:
    """Receivers in a process of their own, until the end of the ``with`` block."""

    def __init__(self, place: Workplace) -> None:
        self._journal = place.fresh(".journal")
        command = [sys.executable, "-m", "tests.server.callbacks.zoo", "--journal", str(self._journal)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.urls = msgspec.json.decode(self._process.stdout.readline(), type=dict[str, str])

    def arrivals(self, jobs: Sequence[str]) -> dict[str, int]:
        """Wait for callbacks of these jobs; return when each came first, by ``time.monotonic_ns``, and forget all."""
        until_s = time.monotonic() + PATIENCE_S
        found: dict[str, int] = {}
        while len(found) < len(jobs) and time.monotonic() < until_s:
            time.sleep(POLL_S)
            found = _first_arrivals(self._journal, set(jobs))
        self._journal.write_bytes(b"")
        return found

    def __enter__(self) -> Zoo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def _first_arrivals(journal: Path, jobs: set[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for arrival in read_journal(journal):
        id = msgspec.json.decode(arrival.body)["job_id"]
        if id in jobs:
            found.setdefault(id, int(arrival.time_s * 1e9))
    return found


class Side:
    """A server and the jobs that end on it. ``urls``: where the callbacks of each behaviour go; others have none."""

    def __init__(self, place: Workplace, good: Zoo, urls: dict[str, str]) -> None:
        self._place = place
        self._good = good
        self._urls = urls
        self.since_recorded: list[Delays] = []
        self.since_answer: list[Delays] = []

    def lap(self) -> Lap:
        """Let all jobs end on a new server; return the p99 delay of those with good receivers, in ms."""
        behaviours = _behaviours(self._place.scale.hostile)
        log = debts.jobs(self._place, len(behaviours), lambda number: self._urls.get(behaviours[number]), ended=False)
        good = [id for id, behaviour in zip(log.jobs, behaviours, strict=True) if behaviour in GOOD]
        with ours(self._place, log, *OPTIONS) as server:
            server.get("/v1/jobs?limit=1")
            cpu_s = server.cpu_s()
            answered = endings.steadily(server, log.jobs, RATE * len(log.jobs) / len(good))
            cpu_s = server.cpu_s() - cpu_s
            arrivals = self._good.arrivals(good)
            server.kill()
        self.since_recorded.append(between(recorded_ns(log), arrivals))
        self.since_answer.append(between(answered, arrivals))
        self._place.remove(log.path)
        return Lap(self.since_recorded[-1].p99_ms, cpu_s / len(good), len(good) - len(arrivals))


def _behaviours(good: int) -> list[str]:
    """Return whom each job tells of its end: so many good ones, and a ninth of them of each bad kind, mixed."""
    found = [GOOD[number % len(GOOD)] for number in range(good)]
    for behaviour in BAD:
        found += [behaviour] * max(1, good // 9)
    random.Random(20260103).shuffle(found)
    return found


def rows(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    with socket.socket() as dead, Zoo(place) as good, Zoo(place) as bad:
        dead.bind(("127.0.0.1", 0))  # which keeps the port from others; without ``listen`` it refuses
        own = {**bad.urls, **{behaviour: good.urls[behaviour] for behaviour in GOOD}}
        own["dead"] = f"http://127.0.0.1:{dead.getsockname()[1]}/dead"
        yield _row(place, good, own, "ports of their own")
        shared = {behaviour: f"{good.urls['all']}/{behaviour}" for behaviour in (*GOOD, *BAD)}
        yield _row(place, good, {**shared, **{behaviour: own[behaviour] for behaviour in ONLY_OWN}}, "one port")


def _row(place: Workplace, good: Zoo, urls: dict[str, str], where: str) -> Row:
    beside = Side(place, good, urls)
    alone = Side(place, good, {behaviour: urls[behaviour] for behaviour in GOOD})
    pairs = take_turns(beside.lap, alone.lap, place.scale.hostile_rounds)
    count = place.scale.hostile
    note = (
        f"{count:,} callbacks to good receivers, {RATE:.0f} a second, beside {max(1, count // 9):,} to each of "
        f"{len(BAD)} bad ones, all on {where}; against good ones only; p50 / p99 from recorded to arrival "
        f"{_tell(beside.since_recorded)}, good only {_tell(alone.since_recorded)}; from the answer "
        f"{_tell(beside.since_answer)}, good only {_tell(alone.since_answer)}"
    )
    name = f"p99 delay beside hostile, {where}"
    return row("deliver", name, pairs, unit="ms", target=TARGET, note=note, is_less_better=True)


def _tell(delays: list[Delays]) -> str:
    return str(Delays(median(each.p50_ms for each in delays), median(each.p99_ms for each in delays)))
