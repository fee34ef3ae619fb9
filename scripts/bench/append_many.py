"""Durable appends by many callers at once, events a second.

Ours: one ``Ledger`` on a new file, on uvloop as the server runs it, and 512 callers (in a full run), each of which
awaits ``ledger.execute`` for one command after the other: create a run, start it, complete it. Each command is one
event, decided by the rules, hashed into the tree, committed with ``synchronous=FULL`` together with whatever the others
ask meanwhile, and only then answered. Making the commands is not measured.
Baseline: ``raw`` writes the same rows in batches as large as ours were on average. It includes no rules, no hashes, no
waiting callers; its table has the same primary key and the same indexes. Two more rows: without secondary indexes; and
what checkpoints cost, against ours without any.
"""

from __future__ import annotations

from collections.abc import Iterator

from scripts.bench import raw
from scripts.bench.callers import append
from scripts.bench.contest import Lap, Row, row, take_turns
from scripts.bench.workplace import Workplace

TARGET = 0.50
CHECKPOINT_S = 0.2
"""Seconds between two checkpoints; a server makes one in five minutes."""
CHECKPOINT_TARGET = 0.95


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    callers, each = place.scale.callers, place.scale.commands
    sample = place.fresh()
    batch = append(sample, callers, each).batch

    def ours(checkpoint_s: float | None = None) -> Lap:
        path = place.fresh()
        lap = append(path, callers, each, checkpoint_s).lap
        place.remove(path)
        return lap

    for what, indexes, target in (("same indexes", True, TARGET), ("no secondary index", False, None)):

        def baseline(indexes: bool = indexes) -> Lap:
            path = place.fresh()
            lap = raw.write(sample, path, batch, indexes=indexes)
            place.remove(path)
            return lap

        pairs = take_turns(ours, baseline, place.scale.append_rounds)
        note = (
            f"{callers} callers, each one command of one event at a time, rules and hash tree included; against raw "
            f"SQLite (FULL) writing the same rows in batches of {batch}, {what}, no triggers, rules, hashes or callers"
        )
        yield row("append-many", f"{callers} callers, {what}", pairs, unit="events/s", target=target, note=note)

    pairs = take_turns(lambda: ours(CHECKPOINT_S), ours, place.scale.append_rounds)
    note = f"a checkpoint each {CHECKPOINT_S:g} s meanwhile, where a server makes one in 300 s; against none"
    yield row("append-many", "with checkpoints", pairs, unit="events/s", target=CHECKPOINT_TARGET, note=note)
