"""How long callbacks were on their way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from typing import NamedTuple

from ledger import engine
from scripts.bench.workplace import Log

_ENDS = "SELECT stream, recorded FROM events WHERE type = 'job.completed'"


class Delays(NamedTuple):
    """Percentiles of delays, milliseconds."""

    p50_ms: float
    p99_ms: float

    def __str__(self) -> str:
        return f"{self.p50_ms:.1f} / {self.p99_ms:.1f} ms"


def between(since: Mapping[str, int], arrivals: Mapping[str, int]) -> Delays:
    """Return the delays of what arrived, from when ``since`` has it; both in nanoseconds by ``time.monotonic_ns``."""
    delays = sorted(at - since[id] for id, at in arrivals.items())
    p50, p99 = (delays[int(len(delays) * share)] / 1e6 for share in (0.5, 0.99))
    return Delays(p50, p99)


def recorded_ns(log: Log) -> dict[str, int]:
    """Return when the end of each job was recorded, by ``time.monotonic_ns``."""
    apart_ns = time.time_ns() - time.monotonic_ns()
    with closing(engine.connect(log.path, read_only=True)) as db:
        return {id: recorded_us * 1000 - apart_ns for id, recorded_us in db.execute(_ENDS)}
