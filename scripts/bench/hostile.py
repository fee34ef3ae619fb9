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
RATE = 150.0
"""Jobs with good receivers that end in a second: the server has time left with all the others beside them."""
TARGET = 0.8
"""One in the ratio would be two equal servers; p99 of some hundred delays varies by this much."""
PATIENCE_S = 60.0
POLL_S = 0.25


class Receivers:
    """The zoo, in a process of its own, until the end of its ``with`` block."""

    def __init__(self, place: Workplace) -> None:
        self._journal = place.fresh(".journal")
        command = [sys.executable, "-m", "tests.server.callbacks.zoo", "--journal", str(self._journal)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._urls = msgspec.json.decode(self._process.stdout.readline(), type=dict[str, str])
        self._dead = socket.socket()
        self._dead.bind(("127.0.0.1", 0))
        self._urls["dead"] = f"http://127.0.0.1:{self._dead.getsockname()[1]}/dead"

    def url(self, behaviour: str, is_shared: bool) -> str:
        """Return where a behaviour is, on the port that all share or on its own."""
        return f"{self._urls['all']}/{behaviour}" if is_shared and behaviour not in ONLY_OWN else self._urls[behaviour]

    def arrivals(self, jobs: Sequence[str]) -> dict[str, int]:
        """Wait for callbacks of these jobs; return when each came first, by ``time.monotonic_ns``, and forget all."""
        until_s = time.monotonic() + PATIENCE_S
        found: dict[str, int] = {}
        while len(found) < len(jobs) and time.monotonic() < until_s:
            time.sleep(POLL_S)
            found = _first_arrivals(self._journal, set(jobs))
        return found

    def forget(self) -> None:
        """Begin anew."""
        self._journal.write_bytes(b"")

    def __enter__(self) -> Receivers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._dead.close()


def _first_arrivals(journal: Path, jobs: set[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for arrival in read_journal(journal):
        id = msgspec.json.decode(arrival.body)["job_id"]
        if id in jobs:
            found.setdefault(id, int(arrival.time_s * 1e9))
    return found


class Side:
    """A server and the jobs that end on it; ``is_hostile``: the bad receivers are there too."""

    def __init__(self, place: Workplace, receivers: Receivers, is_shared: bool, is_hostile: bool) -> None:
        self._place = place
        self._receivers = receivers
        self._is_shared = is_shared
        self._is_hostile = is_hostile
        self.since_recorded: list[Delays] = []
        self.since_answer: list[Delays] = []

    def lap(self) -> Lap:
        """Let all jobs end on a new server; return the p99 delay of those with good receivers, in ms."""
        behaviours = _behaviours(self._place.scale.hostile)
        log = debts.jobs(self._place, len(behaviours), lambda number: self._url(behaviours[number]), ended=False)
        good = [id for id, behaviour in zip(log.jobs, behaviours, strict=True) if behaviour in GOOD]
        with ours(self._place, log, *OPTIONS) as server:
            answered = endings.steadily(server, log.jobs, RATE * len(log.jobs) / len(good))
            arrivals = self._receivers.arrivals(good)
        self.since_recorded.append(between(recorded_ns(log), arrivals))
        self.since_answer.append(between(answered, arrivals))
        self._receivers.forget()
        self._place.remove(log.path)
        return Lap(self.since_recorded[-1].p99_ms, faults=len(good) - len(arrivals))

    def _url(self, behaviour: str) -> str | None:
        return self._receivers.url(behaviour, self._is_shared) if behaviour in GOOD or self._is_hostile else None


def _behaviours(good: int) -> list[str]:
    """Return whom each job tells of its end: so many good ones, and a ninth of them of each bad kind, mixed."""
    found = [GOOD[number % len(GOOD)] for number in range(good)]
    for behaviour in BAD:
        found += [behaviour] * max(1, good // 9)
    random.Random(20260103).shuffle(found)
    return found


def rows(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    count = place.scale.hostile
    for is_shared, where in ((False, "ports of their own"), (True, "one port")):
        with Receivers(place) as receivers:
            beside, alone = (Side(place, receivers, is_shared, is_hostile) for is_hostile in (True, False))
            pairs = take_turns(beside.lap, alone.lap, place.scale.hostile_rounds)
        each = max(1, count // 9)
        note = (
            f"{count:,} callbacks to good receivers, {RATE:.0f} a second, beside {each:,} to each of {len(BAD)} bad "
            f"ones, all on {where}; against good ones only; p50 / p99 from recorded to arrival "
            f"{_tell(beside.since_recorded)}, good only {_tell(alone.since_recorded)}; from the answer "
            f"{_tell(beside.since_answer)}, good only {_tell(alone.since_answer)}"
        )
        name = f"p99 delay beside hostile, {where}"
        yield row("deliver", name, pairs, unit="ms", target=TARGET, note=note, is_less_better=True)


def _tell(delays: list[Delays]) -> str:
    return str(Delays(median(each.p50_ms for each in delays), median(each.p99_ms for each in delays)))
