"""Group commit: many callers, one queue, one transaction for whoever waits, one answer each.

Callers wait on futures and never touch the transaction, so that a caller who is cancelled leaves nothing open.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from ledger.errors import InDoubt, LedgerError, QueueFull, StoreClosed, StoreFailed
from ledger.events import Recorded
from ledger.session import Failure, Session, Work
from ledger.store import Store

QUEUE_MAX = 10_000
"""Works that may wait; at a few thousand commits of hundreds each per second that is well under a second of waiting."""
BATCH_MAX = 256
"""Works in one transaction; past that the fsync is no longer what costs, and the next batch can form meanwhile."""
WORTH_EXPECTING = 8
"""Works from which on it is cheaper to look up what they need at once."""
_Waiting = tuple[Work, asyncio.Future[Any], Collection[str], Collection[str]]


class Trouble(NamedTuple):
    """That writes fail: why the last one did, and since when, in microseconds since 1970 UTC."""

    reason: str
    since_us: int


class Writer:
    """Owns the write side of a store. Start it inside a running loop; ``close`` answers whoever waits."""

    def __init__(
        self,
        store: Store,
        now_us: Callable[[], int],
        on_recorded: Callable[[list[Recorded]], None],
        queue_max: int = QUEUE_MAX,
    ) -> None:
        self._store = store
        self._now_us = now_us
        self._on_recorded = on_recorded
        self._queue_max = queue_max
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self.trouble: Trouble | None = None
        """There from a transaction that the store refused until something is written."""
        self._task = asyncio.create_task(self._run(), name="ledger-writer")

    @property
    def waiting(self) -> int:
        """How many works wait for a transaction."""
        return len(self._waiting)

    async def submit(self, work: Work, streams: Collection[str] = (), keys: Collection[str] = ()) -> Any:
        """Run a work in the next transaction and return its answer once that is durable.

        ``streams`` and ``keys``: what it will look up, so that a whole batch is looked up at once.

        Raises what the work raised; ``QueueFull``, ``StoreClosed`` or ``StoreFailed`` when nothing was recorded;
        ``InDoubt`` where a failing disk does not let that be told.
        """
        if self._closing or self._task.done():
            raise StoreClosed
        if len(self._waiting) >= self._queue_max:
            raise QueueFull(reason="the write queue is full", waiting=len(self._waiting), limit=self._queue_max)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future, streams, keys))
        self._wake.set()
        outcome = await future
        if isinstance(outcome, Failure):
            try:
                raise outcome.error
            finally:
                del outcome, future  # the error has this frame: in its locals it would keep the request for long
        return outcome

    async def beat(self) -> None:
        """Commit one transaction for those who wait, and answer each of them."""
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MAX))]
        batch = [waiting for waiting in batch if not waiting[1].done()]
        if not batch:
            return
        now_us = self._now_us()
        try:
            outcomes, events = await self._store.transact(_works(batch), now_us)
        except LedgerError as error:
            self._note(error, now_us)
            _answer_all(batch, Failure(error))
            return
        except BaseException:
            _answer_all(batch, Failure(StoreClosed()))
            raise
        if events:  # one that had nothing to write succeeds on a full disk, too
            self.trouble = None
            self._on_recorded(events)
        for (_, future, _, _), outcome in zip(batch, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)

    async def probe(self) -> None:
        """Look whether writes succeed, by one that changes nothing; ``trouble`` tells."""
        now_us = self._now_us()
        try:
            await self._store.probe()
        except (StoreFailed, InDoubt) as error:
            self._note(error, now_us)
        else:
            self.trouble = None

    def _note(self, error: LedgerError, now_us: int) -> None:
        if isinstance(error, StoreFailed | InDoubt):
            self.trouble = Trouble(error.reason, self.trouble.since_us if self.trouble else now_us)

    async def close(self) -> None:
        """Take nothing more, commit what waits, and stop."""
        self._closing = True
        self._wake.set()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while self._waiting or not self._closing:
                await self.beat()
                if not self._waiting and not self._closing:
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            self._closing = True
            _answer_all(self._waiting, Failure(StoreClosed()))
            self._waiting.clear()


def _works(batch: list[_Waiting]) -> list[Work]:
    works = [work for work, _, _, _ in batch]
    streams = {stream for _, _, streams, _ in batch for stream in streams}
    if len(streams) < WORTH_EXPECTING:
        return works
    keys = [key for _, _, _, keys in batch for key in keys]
    first = works[0]

    def expecting(session: Session) -> Any:
        session.expect(streams, keys)
        return first(session)

    return [expecting, *works[1:]]


def _answer_all(batch: Any, outcome: Failure) -> None:
    for _, future, _, _ in batch:
        if not future.done():
            future.set_result(outcome)
