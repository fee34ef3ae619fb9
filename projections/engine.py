"""Keeps the views file equal to a fold of the log: catch-up, live, rebuild beside and swap, and waiting for a position.

The checkpoint of each projection stands in the same file and moves in the same transaction as its rows, so that
several processes can share one views file: whoever holds the write lock applies what is missing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from ledger import engine as sqlite
from ledger.errors import LedgerError, Unavailable
from ledger.events import Recorded
from ledger.leaf import leaf_hash
from ledger.ledger import Ledger
from projections.batches import BATCHES
from projections.jobs import JOBS
from projections.projection import Memory, Projection
from projections.runs import RUNS

PROJECTIONS: tuple[Projection, ...] = (JOBS, RUNS, BATCHES)
BATCH = 10_000
"""Events in one transaction of a catch-up or rebuild, about 10 MiB of memory; readers and writers get in between."""
REBUILD_WHEN_BEHIND = 50_000
"""Events missing from an empty view from which on a rebuild (indexes made at the end) is faster than catching up."""
PAGE_SIZE = 16_384
"""Bytes of a page of the views file: rows have about 1 KiB, and few of them fit well in the usual 4 KiB."""
WAL_SIZE = 16 * 1024 * 1024
"""Bytes of WAL after which the views are checkpointed."""
GROWTH_INTERVAL_S = 0.05
"""How often to look for more while somebody else appends much."""
RETRY_S = 1.0
"""Wait after a failed application of events before the next try."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS projections (
    name TEXT PRIMARY KEY, version INTEGER NOT NULL, position INTEGER NOT NULL, leaf BLOB NOT NULL
) STRICT
"""

log = structlog.get_logger("projections")
Parts = list[tuple[Projection, list[Recorded]]]
"""Events by the projection that folds them."""
Progress = Callable[[int, int], None]
"""Called with events done and events in all."""


def views_path(ledger_path: Path) -> Path:
    """Return where the views of a ledger file are: ``ledger.db`` has ``ledger.views.db``."""
    return ledger_path.with_name(f"{ledger_path.stem}.views{ledger_path.suffix or '.db'}")


class Engine:
    """Applies the log to the views. ``position`` is how far this process knows the views to be."""

    def __init__(self, ledger: Ledger, path: Path, projections: Sequence[Projection] = PROJECTIONS) -> None:
        self._ledger = ledger
        self.path = path
        self._projections = projections
        self._memories = {projection.name: projection.fresh() for projection in projections}
        self._file_version = -1
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._connection: sqlite.Connection
        self.position = 0
        self.applied_us = 0
        self.fault: str | None = None
        self.on_changed: Callable[[dict[str, list[str]]], None] = lambda changed: None
        """Called with the changed ids of each projection after each commit."""

    async def open(self, progress: Progress | None = None, *, grows: Callable[[], bool] = lambda: False) -> None:
        """Open the views file and bring it up to the log; what is missing, outdated or foreign is rebuilt.

        ``grows``: whether somebody still appends much, so that it is worth going on.
        """
        self._connection = await sqlite.open_async(lambda: _prepare_or_replace(self.path))
        stale = await self._stale()
        if stale:
            await self.rebuild(stale, progress, grows=grows)
        await self.catch_up(progress)
        while grows():
            await asyncio.sleep(GROWTH_INTERVAL_S)
            await self.catch_up(progress)

    async def rebuild_only(self, progress: Progress | None = None) -> int:
        """Open the views file just to rebuild it whole; return how many events were folded."""
        self._connection = await sqlite.open_async(lambda: _prepare_or_replace(self.path))
        return await self.rebuild(None, progress)

    async def _stale(self) -> list[Projection]:
        known = await self._connection.run(_checkpoints)
        head = await self._ledger.store.head()
        stale = []
        for projection in self._projections:
            version, position, leaf = known.get(projection.name, (None, 0, b""))
            if (
                version != projection.version
                or not await self._is_of_this_log(position, leaf)
                or (position == 0 and head.size > REBUILD_WHEN_BEHIND)
            ):
                stale.append(projection)
        return stale

    async def _is_of_this_log(self, position: int, leaf: bytes) -> bool:
        if position == 0:
            return True
        events = await self._ledger.store.scan(position - 1, 1)
        return bool(events) and leaf_hash(events[0]) == leaf

    def start(self) -> None:
        """Follow the log in a task of this engine's own."""
        self._task = asyncio.create_task(self._run(), name="projections")

    async def close(self) -> None:
        """Stop following and release the file; whoever waits is told."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for _, future in self._waiters:
            if not future.done():
                future.set_exception(Unavailable(reason="the server is stopping"))
        self._waiters.clear()
        await self._connection.close()

    async def _run(self) -> None:
        while True:
            try:
                if not await self.beat():
                    await self._ledger.wait_beyond(self.position)
            except (LedgerError, sqlite.Error) as error:
                self.fault = str(error)
                log.exception("views.failed", error=str(error), position=self.position)
                await asyncio.sleep(RETRY_S)

    async def beat(self) -> int:
        """Apply the next batch of the log, if there is one; return how many events that were."""
        batch = await self._ledger.next_batch(self.position, BATCH)
        if not batch:
            return 0
        position, changed = await self._connection.run(lambda db: self._apply(db, batch))
        self._advance(position, changed)
        return len(batch)

    async def catch_up(self, progress: Progress | None = None) -> None:
        """Apply everything that the log holds now."""
        self.position = await self._connection.run(self._lowest)
        total = (await self._ledger.store.head()).size
        while self.position < total:
            await self.beat()
            if progress:
                progress(self.position, total)

    async def wait_for(self, position: int, timeout_s: float = 10.0) -> None:
        """Return once the views have everything up to ``position``; raise ``Unavailable`` after ``timeout_s``."""
        if self.position >= position:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((position, future))
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            reason = f"the views are at position {self.position}, not yet at {position}"
            raise Unavailable(reason=f"{reason} ({self.fault})" if self.fault else reason) from None

    async def rebuild(
        self,
        projections: Sequence[Projection] | None = None,
        progress: Progress | None = None,
        *,
        grows: Callable[[], bool] = lambda: False,
    ) -> int:
        """Fold views anew beside the old ones and swap them in one step; return how many events were folded.

        Readers never wait, nor go back: they see the old views until the swap, and the new ones are never behind
        the old. Another rebuild of the same file, in whatever process, is waited for.
        """
        chosen = self._projections if projections is None else projections
        lock = await asyncio.to_thread(_lock, self.path)
        try:
            return await self._rebuild(chosen, progress, grows)
        finally:
            os.close(lock)

    async def _rebuild(self, chosen: Sequence[Projection], progress: Progress | None, grows: Callable[[], bool]) -> int:
        run = self._connection.run
        memories = {projection.name: projection.fresh() for projection in chosen}
        await run(lambda db: _begin_rebuild(db, chosen))
        total = (await self._ledger.store.head()).size
        last: Recorded | None = None
        while (growing := grows()) or last is None or last.position < total:
            batch = await self._ledger.store.facts(last.position if last else 0, BATCH)
            if not batch and not growing:
                break
            if not batch:
                await asyncio.sleep(GROWTH_INTERVAL_S)
                continue
            parts = _split(batch, chosen)
            births = await self._births(parts, memories)
            await run(partial(_fold_beside, parts=parts, memories=memories, births=births))
            last = batch[-1]
            if progress:
                progress(min(last.position, total), total)
        generation = secrets.token_hex(4)
        for projection in chosen:
            await run(partial(projection.index, table=f"{projection.name}__new", generation=generation))
        done = False
        while not done:
            rest = await self._ledger.store.scan(last.position if last else 0, BATCH)
            last = await self._whole(rest[-1] if rest else last)
            done = await run(partial(_swap, chosen=chosen, rest=rest, last=last, memories=memories))
        self._forget()
        return last.position if last else 0

    async def _whole(self, event: Recorded | None) -> Recorded | None:
        return None if event is None else (await self._ledger.store.scan(event.position - 1, 1))[0]

    async def _births(self, parts: Parts, memories: dict[str, Memory]) -> list[dict[str, int]]:
        needed = [projection.needed(events, memories[projection.name]) for projection, events in parts]
        return [await self._ledger.store.births(streams) if streams else {} for streams in needed]

    def _forget(self) -> None:
        for memory in self._memories.values():
            memory.clear()

    def _lowest(self, db: Any) -> int:
        known = _checkpoints(db)
        return min(known[projection.name][1] for projection in self._projections)

    def _apply(self, db: Any, batch: list[Recorded]) -> tuple[int, dict[str, list[str]]]:
        changed: dict[str, list[str]] = {}
        db.execute("BEGIN IMMEDIATE")
        try:
            version = db.execute("PRAGMA data_version").fetchone()[0]
            if version != self._file_version:
                self._forget()
                self._file_version = version
            known = _checkpoints(db)
            reached = batch[0].position - 1
            for projection in self._projections:
                position = known[projection.name][1]
                if position < reached:
                    db.execute("ROLLBACK")
                    return position, {}
                fresh = batch[position - reached :] if position > reached else batch
                if fresh:
                    memory = self._memories[projection.name]
                    mine = [event for event in fresh if event.type in projection.types]
                    changed[projection.name] = projection.apply(db, projection.name, mine, memory) if mine else []
                    _move(db, projection, fresh[-1])
            db.execute("COMMIT")
        except BaseException:
            self._forget()
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return batch[-1].position, changed

    def _advance(self, position: int, changed: dict[str, list[str]]) -> None:
        self.position = position
        self.applied_us = time.time_ns() // 1000
        self.fault = None
        self.on_changed(changed)
        ready = [waiter for waiter in self._waiters if waiter[0] <= position or waiter[1].done()]
        if ready:
            self._waiters = [waiter for waiter in self._waiters if waiter not in ready]
            for _, future in ready:
                if not future.done():
                    future.set_result(None)


def _prepare_or_replace(path: Path) -> Any:
    try:
        return _prepare(path)
    except sqlite.OperationalError:
        raise
    except sqlite.DatabaseError as error:  # damaged: it is disposable, and the log has every word of it
        log.warning("views.replaced", path=str(path), error=str(error))
        for ending in ("", "-wal", "-shm"):
            Path(f"{path}{ending}").unlink(missing_ok=True)
        return _prepare(path)


def _prepare(path: Path) -> Any:
    sqlite.touch(path)
    connection = sqlite.connect(path, read_only=False, cache_mib=256)
    connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_SIZE // PAGE_SIZE}")
    connection.execute(_SCHEMA)
    return connection


def _checkpoints(db: Any) -> dict[str, tuple[int, int, bytes]]:
    return {row[0]: row[1:] for row in db.execute("SELECT name, version, position, leaf FROM projections")}


def _move(db: Any, projection: Projection, last: Recorded | None) -> None:
    position, leaf = (last.position, leaf_hash(last)) if last else (0, b"")
    db.execute(
        "INSERT INTO projections VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
        "version = excluded.version, position = excluded.position, leaf = excluded.leaf",
        (projection.name, projection.version, position, leaf),
    )


def _begin_rebuild(db: Any, chosen: Sequence[Projection]) -> None:
    for projection in chosen:
        db.execute(f"DROP TABLE IF EXISTS {projection.name}__new")
        projection.create(db, f"{projection.name}__new")


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
            projection.apply(db, f"{projection.name}__new", events, memory, known)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _swap(
    db: Any, chosen: Sequence[Projection], rest: list[Recorded], last: Recorded | None, memories: dict[str, Memory]
) -> bool:
    if rest:
        _fold_beside(db, _split(rest, chosen), memories)
    db.execute("BEGIN IMMEDIATE")
    try:
        known = _checkpoints(db)
        reached = last.position if last else 0
        if any(known.get(projection.name, (0, 0, b""))[1] > reached for projection in chosen):
            db.execute("ROLLBACK")  # the old views moved on meanwhile: fold what came, then try again
            return False
        for projection in chosen:
            db.execute(f"DROP TABLE IF EXISTS {projection.name}")
            db.execute(f"ALTER TABLE {projection.name}__new RENAME TO {projection.name}")
            _move(db, projection, last)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return True


def _lock(path: Path) -> int:
    handle = os.open(f"{path}.rebuild", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle
