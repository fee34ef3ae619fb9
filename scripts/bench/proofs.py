"""Proofs from the stored tree, milliseconds each: of an event at random, and that an older log is the beginning.

Ours: ``SqliteStore.prove`` on an open store, each time with nothing kept from the last. Baseline of the first rows: the
limit that was set, 10 ms. Of the others: the same on a log of the first size, where no more than the logarithm of the
sizes may be between them. The logs have rows of the width of real ones, with leaves at random: their tree is real, but
nothing else is.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from ledger import engine
from ledger.ledger import Ledger
from ledger.merkle import Frontier
from ledger.sqlite import SqliteStore
from scripts.bench.apart import apart
from scripts.bench.contest import Lap, Pair, Row, Watch, row, take_turns
from scripts.bench.workplace import START_US, Workplace

LIMIT_MS = 10.0
PROOFS = 200
"""Proofs in one measurement; its result is their median."""
DATA = (
    b'{"metadata":{"task":"nightly","number":123456,"model":"openai/gpt-4.1-mini","origin":"bench"},"more":"'
    + b"x" * 60
)
BLOCK = 50_000
KINDS = ("inclusion", "consistency")


def run(place: Workplace) -> Iterator[Row]:
    """Measure, and yield the rows."""
    small, large = place.scale.proved
    paths = {}
    for size in (small, large):
        paths[size] = place.fresh()
        apart(make, paths[size], size)
    for kind in KINDS:
        pairs = take_turns(lambda k=kind: apart(measure, paths[large], k, large), _limit, place.scale.fold_rounds)
        note = f"{large:,} events; median of {PROOFS} proofs at random; the baseline is the limit"
        yield _row(f"{kind}, {large:,}", pairs, 1.0, note)
        pairs = take_turns(
            lambda k=kind: apart(measure, paths[large], k, large),
            lambda k=kind: apart(measure, paths[small], k, small),
            place.scale.fold_rounds,
        )
        target = math.log2(small) / math.log2(large)
        note = f"{large:,} events against {small:,}; the target is the ratio of their logarithms"
        yield _row(f"{kind}, growth", pairs, target, note)
    for path in paths.values():
        place.remove(path)


def _row(name: str, pairs: list[Pair], target: float, note: str) -> Row:
    return row("proofs", name, pairs, unit="ms", target=target, note=note, is_less_better=True)


def _limit() -> Lap:
    return Lap(LIMIT_MS)


def make(path: Path, size: int) -> None:
    """Make a ledger of so many rows, with its tree and head."""

    async def empty() -> None:
        async with Ledger.open(path, name="bench.example/proofs"):
            pass

    asyncio.run(empty())
    with contextlib.closing(engine.connect(path, read_only=False)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        _fill(db, size)


def _fill(db: Any, size: int) -> None:
    chance, frontier = random.Random(size), Frontier()
    for start in range(1, size + 1, BLOCK):
        leaves = [chance.randbytes(32) for _ in range(min(BLOCK, size + 1 - start))]
        nodes = frontier.extend(leaves)
        db.execute("BEGIN")
        db.executemany(
            "INSERT INTO events VALUES (?, 'run-00000000-0000-4000-8000-000000000001', ?1, 'run.updated', 1, ?2, ?2, "
            "'user-00000000-0000-4000-8000-000000000000', NULL, NULL, ?3, ?4, NULL, ?5)",
            [(start + at, START_US + at, DATA, leaf[:16], leaf) for at, leaf in enumerate(leaves)],
        )
        db.executemany("INSERT INTO tree VALUES (?, ?, ?)", nodes)
        db.execute("COMMIT")
    db.execute("UPDATE head SET size = ?, frontier = ?", (size, frontier.to_bytes()))


def measure(path: Path, kind: str, size: int) -> Lap:
    """Return the median time of a proof, in milliseconds."""

    async def call() -> Lap:
        store = await SqliteStore.open(path, read_only=True)
        chance, times = random.Random(1), list[float]()
        for _ in range(PROOFS):
            at = chance.randint(1, size)
            with Watch() as watch:
                await _prover(store, kind, at)()
            times.append(watch.wall_s * 1000)
        await store.close()
        return Lap(median(times))

    return asyncio.run(call())


def _prover(store: SqliteStore, kind: str, at: int) -> Callable[[], Awaitable[Any]]:
    if kind == "inclusion":
        return lambda: store.prove(lambda tree: tree.inclusion(at))
    return lambda: store.prove(lambda tree: tree.consistency(at))
