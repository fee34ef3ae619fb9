"""Keeps the views file equal to a fold of the log: catch-up, live, rebuild beside and swap, and waiting for a position.

The checkpoint of each projection stands in the same file and moves in the same transaction as its rows, so that
several processes can share one views file: whoever holds the write lock applies what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from ledger import engine as sqlite
from ledger.errors import LedgerError, Unavailable
from ledger.events import ERASURES, Recorded
from ledger.leaf import leaf_hash
from ledger.ledger import Ledger
from projections import scrub
from projections.batches import BATCHES
from projections.callbacks import CALLBACKS
from projections.failures import FAILURES
from projections.file import (
    NO_CHECKPOINT,
    checkpoints,
    drop,
    identity,
    lock,
    make_missing,
    move,
    open_or_replace,
    replace,
)
from projections.jobs import JOBS
from projections.messages import MESSAGES
from projections.projection import Projection
from projections.rebuild import BATCH, GROWTH_INTERVAL_S, Progress, Rebuild
from projections.runs import RUNS
from projections.steps import STEPS
from projections.texts import TEXTS
from projections.tools import TOOLS

PROJECTIONS: tuple[Projection, ...] = (JOBS, RUNS, BATCHES, STEPS, MESSAGES, TOOLS, CALLBACKS, FAILURES, TEXTS)
REBUILD_WHEN_BEHIND = 50_000
"""Events missing from an empty view from which on a rebuild (indexes made at the end) is faster than catching up."""
MADE_IN_PLACE_MAX = 1_000
"""Events up to which views that are not there are made in place and caught up: moving tables takes longer than that."""
RETRY_S = 1.0
"""Wait after a failed application of events before the next try."""

LOOK_INTERVAL_S = 1.0
"""Longest wait between two looks at whether the views file is still there, whole, and the same."""
MADE_ANEW = "the views are being made anew from the log"

T = TypeVar("T")
log = structlog.get_logger("projections")


async def _nothing() -> None:
    """Do nothing, for want of a reader."""


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
        self._is_open = False
        self._identity: tuple[int, int] | None = None
        self._damage: str | None = None
        self.is_mending = False
        """Whether the file was given up, and what takes its place has not everything yet."""
        self.on_lost: Callable[[str], None] = lambda reason: None
        """Called with the reason when the file is given up: until ``on_made_anew``, there is nothing to read."""
        self.on_made_anew: Callable[[], Awaitable[None]] = _nothing
        """Called when another file has all that the views held."""
        self.position = 0
        self.fault: str | None = None
        self.on_changed: Callable[[dict[str, list[str]]], None] = lambda changed: None
        """Called with the changed ids of each projection after each commit."""
        self.is_writing = False
        """Whether a commit of this engine's own is under way, or was not told yet."""
        self.others_wrote = False
        """Whether another process wrote the views between the last commit and the one before it."""
        self.on_applied: Callable[[list[Recorded]], None] = lambda batch: None
        """Called with events that the views have now, in order; some may come again."""
        self._told = 0  # the last position that ``on_applied`` was called with

    async def open(self, progress: Progress | None = None, *, grows: Callable[[], bool] = lambda: False) -> None:
        """Open the views file and bring it up to the log; what is missing, outdated or foreign is rebuilt.

        ``grows``: whether somebody still appends much, so that it is worth going on.
        """

        async def make_ready() -> None:
            await self._bring_up(await self._stale(), progress, grows=grows)
            while grows():
                await asyncio.sleep(GROWTH_INTERVAL_S)
                await self.catch_up(progress)
            await self.scrub()

        await self._open_and(make_ready)

    async def _open_and(self, work: Callable[[], Awaitable[T]]) -> T:
        """Open the views file for some work; where it turns out to be damaged, do that again with another file."""
        try:
            await self._open()
            return await work()
        except sqlite.DatabaseError as error:
            if not sqlite.is_damage(error):
                raise
            await self._take_another(str(error))
            self._damage = None
            return await work()

    async def _bring_up(
        self,
        stale: list[Projection],
        progress: Progress | None = None,
        *,
        grows: Callable[[], bool] = lambda: False,
    ) -> None:
        if stale and (await self._ledger.store.head()).size <= MADE_IN_PLACE_MAX:
            stale = await self._connection.run(lambda db: make_missing(db, stale))
        if stale:
            await self.rebuild(stale, progress, grows=grows)
        await self.catch_up(progress)

    async def rebuild_only(self, progress: Progress | None = None) -> int:
        """Open the views file just to rebuild it whole; return how many events were folded."""

        async def rebuild() -> int:
            await self._stale()
            done = await self.rebuild(None, progress)
            await self.scrub()
            return done

        return await self._open_and(rebuild)

    async def scrub(self) -> bool:
        """Take what was erased out of the views file; tell whether all of it is gone (``projections.scrub``).

        Views of a million runs take some ten seconds, in which reads go on and folding does not.
        """
        if not self._is_open:
            return False
        try:
            return await self._connection.run(lambda db: scrub.scrub(db, self.path))
        except sqlite.DatabaseError as error:
            self.note(error)
            raise

    async def _open(self) -> None:
        """Open the file, and know which one it is: of one that came in the meantime nobody could tell."""
        while True:
            sqlite.touch(self.path)
            before = identity(self.path)
            self._connection = await sqlite.open_async(lambda: open_or_replace(self.path))
            self._is_open, self._file_version, self._identity = True, -1, identity(self.path)
            if self._identity == before is not None:
                return
            await self._close()

    async def _close(self) -> None:
        if self._is_open:  # what could not be opened is closed all the same
            self._is_open = False
            await self._connection.close()

    async def _stale(self) -> list[Projection]:
        """Return the projections to rebuild; the checkpoints of another log (another ledger, a backup) are dropped."""
        known = await self._connection.run(checkpoints)
        head = await self._ledger.store.head()
        stale = []
        for projection in self._projections:
            version, position, leaf = known.get(projection.name, NO_CHECKPOINT)
            if not await self._is_of_this_log(position, leaf):
                await self._connection.run(partial(drop, name=projection.name))
                stale.append(projection)
            elif version != projection.version or (position == 0 and head.size > REBUILD_WHEN_BEHIND):
                stale.append(projection)
        return stale

    async def _is_of_this_log(self, position: int, leaf: bytes) -> bool:
        if position == 0:
            return True
        events = await self._ledger.store.scan(position - 1, 1)
        return bool(events) and leaf_hash(events[0]) == leaf

    async def empty_wal(self) -> None:
        """Bring all of the write-ahead file into the views and begin it anew, unless somebody reads by it."""
        await self._connection.run(sqlite.empty_wal)

    def start(self) -> asyncio.Task[None]:
        """Follow the log in a task of this engine's own; return it, so that its death can be noticed."""
        self._told = self.position
        self._task = asyncio.create_task(self._run(), name="projections")
        return self._task

    async def close(self) -> None:
        """Stop following and release the file; whoever waits is told."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for _, future in self._waiters:
            if not future.done():
                future.set_exception(Unavailable(reason="the server is stopping"))
        self._waiters.clear()
        await self._close()

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
                if self._told < self.position:
                    await self._tell()
                if self.position >= self._ledger.size or not await self.beat():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_INTERVAL_S):
                            await self._ledger.wait_beyond(self.position)
            except (LedgerError, sqlite.Error, OSError) as error:
                self.fault = str(error)
                if not self.note(error):
                    log.exception("views.failed", error=str(error), position=self.position)
                    await asyncio.sleep(RETRY_S)

    def note(self, error: BaseException) -> bool:
        """Take notice of an error; tell whether it is news that the file is damaged, so that ``look`` replaces it."""
        is_news = self._damage is None and sqlite.is_damage(error)
        if is_news:
            self._damage = str(error)
        return is_news

    async def look(self) -> bool:
        """Make the views anew where their file is damaged, gone or another; tell whether that was so."""
        found = identity(self.path)
        if self._damage is None and self._is_open and found == self._identity:
            return False
        self._damage = self._damage or ("another file is in its place" if found else "the file is gone")
        self.is_mending, self.fault = True, MADE_ANEW
        self.on_lost(MADE_ANEW)
        while True:
            await self._take_another(self._damage)
            await self._bring_up(await self._stale())
            await self.on_made_anew()
            if identity(self.path) == self._identity:
                break
            self.on_lost(MADE_ANEW)  # it was replaced once more, and readers may have opened that
        log.warning("views.made_anew", error=self._damage, position=self.position)
        self._damage, self.is_mending, self.others_wrote = None, False, True
        await self._tell()
        return True

    async def _take_another(self, reason: str) -> None:
        """Open the file that another process put there meanwhile, or else an empty one."""
        handle = await asyncio.to_thread(lock, self.path, wait=True)
        try:
            was, self._file_version = self._identity, -1
            await self._close()
            if identity(self.path) == was:
                replace(self.path, reason)
            await self._open()
        finally:
            if handle is not None:
                os.close(handle)

    async def _tell(self) -> None:
        """Tell of all that the views have and nobody was told: they were made anew, or a fault came between."""
        while self._told < self.position:
            self._announce(await self._ledger.next_batch(self._told, min(BATCH, self.position - self._told)))
        self._advance(self.position, {})

    def _announce(self, batch: list[Recorded]) -> None:
        self.on_applied(batch)
        self._told = max(self._told, batch[-1].position)

    async def beat(self) -> int:
        """Apply the next batch of the log, if there is one; return how many events that were."""
        batch = await self._ledger.next_batch(self.position, BATCH)
        if not batch:
            return 0
        self.is_writing = True
        try:
            position, changed, self.others_wrote = await self._connection.run(lambda db: self._apply(db, batch))
            self._advance(position, changed)
        finally:
            self.is_writing = False
        if position == batch[-1].position and not self.is_mending:
            self._announce(batch)
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
        if self.position >= position and not self.is_mending:
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

        Readers never wait, nor go back: they see the old views until the swap, and the new ones are never behind.
        """
        chosen = self._projections if projections is None else projections
        done = await Rebuild(self.path, self._connection, self._ledger.store, chosen).run(progress, grows)
        self._forget()
        return done

    def _forget(self) -> None:
        for memory in self._memories.values():
            memory.clear()

    def _lowest(self, db: Any) -> int:
        known = checkpoints(db)
        return min(known.get(projection.name, NO_CHECKPOINT)[1] for projection in self._projections)

    def _apply(self, db: Any, batch: list[Recorded]) -> tuple[int, dict[str, list[str]], bool]:
        changed: dict[str, list[str]] = {}
        version = db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._file_version and self._lowest(db) >= batch[-1].position:
            self._forget()  # another process applied it all: no need to wait for its next turn to write
            self._file_version = version
            return batch[-1].position, {}, True
        db.execute("BEGIN IMMEDIATE")
        try:
            version = db.execute("PRAGMA data_version").fetchone()[0]
            others_wrote = version != self._file_version
            if others_wrote:
                self._forget()
                self._file_version = version
            known = checkpoints(db)
            reached = batch[0].position - 1
            for projection in self._projections:
                position = known.get(projection.name, NO_CHECKPOINT)[1]
                if position < reached:
                    db.execute("ROLLBACK")
                    return position, {}, True
                fresh = batch[position - reached :] if position > reached else batch
                if fresh:
                    memory = self._memories[projection.name]
                    mine = [event for event in fresh if event.type in projection.types]
                    changed[projection.name] = projection.apply(db, projection.name, mine, memory) if mine else []
            move(db, [each for each in self._projections if each.name in changed], batch[-1])
            if any(event.type in ERASURES for event in batch):
                scrub.want(db)
            db.execute("COMMIT")
        except BaseException:
            self._forget()
            sqlite.roll_back(db)
            raise
        return batch[-1].position, changed, others_wrote

    def _advance(self, position: int, changed: dict[str, list[str]]) -> None:
        self.position = position
        if self.is_mending:
            return
        self.fault = None
        self.on_changed(changed)
        waiting = []
        for waiter in self._waiters:
            wanted, future = waiter
            if future.done():
                continue
            if wanted <= position:
                future.set_result(None)
            else:
                waiting.append(waiter)
        self._waiters = waiting
