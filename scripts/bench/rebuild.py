"""Rebuild of all views, events a second, and whether it stays linear and its memory flat as logs grow.

Ours: the command ``jobledger rebuild`` on a generated log without views, in a process of its own, by the seconds that
it tells, which count from opening the ledger to closing it.
Baseline: reading the whole log in its order, in batches of 10,000 rows, with the columns that a fold needs (position,
stream, version, type, time, actor, data), and decoding each event's data with msgspec into the type of its fact;
likewise in a process of its own.
The last rows compare ours with itself: the rate on a log with that on the next smaller one (1.00 is linear), and the
peak memory (resident set) with the smaller one to that with the larger, which has ten times the events (1.00 is flat).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from ledger import engine
from ledger.events import TYPES
from scripts.bench.apart import apart
from scripts.bench.commands import jobledger
from scripts.bench.contest import Lap, Pair, Row, Watch, row, take_turns
from scripts.bench.workplace import Log, Workplace

TARGET = 0.25
TARGET_LINEAR = 0.80
"""Least share of the rate on a tenth of the events: indexes of ten times the rows are a little deeper."""
TARGET_FLAT = 0.80
FULL_CACHES = 1_000_000
"""Events from which on the page cache and the states that a rebuild keeps are full, so that memory must be flat."""
BATCH = 10_000
MIB = 1024 * 1024


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    tracks = [Track(events, place.log(events)) for events in place.scale.events]
    for _ in range(place.scale.fold_rounds):  # sizes in turns too, for the rows that compare them
        for track in tracks:
            track.pairs += take_turns(track.rebuild, track.scan, 1)
    for track in tracks:
        note = "views made from nothing; against reading the log and decoding each event with msgspec"
        yield row("rebuild", f"{track.events:,} events", track.pairs, unit="events/s", target=TARGET, note=note)
    for few, many in pairwise(tracks):
        rates = [(more[0], less[0]) for more, less in zip(many.pairs, few.pairs, strict=True)]
        name, note = (
            f"{many.events:,} events, linear",
            f"the rate on {many.events:,} events against that on {few.events:,}",
        )
        yield row("rebuild", name, rates, unit="events/s", target=TARGET_LINEAR, note=note)
        peaks = list(zip(few.peaks, many.peaks, strict=True))
        target = TARGET_FLAT if few.events >= FULL_CACHES else None
        name, note = (
            f"{many.events:,} events, memory",
            f"peak memory on {few.events:,} events (ours) against {many.events:,}",
        )
        yield row("rebuild", name, peaks, unit="MiB", target=target, note=note)


class Track:
    """What is measured of one log."""

    def __init__(self, events: int, log: Log) -> None:
        self.events = events
        self.log = log
        self.pairs: list[Pair] = []
        self.peaks: list[Lap] = []

    def rebuild(self) -> Lap:
        """Rebuild the views from nothing with the command; note its peak memory."""
        self.log.drop_views()
        told = jobledger("rebuild", "--db", self.log.path, "--json")
        self.peaks.append(Lap(told.peak / MIB))
        return Lap(told.answer["events"] / told.answer["seconds"])

    def scan(self) -> Lap:
        """Read and decode the log in a process of its own."""
        return apart(scan, self.log.path)


def scan(path: Path) -> Lap:
    """Read and decode a log."""
    decode = {name: info.decode for name, info in TYPES.items()}
    connection = engine.connect(path, read_only=True)
    count = 0
    with Watch() as watch:
        rows = connection.execute(
            "SELECT position, stream, version, type, time, actor, data FROM events ORDER BY position"
        )
        while part := rows.fetchmany(BATCH):
            for _, _, _, name, _, _, data in part:
                decode[name](data)
            count += len(part)
    connection.close()
    return watch.lap(count)
