"""Import of an SWF log into a new ledger, views included, events a second.

Ours: the command ``jobledger import FILE --format swf`` (``archive.load``, then ``Engine.open``), by the rate that it
tells, which counts from opening the ledger to closing it. The file is the SDSC Blue Horizon log (243,306 jobs) where
``../shared/data`` beside the repository has it, else a generated one.
Baseline: ``raw`` writes the events that ours came to, in batches of 16,000 (about ours: 4,000 jobs a transaction),
making and closing the file included. It parses nothing, decides nothing, hashes nothing and has no views.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from scripts.bench import raw
from scripts.bench.apart import apart
from scripts.bench.commands import jobledger
from scripts.bench.contest import Lap, Row, row, take_turns
from scripts.bench.workplace import Workplace

TARGET = 0.30
BATCH = 16_000
REAL = Path(__file__).resolve().parents[3] / "shared/data/swf/SDSC-BLUE-2000-4.2-cln.swf.gz"
JOBS = 243_306
"""Jobs of a generated file in place of the real one: as many as that has."""


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the row."""
    file = _file(place)
    sample = place.fresh()
    counts: list[int] = []

    def ours() -> Lap:
        path = place.fresh() if counts else sample  # what the first round comes to is what the baseline writes
        events, lap = _import(path, file)
        counts.append(events)
        if path is not sample:
            place.remove(path)
        return lap

    def baseline() -> Lap:
        path = place.fresh()
        lap = apart(raw.write, sample, path, BATCH, whole=True)
        place.remove(path)
        return lap

    pairs = take_turns(ours, baseline, place.scale.import_rounds)
    place.remove(sample)
    note = (
        f"{file.name}, {counts[0]:,} events, views included; against raw SQLite (FULL) writing the same rows in "
        f"batches of {BATCH:,}, same indexes, no parsing, rules, hashes or views"
    )
    yield row("import", "SWF log", pairs, unit="events/s", target=TARGET, note=note)


def _import(path: Path, file: Path) -> tuple[int, Lap]:
    told = jobledger("import", file, "--format", "swf", "--db", path, "--json")
    events = told.answer["appended"]
    assert events > 0
    return events, Lap(told.answer["events_per_s"])


def _file(place: Workplace) -> Path:
    jobs = place.scale.jobs
    if jobs is None and REAL.exists():
        return REAL
    path = place.fresh(".swf")
    chance = random.Random(2000)
    with path.open("w", encoding="ascii") as file:
        file.write("; UnixStartTime: 956703600\n")
        for number in range(1, (jobs or JOBS) + 1):
            wait, took = chance.randrange(5000), chance.randrange(1, 40_000)
            status = chance.choices((1, 0, 5), (75, 15, 10))[0]
            who = f"{chance.randrange(468)} {chance.randrange(50)} -1 {chance.randrange(5)}"
            file.write(f"{number} {number * 400} {wait} {took} 8 -1 -1 8 36000 -1 {status} {who} -1 -1 -1\n")
    return path
