"""Rebuilding views: folded anew beside the old ones, then swapped in one step while reads go on."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ledger import engine as sqlite
from ledger.events import ERASURES, Recorded
from ledger.store import BATCH_SIZE, Store
from projections import scrub
from projections.file import NEW, checkpoints, lock, move
from projections.projection import Memory, Projection, tables_of

BATCH = 10_000
"""Events in one transaction of a catch-up or rebuild, about 10 MiB of memory; readers and writers get in between."""
GROWTH_INTERVAL_S = 0.05
"""How often to look for more while somebody else appends much."""

Parts = list[tuple[Projection, list[Recorded]]]
"""Events by the projection that folds them."""
Progress = Callable[[int, int], None]
"""Called with events done and events in all."""


class Rebuild:
    """One rebuild of some projections of a views file, from a store's log."""

    def __init__(self, path: Path, connection: sqlite.Connection, store: Store, chosen: Sequence[Projection]) -> None:
        self._path = path
        self._run = connection.run
        self._store = store
        self._chosen = chosen
        self._memories = {projection.name: projection.fresh() for projection in chosen}
        self._erased: list[Recorded] = []
        """What was erased since the rebuild began, which may have read the data: folded once more, with indexes."""

    async def run(self, progress: Progress | None, grows: Callable[[], bool]) -> int:
        """Rebuild and swap; return how many events were folded.

        Another rebuild of the same file, in whatever process, is waited for.
        """
        handle = await asyncio.to_thread(lock, self._path, wait=True)
        try:
            await self._run(partial(_begin, chosen=self._chosen))
            last = await self._fold(progress, grows)
            generation = secrets.token_hex(4)
            for projection in self._chosen:
                await self._run(partial(projection.index, table=projection.name + NEW, generation=generation))
            if self._erased:
                parts = _split(self._erased, self._chosen)
                await self._run(partial(_fold_beside, parts=parts, memories=self._memories))
            return await self._swap(last)
        finally:
            if handle is not None:  # behind what the connection is at, which goes on also where this is cancelled
                await self._run(lambda _: os.close(handle))

    async def _fold(self, progress: Progress | None, grows: Callable[[], bool]) -> int:
        total = (await self._store.head()).size
        last = 0
        while (growing := grows()) or last < total:
            batch = await self._store.facts(last, BATCH, BATCH_SIZE)
            if not batch and not growing:
                break
            if not batch:
                await asyncio.sleep(GROWTH_INTERVAL_S)
                continue
            self._erased += [event for event in batch if event.position > total and event.type in ERASURES]
            parts = _split(batch, self._chosen)
            births = await self._births(parts)
            await self._run(partial(_fold_beside, parts=parts, memories=self._memories, births=births))
            last = batch[-1].position
            if progress:
                progress(min(last, total), total)
        return last

    async def _births(self, parts: Parts) -> list[dict[str, int]]:
        needed = [projection.needed(events, self._memories[projection.name]) for projection, events in parts]
        return [await self._store.births(streams) if streams else {} for streams in needed]

    async def _swap(self, last: int) -> int:
        done = False
        while not done:
            rest = await self._store.scan(last, BATCH, size_max=BATCH_SIZE)
            last = rest[-1].position if rest else last
            at = (await self._store.scan(last - 1, 1))[0] if last else None
            had_data = await self._store.erased() > 0  # so may the old views, whose pages are free after the swap
            done = await self._run(
                partial(
                    _swap,
                    chosen=self._chosen,
                    rest=rest,
                    last=at,
                    memories=self._memories,
                    had_data=had_data,
                )
            )
        return last


def _begin(db: Any, chosen: Sequence[Projection]) -> None:
    for projection in chosen:
        for table in tables_of(projection, NEW):
            db.execute(f"DROP TABLE IF EXISTS {table}")
        projection.create(db, projection.name + NEW)


def _split(batch: list[Recorded], chosen: Sequence[Projection]) -> Parts:
    routes: dict[str, list[list[Recorded]]] = {}
    parts = [(projection, list[Recorded]()) for projection in chosen]
    for projection, events in parts:
        for name in projection.types:
            routes.setdefault(name, []).append(events)
    for event in batch:
        for events in routes.get(event.type, ()):
            events.append(event)
    return [(projection, events) for projection, events in parts if events]


def _fold_beside(
    db: Any, parts: Parts, memories: dict[str, Memory], births: Sequence[dict[str, int]] | None = None
) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        for number, (projection, events) in enumerate(parts):
            memory = memories[projection.name]
            known = None if births is None else births[number]
            projection.apply(db, projection.name + NEW, events, memory, known)
        db.execute("COMMIT")
    except BaseException:
        sqlite.roll_back(db)
        raise


def _swap(
    db: Any,
    chosen: Sequence[Projection],
    rest: list[Recorded],
    last: Recorded | None,
    memories: dict[str, Memory],
    *,
    had_data: bool,
) -> bool:
    if rest:
        _fold_beside(db, _split(rest, chosen), memories)
    db.execute("BEGIN IMMEDIATE")
    try:
        known = checkpoints(db)
        reached = last.position if last else 0
        if any(known.get(projection.name, (0, 0, b""))[1] > reached for projection in chosen):
            db.execute("ROLLBACK")  # the old views moved on meanwhile: fold what came, then try again
            return False
        for projection in chosen:
            for old, new in zip(tables_of(projection), tables_of(projection, NEW), strict=True):
                db.execute(f"DROP TABLE IF EXISTS {old}")
                db.execute(f"ALTER TABLE {new} RENAME TO {old}")
        move(db, chosen, last)
        if had_data:
            scrub.want(db)
        db.execute("COMMIT")
    except BaseException:
        sqlite.roll_back(db)
        raise
    return True
