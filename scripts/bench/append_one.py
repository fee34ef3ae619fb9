"""Durable appends by one caller, one at a time, events a second.

Ours: one ``Ledger``, on uvloop, and one caller who awaits ``ledger.execute`` for one command of one event after the
other; each is a transaction of its own with ``synchronous=FULL``. Baseline: ``raw`` writes the same rows, one
transaction each. Rounds are short and many, because how long the disk takes to sync changes with what else it does.
"""

from __future__ import annotations

from collections.abc import Iterator

from scripts.bench import raw
from scripts.bench.callers import append
from scripts.bench.contest import Lap, Row, row, take_turns
from scripts.bench.workplace import Workplace

TARGET = 0.60


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the row."""
    count = place.scale.singles
    sample = place.fresh()
    append(sample, 1, count)

    def ours() -> Lap:
        path = place.fresh()
        lap = append(path, 1, count).lap
        place.remove(path)
        return lap

    def baseline() -> Lap:
        path = place.fresh()
        lap = raw.write(sample, path, 1)
        place.remove(path)
        return lap

    pairs = take_turns(ours, baseline, place.scale.single_rounds)
    note = "one command of one event at a time; against one raw SQLite (FULL) transaction for each row, same indexes"
    yield row("append-one", "one caller", pairs, unit="events/s", target=TARGET, note=note)
